"""The token of a service of shards is one that nobody guesses, and a copy without shards says what it lacks."""

from __future__ import annotations

import shutil

import pytest

from stamp_index.cli import main
from stamp_index.errors import AnnIndexError, ShardError
from stamp_index.index.recipes import FlatRecipe
from stamp_index.shards import LocalShards, ShardedIndex
from stamp_index.shards.http_client import TOKEN_VARIABLE
from stamp_index.shards.ray_serve import Served
from stamp_index.shards.service_token import token_for
from stamp_index.store import Store
from tests.shard_world import divided


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_token_that_can_be_guessed_is_refused_with_how_to_make_one(host, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    with pytest.raises(ShardError, match=r"5 characters.*secrets\.token_urlsafe\(32\)") as caught:
        token_for(host)
    assert "short" not in str(caught.value)
    monkeypatch.setenv(TOKEN_VARIABLE, "0123456789abcdef")
    assert token_for(host) == "0123456789abcdef"


def test_a_token_that_no_client_can_send_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "0123456789abcdef\n")
    with pytest.raises(ShardError, match=f"{TOKEN_VARIABLE}: The token has a character") as caught:
        token_for("127.0.0.1")
    assert "0123456789" not in str(caught.value)


def test_no_token_is_for_this_machine_alone(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert token_for("127.0.0.1") == ""
    with pytest.raises(ShardError, match=r"Everybody who reaches 0\.0\.0\.0.*token_urlsafe"):
        token_for("0.0.0.0")


def test_the_address_that_is_said_is_the_one_that_is_asked():
    assert Served("127.0.0.1", 8000).url == "http://127.0.0.1:8000"
    assert Served("::1", 8000).url == "http://[::1]:8000"


def test_a_copy_without_its_shards_is_told_to_copy_them_or_to_divide(tmp_path):
    store, _, _ = divided(tmp_path, FlatRecipe())
    served = LocalShards.open(store)
    shutil.copytree(store.path, tmp_path / "copy", ignore=shutil.ignore_patterns("shards"))
    words = r"There is no plan of shards at .*Copy the folder shards/.*stamp-index shard STORE --shards N"
    with pytest.raises(AnnIndexError, match=words) as caught:
        ShardedIndex.connect(Store.open(tmp_path / "copy"), "image", served)
    assert "Build the index" not in str(caught.value)


def test_commands_that_join_a_cluster_name_the_same_addresses():
    helps = {
        name: one.help
        for name in ("build", "serve-shards")
        for one in main.commands[name].params
        if "--address" in one.opts
    }
    assert helps["build"] == helps["serve-shards"]
    assert "host:6379 or ray://host:10001" in helps["build"]
