"""A function of 0, 1, 2 … computed in other processes, with its results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from queryseg.errors import InputError

T = TypeVar("T")


def ordered_map(
    function: Callable[[int], T],
    num: int,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[T]:
    """function(0), function(1) … function(num − 1), computed in `num_workers` processes (0: in this one).

    progress  called with (results so far, num)

    An InputError of the function is raised as it was; DataLoader by itself would wrap it in the worker's traceback.
    """
    loader = DataLoader(_Calls(function, num), batch_size=None, num_workers=num_workers)
    for done, result in enumerate(loader, 1):
        if isinstance(result, InputError):
            raise result
        yield result
        if progress is not None:
            progress(done, num)


class _Calls(Dataset[T | InputError], Generic[T]):
    def __init__(self, function: Callable[[int], T], num: int) -> None:
        self.function = function
        self.num = num

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> T | InputError:
        try:
            return self.function(index)
        except InputError as error:
            return error
