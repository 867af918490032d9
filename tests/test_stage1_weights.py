"""Gene encoders of stage 1 on disk: round trip, use in stage 2, and everything that must be refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.rank_transformer import RankTransformer
from stamp_index.encoders.stage1_weights import load_stage1, save_stage1, start_from_stage1
from stamp_index.errors import EncoderError
from stamp_index.genes import TOKEN_OFFSET, GenePanel

OWN = {"context": 6, "width": 8, "depth": 1, "heads": 2}
SETTINGS = {"kind": "rank_profile", **OWN, "dropout": 0.1}
PANEL = GenePanel(("A", "B", "C", "D"), (1.0, 2.0, 3.0, 4.0))


def tower(seed, **changes):
    torch.manual_seed(seed)
    return GeneTower(4, **{**OWN, **changes})


@pytest.fixture
def folder(tmp_path):
    save_stage1(tmp_path / "g", tower(0), PANEL, gene_tower=SETTINGS, training={"seed": 0})
    return tmp_path / "g"


def rewrite(folder, **changes):
    path = folder / "stage1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_saved_is_loaded(folder):
    panel, settings, state = load_stage1(folder)
    assert panel == PANEL
    assert settings == SETTINGS
    trained = tower(0).state_dict()
    assert set(state) == {name for name in trained if not name.startswith("profile.")}
    assert all(value.equal(trained[name]) for name, value in state.items())
    assert sorted(path.name for path in folder.iterdir()) == ["stage1.json", "weights.safetensors"]


def test_the_fingerprint_covers_panel_settings_and_weights_but_not_how_it_was_trained(tmp_path):
    def fingerprint(seed=0, panel=PANEL, settings=SETTINGS, training=None):
        return save_stage1(
            tmp_path, tower(seed), panel, gene_tower=settings, training=training or {}
        )

    other_panel = GenePanel(("A", "B", "D", "C"), PANEL.means)
    first = fingerprint()
    assert first == fingerprint(training={"seed": 5})
    changed = {fingerprint(1), fingerprint(panel=other_panel), fingerprint(settings=OWN)}
    assert len(changed | {first}) == 4


def test_stage_two_starts_from_it_and_keeps_its_map_of_the_profile(folder):
    fresh = tower(1)
    before = fresh.profile.weight.clone()
    start_from_stage1(fresh, folder, panel=PANEL, gene_tower={**SETTINGS, "dropout": 0.5})
    assert fresh.profile.weight.equal(before)
    tokens = torch.arange(4)[None] + TOKEN_OFFSET
    trained = tower(0)
    assert fresh.eval().positions(tokens).equal(trained.eval().positions(tokens))


def test_the_published_tower_goes_through_too(tmp_path):
    settings = {"context": 6, "width": 8, "depth": 2, "heads": 2, "ffn": 8}
    torch.manual_seed(0)
    trained, fresh = (RankTransformer(4, **settings).eval() for _ in range(2))
    named = {"kind": "rank", **settings}
    save_stage1(tmp_path, trained, PANEL, gene_tower=named, training={})
    start_from_stage1(fresh, tmp_path, panel=PANEL, gene_tower=named)
    tokens = torch.arange(4)[None] + TOKEN_OFFSET
    assert fresh(tokens, None).equal(trained(tokens, None))


@pytest.mark.parametrize(
    ("panel", "settings", "built", "words"),
    [
        (GenePanel(("A", "B"), (1.0, 2.0)), SETTINGS, {}, "panel of 4 genes .* one of 2 genes"),
        (PANEL, {**SETTINGS, "width": 16}, {"width": 16}, "gene_tower.width = 8, but .* has 16"),
        (
            PANEL,
            {**SETTINGS, "kind": "rank"},
            {},
            "gene_tower.kind = 'rank_profile', .* has 'rank'",
        ),
        (
            PANEL,
            {"kind": "rank_profile"},
            {"depth": 2},
            r"blocks\.1\.\S+ has shape none there and \(",
        ),
    ],
)
def test_another_panel_or_architecture_is_refused_with_both_values(
    folder, panel, settings, built, words
):
    fresh = tower(1, **built)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(EncoderError, match=words):
        start_from_stage1(fresh, folder, panel=panel, gene_tower=settings)
    assert all(value.equal(before[name]) for name, value in fresh.state_dict().items())


def test_a_missing_or_damaged_file_is_named(folder):
    with pytest.raises(EncoderError, match=r"no stage-1 gene encoder .*stage1.json"):
        load_stage1(folder / "elsewhere")
    weights = (folder / "weights.safetensors").read_bytes()
    for content in (weights[:-4], weights[:30], b""):
        (folder / "weights.safetensors").write_bytes(content)
        with pytest.raises(EncoderError, match=r"weights.safetensors cannot be read"):
            load_stage1(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"weights.safetensors cannot be read"):
        load_stage1(folder)
    for text in ("{", "[]", '"x"', "{}"):
        (folder / "stage1.json").write_text(text)
        with pytest.raises(EncoderError, match=r"stage1.json is damaged"):
            load_stage1(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 9}, "format 9; this release reads up to 1"),
        ({"fingerprint": "0" * 16}, "says fingerprint 0000000000000000, but its contents give"),
        ({"panel": None}, "stage1.json is damaged"),
        (
            {"panel": GenePanel(("A",), (1.0,)).to_dict()},
            "34 gene embeddings, but .* 1 genes need 31",
        ),
        ({"gene_tower": {**SETTINGS, "width": 16}}, "have width 8, but stage1.json says 16"),
        ({"gene_tower": {**SETTINGS, "context": 7}}, "have context 6, but stage1.json says 7"),
        ({"gene_tower": {**SETTINGS, "heads": 4}}, "says fingerprint"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(folder, changes, words):
    rewrite(folder, **changes)
    with pytest.raises(EncoderError, match=words):
        load_stage1(folder)


def test_one_changed_weight_is_noticed(folder):
    state = load_file(folder / "weights.safetensors")
    state["rank"][0, 0] += 1e-3
    save_file(state, folder / "weights.safetensors")
    with pytest.raises(EncoderError, match="a file was changed"):
        load_stage1(folder)
