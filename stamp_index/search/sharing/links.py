"""Address of the app's page that shows a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stamp_index.addresses import DEFAULT_BASE_URL, app_address, encode_polygon
from stamp_index.errors import QueryError
from stamp_index.search.filtering import And, Compare, Field, In, parse_filter
from stamp_index.search.sharing.requests import GeneRequest, RegionRequest, Request, SpotRequest

if TYPE_CHECKING:
    from stamp_index.store import Modality

# What the addresses of the app call things.
TARGETS: Final[dict[Modality, str]] = {"image": "images", "gene": "gene profiles"}
LEFT_OUT: Final = {"nothing": "nothing", "slide": "own slide", "patient": "own patient"}
FILTERED: Final = ("organ", "slide", "patient")
MAX_HITS: Final = 200  # that the app shows


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
        ``/?q=...`` for genes, ``/image?spot=...`` for a spot, and ``/regions?slide=...&poly=...`` for a region.

    Raises
    ------
    QueryError
        If it cannot be shown: a picture, of which an address holds nothing; a region of several parts, or of spots; more
        than 200 hits; or arguments for which the app has no widget.
    """
    _check(request)
    state: dict[str, Any]
    if isinstance(request, GeneRequest):
        state = {"q": request.signature, "k": request.k, "in": _target(request.against)}
        return app_address(base_url, "", state | _filters(request))
    if isinstance(request, SpotRequest):
        state = {"spot": request.spot_id, "k": request.k, "match": _target(request.against)}
        state |= {"without": LEFT_OUT[request.exclude_own]}
        return app_address(base_url, "image", state | _filters(request))
    if isinstance(request, RegionRequest):
        state = {"of": request.slide_id, "poly": _poly(request), "k": request.k}
        state |= {"match": _target(request.against), "without": LEFT_OUT[request.exclude_own]}
        return app_address(base_url, "regions", state | _filters(request))
    msg = (
        "A picture is not in an address. Send the file, and the record or the Python of the search."
    )
    raise QueryError(msg)


def _check(request: Request) -> None:
    """Refuse what the pages have no widget for: the same address would show something else."""
    usual: dict[str, Any] = {"genes": (), "one_per": None, "recall": 0.99, "rank_by": "score"}
    usual |= {"query": "image", "settings": None}
    asked = request.arguments()
    other = [name for name, value in usual.items() if name in asked and asked[name] != value]
    if other:
        msg = f"The app has no widget for {', '.join(other)}, so its address cannot say it. Send the record or the Python."
        raise QueryError(msg)
    if request.k > MAX_HITS:
        msg = f"The app shows at most {MAX_HITS} hits; {request.k:,} are asked for. Ask for fewer."
        raise QueryError(msg)


def _target(against: Any) -> str:  # noqa: ANN401 - one embedding, or weights
    if isinstance(against, str) and against in TARGETS:
        return TARGETS[against]
    msg = (
        f"The app searches one embedding at a time, not {against!r}. Send the record or the Python."
    )
    raise QueryError(msg)


def _poly(request: RegionRequest) -> str:
    if len(request.outlines) != 1 or len(request.outlines[0]) != 1:
        msg = "An address holds one outline without holes. Send the region as GeoJSON."
        raise QueryError(msg)
    ring = request.outlines[0][0]
    return encode_polygon(ring[:-1] if ring[0] == ring[-1] else ring)


def _filters(request: Request) -> dict[str, Any]:
    """Organs, slides and patients that a filter allows.

    Raises
    ------
    QueryError
        If it asks for anything else.
    """
    condition = parse_filter(str(request.filters or ""))
    if condition is None:
        return {}
    terms = condition.terms if isinstance(condition, And) else (condition,)
    found: dict[str, Any] = {}
    for term in terms:
        name = (
            term.subject.name
            if isinstance(term, (In, Compare)) and isinstance(term.subject, Field)
            else ""
        )
        if (
            name not in FILTERED
            or name in found
            or (isinstance(term, Compare) and term.operator != "==")
        ):
            msg = (
                f"The app filters by organ, slide and patient alone; the filter {str(condition)[:200]!r} asks for more. "
                "Send the record or the Python."
            )
            raise QueryError(msg)
        found[name] = [*term.values] if isinstance(term, In) else [term.value]  # type: ignore[union-attr]
    return found
