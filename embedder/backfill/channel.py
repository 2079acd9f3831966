"""A bounded queue between two threads that either end can close."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Channel(Generic[_Item]):
    """One thread gives and one takes; who gives waits while `capacity` items are not taken."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_given_up = False
        self._error: BaseException | None = None

    def give(self, item: _Item) -> bool:
        """Hand an item on, waiting for room; returns false where nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_given_up or len(self._items) < self._capacity)
            if self._is_given_up:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def close(self, error: BaseException | None = None) -> None:
        """Say that nothing more is given; who takes gets what is left, and then `error` is raised, if there is one."""
        with self._changed:
            self._is_closed, self._error = True, error
            self._changed.notify_all()

    def give_up(self) -> None:
        """Say that nothing more is taken."""
        with self._changed:
            self._is_given_up = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[_Item]:
        """Take items until the other end is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_closed or self._is_given_up)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
