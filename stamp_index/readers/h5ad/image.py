"""Which image belongs to an ``.h5ad``: one that the user names, one beside the file, or a scaled one inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import SlideError
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.image_scale import (
    FROM_A_SMALL_COPY,
    refuse_other_sizes,
    same_shape_scale,
)
from stamp_index.readers.common.images_beside import image_files
from stamp_index.slides import open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.readers.h5ad.library import Library, Picture
    from stamp_index.slides import SlideImage

_EDGE: Final = 0.02  # of the image's size: centres of spots at a crop's edge may lie so far outside


@dataclass(frozen=True)
class Chosen:
    """The image that is used.

    Attributes
    ----------
    image : SlideImage or None
    scale : float
        Its pixels per pixel of the positions.
    notes : tuple of str
        Which it is, and why.
    """

    image: SlideImage | None
    scale: float
    notes: tuple[str, ...]


def choose_image(
    path: Path, xy: NDArray[np.float64] | None, library: Library, given: Path | str | None
) -> Chosen:
    """Choose the image.

    Parameters
    ----------
    path : Path
        The ``.h5ad``.
    xy : ndarray of shape (n, 2) or None
        Positions in pixels, which images must hold to be taken; None where they are microns.
    library : Library
        Scaled images, and the path of the full one.
    given : Path, str or None
        What the user names: taken whatever its name.

    Returns
    -------
    Chosen

    Raises
    ------
    SlideError
        If the given image has another shape than the scaled ones inside, these contradict each other, or a link
        leads out of the folder.
    """
    inside = [p for p in library.pictures if xy is None or _holds(p.size_px, xy * p.scale)]
    notes = [
        f"The image {p.name} inside the file does not hold the positions at its scale of {p.scale:.4g}, so it is "
        "not used."
        for p in library.pictures
        if p not in inside
    ]
    if inside:
        said = {f"{p.name} and tissue_{p.name}_scalef": p.full_px for p in inside}
        refuse_other_sizes(said, 1 / inside[-1].scale, str(path))
    if given is not None:
        image = open_image(given)
        scale = _scale_by_size(image, inside)
        if scale is None:
            msg = (
                f"{image.uri} is {image.size_px[0]} x {image.size_px[1]} px, another shape than the image "
                f"{inside[0].name} inside {path}. Give the image that the positions belong to."
            )
            raise SlideError(msg)
        return Chosen(image, scale, (*notes, f"Image: {given}, as given (scale {scale:.4g})."))
    beside = _beside(path, library)
    if beside is not None:
        image = open_image(beside)
        scale = _scale_by_size(image, inside)
        if scale is not None and (xy is None or _holds(image.size_px, xy * scale)):
            return Chosen(image, scale, (*notes, f"Image: {beside.name}, beside the file."))
        notes.append(f"{beside.name} beside the file does not hold the positions: not used.")
    for picture in inside:
        array = picture.to_image(f"{path}#uns/spatial/{library.name}/images/{picture.name}")
        if array is not None:
            text = f"Image: {picture.name} inside the file. No full-resolution image was given."
            return Chosen(array, picture.scale, (*notes, text))
        notes.append(
            f"The image {picture.name} inside the file holds no colours (0-255, or 0-1): not used."
        )
    notes.append("No image was found: name it (SlideOptions(image=...) or `image` in slide.toml).")
    return Chosen(None, 1.0, tuple(notes))


def inside_share(
    xy: NDArray[np.float64], size_px: tuple[int, int], margin_px: float = 0.0
) -> float:
    """Share of positions (n, 2) that lie in the image, or at most `margin_px` outside."""
    inside = (xy >= -margin_px) & (xy <= np.array(size_px) + margin_px)
    return float(inside.all(axis=1).mean()) if len(xy) else 1.0


def _holds(size_px: tuple[int, int], xy: NDArray[np.float64]) -> bool:
    """Say whether all positions lie in the image, as named or with x and y swapped."""
    known = xy[np.isfinite(xy).all(axis=1)]
    margin = _EDGE * max(size_px)
    return any(inside_share(part, size_px, margin) == 1.0 for part in (known, known[:, ::-1]))


def _scale_by_size(image: SlideImage, inside: list[Picture]) -> float | None:
    """Pixels of an image per pixel of the positions: 1, or by a scaled copy's size; None for another shape."""
    if not inside:
        return 1.0
    return same_shape_scale(image.size_px, inside[0].full_px, known_to=FROM_A_SMALL_COPY)


def images_by_name(path: Path) -> list[Path]:
    """Return the images beside the file of its own name, else all, if no other h5ad lies there."""
    images = image_files(path.parent)
    named = [image for image in images if image.stem == path.stem]
    alone = len(list(path.parent.glob("*.h5ad"))) == 1
    return named or (images if alone else [])


def _beside(path: Path, library: Library) -> Path | None:
    """Return the image beside the file: by the name in its metadata, by its own name, or the only one."""
    source = Path(library.source_image.replace("\\", "/")).name
    named = [image for image in image_files(path.parent) if image.name == source]
    named = named or images_by_name(path)
    return confined(named[0], path.parent) if len(named) == 1 else None
