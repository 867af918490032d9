"""What a card of an index must hold before its names become paths and its numbers sizes.

A card's checksum stands beside it, so whoever writes an index writes both: a card is no more trusted than any file.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SIDECAR: Final = re.compile(r"vectors-[0-9a-f]{12}\.f16", re.ASCII)
_NAME: Final = re.compile(
    r"[a-z][a-z_]{0,40}\.[a-z0-9]{2,5}", re.ASCII
)  # of a file of a generation
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOST_DIMENSIONS: Final = 1 << 16
_MOST_ROWS: Final = 1 << 48  # Lance numbers rows up to 2^64; 2 d bytes of each must stay countable
_MOST_SEGMENTS: Final = 100_000  # one for each time that rows were folded in


def flaw_of_card(values: Mapping[str, Any]) -> str:
    """Say what is wrong with the fields of a card, as the end of a sentence; empty where nothing is.

    Parameters
    ----------
    values : mapping
        All fields of `IndexCard`, as read from JSON.
    """
    return next(_flaws(values), "")


def _flaws(values: Mapping[str, Any]) -> Iterator[str]:
    for names, (words, fits) in _KINDS.items():
        for name in names:
            if not fits(values[name]):
                yield f"its {name} is {_short(values[name])}, expected {words}"
    if values.get("engine", "local") not in ("local", "ray"):
        yield f"its engine is {_short(values['engine'])}, expected local or ray"
    n, dim = values["n"], values["dim"]
    if not 1 <= dim <= _MOST_DIMENSIONS or n > _MOST_ROWS:
        yield f"it has {n} vectors of {dim} dimensions"
    elif values["sidecar_bytes"] != 2 * n * dim:
        yield f"its sidecar_bytes are {values['sidecar_bytes']}, expected {2 * n * dim}"
    if not _SIDECAR.fullmatch(values["sidecar"]):
        yield f"its sidecar is {_short(values['sidecar'])}, which names no file of vectors beside it"
    yield from _flaws_of_files(values["files"], values["sidecar"])
    yield from _flaws_of_choices(values["calibration"].get("choices", []))


def _flaws_of_files(files: Mapping[str, Any], sidecar: str) -> Iterator[str]:
    for name, segments in files.items():
        if name != sidecar and not _NAME.fullmatch(name):
            yield f"it lists a file {_short(name)}, which is no name of a file of an index"
        elif not isinstance(segments, list) or not 0 < len(segments) <= _MOST_SEGMENTS:
            yield f"it says {_short(segments)} of {name}, expected stretches"
        elif not all(map(_is_segment, segments)):
            yield f"a stretch of {name} is not its bytes and its SHA-256"


def _flaws_of_choices(choices: object) -> Iterator[str]:
    if not isinstance(choices, list):
        yield f"its choices are {_short(choices)}, expected a list"
        return
    for one in choices:
        held: dict[str, object] = one if isinstance(one, dict) else {}
        sizes = [held.get(name) for name in ("breadth", "n_rerank")]
        if not _is_number(held.get("target")) or not all(
            _is_count(size) and size for size in sizes
        ):
            yield f"a choice is {_short(one)}, expected target, breadth and n_rerank"


# ---- kinds of values -----------------------------------------------------------------------------


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_number(value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_segment(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not isinstance(value[1], str):
        return False
    return _is_count(value[0]) and bool(_SHA256.fullmatch(value[1]))


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_table_of_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_count_or_none(value: object) -> bool:
    return value is None or _is_count(value)


_KINDS: Final[dict[tuple[str, ...], tuple[str, Callable[[object], bool]]]] = {
    ("store_version", "n_rows", "n", "n_trained", "dim", "bytes", "sidecar_bytes", "seed"): (
        "a whole number of 0 or more",
        _is_count,
    ),
    ("kind", "store_id", "fingerprint", "modality", "sidecar", "faiss_version"): (
        "a text",
        _is_text,
    ),
    ("recipe", "calibration", "tried", "files"): ("an object", _is_table),
    ("ann_recall_at_10",): ("an object of numbers", _is_table_of_numbers),
    ("target_recall", "build_seconds"): ("a number", _is_number),
    ("max_memory_bytes",): ("a whole number or null", _is_count_or_none),
}


def _short(value: object) -> str:
    return repr(value)[:80]
