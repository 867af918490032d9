"""``uns["spatial"][library]`` of scanpy and squidpy: scale factors, images and metadata of one section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stamp_index.errors import SlideError
from stamp_index.readers.h5ad.elements import array_of, column_of, columns_of, scalar_of
from stamp_index.slides import ArrayImage
from stamp_index.slides.images import MAX_WHOLE_PX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Picture:
    """A scaled image inside the file.

    Attributes
    ----------
    name : str
        Such as ``hires``.
    pixels : ndarray of shape (h, w, 3 or 4), uint8 or float
    scale : float
        Its pixels per pixel of the positions.
    """

    name: str
    pixels: NDArray[Any]
    scale: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def full_px(self) -> tuple[float, float]:
        """Width and height of the image that the positions refer to."""
        return self.size_px[0] / self.scale, self.size_px[1] / self.scale

    def to_image(self, uri: str) -> ArrayImage | None:
        """Return the image, or None where the values are no colours (0-255, or 0-1 as fractions)."""
        rgb = self.pixels[:, :, :3]
        if rgb.dtype == np.uint8:
            return ArrayImage(rgb, uri=uri)
        if not np.isfinite(rgb).all() or rgb.min() < 0 or rgb.max() > 1:
            return None
        return ArrayImage(np.round(rgb * 255).astype(np.uint8), uri=uri)


@dataclass(frozen=True)
class Library:
    """One section's entry.

    Attributes
    ----------
    name : str
        Empty where the file has no entry.
    scale_factors : mapping of str to float
        As Space Ranger writes them; the file's other numbers too.
    pictures : tuple of Picture
        The largest scale first; those without a scale factor are left out.
    source_image : str
        ``metadata["source_image_path"]``, or empty.
    """

    name: str
    scale_factors: Mapping[str, float]
    pictures: tuple[Picture, ...]
    source_image: str

    @classmethod
    def of(cls, file: h5py.File, path: Path) -> Self:
        """Read the only library of a file.

        Raises
        ------
        SlideError
            If the file holds several.
        """
        group = file.get("uns/spatial")
        names = (
            [name for name in group if hasattr(group[name], "keys")] if group is not None else []
        )
        name = _one_library(names, file["obs"], path)
        if not name:
            return cls("", {}, (), "")
        entry = group[name]
        factors = {
            key: float(value)
            for key, item in entry.get("scalefactors", {}).items()
            if getattr(item, "shape", None) == () and not isinstance(value := scalar_of(item), str)
        }
        source = entry.get("metadata/source_image_path")
        return cls(
            name=name,
            scale_factors=factors,
            pictures=_pictures(entry.get("images", {}), factors),
            source_image=str(scalar_of(source)) if source is not None else "",
        )


def _one_library(names: list[str], obs: h5py.Group, path: Path) -> str:
    """Return the section's name; refuse a file of several."""
    found: list[str] = []
    if "library_id" in columns_of(obs):
        found = sorted({str(name) for name in column_of(obs, "library_id").dropna()})
        if len(found) == 1 and found[0] in names:
            return found[0]  # a part of a larger object keeps the entries of the others
    several = found if len(found) > 1 else names
    if len(several) > 1:
        key = "library_id" if len(found) > 1 else "<column of obs that tells the sections>"
        msg = (
            f"{path} holds {len(several)} sections ({', '.join(several[:6])}{', ...' if len(several) > 6 else ''}); a "
            f"slide is one. Split it: for name in adata.obs['{key}'].unique(): part = adata[adata.obs['{key}'] == "
            "name].copy(); part.uns['spatial'] = {name: adata.uns['spatial'][name]}; part.write_h5ad(f'{name}.h5ad')."
        )
        raise SlideError(msg)
    return names[0] if names else ""


def _pictures(images: h5py.Group, factors: Mapping[str, float]) -> tuple[Picture, ...]:
    found = []
    for name, item in images.items():
        scale = factors.get(f"tissue_{name}_scalef")
        shape: tuple[int, ...] = getattr(item, "shape", ())
        if scale is not None and scale > 0 and len(shape) == 3 and shape[2] in (3, 4):
            if shape[0] * shape[1] > MAX_WHOLE_PX:
                msg = f"the image {name} is {shape[1]} x {shape[0]} px; a scaled image has {MAX_WHOLE_PX:,} at most"
                raise ValueError(msg)
            found.append(Picture(str(name), array_of(item), scale))
    return tuple(sorted(found, key=lambda picture: -picture.scale))
