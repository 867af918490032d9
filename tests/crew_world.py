"""Workers for the tests of crews: they do little, note what they begin, and fail or die when told to."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from pathlib import Path

from stamp_index.errors import AnnIndexError, SlideError


class Squares:
    """Squares numbers; notes every beginning as a file, so that they can be counted."""

    def __init__(self, notes):
        self.notes = Path(notes)
        self.name = uuid.uuid4().hex
        (self.notes / f"made-{self.name}").touch()

    def __call__(self, number):
        (self.notes / f"begun-{number}-{uuid.uuid4().hex}").touch()
        return number * number, self.name, os.environ.get("OMP_NUM_THREADS")


class Slow(Squares):
    """Takes a while."""

    def __call__(self, number):
        time.sleep(0.2)
        return super().__call__(number)


class Mortal(Squares):
    """Its process is killed in the middle of job 3, as often as there are files to take away for it."""

    def __call__(self, number):
        out = super().__call__(number)
        lives = sorted(self.notes.glob("kill-*"))
        if number == 3 and lives:
            lives[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return out


class Failing(Squares):
    """Refuses job 3, and cannot send what it raises in job 4."""

    def __call__(self, number):
        if number == 3:
            msg = "slide 3 has no microns per pixel"
            raise SlideError(msg)
        if number == 4:
            raise CannotTravel
        return super().__call__(number)


class CannotTravel(Exception):
    """Cannot be pickled."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def no_worker():
    msg = "the encoder is damaged"
    raise AnnIndexError(msg)


def dead_worker():
    os.kill(os.getpid(), signal.SIGKILL)


def begun(notes, number):
    return len(list(Path(notes).glob(f"begun-{number}-*")))


def made(notes):
    return len(list(Path(notes).glob("made-*")))
