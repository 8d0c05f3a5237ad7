"""The table of learned queries."""

from __future__ import annotations

import pytest

from queryseg.errors import RecipeError
from queryseg.queries import LearnableQueries
from queryseg.types import Dims


@pytest.mark.parametrize("num_queries", [0, -3])
def test_there_must_be_queries(num_queries: int) -> None:
    dims = Dims(("road",), 8, 1, (8,), (16,), 8, 8)
    with pytest.raises(RecipeError, match=f"num_queries is {num_queries}, but must be at least 1"):
        LearnableQueries(dims, num_queries=num_queries)
