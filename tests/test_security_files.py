"""Files that made a library crash, wait for ever, open other files or fill the memory; found by benchmarks/fuzz.py and by reading."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from stamp_index.errors import ImageFormatError, QueryError, SlideError
from stamp_index.readers import read
from stamp_index.readers.common.unpacked import open_unpacked
from stamp_index.readers.legacy.tables import read_spotfile
from stamp_index.slides import open_image
from stamp_index.slides.tiff_image import open_tiff
from tests.legacy_st_files import edit, write_pair
from tests.space_ranger_run import Run
from tests.xenium_files import XeniumRun

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
FATAL = "1e2147483648"  # ends the process in pandas' own parser


# ---- numbers that end pandas ---------------------------------------------------------------------


def test_a_place_with_a_long_exponent_is_refused_or_infinite_but_no_crash(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    table = next(tmp_path.rglob("*alignment*.tsv"))
    edit(table, table.read_text().splitlines()[2].split("\t")[4], FATAL)
    with pytest.raises(SlideError):
        read(pair)
    assert not np.isfinite(read_spotfile(table)["x_px"]).all()


def test_positions_of_space_ranger_with_a_long_exponent_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    path = next(run.spatial.glob("tissue_positions*.csv"))
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + f",{FATAL}"
    path.write_text("\n".join(lines))
    with pytest.raises(SlideError):
        read(run.path)


def test_cells_of_xenium_with_a_long_exponent_are_refused(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    run.write_cells(csv=True)
    (run.path / "cells.parquet").unlink(missing_ok=True)
    path = next(run.path.glob("cells.csv*"))
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    lines = text.splitlines()
    cells = lines[1].split(",")
    cells[lines[0].split(",").index("x_centroid")] = FATAL
    lines[1] = ",".join(cells)
    spoiled = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(spoiled) if path.suffix == ".gz" else spoiled)
    with pytest.raises(SlideError):
        read(run.path)


def test_an_uploaded_table_of_gene_sets_with_a_long_exponent_is_refused() -> None:
    from app.gene_set_panel import _of_net

    with pytest.raises(QueryError, match="expected a number other than 0"):
        _of_net(f"source,target,weight\nT,CD8A,{FATAL}\n".encode())


# ---- TIFF ----------------------------------------------------------------------------------------


def ring(path: Path) -> None:
    """Write a TIFF whose last picture says that the first one follows."""
    tifffile.imwrite(path, PIXELS, tile=(64, 64), photometric="rgb")
    with tifffile.TiffFile(path) as tiff:
        offset, n_tags = tiff.pages[0].offset, len(tiff.pages[0].tags)
    content = bytearray(path.read_bytes())
    at = offset + 2 + 12 * n_tags
    content[at : at + 4] = struct.pack("<I", offset)
    path.write_bytes(content)


def test_pictures_in_a_ring_come_to_an_end(tmp_path: Path) -> None:
    ring(tmp_path / "a.tif")
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read(0, 0, 128, 128), PIXELS)


def test_a_picture_in_another_file_is_not_looked_for(tmp_path: Path) -> None:
    """OME-TIFF may name the file that each plane lies in, by any path."""
    secret = tmp_path / "private"
    secret.mkdir()
    tifffile.imwrite(secret / "s.ome.tif", PIXELS, ome=True, photometric="rgb", tile=(64, 64))
    with tifffile.TiffFile(secret / "s.ome.tif") as tiff:
        text = tiff.ome_metadata
    link = '<TiffData IFD="0" PlaneCount="1"><UUID FileName="private/s.ome.tif">urn:uuid:1</UUID></TiffData>'
    named = text.replace('<TiffData IFD="0" PlaneCount="1"/>', link)
    assert link in named
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        255 - PIXELS,
        photometric="rgb",
        tile=(64, 64),
        description=named.encode(),
        metadata=None,
    )
    with tifffile.TiffFile(path) as tiff:  # as the library reads it by itself
        assert tiff.series[0].pages[0].parent.filehandle.name == "s.ome.tif"
    with open_tiff(path) as tiff:
        np.testing.assert_array_equal(tiff.series[0].asarray(), 255 - PIXELS)


def test_a_stack_of_micro_manager_is_refused_as_its_index_names_other_files(
    tmp_path: Path, monkeypatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", tile=(64, 64))
    monkeypatch.setattr(tifffile.TiffFile, "is_ndtiff", True)
    with pytest.raises(ImageFormatError, match="lies in several files"):
        open_tiff(tmp_path / "a.tif")


def test_a_name_that_is_too_long_is_refused_in_words() -> None:
    with pytest.raises(ImageFormatError, match="cannot be read"):
        open_image("x" * 5000)


# ---- packed texts --------------------------------------------------------------------------------


def test_no_more_is_unpacked_than_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    assert path.stat().st_size < 60_000
    with (
        open_unpacked(path, 1_000_000) as stream,
        pytest.raises(ValueError, match="more than 1,000,000 bytes"),
    ):
        stream.read()
    with open_unpacked(path, 50_000_000) as stream:
        assert sum(map(len, iter(lambda: stream.read(1 << 20), b""))) == 50_000_000


def test_gene_names_that_unpack_to_much_are_refused(tmp_path: Path, monkeypatch) -> None:
    from stamp_index.readers.common import unpacked
    from stamp_index.readers.legacy import gene_table

    monkeypatch.setattr(
        gene_table, "open_unpacked", lambda path: unpacked.open_unpacked(path, 10_000)
    )
    path = tmp_path / "genes.tsv.gz"
    path.write_bytes(gzip.compress(b"gene_id\tgene_name\n" + b"ENSG1\tA\n" * 10_000))
    with pytest.raises(SlideError, match="it unpacks to more than 10,000 bytes"):
        gene_table.GeneTable.read(path)
