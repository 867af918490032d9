"""What the app's addresses carry: outlines and queries.

Texts made here hold only characters that stay as they are in an address (letters, digits, ``-`` and ``.``; RFC 3986,
2.3), and whatever somebody types into an address is read or refused with a sentence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

from stamp_index.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8501"  # where the app listens unless told otherwise
MAX_VERTICES: Final = 500
MAX_PX: Final = 10_000_000  # farther from the corner than any slide reaches
_WHOLE: Final = re.compile(r"-?[0-9]{1,8}", re.ASCII)
_DIGITS: Final = 10  # of a number with its sign and the dot before it


def encode_polygon(polygon: ArrayLike) -> str:
    """Write an outline for an address: its first corner, then the way from each corner to the next.

    Parameters
    ----------
    polygon : array of shape (n, 2)
        (x, y) of 3 to 500 corners in level-0 pixels, rounded to whole ones; the first is not repeated at the end.

    Returns
    -------
    str
        Such as ``12345.6789.-12.40.8.9``.

    Raises
    ------
    QueryError
        If it has too few or too many corners, or one lies farther than 10,000,000 px away.
    ValueError
        If it is no array of finite numbers of that shape.
    """
    corners = np.asarray(polygon)
    if corners.ndim != 2 or corners.shape[1] != 2 or corners.dtype.kind not in "fiu":
        msg = f"The outline is {corners.dtype} of shape {corners.shape}; expected numbers of shape (n, 2)."
        raise ValueError(msg)
    if not np.isfinite(corners).all():
        msg = "The outline holds NaN or infinite coordinates; expected finite (x, y)."
        raise ValueError(msg)
    _check_corners(corners, MAX_VERTICES)
    whole = np.rint(corners).astype(np.int64)
    steps = np.diff(whole, axis=0, prepend=np.zeros((1, 2), np.int64))
    return ".".join(map(str, steps.ravel().tolist()))


def decode_polygon(text: str, max_vertices: int = MAX_VERTICES) -> NDArray[np.int64]:
    """Read an outline from an address.

    Parameters
    ----------
    text : str
        What `encode_polygon` wrote, or anything else.
    max_vertices : int
        Corners that it may have.

    Returns
    -------
    ndarray of shape (n, 2), int64
        (x, y) of its corners in level-0 pixels.

    Raises
    ------
    QueryError
        If it is no such text, or has too few or too many corners, or one that is too far away.
    """
    numbers = _numbers(text, "outline", most=2 * max_vertices)
    if len(numbers) % 2:
        msg = f"The outline in the address has {len(numbers)} numbers; expected x and y of each corner. Copy the link again."
        raise QueryError(msg)
    corners = np.cumsum(np.array(numbers, np.int64).reshape(-1, 2), axis=0)  # (n, 2)
    _check_corners(corners, max_vertices)
    return corners


def app_address(
    base_url: str = DEFAULT_BASE_URL,
    page: str = "",
    state: Mapping[str, str | int | float | Sequence[str] | None] | None = None,
) -> str:
    """Address of a page of the app.

    Parameters
    ----------
    base_url : str
        Where the app is served, such as ``http://127.0.0.1:8501`` or ``https://host/stamp``.
    page : str
        Last part of the page's path; the first page has none.
    state : mapping of str to str, number, sequence of str or None, optional
        What the page shows, by the names of its parameters. A sequence repeats its name; None and empty ones are
        left out.

    Raises
    ------
    ValueError
        If `base_url` is no address of http or https, or has more than host and path.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        msg = f"The address of the app is {base_url!r}; expected one such as {DEFAULT_BASE_URL!r}."
        raise ValueError(msg)
    if parts.query or parts.fragment:
        msg = f"The address of the app is {base_url!r}; expected host and path alone, without ? and #."
        raise ValueError(msg)
    said = {name: value for name, value in (state or {}).items() if value not in (None, "", (), [])}
    asked = urlencode(said, doseq=True, quote_via=quote, encoding="utf-8", errors="replace")
    path = f"{base_url.rstrip('/')}/{quote(page, safe='')}"
    return f"{path}?{asked}" if asked else path


# ---- checks --------------------------------------------------------------------------------------


def _numbers(text: str, name: str, *, most: int) -> list[int]:
    """Whole numbers between dots, at most `most`; a longer text is refused before it is taken apart."""
    if len(text) > most * _DIGITS:
        msg = f"The {name} in the address has {len(text):,} characters; at most {most} numbers are read. Draw a simpler one."
        raise QueryError(msg)
    parts = text.split(".")
    for part in parts:
        if not _WHOLE.fullmatch(part):
            msg = (
                f"The {name} in the address holds {part[:20]!r}; expected whole numbers with dots between them. Copy "
                f"the link again."
            )
            raise QueryError(msg)
    return [int(part) for part in parts]


def _check_corners(corners: NDArray[np.number], most: int) -> None:
    if not 3 <= len(corners) <= most:
        msg = f"The outline has {len(corners)} corners; expected 3 to {most}. Draw {'a simpler' if len(corners) > most else 'a'} shape."
        raise QueryError(msg)
    if np.abs(corners).max() > MAX_PX:
        msg = f"The outline reaches farther than {MAX_PX:,} px, where no slide is. Draw it on the slide."
        raise QueryError(msg)
