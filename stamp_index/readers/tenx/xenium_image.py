"""The H&E image of a Xenium section, and how it lies against the section.

H&E is stained and scanned after the run, and aligned in Xenium Explorer. The alignment is a file beside the
image: ``x_he_image.ome.tif`` has ``x_he_imagealignment.csv``, a 3 x 3 matrix without header that maps pixels of
the H&E image to pixels of Xenium's morphology image at full resolution (10x Genomics, "How can I convert
coordinates between H&E image and Xenium data?"). Morphology images are fluorescence and never used.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import SlideError
from stamp_index.keys import Nums
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.slides import open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

_HE_IMAGE: Final = re.compile(r"(.*[_-])?he_image(\.ome)?\.tiff?", re.IGNORECASE)
_IMAGE_SUFFIX: Final = re.compile(r"(\.ome)?\.[a-z]+", re.IGNORECASE)
_ALIGNMENT: Final = "alignment.csv"
_MAX_ALIGNMENT_BYTES: Final = 10_000  # nine numbers; anything much longer is another file
_SINGULAR: Final = 1e-6  # below this share of the other, an axis of the image has no extent


@dataclass(frozen=True)
class XeniumImage:
    """Where microns of a section lie on its image; without one, on Xenium's own pixels.

    Attributes
    ----------
    image : SlideImage or None
    mpp : float
        Microns per pixel of the image, or of Xenium's morphology image where there is none.
    to_px : ndarray of shape (2, 3), float64
        Affine map from (x um, y um, 1) to pixels (x, y).
    files : tuple of Path
        The alignment, where there is one.
    notes : tuple of str
    """

    image: SlideImage | None
    mpp: float
    to_px: NDArray[np.float64]
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    def place(self, xy_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return pixels (x, y) of points in microns: shape (n, 2) each."""
        placed: NDArray[np.float64] = xy_um @ self.to_px[:, :2].T + self.to_px[:, 2]
        return placed


def place_image(path: Path, pixel_um: float, options: SlideOptions) -> XeniumImage:
    """Find the H&E image of an output folder and its alignment.

    Parameters
    ----------
    path : Path
        The output folder.
    pixel_um : float
        Xenium's pixel size, ``pixel_size`` in ``experiment.xenium``.
    options : SlideOptions
        `image` and `mpp` are used. The alignment of a given image lies beside it, or in the folder.

    Raises
    ------
    SlideError
        If there is more than one image, no alignment, or one that cannot be right.
    MissingPixelSizeError
        If the alignment and the image's own pixel size differ by more than 3 %.
    """
    found = _find_image(path, options)
    if found is None:
        mpp, how = choose_mpp(
            derived={"pixel_size of experiment.xenium": pixel_um}, image=None, given=options.mpp
        )
        note = (
            "No image: there is no he_image.ome.tif. The morphology images show fluorescence and are not used as H&E. "
            "To train on images or to embed them, put the H&E image and its alignment here, or name the image in slide.toml "
            "(image = ...)."
        )
        scale = np.array([[1 / pixel_um, 0, 0], [0, 1 / pixel_um, 0]])
        return XeniumImage(None, mpp, scale, (), (note, how))
    alignment = _find_alignment(path, found, given=options.image is not None)
    matrix = read_alignment(alignment)
    scale_px = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))  # Xenium pixels per H&E pixel
    image = open_image(found)
    mpp, how = choose_mpp(
        derived={"the alignment and Xenium's pixel size": scale_px * pixel_um},
        image=image,
        given=options.mpp,
    )
    to_he: NDArray[np.float64] = np.linalg.inv(matrix)[:2].astype(np.float64)
    to_he[:, :2] /= pixel_um
    as_given = ", as given" if options.image is not None else ""
    note = f"Image: {found.name}{as_given}, placed by {alignment.name}."
    return XeniumImage(image, mpp, to_he, (alignment,), (note, how))


def read_alignment(path: Path) -> NDArray[np.float64]:
    """Read a 3 x 3 matrix that maps H&E pixels to Xenium pixels.

    Returns
    -------
    ndarray of shape (3, 3), float64
        Turned, mirrored, scaled and shifted, but not sheared by more than 3 %.

    Raises
    ------
    SlideError
        If it is no such matrix.
    """
    expected = "Expected the matrix that Xenium Explorer exports: three lines of three numbers, the last 0,0,1"
    try:
        if path.stat().st_size > _MAX_ALIGNMENT_BYTES:
            msg = f"{path.stat().st_size} bytes"
            raise ValueError(msg)
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        rows = [[float(value) for value in line.split(",")] for line in lines if line.strip()]
        lengths = [len(row) for row in rows]
        if lengths != [3, 3, 3]:
            msg = f"{len(rows)} lines of {', '.join(map(str, sorted(set(lengths))))} numbers"
            raise ValueError(msg)
    except (OSError, ValueError) as exc:
        msg = f"The alignment {path} cannot be read ({exc}). {expected}."
        raise SlideError(msg) from exc
    matrix = np.array(rows, dtype=np.float64)
    if not np.isfinite(matrix).all() or not np.allclose(matrix[2], [0, 0, 1], rtol=0, atol=1e-9):
        msg = f"The alignment {path} is no affine map (its last line is {lines[2].strip()}). {expected}."
        raise SlideError(msg)
    largest, smallest = (float(s) for s in np.linalg.svd(matrix[:2, :2], compute_uv=False))
    if smallest <= _SINGULAR * largest:
        msg = f"The alignment {path} cannot be inverted: it maps the image to a line. Export it again."
        raise SlideError(msg)
    if largest - smallest > Nums.MPP_TOLERANCE * smallest:
        msg = (
            f"The alignment {path} stretches or shears the image: {largest:.4g} and {smallest:.4g} Xenium pixels per H&E "
            f"pixel in two directions, which may differ by {Nums.MPP_TOLERANCE:.0%} at most. Align the image again."
        )
        raise SlideError(msg)
    return matrix


def _find_image(path: Path, options: SlideOptions) -> Path | None:
    if options.image is not None:
        image = Path(options.image)
        if image.name.startswith("morphology"):
            msg = (
                f"The image {image} is Xenium's morphology image, which shows fluorescence. Give the H&E image of the "
                "section, or none."
            )
            raise SlideError(msg)
        return image
    found = sorted(p for p in path.iterdir() if _HE_IMAGE.fullmatch(p.name))
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        msg = f"{path} has {len(found)} H&E images ({names}). Name one: SlideOptions(image=...)."
        raise SlideError(msg)
    return confined(found[0], path) if found else None


def _find_alignment(path: Path, image: Path, *, given: bool) -> Path:
    """Return an image's alignment: the one named after it, else the only one of the output folder."""
    own = image.with_name(_IMAGE_SUFFIX.sub("", image.name, count=1) + _ALIGNMENT)
    if own.exists():
        return own if given else confined(own, path)
    others = sorted(path.glob(f"*he_image{_ALIGNMENT}"))
    if len(others) == 1:
        return confined(others[0], path)
    there = f"; there are {', '.join(p.name for p in others)}" if others else ""
    msg = (
        f"The H&E image {image} has no alignment{there}. Put the matrix that Xenium Explorer exports beside it, as "
        f"{own.name}; without it, the image's place on the section is unknown."
    )
    raise SlideError(msg)
