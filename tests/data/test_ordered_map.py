import pytest

from queryseg.data.ordered_map import ordered_map
from queryseg.errors import InputError


def square(number: int) -> int:
    if number == 7:
        raise InputError("Seven is refused.")
    return number * number


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_in_order_and_errors_as_raised(num_workers: int) -> None:
    seen: list[tuple[int, int]] = []
    results = list(ordered_map(square, 6, num_workers, lambda done, total: seen.append((done, total))))
    assert results == [0, 1, 4, 9, 16, 25]
    assert seen == [(i, 6) for i in range(1, 7)]
    with pytest.raises(InputError, match=r"^Seven is refused\.$"):
        list(ordered_map(square, 9, num_workers))
