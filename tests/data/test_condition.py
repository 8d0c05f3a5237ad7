from queryseg.data.condition import condition_of


def test_only_the_layout_decides_whether_names_hold_a_condition():
    assert condition_of("acdc", "night/GOPR0351/GOPR0351_frame_000159") == "night"
    assert condition_of("acdc", "GOPR0351/fog/a") is None
    assert condition_of("acdc", "fog") is None
    assert condition_of("acdc", "foggy/a") is None
    assert condition_of("folders", "fog/a") is None
    assert condition_of(None, "fog/a") is None
