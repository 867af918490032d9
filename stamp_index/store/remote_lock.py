"""One writer at a time where nothing can be locked: a lease, kept alive by whoever holds it.

The lease spares writers from doing work that another overtakes. What is right does not rest on it: a version of the
store is created once, whoever believes to hold the lease (see `transaction`). So no clock is compared with another:
a holder is gone when its lease has not changed for `LEASE_S`, as seen by who waits.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from stamp_index.errors import StoreBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

LEASE_S: Final = 10.0
_LEASE: Final = "writer.json"
_POLL_S: Final = 0.1


@contextmanager
def held_lock(objects: ObjectStore, name: str, timeout_s: float) -> Iterator[None]:
    """Hold the lease of a store; wait up to `timeout_s` seconds.

    Raises
    ------
    StoreBusyError
        If another writer still holds it.
    """
    lease = _Lease(objects, name)
    lease.take(timeout_s)
    done = threading.Event()
    keeper = threading.Thread(target=lease.keep, args=(done,), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        lease.give_back()


class _Found(NamedTuple):
    """A lease that is there: its tag, whose it is, and how people call them."""

    tag: str
    id: str
    holder: str


class _Lease:
    def __init__(self, objects: ObjectStore, name: str) -> None:
        self._objects, self._name = objects, name
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._id, self._beats = uuid.uuid4().hex, 0
        self._tag: str | None = None  # of the object as we wrote it; None when it is not ours

    def _text(self) -> bytes:
        """Different each time, so that each time has a tag of its own."""
        self._beats += 1
        return json.dumps({"holder": self._who, "id": self._id, "beat": self._beats}).encode()

    def take(self, timeout_s: float) -> None:
        """Create the lease, or take over one that nobody keeps alive."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        deadline = time.monotonic() + timeout_s
        seen, since = "", 0.0
        while True:
            try:
                self._tag = obstore.put(self._objects, _LEASE, self._text(), mode="create")["e_tag"]
            except AlreadyExistsError:
                pass
            else:
                return
            found = self._look()
            if found.id == self._id:  # the answer to our own request was lost
                self._tag = found.tag
                return
            if found.tag != seen:
                seen, since = found.tag, time.monotonic()
            elif found.tag and time.monotonic() - since > LEASE_S and self._replace(found.tag):
                return
            if time.monotonic() >= deadline:
                msg = f"The store at {self._name} is being written by {found.holder}, waited {timeout_s:g} s for it. Try again when it is done."
                raise StoreBusyError(msg)
            # At random, so that those who wait do not ask in step.
            time.sleep(_POLL_S * (0.5 + random.random()))

    def _look(self) -> _Found:
        """Read the lease that is there; empty where it went meanwhile."""
        import obstore

        try:
            found = obstore.get(self._objects, _LEASE)
            text = bytes(found.bytes())
        except FileNotFoundError:
            return _Found("", "", "nobody")
        try:
            said = json.loads(text)
            id_, holder = str(said["id"]), str(said["holder"])[:200]
        except (ValueError, KeyError, TypeError, RecursionError):
            id_, holder = "", "somebody"
        return _Found(found.meta["e_tag"] or "", id_, holder)

    def _replace(self, tag: str) -> bool:
        """Write over the lease if it is still the one with this tag."""
        import obstore
        from obstore.exceptions import NotModifiedError, PreconditionError

        try:
            put = obstore.put(self._objects, _LEASE, self._text(), mode={"e_tag": tag})
        except (PreconditionError, NotModifiedError, FileNotFoundError):
            # Somebody else's, or ours of a request whose answer was lost.
            found = self._look()
            self._tag = found.tag if found.id == self._id else None
            return self._tag is not None
        self._tag = put["e_tag"]
        return True

    def keep(self, done: threading.Event) -> None:
        """Keep the lease alive until it is given back, or somebody else has taken it."""
        from obstore.exceptions import BaseError

        while not done.wait(LEASE_S / 4):
            tag = self._tag
            # What fails is tried again at the next beat; the version that is created at the end decides anyway.
            with suppress(BaseError, OSError):
                if tag is None or not self._replace(tag):
                    return

    def give_back(self) -> None:
        """Remove the lease if it is ours."""
        import obstore
        from obstore.exceptions import BaseError

        with suppress(BaseError, OSError):  # it ends by itself
            if self._tag is not None and self._look().id == self._id:
                obstore.delete(self._objects, _LEASE)
