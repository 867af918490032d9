"""Make phantom slides: plan, cells, picture, counts, files."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stamp_index.errors import SlideError
from stamp_index.machine import usable_cores
from stamp_index.phantom.counts import draw_counts, spot_truth
from stamp_index.phantom.layout import make_layout
from stamp_index.phantom.markers import genes
from stamp_index.phantom.materials import make_materials
from stamp_index.phantom.noise import rng_for
from stamp_index.phantom.paint import paint
from stamp_index.phantom.place import make_cells
from stamp_index.phantom.rings import make_adipocytes, make_rings
from stamp_index.phantom.stain import develop
from stamp_index.phantom.style import patient_style, scan_style
from stamp_index.phantom.write import (
    barcodes,
    write_counts,
    write_image,
    write_sidecar,
    write_spatial,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stamp_index.phantom.cells import Cells
    from stamp_index.phantom.layout import Layout
    from stamp_index.phantom.materials import Materials

MIN_SPOTS = 40  # fewer leave no room for six domains
MAX_SPOTS = 5_000  # a full Visium array has 4,992


def _check(n_spots: int, **counts: int) -> None:
    if not MIN_SPOTS <= n_spots <= MAX_SPOTS:
        msg = (
            f"spots_per_slide is {n_spots}; a phantom slide holds {MIN_SPOTS} to {MAX_SPOTS} spots. "
            "Choose a number in that range."
        )
        raise ValueError(msg)
    for name, value in counts.items():
        least = 0 if name in ("seed", "patient", "slide") else 1
        if value < least:
            msg = f"{name} is {value}; expected at least {least}."
            raise ValueError(msg)


def slide_name(patient: int, slide: int) -> str:
    """Name of a slide: patient number from 1 and a letter, ``P1_A``."""
    letter = chr(ord("A") + slide) if slide < 26 else f"S{slide + 1}"
    return f"P{patient + 1}_{letter}"


def render_slide(
    seed: int, patient: int, slide: int, *, n_spots: int
) -> tuple[Layout, Materials, Cells, NDArray[np.uint8]]:
    """Plan and draw one slide without writing it.

    Parameters
    ----------
    seed, patient, slide : int
        Key of the randomness, from 0.
    n_spots : int
        Spots on tissue.

    Returns
    -------
    layout : Layout
        Domains, states and spots.
    materials : Materials
        What lies between the cells.
    cells : Cells
        The cells that are drawn.
    rgb : ndarray of shape (size_px, size_px, 3), uint8
        The picture before JPEG compression.
    """
    key = (seed, patient, slide)
    style, scan = patient_style(seed, patient), scan_style(seed, patient, slide)
    layout = make_layout(seed, patient, slide, n_spots=n_spots, style=style)
    materials = make_materials(layout, style, key=key)
    rings = make_rings(layout, materials, style, key=key)
    adipocytes = make_adipocytes(layout, materials, style, key=key)
    structures = (rings, adipocytes)
    cells = make_cells(layout, materials, style, structures=structures, key=key)
    h_map, e_map = paint(
        layout, materials, cells, structures=structures, styles=(style, scan), key=key
    )
    return layout, materials, cells, develop(h_map, e_map, scan, rng_for(*key, 7))


def make_phantom_slide(
    out_dir: Path | str, *, patient: int = 0, slide: int = 0, spots_per_slide: int = 1200,
    seed: int = 0,
) -> Path:  # fmt: skip
    """Write one synthetic slide as a Space Ranger output folder.

    Parameters
    ----------
    out_dir : Path or str
        Folder that will hold the slide's folder; made if missing.
    patient, slide : int
        Which one, from 0; the same patient's slides share architecture and stain.
    spots_per_slide : int
        Spots on tissue, 40 to 5,000.
    seed : int
        The same seed gives the same counts and the same pixels.

    Returns
    -------
    Path
        The slide's folder.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    _check(spots_per_slide, patient=patient, slide=slide, seed=seed)
    name = slide_name(patient, slide)
    folder = Path(out_dir) / name
    layout, materials, cells, rgb = render_slide(seed, patient, slide, n_spots=spots_per_slide)
    names = np.array(barcodes(layout.array))[layout.in_tissue].tolist()
    truth = spot_truth(layout, materials, cells, names)
    counts = draw_counts(truth.expected, key=(seed, patient, slide))
    write_spatial(folder / "spatial", layout.array, layout.in_tissue, rgb)
    write_image(folder / "image.tif", rgb, scan_style(seed, patient, slide).jpeg)
    write_counts(folder / "filtered_feature_bc_matrix.h5", counts, names, genes())
    write_sidecar(folder, name, f"P{patient + 1}")
    truth.table.to_parquet(folder / "truth.parquet", index=False)
    return folder


def make_phantom(
    out_dir: Path | str, *, n_patients: int = 3, slides_per_patient: int = 2,
    spots_per_slide: int = 1200, seed: int = 0, workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Write synthetic slides with known biology.

    Parameters
    ----------
    out_dir : Path or str
        Folder for the slides' folders, ``P1_A``, ``P1_B``, ``P2_A`` and so on.
    n_patients, slides_per_patient : int
        How many, at least 1 each.
    spots_per_slide : int
        Spots on tissue per slide, 40 to 5,000.
    seed : int
        The same seed gives the same counts and the same pixels, with any number of workers.
    workers : int, optional
        Processes; by default one per core, at most one per slide. 1 works in this process.
    progress : callable, optional
        Called with (slides done, slides in all) after each slide.

    Returns
    -------
    list of Path
        The slides' folders, by patient and slide.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    More than one worker means new Python processes: a script that calls this needs the usual
    ``if __name__ == "__main__":`` guard.
    """
    n_workers = workers if workers is not None else usable_cores()
    _check(
        spots_per_slide,
        n_patients=n_patients,
        slides_per_patient=slides_per_patient,
        seed=seed,
        workers=n_workers,
    )
    jobs = [(p, s) for p in range(n_patients) for s in range(slides_per_patient)]
    n_workers = min(n_workers, len(jobs))
    shared = {"spots_per_slide": spots_per_slide, "seed": seed}
    if n_workers == 1:
        paths = []
        for done, (p, s) in enumerate(jobs, start=1):
            paths.append(make_phantom_slide(out_dir, patient=p, slide=s, **shared))
            if progress:
                progress(done, len(jobs))
        return paths
    # Spawned, not forked: the caller may run threads (torch, a server) that a fork would freeze.
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(make_phantom_slide, out_dir, patient=p, slide=s, **shared) for p, s in jobs
        ]
        for done, _ in enumerate(as_completed(futures), start=1):
            if progress:
                progress(done, len(jobs))
        return [f.result() for f in futures]


def load_truth(slide_dir: Path | str) -> pd.DataFrame:
    """Planted truth of one phantom slide.

    Parameters
    ----------
    slide_dir : Path or str
        Folder that `make_phantom` wrote.

    Returns
    -------
    DataFrame
        One row per spot: ``barcode``, ``domain``, ``purity``, ``n_cells``, ``frac_<cell type>``
        and ``prog_<continuous state>``.

    Raises
    ------
    SlideError
        If the folder holds no truth.
    """
    path = Path(slide_dir) / "truth.parquet"
    if not path.is_file():
        msg = f"{path} does not exist; only slides that make_phantom wrote have a planted truth."
        raise SlideError(msg)
    return pd.read_parquet(path)
