"""The sections of almaan/her2st with the pathologist's labels, from a clone of the repository.

``data/ST-cnts/<section>.tsv.gz``, ``data/ST-spotfiles/<section>_selection.tsv``, ``data/ST-imgs/<patient>/<section>/*.jpg`` and
``data/ST-pat/lbl/<section>_labeled_coordinates.tsv`` (columns x, y, label), as the repository has them at 85df741; its README
says ``res/ST-pat``, which is looked at too. 36 sections of 8 patients, A to H; the pathologist labelled one of each. A table of
J1 lies there without its counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.public.layout import need_file, need_folder, read_table, while_reading
from stamp_index.evaluate.public.store import with_label
from stamp_index.readers.common.text_numbers import to_numeric

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.slides import Slide

LABEL: Final = "region"
UNDETERMINED: Final = "undetermined"
_COUNTS: Final = re.compile(r"([A-H]\d+)\.tsv(\.gz)?")


def data_folder(clone: Path) -> Path:
    """Return the folder with ``ST-cnts``: the clone's ``data``, or the folder itself.

    Raises
    ------
    EvaluationError
        If neither has one.
    """
    need_folder(clone, "a clone of almaan/her2st")
    for folder in (clone / "data", clone):
        if (folder / "ST-cnts").is_dir():
            return folder
    msg = f"{clone} has neither data/ST-cnts nor ST-cnts. Expected a clone of almaan/her2st with its counts."
    raise EvaluationError(msg)


def find_sections(data: Path) -> dict[str, Path]:
    """Find the counts file of each section, sorted by name.

    Raises
    ------
    EvaluationError
        If there is none.
    """
    found = {m[1]: path for path in sorted((data / "ST-cnts").iterdir()) if (m := _COUNTS.fullmatch(path.name))}  # fmt: skip
    if not found:
        msg = f"{data / 'ST-cnts'} has no counts. Expected A1.tsv.gz to H3.tsv.gz, as almaan/her2st has them."
        raise EvaluationError(msg)
    return found


def read_section(data: Path, name: str, counts: Path) -> Slide:
    """Read a section, with the pathologist's labels where there are some.

    Raises
    ------
    EvaluationError
        If a file is missing or odd, or the labels are of other spots.
    """
    from stamp_index.readers import read

    need_file(data / "ST-spotfiles" / f"{name}_selection.tsv", "the positions of its spots")
    with while_reading(f"HER2ST section {name}"):
        slide = read(counts)
    path = label_file(data, name)
    if path is None:
        return slide
    held = read_labels(path)
    values = [held.get(str(barcode)) for barcode in slide.spots.index]
    known = sum(one is not None for one in values)
    if 2 * known < min(len(held), slide.n_spots):
        msg = (
            f"{path} labels {known} of the {slide.n_spots} spots of section {name}. Its labels are of another section: copy them "
            "again."
        )
        raise EvaluationError(msg)
    return with_label(slide, LABEL, values)


def label_file(data: Path, name: str) -> Path | None:
    """Return the pathologist's table of a section, where there is one."""
    for at in (data / "ST-pat" / "lbl", data.parent / "res" / "ST-pat" / "lbl"):
        path = at / f"{name}_labeled_coordinates.tsv"
        if path.is_file():
            return path
    return None


def read_labels(path: Path) -> dict[str, str]:
    """Labels by place on the array (``10x13``), which the table gives to a hundredth of the pitch.

    Raises
    ------
    EvaluationError
        If the table is odd, or labels a place twice.
    """
    table = read_table(path, ("x", "y", "label"), sep="\t")
    xy = table[["x", "y"]].apply(to_numeric).to_numpy(np.float64)
    placed = np.isfinite(xy).all(axis=1)  # a few labels of the publication have no place
    names = [f"{x:.0f}x{y:.0f}" for x, y in np.round(xy[placed])]
    labels = [text.strip() for text in table["label"][placed]]
    if not names or len(set(names)) < len(names):
        wrong = "labels a place twice" if names else "has no place with a label"
        msg = f"{path} {wrong}. Expected columns x and y on the array, and label."
        raise EvaluationError(msg)
    return {name: label for name, label in zip(names, labels, strict=True) if label}
