"""The exact shadow: every row of every version that an answer may be of, from the writer's journal."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import numpy as np

from load_parts import world
from load_parts.wrong import WrongAnswerError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FORGOTTEN_AFTER = 60  # versions; the server is a second or two behind
_LATEST_S = 20.0
TOLERANCE = 2e-5  # of a cosine in float32 over 128 numbers


class Journal:
    """What the writer has committed: one JSON line for each version of the store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, version: int, **what: int) -> None:
        """Say what made a version."""
        with self.path.open("a") as file:
            file.write(json.dumps({"version": version, **what}) + "\n")


@dataclass(frozen=True)
class View:
    """One version: rows (n,), their slides' numbers and spots, and vectors (n, d) float32, in one order."""

    rows: np.ndarray
    number: np.ndarray
    spot: np.ndarray
    vectors: dict[str, np.ndarray]
    alive: np.ndarray  # bool (n,)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Positions of rows; -1 for those that are not in this version."""
        found = np.searchsorted(self.rows, rows)
        found = np.minimum(found, len(self.rows) - 1)
        return np.where((self.rows[found] == rows) & self.alive[found], found, -1)


class Shadow:
    """Follows a journal."""

    def __init__(self, path: Path) -> None:
        self._file = path.open()
        self.version = 0
        self._slides: dict[int, list[float]] = {}  # number: first row, born, died
        self._joined: tuple[np.ndarray, ...] = ()

    def close(self) -> None:
        """Close the journal."""
        self._file.close()

    def alive(self, version: float = np.inf) -> list[int]:
        """Numbers of the slides that are not deleted, of those that a version has."""
        self._read()
        return [
            number
            for number, (_, born, died) in self._slides.items()
            if died == np.inf and born <= version
        ]

    def is_alive(self, number: int) -> bool:
        """Whether the newest version has a slide."""
        self._read()
        return number in self._slides and self._slides[number][2] == np.inf

    def died(self, number: int) -> bool:
        """Whether a slide was deleted by now, or is about to be said to be."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            self._read()
            if number not in self._slides or self._slides[number][2] < np.inf:
                return True
            time.sleep(0.05)
        return False

    def view(self, version: int) -> View:
        """Rows of a version, which the writer may not have written down yet."""
        until = time.monotonic() + _LATEST_S
        while self.version < version:
            if not self._read():
                if time.monotonic() > until:
                    msg = f"version {version} is served, but the writer has written {self.version}"
                    raise WrongAnswerError(msg)
                time.sleep(0.02)
        if not self._joined:
            self._join()
        rows, number, spot, born, died, image, gene = self._joined
        alive = (born <= version) & (version < died)
        return View(rows, number, spot, {"image": image, "gene": gene}, alive)

    def _read(self) -> bool:
        changed = False
        while line := self._file.readline():
            if not line.endswith("\n"):  # half a line: the rest comes soon
                self._file.seek(self._file.tell() - len(line))
                break
            said = json.loads(line)
            self.version = said["version"]
            if "add" in said:
                self._slides[said["add"]] = [said["first"], self.version, np.inf]
            if "delete" in said:
                self._slides[said["delete"]][2] = self.version
            changed = True
        if changed:
            least = self.version - _FORGOTTEN_AFTER
            self._slides = {n: one for n, one in self._slides.items() if one[2] > least}
            self._joined = ()
        return changed

    def _join(self) -> None:
        held = sorted(self._slides.items(), key=lambda item: item[1][0])
        n = world.PER_SLIDE
        contents = [world.content(number) for number, _ in held]
        first, born, died = (np.repeat([one[i] for _, one in held], n) for i in range(3))
        spot = np.tile(np.arange(n), len(held))
        self._joined = (
            first.astype(np.int64) + spot,
            np.repeat([number for number, _ in held], n),
            spot,
            born,
            died,
            np.concatenate([one.image for one in contents]).astype(np.float32),
            np.concatenate([one.gene for one in contents]).astype(np.float32),
        )
