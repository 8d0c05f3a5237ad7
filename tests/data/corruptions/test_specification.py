import pytest

from queryseg.data.corruptions import CORRUPTIONS, parse_corruptions, parse_severities
from queryseg.data.corruptions.specification import GROUPS
from queryseg.errors import UsageError


def test_words_severities_and_ranges() -> None:
    assert parse_corruptions("fog:3") == [("fog", 3)]
    assert parse_corruptions("fog, snow", (1, 5)) == [("fog", 1), ("fog", 5), ("snow", 1), ("snow", 5)]
    assert parse_corruptions("fog:2-4") == [("fog", 2), ("fog", 3), ("fog", 4)]
    assert parse_corruptions("jpeg:1,elastic:2") == [("jpeg_compression", 1), ("elastic_transform", 2)]
    assert [severity for _, severity in parse_corruptions("fog")] == [1, 2, 3, 4, 5]


def test_groups() -> None:
    assert parse_corruptions("noise:5") == [
        ("gaussian_noise", 5), ("shot_noise", 5), ("impulse_noise", 5), ("speckle_noise", 5)
    ]  # fmt: skip
    assert [name for name, _ in parse_corruptions("all:1")] == list(CORRUPTIONS)
    assert len(parse_corruptions("cityscapes-c")) == 16 * 5
    assert {len(GROUPS[group]) for group in ("noise", "blur", "digital", "weather")} == {4}
    assert set(GROUPS["all"]) - set(GROUPS["cityscapes-c"]) == set(GROUPS["extra"])


def test_every_pair_once_in_the_order_of_its_first_mention() -> None:
    assert parse_corruptions("snow:2,weather:2,snow:1-2") == [
        ("snow", 2), ("spatter", 2), ("fog", 2), ("frost", 2), ("snow", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fogg", "There is no corruption 'fogg'. Did you mean 'fog'?"),
        ("gausian_noise:5", "Did you mean 'gaussian_noise'?"),
        ("wether", "Did you mean 'weather'?"),
        ("xyz", "Choose from: gaussian_noise, .*, all, jpeg, elastic"),
        ("fog:6", "'fog:6' has no severity from 1"),
        ("fog:0-2", "'fog:0-2' has no severity"),
        ("fog:4-2", "'fog:4-2' has no severity"),
        ("fog:1-", "'fog:1-' has no severity"),
        ("fog:", "'fog:' has no severity"),
        ("fog:²", "'fog:²' has no severity"),
        ("fog,,snow", "words between commas.*'fog,,snow'"),
        ("", "words between commas"),
    ],
)
def test_what_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_corruptions(text)


def test_severities() -> None:
    assert parse_severities("1, 3,5,3") == (1, 3, 5)
    for wrong in ("6", "", "1,,2", "1-3", "one"):
        with pytest.raises(UsageError, match="There is no severity"):
            parse_severities(wrong)
