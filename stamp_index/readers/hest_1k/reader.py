"""HEST-1k: paired H&E and spatial transcriptomics, in the layout of the dataset's release.

A slide is named by its counts, ``st/<id>.h5ad``. Beside ``st`` lie ``wsis/<id>.tif`` (image),
``metadata/<id>.json`` and ``patches/<id>.h5`` (112 um squares at the spots). The tissue masks
``tissue_seg/<id>_mask.pkl`` are pickles and never opened.
Source: Jaume et al., NeurIPS 2024; fields after the release's HEST_v1_1_0.csv and the code of
github.com/mahmoodlab/HEST.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stamp_index.errors import SlideError
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.image_scale import scale_by_size
from stamp_index.readers.common.joining import under_tissue
from stamp_index.readers.common.off_image import without_spots_off_image
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.common.spot_pitch import STAGGERED_DEG, array_pitch, square_turn
from stamp_index.readers.hest_1k.metadata import HestCounts, HestMetadata, read_hest_h5ad
from stamp_index.readers.hest_1k.patches import HestPatches
from stamp_index.slides import Slide, open_image

if TYPE_CHECKING:
    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

_SIBLINGS: Final = ("metadata", "wsis", "patches")
_SPECIES: Final = {"homo sapiens": "human", "mus musculus": "mouse"}
_PLATFORMS: Final = {"Spatial Transcriptomics": "Legacy ST"}
# The metadata's spot_diameter and inter_spot_dist are the array's own for these two; for Visium HD they are those
# of its 2 um squares, and for Xenium blank, though both come pooled to squares of 100 um or more.
_ARRAYS: Final = ("Visium", "Spatial Transcriptomics")
_LICENCE: Final = "HEST-1k as a whole is CC BY-NC-SA 4.0."


class HestReader:
    """Reads one sample of HEST-1k."""

    name = "HEST-1k"
    version = 1
    expects = "a counts file st/<id>.h5ad beside metadata/, wsis/ or patches/"

    def detect(self, path: Path) -> bool:
        """Say whether `path` is an h5ad in a folder ``st`` that has one of the dataset's siblings."""
        if path.suffix != ".h5ad" or path.parent.name != "st" or path.name.startswith("."):
            return False
        return any((path.parent.parent / name).is_dir() for name in _SIBLINGS)

    def sidecar(self, path: Path) -> Path:
        """Return ``st/<id>.slide.toml``."""
        return path.with_name(f"{path.stem}.slide.toml")

    def owns(self, path: Path) -> list[Path]:
        """Return the sample's whole slide image, which is no slide of its own."""
        return _images_of(path)

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read counts, positions, metadata and the image or, where there is none, the patches.

        Raises
        ------
        SlideError
            If a file is damaged, pixel sizes contradict each other, or the image does not belong to the
            positions.
        """
        metadata, files = _find_metadata(path)
        source = read_hest_h5ad(path)
        slide = _without_image(source, metadata, path.stem)
        patches = _find_patches(path, slide, metadata) if options.image is None else None
        image, scale, note = _find_image(path, metadata, options)
        derived, how_sized = _derived_mpp(slide, metadata, patches, scale)
        mpp, how = choose_mpp(derived=derived, image=image, given=options.mpp)
        diameter, how_wide = _spot_diameter(slide, source, metadata, mpp * scale)
        spots = slide.spots.copy()
        spots[[Keys.X_PX, Keys.Y_PX]] *= scale
        slide = replace(
            slide,
            spots=spots,
            image=image,
            mpp=mpp,
            spot_diameter_um=diameter,
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=(path, *files),
            notes=(*slide.notes, note, *how_sized, how, *how_wide),
        )
        if patches is not None and image is None:
            slide = patches.applied(slide, mpp, metadata.full_size_px)
        return make_slide(without_spots_off_image(slide), options)


def _find_metadata(path: Path) -> tuple[HestMetadata, tuple[Path, ...]]:
    """Return the sample's metadata, empty ones where there are none, and the file read."""
    root = path.parent.parent
    file = confined(root / "metadata" / f"{path.stem}.json", root)
    if not file.exists():
        return HestMetadata({}, {}), ()
    return HestMetadata.open(file), (file,)


def _without_image(source: HestCounts, metadata: HestMetadata, slide_id: str) -> Slide:
    """Put together what needs no image: counts, genes, positions and texts."""
    spots = pd.DataFrame(
        source.xy_px, columns=[Keys.X_PX, Keys.Y_PX], index=pd.Index(source.barcodes)
    ).rename_axis(Keys.BARCODE)
    technology = metadata.texts.get("st_technology", "")
    for name in ("array_row", "array_col"):
        # Of pooled samples, rows and columns were counted after empty squares were left out.
        if technology in _ARRAYS and name in source.obs and source.obs[name].dtype.kind in "iuf":
            spots[name] = source.obs[name]
    said = source.obs.get("in_tissue", np.ones(len(source.barcodes)))
    rows, notes = under_tissue(said, f"Slide {slide_id}")
    counts, names, ids, doubled = sum_duplicate_genes(
        source.counts[rows], source.genes, source.gene_ids
    )
    notes += [*source.notes, *([doubled] if doubled else []), *_said(metadata, source)]
    species = metadata.texts.get("species", "")
    return Slide(
        slide_id=slide_id,
        spots=spots.iloc[rows],
        counts=counts,
        genes=names,
        gene_ids=ids,
        image=None,
        mpp=None,
        spot_diameter_um=0.0,
        patient_id=_patient(metadata),
        organ=metadata.texts.get("organ", "").lower(),
        disease=_disease(metadata),
        species=_SPECIES.get(species.lower(), species),
        platform=_PLATFORMS.get(technology, technology),
        notes=tuple(notes),
    )


def _patient(metadata: HestMetadata) -> str:
    """Name the patient together with the study: "Patient 1" alone stands for people of many studies."""
    patient, study = metadata.texts.get("patient", ""), metadata.texts.get("dataset_title", "")
    return f"{patient} of {study}" if patient and study else patient


def _disease(metadata: HestMetadata) -> str:
    state, code = metadata.texts.get("disease_state", ""), metadata.texts.get("oncotree_code", "")
    return f"{state} ({code})" if state and code else state or code


def _said(metadata: HestMetadata, source: HestCounts) -> list[str]:
    """Return notes on what the metadata say, and on what in them cannot be."""
    if not metadata.texts and not metadata.numbers:
        return ["There is no metadata/<id>.json: organ, species and platform are unknown."]
    licence = metadata.texts.get("license")
    first = (
        f"Licence of the sample: {licence}."
        if licence
        else "The sample's own licence is not stated."
    )
    notes = [f"{first} {_LICENCE}"]
    distance, diameter = (metadata.numbers.get(n) for n in ("inter_spot_dist", "spot_diameter"))
    if distance and diameter and diameter > distance:
        notes.append(
            f"The metadata give spots of {diameter:g} um at a distance of {distance:g} um, which would overlap; the "
            "pixel size was estimated from that distance and may be wrong by the same factor."
        )
    if _is_staggered(source, metadata):
        notes.append(
            "The spots lie on a staggered array, not on the square one of legacy ST: the distance that the pixel size "
            "was estimated from may be another array's."
        )
    moved = _moved_px(source)
    if moved > 1:
        notes.append(
            f"The columns pxl_col_in_fullres and pxl_row_in_fullres differ from the positions in use "
            f'(obsm["spatial"]) by {moved:.0f} px at the median.'
        )
    return notes


def _is_staggered(source: HestCounts, metadata: HestMetadata) -> bool:
    if metadata.texts.get("st_technology") != "Spatial Transcriptomics":
        return False
    pitch = array_pitch(source.xy_px)
    return pitch is not None and abs(square_turn(source.xy_px, pitch)) > STAGGERED_DEG


def _moved_px(source: HestCounts) -> float:
    columns = [source.obs.get(f"pxl_{axis}_in_fullres") for axis in ("col", "row")]
    if any(column is None or column.dtype.kind not in "iuf" for column in columns):
        return 0.0
    apart = np.hypot(*(np.column_stack(columns).astype(np.float64) - source.xy_px).T)  # type: ignore[arg-type]
    return float(np.median(apart)) if len(apart) else 0.0


def _images_of(path: Path) -> list[Path]:
    return [path.parent.parent / "wsis" / f"{path.stem}{end}" for end in (".tif", ".tiff")]


def _find_image(
    path: Path, metadata: HestMetadata, options: SlideOptions
) -> tuple[SlideImage | None, float, str]:
    """Return the image, its pixels per pixel of the positions, and a note."""
    root = path.parent.parent
    if options.image is not None:
        image, how = open_image(options.image), "as given"
    else:
        files = [p for name in _images_of(path) if (p := confined(name, root)).exists()]
        if not files:
            patches = confined(root / "patches" / f"{path.stem}.h5", root)
            note = (
                f"Image: put together from {patches.name}, as wsis/ has none; it is white between the patches."
                if patches.exists()
                else "No image was found in wsis/ or patches/: counts only."
            )
            return None, 1.0, note
        image, how = open_image(files[0]), "full resolution"
    scale = _scale_of(image, metadata)
    scaled = "" if scale == 1 else f", {scale:.4g} of the full size"
    return image, scale, f"Image: {Path(image.uri).name}, {how}{scaled}."


def _scale_of(image: SlideImage, metadata: HestMetadata) -> float:
    full = metadata.full_size_px
    if full is None:
        return 1.0
    return scale_by_size(
        image,
        full,
        full="the sample's image by its metadata",
        remedy="Give the sample's own image, uncropped.",
    )


def _find_patches(path: Path, slide: Slide, metadata: HestMetadata) -> HestPatches | None:
    """Return the patches where the sample has no image in wsis."""
    root = path.parent.parent
    if any((root / "wsis" / f"{path.stem}{end}").exists() for end in (".tif", ".tiff")):
        return None
    file = confined(root / "patches" / f"{path.stem}.h5", root)
    return HestPatches.open(file, slide) if file.exists() else None


def _derived_mpp(
    slide: Slide, metadata: HestMetadata, patches: HestPatches | None, scale: float
) -> tuple[dict[str, float | None], list[str]]:
    """Return pixel sizes of the image in use by what they follow from, and notes on others."""
    estimated = metadata.numbers.get("pixel_size_um_estimated")
    sources = {"the metadata's pixel_size_um_estimated": estimated}
    distance = metadata.numbers.get("inter_spot_dist")
    pitch = array_pitch(slide.xy_px)
    if metadata.texts.get("st_technology") in _ARRAYS and distance and pitch:
        sources[f"the spots' pitch of {distance:g} um"] = distance / pitch
    if patches is not None:
        sources["the patches' width of 112 um"] = patches.mpp
    embedded = metadata.numbers.get("pixel_size_um_embedded")
    notes = []
    # The vendor's own number is wrong in two of three samples that have one (238 of 357 in HEST_v1_1_0.csv are off by
    # more than 3 %, some are a printer's 72 dpi), so that it refuses nothing.
    if embedded and estimated and abs(embedded - estimated) > Nums.MPP_TOLERANCE * estimated:
        notes.append(
            f"pixel_size_um_embedded is {embedded:.4g}, which pixel_size_um_estimated ({estimated:.4g}) contradicts; it "
            "was not used."
        )
    return {how: mpp / scale if mpp else None for how, mpp in sources.items()}, notes


def _spot_diameter(
    slide: Slide, source: HestCounts, metadata: HestMetadata, full_mpp: float
) -> tuple[float, list[str]]:
    """Return the diameter of a spot, or the width of a square that was pooled, and a note on it."""
    technology, pitch = metadata.texts.get("st_technology", ""), array_pitch(slide.xy_px)
    diameter = metadata.numbers.get("spot_diameter")
    if technology in _ARRAYS and diameter:
        return diameter, []
    if technology and technology not in _ARRAYS and pitch:
        width = pitch * full_mpp
        return width, [
            f"{technology} came pooled to squares of {width:.1f} um, the spots' distance."
        ]
    if source.spot_diameter_px:
        width = source.spot_diameter_px * full_mpp
        return width, [f"Spot diameter: {width:.1f} um, from spot_diameter_fullres."]
    msg = (
        f"Slide {slide.slide_id}: nothing tells how wide its spots are: metadata/{slide.slide_id}.json has no "
        "spot_diameter for them, and they lie on no regular array. Copy the sample's metadata beside st/."
    )
    raise SlideError(msg)
