"""Small valid files of every kind that is opened, and what opening them means, for `tests.fuzz_targets`.

A world is built once in a folder. Then one of its files at a time is spoiled, the world is opened and used as a user
would, and the file is put back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image
from scipy.sparse import csr_matrix

from stamp_index.errors import StampIndexError
from stamp_index.slides import open_image, safe_open

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# ---- images --------------------------------------------------------------------------------------


def picture(side: int = 96) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.stack([x * 2 % 256, y * 2 % 256, (x * y) % 256], 2).astype(np.uint8)


def build_images(folder: Path) -> None:
    from tests.image_files import write_pyramid

    for kind in ("png", "jpg"):
        Image.fromarray(picture()).save(folder / f"a.{kind}")
    Image.fromarray(picture()).save(folder / "strips.tif", compression="tiff_deflate")
    write_pyramid(folder / "jpeg.tif", picture(300), tile=(64, 64))
    write_pyramid(folder / "deflate.tif", picture(300), tile=(64, 64), compression="deflate", subifds=True)  # fmt: skip
    write_pyramid(folder / "zstd.tif", picture(300), tile=(64, 64), compression="zstd")
    tifffile.imwrite(
        folder / "a.ome.tif",
        picture(128),
        ome=True,
        tile=(64, 64),
        photometric="rgb",
        metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    description = "Aperio Image Library v11\n300x300 [0,0,300x300] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    tifffile.imwrite(
        folder / "a.svs", picture(256), tile=(64, 64), photometric="rgb", compression="jpeg", description=description
    )  # fmt: skip


def use_image(path: Path) -> None:
    """Open a picture as a slide and as an upload, of which one may refuse it."""
    failed: list[StampIndexError] = []
    for way in (_as_slide, _as_upload):
        try:
            way(path)
        except StampIndexError as error:
            failed.append(error)
    if len(failed) > 1:
        raise failed[0]


def _as_slide(path: Path) -> None:
    with open_image(path) as image:
        width, height = image.size_px
        image.read(width / 2, height / 2, 64, 16)
        image.read_box(-5, -5, (40, 40), (20, 20))
        image.overview(64)


def _as_upload(path: Path) -> None:
    safe_open(path)


# ---- slides --------------------------------------------------------------------------------------


def use_slide(path: Path) -> None:
    """Read a slide as `stamp-index add` does, and a few of its pixels."""
    from stamp_index.readers import find_slides, read

    for one in find_slides(path):
        slide = read(one)
        assert slide.counts.shape[0] == len(slide.spots)
        if slide.image is not None:
            slide.image.overview(64)
            slide.image.close()


def build_space_ranger(folder: Path) -> None:
    from tests.space_ranger_run import Run

    run = Run(folder)
    (run.path / "slide.toml").write_text('organ = "breast"\npatient_id = "P1"\n')


def build_space_ranger_mtx(folder: Path) -> None:
    from tests.space_ranger_run import Run

    Run(folder, mtx=True)


def build_visium_hd(folder: Path) -> None:
    from tests.visium_hd_files import HdRun

    HdRun(folder)


def build_xenium(folder: Path) -> None:
    from tests.xenium_files import XeniumRun

    XeniumRun(folder)


def build_h5ad(folder: Path) -> None:
    from tests.anndata_files import visium

    visium().write_h5ad(folder / "a.h5ad")


def build_hest(folder: Path) -> None:
    from tests.hest_files import Sample

    sample = Sample(folder)
    sample.write(wsi=False)
    sample.write_patches()


def build_legacy(folder: Path) -> None:
    from tests.legacy_st_files import write_pair

    write_pair(folder)


def build_her2st(folder: Path) -> None:
    from tests.her2st_files import write_section

    write_section(folder)


def build_stimage(folder: Path) -> None:
    from tests.stimage_files import StSlide

    StSlide(folder).write()


def build_spatial_data(folder: Path) -> None:
    from tests.spatial_data_files import SpatialStore

    SpatialStore(folder)


def build_trident(folder: Path) -> None:
    from tests.trident_files import Job

    Job(folder).write()


# ---- stores and indexes --------------------------------------------------------------------------


def build_store(folder: Path) -> None:
    from tests.support import toy_store

    toy_store(folder, n_slides=2, n_spots=20)


def use_store(folder: Path) -> None:
    """Read everything of a store that the app shows."""
    from stamp_index.store import Store
    from stamp_index.view import gene_layer, label_layer, spot_places
    from stamp_index.view.pictures import slide_picture

    store = Store.open(folder / "store")
    slides = store.slides()
    rows = store.rows()
    store.spots(rows=rows[:5])
    for modality in ("image", "gene"):
        store.vectors(modality, rows[:7])
        store.vectors(modality)
    store.thumbnails(rows[:6])
    genes = list(store.genes[:2])
    store.counts(genes, rows[:9])
    store.sparse_counts(rows[:9])
    for slide_id, row in slides.set_index("slide_id", drop=False).iterrows():
        spot_places(store, str(slide_id))
        gene_layer(store, str(slide_id), genes[0])
        label_layer(store, str(slide_id), "domain")
        slide_picture(store, row).overview(32)


def build_index(folder: Path) -> None:
    from stamp_index.index import build_index as build
    from tests.index_world import PQ, world

    build(world(folder, n=400, n_slides=2), "image", PQ)


def use_index(folder: Path) -> None:
    """Open an index and search it with and without a filter."""
    from stamp_index.index import Index, read_card
    from stamp_index.store import Store
    from tests.index_world import CLUSTERED_DIM

    store = Store.open(folder / "store")
    read_card(store, "image")
    index = Index.open(store, "image")
    queries = np.eye(3, CLUSTERED_DIM, dtype=np.float32)
    mask = np.arange(store.n_rows) % 3 == 0
    index.search(queries, 5)
    index.search(queries, 5, allowed=mask)


def signed_again(folder: Path, spoiled: Path) -> None:
    """Make the checksums of an index those of its files, as whoever writes both would."""
    from stamp_index.index.files import segment

    index = folder / "store" / "indexes" / "image_vec"
    generation = next(index.glob("g-*"))
    card = generation / "card.json"
    if spoiled != card:
        values = json.loads(card.read_text())
        if spoiled.name not in values["files"]:
            return
        values["files"][spoiled.name] = [segment(spoiled)]
        card.write_text(json.dumps(values))
    (index / "CURRENT").write_text(f"{generation.name} {segment(card)[1]}\n")


# ---- encoders ------------------------------------------------------------------------------------


def build_ridge(folder: Path) -> None:
    from tests.public_files import write_encoder

    write_encoder(folder / "encoder", tuple(f"G{n}" for n in range(12)))


def build_trained(folder: Path) -> None:
    from tempfile import TemporaryDirectory

    from stamp_index.encoders import save_encoder
    from stamp_index.encoders.trained_encoder import TrainedEncoder
    from tests.trainer_world import tiny_world

    with TemporaryDirectory() as scratch:
        world = tiny_world(scratch)
        encoder = TrainedEncoder(world.model, world.gene_input, name="stamp", fingerprint="")
        save_encoder(encoder, folder / "encoder")


def use_encoder(folder: Path) -> None:
    """Load a checkpoint and embed two profiles by it."""
    from stamp_index.encoders import load_encoder

    encoder = load_encoder(folder / "encoder")
    genes = encoder.panel.genes
    encoder.encode_counts(csr_matrix(np.ones((2, len(genes)), np.float32)), genes)
    encoder.encode_signature({genes[0]: 1.0})


def signed_encoder(folder: Path, _: Path) -> None:
    """Make a checkpoint's fingerprint that of its contents, where they can be read at all."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from stamp_index.encoders import checkpoint

    path = folder / "encoder" / checkpoint.MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        shape = {key: manifest[key] for key in ("kind", "name", "config", "panel", "prepared_id")}
        arrays = load_file(folder / "encoder" / checkpoint.WEIGHTS)
        manifest["fingerprint"] = checkpoint._fingerprint(shape, arrays)
        path.write_text(json.dumps(manifest))
    except (
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        OSError,
        SafetensorError,
        AttributeError,
    ):
        return


def build_stage1(folder: Path) -> None:
    from tests.test_damaged_files import write_stage1

    write_stage1(folder / "stage1")


def use_stage1(folder: Path) -> None:
    from stamp_index.encoders.stage1_weights import load_stage1

    load_stage1(folder / "stage1")


def build_states(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = {"a.weight": torch.ones(4, 3), "a.bias": torch.zeros(4)}
    save_file(state, folder / "a.safetensors")
    torch.save({"state_dict": state}, folder / "b.pt")
    torch.save(state, folder / "c.pth", _use_new_zipfile_serialization=False)


def use_state(path: Path) -> None:
    from stamp_index.encoders.backbone_weights import flaw_of, read_state

    for tensor in read_state(path).values():
        flaw_of(tensor)


def build_assets(folder: Path) -> None:
    from tests.published_files import write_seal, write_stamp_assets

    write_stamp_assets(folder / "original")
    write_stamp_assets(folder / "plain", original=False)
    write_seal(folder / "seal")


def use_assets(folder: Path) -> None:
    from stamp_index.encoders.published.assets import read_vocabulary

    for name in ("original", "plain"):
        read_vocabulary(folder / name)


def build_pickles(folder: Path) -> None:
    import pickle

    for protocol in (0, 2, 5):
        held = {"GENE": "ENSG1", "n": 3, "list": [1.5, None, b"x"], "array": np.arange(6)}
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(held, protocol))


def use_pickle(path: Path) -> None:
    from stamp_index.genes.safe_pickle import load_plain_pickle

    load_plain_pickle(path)


def build_report(folder: Path) -> None:
    from tests.test_suite_compare import report

    report().save(folder)


def use_report(folder: Path) -> None:
    from stamp_index.evaluate.suite.report import read_report

    read_report(folder / "report.json")


def each_file(use: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    """Use the spoiled file itself."""
    return lambda _folder, spoiled: use(spoiled)


def whole(use: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    """Use the folder that the spoiled file lies in."""
    return lambda folder, _spoiled: use(folder)
