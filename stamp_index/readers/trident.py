"""TRIDENT: embeddings of the tiles of an H&E slide, made elsewhere, with the places of the tiles.

A slide is named by its embeddings, ``<job>/20x_256px_0px_overlap/features_<encoder>/<slide>.h5``: the
datasets ``features`` (N, D) and ``coords`` (N, 2), top-left corners in level-0 pixels, with attributes.
Source: github.com/mahmoodlab/TRIDENT (coords_to_h5 in trident/IO.py, extract_patch_features in
trident/wsi_objects/WSI.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.errors import SlideError, SpotOutsideImageError
from stamp_index.keys import Keys
from stamp_index.readers.build import make_slide
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.hdf5 import open_h5
from stamp_index.readers.common.images_beside import SUFFIXES
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.common.regular import regular
from stamp_index.slides import Slide, open_image
from stamp_index.slides.slide import GivenEmbeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

_PREFIX: Final = "features_"
_JOB: Final = re.compile(r"[\d.]+x_\d+px_-?\d+px_overlap")
# TRIDENT names a slide by its image up to the last suffix, or up to .ome.tif.
_IMAGE_ENDS: Final = (*sorted(SUFFIXES), ".ome.tif", ".ome.tiff", ".dcm")
_MAX_TILE_PX: Final = 100_000  # a slide of 25 mm at 40x
_UM_AT_1X: Final = 10.0  # TRIDENT's own rule: 10 um/px at 1x, so 0.5 at 20x


@dataclass(frozen=True)
class _Tiles:
    """What one h5 file holds.

    Attributes
    ----------
    features : ndarray of shape (n, d), float32
    corners_px : ndarray of shape (n, 2), float64
        Top-left, level-0 pixels.
    width_px : float
        Of a tile, in level-0 pixels.
    attributes : dict of str to int, float or str
        Of ``coords``.
    encoder : str
        As the file says; empty where it does not.
    """

    features: NDArray[np.float32]
    corners_px: NDArray[np.float64]
    width_px: float
    attributes: dict[str, str | int | float]
    encoder: str


class TridentReader:
    """Reads one slide's embeddings from a TRIDENT job."""

    name = "TRIDENT"
    version = 1
    expects = "an h5 file features_<encoder>/<slide>.h5 with the datasets features and coords"

    def detect(self, path: Path) -> bool:
        """Say whether `path` lies in a job's ``features_*``, or in any folder of that name and holds both datasets."""
        folder = path.parent
        if path.suffix != ".h5" or not folder.name.startswith(_PREFIX) or path.name[0] == ".":
            return False
        return _JOB.fullmatch(folder.parent.name) is not None or _has_both(path)

    def sidecar(self, path: Path) -> Path:
        """Return ``features_<encoder>/<slide>.slide.toml``."""
        return path.with_name(f"{path.stem}.slide.toml")

    def owns(self, path: Path) -> list[Path]:
        """Return where the slide's image may lie, which is then no slide of its own."""
        return _image_places(path)

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read embeddings, places and, where there is one, the image.

        Raises
        ------
        SlideError
            If the file is damaged, holds one embedding for the whole slide or none, or the image is of
            another size than the one that was tiled.
        """
        tiles = _read(path)
        image, note = _find_image(path, options)
        _check_size(image, tiles, path)
        _check_places(tiles, path)
        mpp, notes = _pixel_size(image, tiles, options)
        encoder = tiles.encoder or path.parent.name.removeprefix(_PREFIX)
        names = [f"{x:.0f}_{y:.0f}" for x, y in tiles.corners_px]
        spots = pd.DataFrame(
            tiles.corners_px + tiles.width_px / 2, columns=[Keys.X_PX, Keys.Y_PX], index=names
        ).rename_axis(Keys.BARCODE)
        slide = Slide(
            slide_id=path.stem,
            spots=spots,
            counts=csr_matrix(np.zeros((len(spots), 0), dtype=np.float32)),
            genes=(),
            image=image,
            mpp=mpp,
            spot_diameter_um=_width_um(tiles, mpp),
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=(path,),
            parameters={"encoder": encoder, "tile_level0_px": tiles.width_px, **tiles.attributes},
            embeddings=GivenEmbeddings(encoder=encoder, image=tiles.features),
            notes=(f"Embeddings of {encoder}, {tiles.features.shape[1]} dimensions.", note, *notes),
        )
        return make_slide(slide, options)


def _has_both(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(regular(path), "r") as file:
            links = [file.get(name, getlink=True) for name in ("features", "coords")]
    except (OSError, RuntimeError, TypeError):
        return False
    return all(isinstance(link, h5py.HardLink) for link in links)


def _read(path: Path) -> _Tiles:
    try:
        with open_h5(path) as file:
            features, coords = file["features"], file["coords"]
            shapes = features.shape, coords.shape
            _check_shapes(shapes[0], shapes[1], path)
            said = features.attrs.get("encoder", "")
            attributes = {k: v for k, v in map(_plain, coords.attrs.items()) if v is not None}
            corners = np.asarray(coords[:], dtype=np.float64)
            values = np.asarray(features[:], dtype=np.float32)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as exc:
        msg = (
            f"The embeddings {path} cannot be read ({exc}). Expected the datasets features and coords, as TRIDENT "
            "writes them: copy the file again."
        )
        raise SlideError(msg) from exc
    kept = {k: v for k, v in attributes.items() if k not in ("name", "savetodir")}
    return _Tiles(values, corners, _width_px(attributes, path), kept, _text(said))


def _check_shapes(features: tuple[int, ...], coords: tuple[int, ...], path: Path) -> None:
    if coords[0] == 0:
        msg = (
            f"No tiles were found on this slide: {path} holds none. Its tissue mask was empty: tile the slide again, or "
            "leave it out."
        )
        raise SlideError(msg)
    if len(features) == 3 and features[0] == 1 or len(features) < 2:
        msg = (
            f"{path} holds features of shape {features}: one embedding for the whole slide, or tiles packed for a slide "
            "encoder. Give the embeddings of its tiles, of shape (tiles, dimensions)."
        )
        raise SlideError(msg)
    if len(features) != 2 or coords != (features[0], 2) or features[1] == 0:
        msg = (
            f"{path} holds features of shape {features} and coords of shape {coords}; expected (tiles, dimensions) and "
            "(tiles, 2). Copy the file again."
        )
        raise SlideError(msg)


def _plain(item: tuple[str, Any]) -> tuple[str, str | int | float | None]:
    """Return an attribute as a plain value, None where it is none such."""
    name, value = item
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = _text(value)
    return name, value if isinstance(value, str | int | float) else None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _width_px(attributes: dict[str, str | int | float], path: Path) -> float:
    """Return a tile's width in level-0 pixels, from the one attribute that says it or those it follows from."""
    size = _number(attributes, "patch_size_level0")
    if size is None:
        parts = [_number(attributes, n) for n in ("patch_size", "level0_magnification")]
        target = _number(attributes, "target_magnification")
        if None not in parts and target is not None:
            size = parts[0] * parts[1] / target  # type: ignore[operator]
        elif _number(attributes, "patch_level", least=0.0) == 0 and parts[0] is not None:
            # Tiles of CLAM, on which TRIDENT builds where it finds them.
            size = parts[0] * (_number(attributes, "custom_downsample") or 1.0)
    if size is None:
        msg = (
            f"{path} does not say how wide its tiles are: coords has neither patch_size_level0 nor patch_size with both "
            f"magnifications (its attributes: {', '.join(attributes) or 'none'}). Extract the features again with "
            "TRIDENT, which writes them."
        )
        raise SlideError(msg)
    if not 1 <= size <= _MAX_TILE_PX:
        msg = (
            f"{path} says that its tiles are {size:g} level-0 pixels wide; expected 1 to {_MAX_TILE_PX:,}. Extract the features "
            "again with TRIDENT."
        )
        raise SlideError(msg)
    return size


def _number(
    attributes: dict[str, str | int | float], name: str, *, least: float = 1e-9
) -> float | None:
    value = attributes.get(name)
    if (
        isinstance(value, str | bool)
        or value is None
        or not (np.isfinite(value) and value >= least)
    ):
        return None
    return float(value)


def _image_places(path: Path) -> list[Path]:
    """Return every place in the job's folder, and beside it, where an image of the slide's name may lie."""
    job = path.parent.parent.parent
    return [folder / f"{path.stem}{end}" for folder in (job, job.parent) for end in _IMAGE_ENDS]


def _find_image(path: Path, options: SlideOptions) -> tuple[SlideImage | None, str]:
    """Return the image: the given one, else one of the slide's name in or beside the job's folder."""
    if options.image is not None:
        return open_image(options.image), f"Image: {Path(options.image).name}, as given."
    root = path.parent.parent.parent.parent
    found = [confined(place, root) for place in _image_places(path) if place.is_file()]
    if len(found) > 1:
        msg = (
            f"Slide {path.stem} has {len(found)} images ({', '.join(map(str, found))}). Name one: "
            "SlideOptions(image=...) or `image` in slide.toml."
        )
        raise SlideError(msg)
    if found:
        return open_image(found[0]), f"Image: {found[0].name}, beside the job."
    return None, "No image was found beside the job: the slide has embeddings and places only."


def _check_size(image: SlideImage | None, tiles: _Tiles, path: Path) -> None:
    expected = [_number(tiles.attributes, f"level0_{side}") for side in ("width", "height")]
    if image is None or None in expected or image.size_px == tuple(expected):
        return
    msg = (
        f"{image.uri} is {image.size_px[0]} x {image.size_px[1]} px, but {path.name} was made of an image of "
        f"{expected[0]:.0f} x {expected[1]:.0f} px. Give the image that was tiled."
    )
    raise SlideError(msg)


def _check_places(tiles: _Tiles, path: Path) -> None:
    """Refuse tiles outside the image that was tiled; those at its edges may reach over it."""
    width, height = (_number(tiles.attributes, f"level0_{side}") for side in ("width", "height"))
    if width is None or height is None:
        return
    far = np.array([width, height])
    # To the left and top nothing reaches over; a tile's corner lies inside.
    outside = ~(
        (tiles.corners_px >= 0) & (tiles.corners_px + tiles.width_px <= far + tiles.width_px)
    )
    lost = np.flatnonzero(outside.any(axis=1))
    if len(lost):
        x, y = tiles.corners_px[lost[0]]
        msg = (
            f"{path}: {len(lost)} of {len(outside)} tiles lie outside the image of {width:.0f} x {height:.0f} px that was "
            f"tiled, such as the one at ({x:.0f}, {y:.0f}). Expected corners (x, y) in level-0 pixels: tile the slide again."
        )
        raise SpotOutsideImageError(msg)


def _pixel_size(
    image: SlideImage | None, tiles: _Tiles, options: SlideOptions
) -> tuple[float | None, list[str]]:
    """Return the pixel size: a magnification is none, so that it stays unknown without an image that says it."""
    if image is None and options.mpp is None:
        magnification = _number(tiles.attributes, "level0_magnification")
        said = f" (TRIDENT took the slide for {magnification:g}x)" if magnification else ""
        return None, [
            f"The pixel size is unknown{said}: places are in pixels, and the width of a tile in um is nominal. Give mpp "
            "to search by region."
        ]
    mpp, note = choose_mpp(derived={}, image=image, given=options.mpp)
    return mpp, [note]


def _width_um(tiles: _Tiles, mpp: float | None) -> float:
    """Return a tile's width: measured, else by the magnification it was cut at, where 20x is 0.5 um/px."""
    if mpp is not None:
        return tiles.width_px * mpp
    magnification = _number(tiles.attributes, "level0_magnification")
    return tiles.width_px * _UM_AT_1X / magnification if magnification else float("nan")
