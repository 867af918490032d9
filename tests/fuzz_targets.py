"""What malformed input is put to: each parser, reader and opener with what it may say.

`benchmarks/fuzz.py` runs thousands of inputs over all of them in processes of their own; `test_security_fuzz.py` a few
over each.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stamp_index.errors import StampIndexError
from tests import fuzz_files as files
from tests import fuzz_texts as texts
from tests.fuzz_mutations import spoiled, spoiled_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REFUSALS = (StampIndexError,)


@dataclass(frozen=True)
class TextTarget:
    """A parser of texts.

    Attributes
    ----------
    use : callable
        Given a text and an empty folder that it may write the text into.
    seeds : tuple of str
        Texts that it reads.
    refusals : tuple of exception types
        What it may raise.
    """

    name: str
    use: Callable[[str, Path], None]
    seeds: tuple[str, ...]
    refusals: tuple[type[Exception], ...] = REFUSALS

    def prepare(self, folder: Path) -> None:
        """Make the folder."""
        folder.mkdir(parents=True, exist_ok=True)

    def run_whole(self, folder: Path) -> None:
        """Use every text as it is."""
        for text in self.seeds:
            self.use(text, folder)

    def run(self, folder: Path, seed: int) -> None:
        """Use one spoiled text; it follows from the seed."""
        rng = random.Random(f"{self.name} {seed}")
        self.use(spoiled_text(rng.choice(self.seeds), rng, self.seeds), folder)


@dataclass(frozen=True)
class FileTarget:
    """Files that are opened.

    Attributes
    ----------
    build : callable
        Writes valid files into a folder.
    use : callable
        Given the folder and the file that was spoiled.
    refusals : tuple of exception types
        What it may raise.
    sign : callable, optional
        Makes checksums right again, as an author of the files would.
    only : str
        What the paths of the files that are spoiled hold.
    """

    name: str
    build: Callable[[Path], None]
    use: Callable[[Path, Path], None]
    refusals: tuple[type[Exception], ...] = REFUSALS
    sign: Callable[[Path, Path], None] | None = None
    only: str = ""
    held: dict[Path, bytes] = field(default_factory=dict)

    def prepare(self, folder: Path) -> None:
        """Write the files once, and remember them."""
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            self.build(folder)
        self.held.clear()
        self.held.update((path, path.read_bytes()) for path in _files(folder))

    def run_whole(self, folder: Path) -> None:
        """Use the files as they are, of many the first."""
        fitting = [path for path in sorted(self.held) if self.only in path.as_posix()]
        for path in fitting[:8]:
            self.use(folder, path)

    def run(self, folder: Path, seed: int) -> None:
        """Spoil a file as the seed says, use it, and put it back.

        Raises
        ------
        AssertionError
            If anything else was written.
        """
        rng = random.Random(f"{self.name} {seed}")
        path = rng.choice([path for path in sorted(self.held) if self.only in path.as_posix()])
        path.write_bytes(spoiled(self.held[path], rng, list(self.held.values())))
        try:
            if self.sign is not None:
                self.sign(folder, path)
            signed = {other: other.read_bytes() for other in self.held}
            try:
                self.use(folder, path)
            finally:
                _compare(folder, signed)
        finally:
            for other, content in self.held.items():
                if other.read_bytes() != content:
                    other.write_bytes(content)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def _compare(folder: Path, before: dict[Path, bytes]) -> None:
    now = set(_files(folder))
    assert now == set(before), f"files came or went: {sorted(now ^ set(before))[:3]}"
    changed = [path for path, content in before.items() if path.read_bytes() != content]
    assert not changed, f"files were written: {changed[:3]}"


def _text(name: str, seeds: tuple[str, ...], *refusals: type[Exception]) -> TextTarget:
    return TextTarget(name, getattr(texts, name), seeds, refusals or REFUSALS)


def _slide(name: str, build: Callable[[Path], None]) -> FileTarget:
    return FileTarget(f"reader: {name}", build, files.whole(files.use_slide))


TARGETS: dict[str, TextTarget | FileTarget] = {
    one.name: one
    for one in (
        _text("signature", texts.SIGNATURES),
        _text("filter_text", texts.FILTERS),
        _text("gene_text", texts.GENE_TEXTS),
        _text("gmt", texts.GMT),
        _text("net", texts.NETS),
        _text("geojson", texts.GEOJSON),
        _text("annotations", texts.GEOJSON),
        _text("polygon", texts.POLYGONS),
        _text("address", ("genes", "slides")),
        _text("panel", (texts.PANEL,), StampIndexError, ValueError),
        _text("slide_toml", texts.SLIDE_TOMLS),
        _text("manifest", texts.MANIFESTS),
        _text("index_recipe", texts.recipes("indexes/recipes/*.toml")),
        _text("trainer_recipe", texts.recipes("trainer/recipes/*.toml"), StampIndexError, ValueError),
        FileTarget("images", files.build_images, files.each_file(files.use_image)),
        _slide("Space Ranger", files.build_space_ranger),
        _slide("Space Ranger, Matrix Market", files.build_space_ranger_mtx),
        _slide("Visium HD", files.build_visium_hd),
        _slide("Xenium", files.build_xenium),
        _slide("h5ad", files.build_h5ad),
        _slide("HEST-1k", files.build_hest),
        _slide("legacy ST", files.build_legacy),
        _slide("HER2ST", files.build_her2st),
        _slide("STimage-1K4M", files.build_stimage),
        _slide("SpatialData", files.build_spatial_data),
        _slide("TRIDENT", files.build_trident),
        FileTarget("store", files.build_store, files.whole(files.use_store)),
        FileTarget("index", files.build_index, files.whole(files.use_index), only="/indexes/"),
        FileTarget(
            "index, checksums made right", files.build_index, files.whole(files.use_index), sign=files.signed_again, only="/indexes/"
        ),
        FileTarget("checkpoint", files.build_ridge, files.whole(files.use_encoder)),
        FileTarget(
            "checkpoint, fingerprint made right", files.build_ridge, files.whole(files.use_encoder), sign=files.signed_encoder
        ),
        FileTarget(
            "trained checkpoint, fingerprint made right", files.build_trained, files.whole(files.use_encoder), sign=files.signed_encoder
        ),
        FileTarget("gene encoder", files.build_stage1, files.whole(files.use_stage1)),
        FileTarget("weights", files.build_states, files.each_file(files.use_state)),
        FileTarget("published assets", files.build_assets, files.whole(files.use_assets)),
        FileTarget("plain pickles", files.build_pickles, files.each_file(files.use_pickle)),
        FileTarget("report", files.build_report, files.whole(files.use_report)),
    )
}  # fmt: skip
