"""One line on the page of similar regions that says how far the work is, and is gone when it is done."""

from __future__ import annotations

import streamlit as st


class Working:
    """A bar with a sentence, at the place where it is made; empty until something is told."""

    def __init__(self) -> None:
        self._place = st.empty()

    def slides(self, done: int, total: int) -> None:
        """Say how many slides were looked at."""
        self._tell("Looking at slide", done, total)

    def hits(self, done: int, total: int) -> None:
        """Say how many hits were compared."""
        self._tell("Comparing the genes of hit", done, total)

    def done(self) -> None:
        """Leave nothing behind."""
        self._place.empty()

    def _tell(self, what: str, done: int, total: int) -> None:
        if done < total:
            self._place.progress(done / total, text=f"{what} {done + 1} of {total} …")
