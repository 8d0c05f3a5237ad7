"""Names and training domains of runs on a command line."""

from pathlib import Path

import pytest

from queryseg.cli.evaluated_runs import named_runs, seen_by_run
from queryseg.errors import UsageError


def test_runs_are_called_by_as_little_of_their_path_as_tells_them_apart(tmp_path: Path):
    (tmp_path / "lr=1").mkdir()
    assert list(named_runs([f"{tmp_path}/lr=1"])) == ["lr=1"]
    assert list(named_runs(["runs/qprompt/seed_0", "runs/mlp/seed_0"])) == ["qprompt/seed_0", "mlp/seed_0"]
    assert list(named_runs(["x=runs/qprompt/seed_0", "runs/mlp/seed_0"])) == ["x", "seed_0"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["x=a", "x=b"], "Two runs are called 'x'"),
        (["x=a", "b/x"], "Two runs are called 'x'"),
        (["a", "x=a"], "The run a is given twice"),
        (["=a"], "RUN or NAME=RUN"),
    ],
)
def test_names_that_are_not_distinct(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        named_runs(words)


def test_training_domains():
    runs, data = ["p", "q"], ["day", "dusk"]
    assert seen_by_run(None, runs, data) == {"p": None, "q": None}
    assert seen_by_run([], runs, data) == {"p": [], "q": []}
    assert seen_by_run(["day", "q=dusk"], runs, data) == {"p": ["day"], "q": ["day", "dusk"]}
    with pytest.raises(UsageError, match="names the run 'r', but the runs are called: p, q"):
        seen_by_run(["r=day"], runs, data)
    with pytest.raises(UsageError, match="'noon' is said to be the training domain, but given are: day, dusk"):
        seen_by_run(["noon"], runs, data)
