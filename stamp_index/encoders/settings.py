"""Settings of a recipe's section, compared with what the part that takes them knows."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def refuse_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse keys that a section does not have.

    Parameters
    ----------
    what : str
        Begins the sentence: the section, or the part and its section.
    given, known : iterable of str
        Keys that are there, and those that may be.

    Raises
    ------
    ValueError
        Naming the unknown keys and all known ones.
    """
    known = list(known)
    unknown = sorted(set(given) - set(known))
    if unknown:
        msg = (
            f"{what} has no setting {', '.join(unknown)}; it knows "
            f"{', '.join(known) or 'no settings'}."
        )
        raise ValueError(msg)


def check_settings(
    what: str,
    settings: Mapping[str, Any],
    maker: Callable[..., Any],
    *,
    filled: tuple[str, ...] = (),
) -> None:
    """Refuse settings that `maker` does not take, and the lack of those that it cannot do without.

    Parameters
    ----------
    what : str
        Begins the sentence, as in `refuse_unknown`.
    settings : mapping
        Keyword arguments for `maker`; ``kind``, which chose the maker, is passed over.
    maker : callable
        Class or function that will be given them.
    filled : tuple of str
        Parameters that do not come from the section.

    Raises
    ------
    ValueError
        Naming the unknown or missing settings and all known ones.
    """
    own = settings.keys() - {"kind"}
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(maker).parameters.items()
        if name not in filled
    }
    refuse_unknown(what, own, parameters)
    needed = [name for name, found in parameters.items() if found.default is found.empty]
    missing = [name for name in needed if name not in own]
    if missing:
        msg = f"{what} lacks {', '.join(missing)}; it knows {', '.join(parameters)}."
        raise ValueError(msg)
