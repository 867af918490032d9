"""What is asked, as values that JSON has."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.search.regions import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.search.asking import Against


def plain_numbers(values: Any) -> dict[str, Any]:  # noqa: ANN401 - a mapping or a Series
    """Numbers by name.

    Raises
    ------
    TypeError
        If it is no mapping of names to numbers.
    """
    try:
        return {str(name): float(value) for name, value in values.items()}
    except (AttributeError, TypeError, ValueError) as error:
        msg = f"{type(values).__name__} is no mapping of genes to numbers, such as {{'CD8A': 12, 'CD3E': 4}}."
        raise TypeError(msg) from error


def against_of(against: Against) -> Any:  # noqa: ANN401
    """Embeddings that are searched: a name, or weights."""
    if isinstance(against, Mapping):
        return {
            str(name): value.item() if isinstance(value, np.generic) else value
            for name, value in against.items()
        }
    return against


def image_of(patch: NDArray[np.uint8], mpp: float) -> bytes:
    """PNG of a picture.

    Raises
    ------
    TypeError, ValueError
        As `Searcher.search_image`.
    """
    from PIL import Image

    from stamp_index.search.pictures import check_picture

    check_picture(patch, mpp)
    file = BytesIO()
    Image.fromarray(patch).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def region_of(region: Region | Sequence[str] | ArrayLike) -> dict[str, Any]:
    """Write a region: polygons of a slide, ids or rows.

    Raises
    ------
    EmptyQueryError, QueryError, TypeError, ValueError
        As `VectorSearcher.search_region`.
    """
    from stamp_index.search.sharing.requests import rings_of

    if isinstance(region, Region):
        polygons = rings_of(region.shape())
        return {"slide_id": region.slide_id, "unit": region.unit, "polygons": polygons}
    if isinstance(region, str):
        msg = f"The region is the string {region!r}; expected a Region, several spot ids, or rows."
        raise TypeError(msg)
    given = np.asarray(region)
    if given.dtype.kind in "US" or all(isinstance(one, str) for one in given.flat):
        return {"spot_ids": [str(one) for one in given.flat]}
    if given.ndim != 1 or given.dtype.kind not in "iu":
        msg = f"The region is {given.dtype} of shape {given.shape}; expected a Region, spot ids, or rows."
        raise ValueError(msg)
    return {"rows": given.tolist()}
