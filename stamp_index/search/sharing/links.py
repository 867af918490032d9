"""Address of the app's page that shows a search, in the names that the app's pages use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stamp_index.addresses import DEFAULT_BASE_URL, app_address, encode_polygon
from stamp_index.errors import QueryError
from stamp_index.search.asking import DEFAULT_RECALL
from stamp_index.search.filtering import And, Compare, Field, In, Not, all_of, parse_filter
from stamp_index.search.sharing.requests import GeneRequest, RegionRequest, Request, SpotRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.search.asking import OnePer
    from stamp_index.search.filtering import Condition
    from stamp_index.search.selection import Own
    from stamp_index.store import Modality

# What the addresses of the app call things.
TARGETS: Final[dict[str, Modality]] = {"images": "image", "gene profiles": "gene"}
LEFT_OUT: Final[dict[str, Own]] = {
    "nothing": "nothing",
    "own slide": "slide",
    "own patient": "patient",
}
NEIGHBOURHOOD_UM: Final = 500.0
ONE_PER: Final[dict[str, OnePer]] = {
    "spot": None,
    "neighbourhood": NEIGHBOURHOOD_UM,
    "slide": "slide",
    "patient": "patient",
}
COMPARED: Final[dict[str, Modality]] = {"look": "image", "expression": "gene"}  # of regions
LEFT_OUT_OF_REGIONS: Final[dict[str, Own]] = {
    "its slide": "slide",
    "its patient": "patient",
    "nothing": "nothing",
}
MAX_HITS: Final = 200  # that the app shows
MAX_REGIONS: Final = 40
MAX_WHERE: Final = 2_000  # characters of a filter
# Fields that a page has a list for, by the list's name in its address.
SPOT_LISTS: Final = ("organ", "slide", "patient", "notpatient")
REGION_LISTS: Final = ("organ",)


def request_url(request: Request, base_url: str = DEFAULT_BASE_URL) -> str:
    """Address of the page that shows a search.

    Parameters
    ----------
    request : GeneRequest, SpotRequest or RegionRequest
    base_url : str
        Where the app is served.

    Returns
    -------
    str
        ``/genes?q=...`` for genes, ``/image?spot=...`` for a spot, and ``/regions?s=...&poly=...`` for a region.

    Raises
    ------
    QueryError
        If it cannot be shown: a picture, of which an address holds nothing; a region of several parts, with holes, or of
        spots; more hits than the app shows; or arguments for which it has no widget.
    """
    _check(request)
    state: dict[str, Any]
    if isinstance(request, GeneRequest):
        state = {"q": request.signature, "in": _named(TARGETS, request.against)}
        return app_address(base_url, "genes", state | _of_spots(request))
    if isinstance(request, SpotRequest):
        state = {"spot": request.spot_id, "match": _named(TARGETS, request.against)}
        state |= {"without": _named(LEFT_OUT, request.exclude_own)}
        return app_address(base_url, "image", state | _of_spots(request))
    if isinstance(request, RegionRequest):
        state = {"s": request.slide_id, "poly": _poly(request), "k": request.k}
        state |= {"as": _named(COMPARED, request.against)}
        state |= {"without": _named(LEFT_OUT_OF_REGIONS, request.exclude_own)}
        return app_address(base_url, "regions", state | _filters(request, REGION_LISTS))
    msg = (
        "A picture is not in an address. Send the file, and the record or the Python of the search."
    )
    raise QueryError(msg)


def _check(request: Request) -> None:
    """Refuse what the pages have no widget for: the same address would show something else."""
    usual: dict[str, Any] = {"genes": (), "recall": DEFAULT_RECALL}
    usual |= {"rank_by": "score", "settings": None}
    is_region = isinstance(request, RegionRequest)
    if isinstance(request, RegionRequest):
        usual["query"] = request.against  # the page compares like with like
    elif isinstance(request, SpotRequest):
        usual["query"] = "image"
    asked = request.arguments()
    other = [name for name, value in usual.items() if name in asked and asked[name] != value]
    if other:
        msg = f"The app has no widget for {', '.join(other)}, so its address cannot say it. Send the record or the Python."
        raise QueryError(msg)
    most, noun = (MAX_REGIONS, "regions") if is_region else (MAX_HITS, "hits")
    if request.k > most:
        msg = f"The app shows at most {most} {noun}; {request.k:,} are asked for. Ask for fewer."
        raise QueryError(msg)


def _named(names: Mapping[str, Any], value: Any) -> str:  # noqa: ANN401 - whatever was asked for
    """Word of the address for a value.

    Raises
    ------
    QueryError
        If there is none, as for two embeddings at once or another radius.
    """
    for word, held in names.items():
        if held == value:
            return word
    msg = (
        f"The app can be asked for {', '.join(names)}, and not for {value!r}, so its address cannot say it. Send the "
        "record or the Python."
    )
    raise QueryError(msg)


def _of_spots(request: GeneRequest | SpotRequest) -> dict[str, Any]:
    one_per = _named(ONE_PER, request.one_per)
    return {"k": request.k, "one": one_per} | _filters(request, SPOT_LISTS)


def _poly(request: RegionRequest) -> str:
    if len(request.outlines) != 1 or len(request.outlines[0]) != 1:
        msg = "An address holds one outline without holes. Send the region as GeoJSON."
        raise QueryError(msg)
    ring = request.outlines[0][0]
    return encode_polygon(ring[:-1] if ring[0] == ring[-1] else ring)


def _filters(request: Request, lists: tuple[str, ...]) -> dict[str, Any]:
    """Say the filter by the page's lists, and all else of it as the text ``where``.

    Raises
    ------
    QueryError
        If that text is longer than the page's box.
    """
    condition = parse_filter(str(request.filters or ""))
    if condition is None:
        return {}
    found: dict[str, Any] = {}
    others: list[Condition] = []
    for term in condition.terms if isinstance(condition, And) else (condition,):
        name, values = _listed(term)
        if name in lists and name not in found and "" not in values:
            found[name] = values
        else:
            others.append(term)
    where = str(all_of(*others) or "")
    if len(where) > MAX_WHERE:
        msg = (
            f"The filter has {len(where):,} characters besides its lists; the app takes {MAX_WHERE:,}. Send the record or "
            "the Python."
        )
        raise QueryError(msg)
    return found | {"where": where}


def _listed(term: Condition) -> tuple[str, list[Any]]:
    """Name of the list that says the same as a condition, and its values; "" where no list does."""
    out = isinstance(term, Not)
    inner = term.term if isinstance(term, Not) else term
    if isinstance(inner, In) and isinstance(inner.subject, Field):
        return ("not" if out else "") + inner.subject.name, list(inner.values)
    if isinstance(inner, Compare) and isinstance(inner.subject, Field) and not out:
        sign = {"==": "", "!=": "not"}.get(inner.operator)
        if sign is not None:
            return sign + inner.subject.name, [inner.value]
    return "", []
