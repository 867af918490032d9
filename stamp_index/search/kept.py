"""Values that are kept while they are likely to be asked for again, each made once however many ask at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The values that were used last, by key, up to a sum of costs. Threads may share it.

    While one thread makes a value, others that want the same wait for it; those that want another
    do not. A value whose making failed is made anew by the next who asks.

    Parameters
    ----------
    most : int
        Sum of the costs, at least 1; one value is kept whatever it costs.
    cost : callable
        Of a value, such as its bytes; 1 unless given, so that `most` is a number of values.
    """

    def __init__(self, most: int, cost: Callable[[Value], int] = lambda _: 1) -> None:
        self._held: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()
        self._most, self._cost, self._sum = most, cost, 0

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, which `make` makes the first time."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._held:
                    return self._held[key]
            try:
                value = make()
                self._keep(key, value)
            finally:
                with self._lock:
                    if self._making.get(key) is making:  # not that of who asked after it failed
                        del self._making[key]
        return value

    def forget(self, key: Hashable) -> None:
        """Drop the value of a key, if it is kept."""
        with self._lock:
            if key in self._held:
                self._sum -= self._cost(self._held.pop(key))

    def _keep(self, key: Hashable, value: Value) -> None:
        with self._lock:
            if key in self._held:  # made twice, as the first who made it failed
                self._sum -= self._cost(self._held.pop(key))
            self._held[key] = value
            self._sum += self._cost(value)
            while self._sum > self._most and len(self._held) > 1:
                self._sum -= self._cost(self._held.popitem(last=False)[1])
