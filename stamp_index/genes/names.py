"""Gene names as such: which stand twice, and which one a mistyped name may have meant."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from os.path import commonprefix
from typing import TYPE_CHECKING

from stamp_index.errors import DuplicateGenesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def close_names(name: str, candidates: Iterable[str], n: int = 3) -> list[str]:
    """Find known names that look like `name`, best first.

    Parameters
    ----------
    name : str
        What was typed.
    candidates : iterable of str
        Known names.
    n : int
        At most this many, at least 1.

    Returns
    -------
    list of str
        Names as they stand in `candidates`; empty where nothing is near. Case is ignored. A name
        that `name` begins (or that begins `name`) counts as near: ``CD8`` offers ``CD8A``.
    """
    folded: dict[str, str] = {}
    for candidate in candidates:
        folded.setdefault(candidate.casefold(), candidate)
    key = name.strip().casefold()
    if not key:
        return []
    same = [folded[key]] if key in folded else []
    # A typo rarely changes the length by more than two; skipping the rest makes 30,000 names fast.
    nearby = [c for c in folded if c != key and abs(len(c) - len(key)) <= 2]
    begins = sorted(c for c in nearby if len(key) >= 2 and c.startswith(key))
    similar = get_close_matches(key, nearby, n=8 * n, cutoff=0.7)
    # Gene symbols share their family in front: CD8X means CD8A rather than CHD8.
    similar.sort(key=lambda c: -len(commonprefix([c, key])))
    ordered = dict.fromkeys([*begins[:n], *similar])
    return (same + [folded[c] for c in ordered])[:n]


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that stand more than once, in the order of their first appearance."""
    return [name for name, times in Counter(names).items() if times > 1]


def refuse_duplicates(genes: Sequence[str], where: str) -> None:
    """Raise DuplicateGenesError naming the genes that stand more than once."""
    twice = repeated(genes)
    if not twice:
        return
    msg = (
        f"{len(twice)} genes stand more than once in {where} ({', '.join(twice[:5])}). "
        "Gene names must be unique: sum their counts or make the names unique first."
    )
    raise DuplicateGenesError(msg)
