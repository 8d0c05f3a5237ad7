from queryseg.spelling import check_keys, did_you_mean, first_of


def test_nearest_word_or_all() -> None:
    assert did_you_mean("roda", ["road", "car"]) == " Did you mean 'road'?"
    assert did_you_mean("zzz", ["road", "car"]) == " Choose from: road, car."


def test_first_unknown_key() -> None:
    assert check_keys({"root": 1}, ["root"], "This") is None
    assert check_keys({"root": 1, "rot": 2}, ["root"], "This") == "This has no option 'rot'. Did you mean 'root'?"


def test_the_first_of_many() -> None:
    assert first_of(["road", "car"], 2) == "road, car"
    assert first_of((1, 2, 3), 2) == "1, 2 …"
    assert first_of([], 2) == ""
