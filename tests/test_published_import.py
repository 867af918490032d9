"""Importing published weights: files, refusals, the command line, and where imported models lie."""

from __future__ import annotations

import json
import os
import pickle
import traceback
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from scipy.sparse import csr_matrix

from stamp_index.cli_import import import_model
from stamp_index.embed.folder import embed_into
from stamp_index.encoders import load_encoder, read_manifest
from stamp_index.encoders.backbones import load_backbone
from stamp_index.encoders.published.assets import read_vocabulary
from stamp_index.encoders.published.importing import import_seal, import_stamp
from stamp_index.encoders.published.locate import model_folder, models_folder, resolve_encoder
from stamp_index.encoders.published.registry import KINDS
from stamp_index.encoders.published.stamp_encoder import PublishedStampEncoder
from stamp_index.encoders.published.stamp_model import PublishedStamp, StampOptions
from stamp_index.encoders.published.state import read_published
from stamp_index.errors import EncoderError
from stamp_index.search import Searcher
from stamp_index.slides import read_patches
from tests.published_files import (
    GENE_IDS,
    STAMP_HEADS,
    SYMBOLS,
    random_like,
    seal_state,
    stamp_means,
    stamp_state,
    write_seal,
    write_stamp,
    write_stamp_assets,
)
from tests.support import TOY_GENES, toy_slide

COUNTS = csr_matrix(np.random.default_rng(0).poisson(0.5, (5, 40)).astype(np.float32))


class Payload:
    def __reduce__(self):
        return os.system, ("touch ran",)


# --- checkpoints ---


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_checkpoints_are_read_however_they_were_wrapped(tmp_path, suffix, prefix, wrapped):
    state = stamp_state()
    saved = {prefix + name: value.double() for name, value in state.items()}
    torch.save(
        {"state_dict": saved, "epoch": 3} if wrapped else saved, tmp_path / f"weights{suffix}"
    )
    found = read_published(tmp_path / f"weights{suffix}")
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_checkpoints_that_run_something_or_are_missing_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": stamp_state(), "hook": Payload()}, "evil.ckpt")
    with pytest.raises(EncoderError, match=r"holds more than tensors \(it asks for \w+\.system\)"):
        read_published(Path("evil.ckpt"))
    assert not Path("ran").exists()
    with pytest.raises(EncoderError, match="does not exist"):
        read_published(tmp_path / "none.bin")
    Path("cut.safetensors").write_bytes(b"\x08\x00\x00")
    with pytest.raises(EncoderError, match="not a readable"):
        read_published(Path("cut.safetensors"))


def test_nobody_is_told_how_to_run_what_a_checkpoint_holds(tmp_path):
    path = tmp_path / "evil.bin"
    for zipped in (True, False):
        torch.save({"hook": Payload()}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(EncoderError, match="nothing in it was run") as refused:
            read_published(path)
        shown = "".join(traceback.format_exception(refused.value))
        assert "weights_only set" not in shown.replace("`", "")
        assert "likely succeed" not in shown


BAD_VALUES = {
    "NaN": (torch.full((12,), torch.nan), "holds NaN or infinite"),
    "one infinite": (torch.tensor([0.0, -torch.inf]), "holds NaN or infinite"),
    "beyond float32": (torch.tensor([1e300], dtype=torch.float64), "holds NaN or infinite"),
    "complex": (torch.ones(12, dtype=torch.complex64), "holds complex64"),
    "whole": (torch.ones(12, dtype=torch.int64), "holds int64"),
    "claimed": (torch.ones(1).expand(2**50), "is not stored value by value"),
    "sparse": (torch.ones(12).to_sparse(), "is not stored value by value"),
}


@pytest.mark.parametrize(("value", "message"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_weights_that_are_no_finite_floats_are_refused_by_name(tmp_path, value, message):
    state = {f"module.{name}": tensor for name, tensor in seal_state().items()}
    state |= {"module.encoder.0.bias": value, "module.fc_mu.bias": value}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=rf"encoder\.0\.bias in {tmp_path}/w\.pth {message}"):
        read_published(tmp_path / "w.pth")


def test_a_backbone_of_nan_is_refused(tmp_path):
    state = load_backbone("timm:test_vit").network.state_dict()
    state["norm.bias"] = torch.full((64,), torch.nan)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(EncoderError, match=r"norm\.bias in .* holds NaN"):
        load_backbone("timm:test_vit", weights=str(tmp_path / "w.safetensors"))


# --- assets ---


def test_original_assets_and_plain_tables_are_the_same_vocabulary(tmp_path):
    original = read_vocabulary(write_stamp_assets(tmp_path / "a"))
    plain = read_vocabulary(write_stamp_assets(tmp_path / "b", original=False))
    assert original.panel.hash == plain.panel.hash
    assert (original.gene_ids, original.synonyms) == (plain.gene_ids, plain.synonyms)
    assert original.panel.means[5] == 1.0  # never seen
    assert original.panel.means[6] == stamp_means()[6]
    assert original.synonyms == {"OLDNAME": "GENE3"}
    for name, gene_id in SYMBOLS.items():
        assert original.column(name) == original.column(gene_id) == GENE_IDS.index(gene_id)
    assert original.column(f"{GENE_IDS[7]}.12") == 7
    assert original.column("NOPE") == original.column("ENSG99999999999") == -1


def test_a_published_vocabulary_is_read_whole(shared_data):
    found = read_vocabulary(shared_data / "parity" / "stamp")
    assert len(found.panel) == 20_310
    assert len(found.synonyms) == 15
    assert found.column("ERBB2") == found.gene_ids.index("ENSG00000141736")


def _index(folder, **dataset):
    with h5py.File(folder / "model.h5ad", "a") as file:
        del file["var/_index"]
        file["var"].create_dataset("_index", **dataset)


def _as_archive(folder):
    np.savez(folder / "means.npz", stamp_means())
    (folder / "means.npz").replace(folder / "Visium_mean.npy")


def _claimed_means(folder):
    head = {"descr": "<f8", "fortran_order": False, "shape": (2**50,)}
    with (folder / "Visium_mean.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, head)


def _symbols_pickle(folder, value):
    (folder / "gene_name_id_dict.pkl").write_bytes(pickle.dumps(value))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.h5ad").unlink(), "The vocabulary cannot be found.*model.h5ad or"),
        (lambda f: (f / "model.h5ad").write_bytes(b"x"), "no readable .h5ad"),
        (lambda f: (f / "Visium_mean.npy").unlink(), "The gene means cannot be found.*Visium_mean"),
        (lambda f: (f / "Visium_mean.npy").write_bytes(b"x"), "no readable array"),
        (lambda f: np.save(f / "Visium_mean.npy", np.ones(39)), r"shape \(39,\).*40 genes"),
        (lambda f: np.save(f / "Visium_mean.npy", np.full(40, -1.0)), "must be numbers, 0 or more"),
        (lambda f: np.save(f / "Visium_mean.npy", np.full(40, np.nan)), "not for all"),
        (lambda f: np.save(f / "Visium_mean.npy", np.full(40, np.inf)), "at most 3.4"),
        (lambda f: np.save(f / "Visium_mean.npy", np.full(40, 1e300)), "at most 3.4"),
        (lambda f: np.save(f / "Visium_mean.npy", np.array([Payload()] * 40)), "no readable array"),
        (lambda f: (f / "Visium_mean.npy").write_bytes(b"PK\x03\x04x"), "npy is no readable array"),
        (_as_archive, "npy is no readable array"),
        (_claimed_means, "npy is no readable array"),
        (lambda f: _index(f, data=b"\xff"), r"h5ad is no readable .h5ad.*shape \(\)"),
        (lambda f: _index(f, data=[b"\xff"] * 40), "h5ad is no readable .h5ad"),
        (lambda f: _index(f, data=np.ones(40)), "h5ad is no readable .h5ad"),
        (lambda f: _index(f, data=[[b"A"]] * 40), r"h5ad is no readable .h5ad.*shape \(40, 1\)"),
        (lambda f: (f / "gene_name_id_dict.pkl").unlink(), "The symbols of genes cannot be found"),
        (lambda f: _symbols_pickle(f, Payload()), "asks for '.*system'"),
        (lambda f: _symbols_pickle(f, ["A"]), "no table of symbols"),
        (lambda f: _symbols_pickle(f, {"A": 1}), "no table of symbols"),
        (lambda f: _symbols_pickle(f, {"A": "ENSG1"}), "of different models"),
    ],
)
def test_assets_that_are_missing_damaged_or_dangerous_are_refused(
    tmp_path, monkeypatch, damage, message
):
    monkeypatch.chdir(tmp_path)
    folder = write_stamp_assets(tmp_path / "assets")
    damage(folder)
    with pytest.raises(EncoderError, match=message):
        read_vocabulary(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gene,mean\nA,1\n", "no column ensembl_id"),
        ("ensembl_id,mean\nE1,many\n", "'many' where a number"),
    ],
)
def test_tables_without_their_columns_are_refused(tmp_path, text, message):
    folder = write_stamp_assets(tmp_path, original=False)
    (folder / "vocabulary.csv").write_text(text)
    with pytest.raises(EncoderError, match=message):
        read_vocabulary(folder)


# --- import, save, load ---


def test_an_imported_stamp_gives_the_embeddings_of_its_weights(tmp_path):
    checkpoint, assets = write_stamp(tmp_path)
    fingerprint = import_stamp(checkpoint, assets, tmp_path / "out", heads=STAMP_HEADS)
    loaded = load_encoder(tmp_path / "out")
    assert isinstance(loaded, PublishedStampEncoder)
    assert loaded.fingerprint == fingerprint
    options = StampOptions(*STAMP_HEADS)
    model = PublishedStamp.from_published(stamp_state(), options)
    direct = PublishedStampEncoder(model, read_vocabulary(assets), options)
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(loaded.encode_images(images), direct.encode_images(images))
    np.testing.assert_array_equal(
        loaded.encode_counts(COUNTS, GENE_IDS), direct.encode_counts(COUNTS, GENE_IDS)
    )
    asked = {"GENE1": 1.0, "OLDNAME": -1.0}
    np.testing.assert_array_equal(loaded.encode_signature(asked), direct.encode_signature(asked))


def test_a_store_is_made_and_searched_with_imported_weights(tmp_path):
    checkpoint, assets = write_stamp(tmp_path)
    import_stamp(checkpoint, assets, tmp_path / "out", heads=STAMP_HEADS)
    slide = toy_slide(genes=TOY_GENES[:38])
    slide = replace(slide, genes=tuple(f"GENE{n}" for n in range(38)), gene_ids=())
    store = embed_into(tmp_path / "store", [slide], encoder_path=tmp_path / "out")
    assert store.n_spots == slide.n_spots
    searcher = Searcher.open(store.path)
    encoder = searcher.encoder
    found = searcher.search_genes("GENE1 high, GENE20 low", k=5)
    pictures = read_patches(slide, encoder.patch)
    scores = encoder.encode_images(pictures) @ encoder.encode_signature({"GENE1": 1, "GENE20": -1})
    np.testing.assert_allclose(found.to_pandas()["score"], np.sort(scores)[::-1][:5], atol=2e-3)


def test_the_manifest_says_where_the_weights_came_from_and_under_which_terms(tmp_path):
    checkpoint, assets = write_stamp(tmp_path)
    import_stamp(checkpoint, assets, tmp_path / "out", heads=STAMP_HEADS, bgr=True, name="mine")
    manifest = read_manifest(tmp_path / "out")
    assert (manifest["kind"], manifest["name"]) == ("published_stamp", "mine")
    expected = {"gene_heads": 4, "vision_heads": 2, "compat": True, "bgr": True}
    assert manifest["config"]["options"] == expected
    assert "no licence" in manifest["training"]["terms"]
    assert manifest["training"]["files"].keys() == {
        "stamp.safetensors",
        "model.h5ad",
        "Visium_mean.npy",
        "gene_name_id_dict.pkl",
    }
    assert str(tmp_path) not in json.dumps(manifest)


def test_every_choice_that_changes_an_embedding_changes_the_fingerprint(tmp_path):
    checkpoint, assets = write_stamp(tmp_path)

    def fingerprint(**options):
        return import_stamp(
            checkpoint, assets, tmp_path / "out", **{"heads": STAMP_HEADS, **options}
        )

    found = [
        fingerprint(),
        fingerprint(bgr=True),
        fingerprint(heads=(2, 2)),
        fingerprint(heads=(4, 4)),
    ]
    np.save(assets / "Visium_mean.npy", np.full(40, 3.0))
    found.append(fingerprint())
    assert len(set(found)) == 5


def test_nothing_is_written_when_an_import_is_refused(tmp_path):
    checkpoint, assets = write_stamp(tmp_path)
    (assets / "Visium_mean.npy").unlink()
    with pytest.raises(EncoderError):
        import_stamp(checkpoint, assets, tmp_path / "out", heads=STAMP_HEADS)
    _, assets = write_stamp(tmp_path)
    with pytest.raises(EncoderError, match="--gene-heads"):
        import_stamp(checkpoint, assets, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _write_vision(folder, *, projection=False):
    torch.manual_seed(0)
    save_file(load_backbone("timm:test_vit").network.state_dict(), folder / "backbone.safetensors")
    layer = "module.encoder.base_model.model.blocks.5.attn.proj.lora"
    shapes = {f"{layer}_A.default.weight": (8, 64), f"{layer}_B.default.weight": (64, 8)}
    if projection:
        shapes |= {"module.projection_head.weight": (64, 64), "module.projection_head.bias": (64,)}
    torch.save({"state_dict": random_like(shapes)}, folder / "seal_vision.pth")
    return folder / "seal_vision.pth", "timm:test_vit", str(folder / "backbone.safetensors")


@pytest.mark.parametrize("projection", [False, True])
def test_an_imported_seal_has_both_sides_and_loads_again(tmp_path, projection):
    checkpoint, assets = write_seal(tmp_path, stats=True, projection=projection)
    vision = _write_vision(tmp_path, projection=projection)
    import_seal(checkpoint, assets, tmp_path / "out", vision=vision)
    (tmp_path / "backbone.safetensors").unlink()  # the checkpoint stands alone
    loaded = load_encoder(tmp_path / "out")
    images = np.random.default_rng(0).integers(0, 255, (2, 160, 160, 3), np.uint8)
    for found in (
        loaded.encode_images(images),
        loaded.encode_counts(COUNTS[:, :30], loaded.panel.genes),
    ):
        assert found.shape[1] == 64
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert read_manifest(tmp_path / "out")["training"]["files"].keys() >= {
        "seal_vision.pth",
        "genes.txt",
    }


def test_gene_and_vision_files_of_different_runs_are_refused(tmp_path):
    checkpoint, assets = write_seal(tmp_path, projection=True)
    with pytest.raises(EncoderError, match="Only SEAL's gene checkpoint holds a projection head"):
        import_seal(checkpoint, assets, tmp_path / "out", vision=_write_vision(tmp_path))
    checkpoint, assets = write_seal(tmp_path)
    vision = _write_vision(tmp_path, projection=True)
    with pytest.raises(EncoderError, match="Only SEAL's vision checkpoint"):
        import_seal(checkpoint, assets, tmp_path / "out", vision=vision)


def test_the_kinds_are_known_by_the_names_that_manifests_carry():
    assert set(KINDS) == {"published_stamp", "published_seal"}
    assert all(KINDS[name].kind == name for name in KINDS)


# --- command line and places ---


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("STAMP_INDEX_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def _run(*arguments):
    return CliRunner().invoke(import_model, [str(argument) for argument in arguments])


def test_stamp_is_imported_to_where_published_finds_it(tmp_path, models):
    checkpoint, assets = write_stamp(tmp_path)
    options = ("--gene-heads", 4, "--vision-heads", 2)
    done = _run("stamp", checkpoint, "--assets", assets, *options)
    assert done.exit_code == 0, done.output
    assert "no licence" in done.stderr
    assert "--encoder published:stamp" in done.stdout
    assert resolve_encoder("published:stamp") == models / "stamp"
    assert load_encoder(resolve_encoder(Path("published:stamp"))).name == "stamp"


def test_seal_is_imported_from_the_command_line(tmp_path, models):
    checkpoint, assets = write_seal(tmp_path)
    vision, name, weights = _write_vision(tmp_path)
    done = _run("seal", checkpoint, "--assets", assets, "--out", tmp_path / "genes")
    assert done.exit_code == 0, done.output
    assert "refuses images" in done.stderr
    assert not models.exists()
    with pytest.raises(EncoderError, match="cannot see images"):
        load_encoder(tmp_path / "genes").encode_images(np.zeros((1, 160, 160, 3), np.uint8))
    sides = ("--vision", vision, "--backbone", weights, "--backbone-name", name)
    done = _run("seal", checkpoint, "--assets", assets, "--name", "both", *sides)
    assert done.exit_code == 0, done.output
    assert load_encoder(resolve_encoder("published:both")).vision is not None


def test_the_image_side_wants_its_three_options_together(tmp_path):
    checkpoint, assets = write_seal(tmp_path)
    done = _run("seal", checkpoint, "--assets", assets, "--vision", "v.pth")
    assert done.exit_code == 2
    assert "go together" in done.output


def test_assets_are_asked_for(tmp_path):
    for kind in ("stamp", "seal"):
        done = _run(kind, tmp_path / "x.bin")
        assert done.exit_code == 2
        assert "--assets" in done.output


def test_a_model_that_is_not_there_says_what_to_download_and_run(models):
    with pytest.raises(EncoderError, match=r"huggingface\.co/minghaofdu/STAMP.*import-model stamp"):
        resolve_encoder("published:stamp")
    with pytest.raises(EncoderError, match=r"MahmoodLab/SEAL.*genes\.txt.*import-model seal"):
        resolve_encoder("published:seal")
    with pytest.raises(EncoderError, match=r"no model 'mine'.*imported: none yet"):
        resolve_encoder("published:mine")
    (models / "other").mkdir(parents=True)
    (models / "other" / "encoder.json").write_text("{}")
    with pytest.raises(EncoderError, match="imported: published:other"):
        resolve_encoder("published:mine")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "a b", "/etc"])
def test_names_cannot_lead_out_of_the_models_folder(models, name):
    with pytest.raises(EncoderError, match="not the name of a model"):
        model_folder(name)
    with pytest.raises(EncoderError, match="not the name of a model"):
        resolve_encoder(f"published:{name}")


@pytest.mark.parametrize("out", [True, False])
@pytest.mark.parametrize(("kind", "write"), [("stamp", write_stamp), ("seal", write_seal)])
def test_names_are_refused_with_and_without_a_folder_of_their_own(
    tmp_path, models, kind, write, out
):
    checkpoint, assets = write(tmp_path)
    heads = ("--gene-heads", 4, "--vision-heads", 2) if kind == "stamp" else ()
    place = ("--out", tmp_path / "out") if out else ()
    done = _run(kind, checkpoint, "--assets", assets, "--name", "../é x", *heads, *place)
    assert isinstance(done.exception, EncoderError)
    assert "not the name of a model" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_folders_are_taken_as_they_are(tmp_path):
    assert resolve_encoder(tmp_path / "x") == tmp_path / "x"
    assert resolve_encoder("runs/a/encoder") == Path("runs/a/encoder")


def test_models_lie_in_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("STAMP_INDEX_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert models_folder() == tmp_path / "stamp-index" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models_folder() == tmp_path / ".local" / "share" / "stamp-index" / "models"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert models_folder() == tmp_path / "local" / "stamp-index" / "models"
