"""Where a slide's rows come from: files and their hashes, reader, choices."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stamp_index.errors import SlideError
from stamp_index.readers.registry import sidecar_of
from stamp_index.remote.addresses import is_address, named
from stamp_index.remote.slide_copies import origin_of, stamp_of
from stamp_index.slides.images import file_hash
from stamp_index.store.schema import MODALITIES, PROVENANCE, vector_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.embed.gene_side import GeneSettings
    from stamp_index.embed.manifest import Entry
    from stamp_index.slides import Slide
    from stamp_index.store import Store


def refuse_changed(slide: Slide, since_ns: int) -> None:
    """Refuse a slide whose files were written after reading began: its rows and their hashes would not fit.

    Raises
    ------
    SlideError
        Naming the file.
    """
    image = () if slide.image is None else (Path(slide.image.uri),)
    for path in (*slide.files, *image):
        if is_address(origin_of(path)):
            continue  # a copy that nobody writes to
        stamp = _stamp(str(path))
        if stamp is not None and since_ns <= stamp[1] <= time.time_ns():
            msg = f"{path} was changed while the slide was read and embedded. Add it again when nobody writes to it."
            raise SlideError(msg)


def request_of(entry: Entry, genes: GeneSettings) -> dict[str, object]:
    """Say what was asked to be read, and what was said of it, as JSON holds it."""
    said = {name: value for name, value in asdict(entry.options).items() if value is not None}
    if "image" in said:
        said["image"] = str(Path(said["image"]).absolute())
    return {"path": named(entry.path), **said, "genes": asdict(genes)}


class KnownSources:
    """What a store's slides were read from, to tell those that have not changed without reading them.

    Parameters
    ----------
    slides : mapping of str to (str, list of dict)
        Slide id and files, by the request as JSON.
    """

    def __init__(self, slides: Mapping[str, tuple[str, list[dict[str, Any]]]]) -> None:
        self._slides = slides

    @classmethod
    def of(cls, store: Store) -> Self:
        """Take what the store says of the slides that its encoder has embedded."""
        table, found = store.slides(), {}
        wanted = {vector_column(store.encoder, modality) for modality in MODALITIES}
        rows = zip(table["slide_id"], table[PROVENANCE], table["embedded"], strict=True)
        for slide_id, text, embedded in rows:
            held = json.loads(text or "{}")
            # A slide without image is read again each time: one may lie beside it by now.
            if held.get("request") and held["image"] and wanted & set(embedded):
                found[_key(held["request"])] = (str(slide_id), [*held["files"], held["image"]])
        return cls(found)

    def unchanged(self, entry: Entry, genes: GeneSettings) -> str:
        """Slide that the same request gave, if every file of it is as it was; "" otherwise."""
        slide_id, files = self._slides.get(_key(request_of(entry, genes)), ("", []))
        sidecar = None if is_address(entry.path) else sidecar_of(entry.path.absolute())
        if sidecar is not None and str(sidecar) not in {file["name"] for file in files}:
            return ""  # it came since
        same = all(
            (_stamp(file["name"]) or (None, None)) == (file["bytes"], file["mtime_ns"])
            for file in files
        )
        return slide_id if same else ""


def _key(request: Mapping[str, object]) -> str:
    return json.dumps(request, sort_keys=True)


def _stamp(name: str) -> tuple[int, int] | None:
    """Size and time of a file, or of all files in a folder, or at an address; None where it is gone."""
    if is_address(name):
        return stamp_of(name)
    path = Path(name)
    try:
        files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
        found = [file.stat() for file in files]
    except OSError:
        return None
    return sum(f.st_size for f in found), max((f.st_mtime_ns for f in found), default=0)


def provenance(slide: Slide, **more: object) -> dict[str, object]:
    """Describe a slide's sources for the store.

    Parameters
    ----------
    slide : Slide
    **more
        What else shaped the rows, such as what became of the genes.

    Returns
    -------
    dict
        ``files`` (name, bytes, time in ns and sha256 of each), ``image`` (the same, or None), ``reader``,
        ``reader_version``, ``stamp_index`` (the package's version), ``parameters``, and `more`. All of it is
        what JSON holds.
    """
    image = slide.image
    return {
        "files": [_described(path) for path in slide.files],
        "image": None if image is None else _described(Path(image.uri), image.content_hash()),
        "reader": slide.reader,
        "reader_version": slide.reader_version,
        "stamp_index": _package_version(),
        "parameters": dict(slide.parameters),
        **more,
    }


def _described(path: Path, sha256: str = "") -> dict[str, object]:
    name = origin_of(path)
    size, mtime_ns = _stamp(name) or (None, None)  # an image may be no file
    digest = sha256 or file_hash(path)
    return {"name": name, "bytes": size, "mtime_ns": mtime_ns, "sha256": digest}


def _package_version() -> str:
    try:
        return version("stamp-index")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return ""
