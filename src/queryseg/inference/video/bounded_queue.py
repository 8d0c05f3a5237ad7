"""A queue between two threads that never grows, ends in order, and can be torn down from either side."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Ended(Exception):
    """The giving side has finished and everything was taken; `error` tells if it ended by one."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__(error)
        self.error = error


class Aborted(Exception):
    """The other side wants nothing any more."""


class BoundedQueue(Generic[T]):
    """At most `size` items wait.

    newest_only  `put` never waits: the oldest item is dropped instead, and counted in `dropped`
    """

    def __init__(self, size: int, newest_only: bool = False) -> None:
        assert size > 0
        self.size, self.newest_only, self.dropped = size, newest_only, 0
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._aborted = False
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Waits for room, or makes it. Raises: Aborted"""
        with self._changed:
            while len(self._items) >= self.size and not self._aborted:
                if self.newest_only:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._aborted:
                raise Aborted
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Waits for an item. Raises: Ended after the last one, Aborted"""
        with self._changed:
            while not (self._items or self._closed or self._aborted):
                self._changed.wait()
            if self._aborted:
                raise Aborted
            if not self._items:
                raise Ended(self._error)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, error: BaseException | None = None) -> None:
        """Nothing more comes; what waits is still handed out, then the error."""
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    def abort(self) -> None:
        """Wakes both sides with `Aborted`; what waits is forgotten."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()
