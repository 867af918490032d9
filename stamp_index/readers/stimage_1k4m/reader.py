"""STimage-1K4M: slides with images and counts as CSV and PNG files, a folder for each technology.

A slide is named by its counts, ``Visium/gene_exp/<slide>_count.csv`` (or below ``ST`` or ``VisiumHD``).
Beside ``gene_exp`` lie ``coord/<slide>_coord.csv`` (yaxis, xaxis, r: centre and radius in pixels) and
``image/<slide>.png``; beside the technology's folder ``annotation/<slide>_anno.csv`` and ``meta``.
Source: Chen et al., NeurIPS 2024; fields after github.com/JiawenChenn/STimage-1K4M.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pandas as pd

from stamp_index.errors import MissingPixelSizeError
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.joining import join_most
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.common.spot_pitch import STAGGERED_DEG, array_pitch, square_turn
from stamp_index.readers.stimage_1k4m.count_csv import read_count_csv
from stamp_index.readers.stimage_1k4m.tables import read_annotation, read_coord, read_meta
from stamp_index.slides import Slide, open_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

_SUFFIX: Final = "_count.csv"
_HD_BARCODE: Final = re.compile(r"s_(?P<um>\d{3})um_\d+_\d+")  # 10x Genomics, Visium HD


@dataclass(frozen=True)
class _Technology:
    """What is known of an array: pitch and diameter in um, what `r` may be half of, and whether rows are not staggered."""

    platform: str
    pitch_um: float | None
    spot_um: float | None
    circles_um: tuple[float, ...]
    is_square: bool = False


# Space Ranger's spot_diameter_fullres, which radii of Visium slides may come from, spans 65 um and not the spot's
# 55 um (10x Genomics; it was 0.648 of the pitch on one slide), so that r alone gives no pixel size.
_TECHNOLOGIES: Final[Mapping[str, _Technology]] = {
    "ST": _Technology(
        "Legacy ST",
        Nums.LEGACY_ST_PITCH_UM,
        Nums.LEGACY_ST_SPOT_UM,
        (Nums.LEGACY_ST_SPOT_UM,),
        is_square=True,
    ),
    "Visium": _Technology(
        "Visium", Nums.VISIUM_PITCH_UM, Nums.VISIUM_SPOT_UM, (Nums.VISIUM_SPOT_UM, 65.0)
    ),
    "VisiumHD": _Technology("Visium HD", None, None, ()),
}


class STimageReader:
    """Reads one slide of STimage-1K4M."""

    name = "STimage-1K4M"
    version = 1
    expects = (
        "a counts file <ST, Visium or VisiumHD>/gene_exp/<slide>_count.csv beside coord/ and image/"
    )

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a counts file below ``<technology>/gene_exp`` that has a ``coord`` beside it."""
        folder = path.parent
        return (
            folder.name == "gene_exp"
            and path.name.endswith(_SUFFIX)
            and not path.name.startswith(".")
            and folder.parent.name in _TECHNOLOGIES
            and (folder.parent / "coord").is_dir()
        )

    def sidecar(self, path: Path) -> Path:
        """Return ``gene_exp/<slide>.slide.toml``."""
        return path.with_name(f"{_slide_id(path)}.slide.toml")

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read counts, positions, labels and, where there is one, the image.

        Raises
        ------
        SlideError
            If a file is missing or damaged, barcodes do not match, or pixel sizes contradict each other.
        """
        slide_id, folder = _slide_id(path), path.parent.parent
        root = folder.parent
        coord = confined(folder / "coord" / f"{slide_id}_coord.csv", root)
        positions, radius = read_coord(coord)
        positions.index = pd.Index(_short(positions.index.tolist(), slide_id), name=Keys.BARCODE)
        names, columns, counts = read_count_csv(path)
        barcodes = _short(names, slide_id)
        joined = join_most(barcodes, positions.index, where=f"Slide {slide_id}")
        spots, notes = positions.iloc[joined.at].copy(), joined.notes()
        merged, genes, _, doubled = sum_duplicate_genes(counts[joined.rows], columns, ())
        image, note = _find_image(folder, slide_id, options)
        technology = _technology(folder.name, barcodes)
        array = _Array.of(positions, radius, technology, slide_id)
        other = options.mpp is not None or (image is not None and image.mpp is not None)
        mpp, how = choose_mpp(
            derived=array.derived_mpp(other=other), image=image, given=options.mpp
        )
        notes += [*([doubled] if doubled else []), note, how, *array.notes(mpp)]
        spots, files, labelled = _label(spots, root, slide_id)
        about, meta_files, unsure = _about(root, slide_id)
        slide = Slide(
            slide_id=slide_id,
            spots=spots,
            counts=merged,
            genes=genes,
            image=image,
            mpp=mpp,
            spot_diameter_um=array.spot_um(mpp),
            organ=about.get("tissue", ""),
            species=about.get("species", ""),
            platform=technology.platform,
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=(path, coord, *files, *meta_files),
            notes=(*notes, *labelled, *unsure),
        )
        return make_slide(slide, options)


@dataclass(frozen=True)
class _Array:
    """A slide's spots as they lie on its image: what their distance and their radius say about the pixels."""

    technology: _Technology
    pitch_px: float | None
    radius_px: float
    is_staggered: bool
    slide_id: str

    @classmethod
    def of(
        cls, positions: pd.DataFrame, radius_px: float, technology: _Technology, slide_id: str
    ) -> Self:
        """Look at the spots: how far apart they lie, and whether the array is turned by about 45 degrees."""
        xy_px = positions.to_numpy(dtype="float64")
        pitch = array_pitch(xy_px)
        turned = pitch is not None and abs(square_turn(xy_px, pitch)) > STAGGERED_DEG
        return cls(technology, pitch, radius_px, turned and technology.is_square, slide_id)

    @property
    def is_known(self) -> bool:
        """Whether distance and radius are those of the technology's array, or too little is known to say."""
        spans, circles = self._spans_um, self.technology.circles_um
        if spans is None or not circles:
            return True
        if self.is_staggered:
            return False
        return any(abs(spans - um) <= Nums.MPP_TOLERANCE * um for um in circles)

    def derived_mpp(self, *, other: bool) -> dict[str, float | None]:
        """Return pixel sizes by what they follow from; none of an array that is not the technology's.

        Raises
        ------
        MissingPixelSizeError
            If the array is not the technology's and no pixel size comes from elsewhere (`other`).
        """
        known = self.technology
        if not self.is_known:
            if not other:
                raise MissingPixelSizeError(self._contradiction())
            return {}
        spans = self._spans_um
        if known.pitch_um is None or self.pitch_px is None or spans is None:
            sure = known.circles_um if len(known.circles_um) == 1 else ()
            return {f"the radius r of {um / 2:g} um": um / (2 * self.radius_px) for um in sure}
        um = min(known.circles_um, key=lambda circle: abs(circle - spans))
        return {
            f"the spots' pitch of {known.pitch_um:g} um": known.pitch_um / self.pitch_px,
            f"the radius r of {um / 2:g} um": um / (2 * self.radius_px),
        }

    def spot_um(self, mpp: float) -> float:
        """Return the width of a spot: the technology's, else that of squares by their distance, else twice r."""
        if self.is_known and self.technology.spot_um is not None:
            return self.technology.spot_um
        square = self.pitch_px if self.is_known else None
        return mpp * (square or 2 * self.radius_px)

    def notes(self, mpp: float) -> list[str]:
        """Return a note where the array was not recognised."""
        if self.is_known and self.pitch_px is not None:
            return []
        return [
            "The spots' distance and radius are not those of a known array; at this pixel size their radius r is "
            f"{self.radius_px * mpp:.1f} um."
        ]

    @property
    def _spans_um(self) -> float | None:
        """Twice the radius, if the spots lie as far apart as the technology's."""
        if self.pitch_px is None or self.technology.pitch_um is None:
            return None
        return 2 * self.radius_px * self.technology.pitch_um / self.pitch_px

    def _contradiction(self) -> str:
        known = self.technology
        expected = " or ".join(f"{um:g}" for um in known.circles_um)
        if self.is_staggered:
            return (
                f"Slide {self.slide_id}: its spots lie on a staggered array, whose distance in um is not known, and not "
                f"on {known.platform}'s square one of {known.pitch_um:g} um. Give mpp (--mpp, SlideOptions(mpp=...) or "
                "`mpp` in slide.toml)."
            )
        return (
            f"Slide {self.slide_id}: if its spots lie {known.pitch_um:g} um apart, as on {known.platform}, their radius r "
            f"of {self.radius_px:.4g} px gives a diameter of {self._spans_um:.4g} um; expected {expected}. The slide is "
            "of another array: give mpp (--mpp, SlideOptions(mpp=...) or `mpp` in slide.toml)."
        )


def _slide_id(path: Path) -> str:
    return path.name.removesuffix(_SUFFIX)


def _short(names: Sequence[str], slide_id: str) -> list[str]:
    """Leave out the slide's name where every barcode begins with it, as in the release."""
    prefix = f"{slide_id}_"
    if all(name.startswith(prefix) and len(name) > len(prefix) for name in names):
        return [name.removeprefix(prefix) for name in names]
    return list(names)


def _technology(folder: str, barcodes: Sequence[str]) -> _Technology:
    """Return what is known of the folder's arrays; Visium HD names the width of its squares in each barcode."""
    known = _TECHNOLOGIES[folder]
    widths = {m["um"] if (m := _HD_BARCODE.match(name)) else "" for name in barcodes}
    if known.platform != "Visium HD" or len(widths) != 1 or not (um := widths.pop()):
        return known
    return _Technology(known.platform, float(um), float(um), (float(um),))


def _find_image(
    folder: Path, slide_id: str, options: SlideOptions
) -> tuple[SlideImage | None, str]:
    if options.image is not None:
        return open_image(options.image), f"Image: {Path(options.image).name}, as given."
    path = confined(folder / "image" / f"{slide_id}.png", folder.parent)
    if path.exists():
        return open_image(path), f"Image: {path.name}."
    return None, "No image was found in image/: counts only, so this slide has no patches."


def _label(
    spots: pd.DataFrame, root: Path, slide_id: str
) -> tuple[pd.DataFrame, tuple[Path, ...], list[str]]:
    """Add the pathologist's annotation where the slide has one."""
    path = confined(root / "annotation" / f"{slide_id}_anno.csv", root)
    if not path.exists():
        return spots, (), []
    labels, note = read_annotation(path)
    labels.index = pd.Index(_short(labels.index.tolist(), slide_id))
    joined = labels.reindex(spots.index)
    bare = int(joined.isna().sum())
    if bare == len(spots):
        return spots, (path,), [f"{path.name} names none of the slide's spots: it was not used."]
    notes = [f"{bare} of {len(spots)} spots have no annotation."] if bare else []
    labelled = spots.assign(annotation=joined.fillna("").to_numpy())
    return labelled, (path,), [*note, *notes]


def _about(root: Path, slide_id: str) -> tuple[dict[str, str], tuple[Path, ...], list[str]]:
    """Return the slide's species and tissue, the file read, and a note where there is none."""
    folder = confined(root / "meta", root)
    found = sorted(folder.glob("meta_all_gene*.csv"))
    if not found:
        return {}, (), ["There is no meta/meta_all_gene.csv: organ and species are unknown."]
    # Later releases carry a date in the name and sort after the first one.
    path = confined(found[-1], root)
    about = read_meta(path, slide_id)
    if not about:
        return (
            {},
            (path,),
            [f"{path.name} does not name this slide: organ and species are unknown."],
        )
    return about, (path,), []
