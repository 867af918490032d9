"""Weights on huggingface.co: whether they can be had, and what to do where they cannot."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from stamp_index.encoders.backbones import BackboneSpec

_Address = tuple[Any, ...]  # as `socket.getaddrinfo` gives it, the family first
_CONNECT_S: Final = 3.0
_N_ADDRESSES: Final = 2  # of the hub's that are tried, of either version of the protocol


def fetch(spec: BackboneSpec, revision: str = "") -> Path:
    """Path of a backbone's weights in the hub's cache, downloaded if they are not there.

    Raises
    ------
    EncoderError
        In one sentence: access was not granted, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    which = revision or None
    for file in spec.files:
        cached = try_to_load_from_cache(spec.hub, file, revision=which)
        if isinstance(cached, str):
            return Path(cached)
    refuse_unreachable(spec)
    for file in spec.files:
        try:
            return Path(hf_hub_download(spec.hub, file, revision=which))
        except LocalEntryNotFoundError as exc:
            raise EncoderError(hub_sentence(spec, exc)) from exc
        except EntryNotFoundError:
            continue  # the repository has its weights in another file
        except OSError as exc:
            raise EncoderError(hub_sentence(spec, exc)) from exc
    msg = f"There is none of {', '.join(spec.files)} in {spec.hub}; download its weights and give the file."
    raise EncoderError(msg)


def refuse_unreachable(spec: BackboneSpec) -> None:
    """Say at once that the hub cannot be reached; its client tries for half a minute before it gives up.

    Nothing is tried where something of the repository is in the cache, where the client stays offline, which it
    says at once itself, or where it goes through a proxy.

    Raises
    ------
    EncoderError
        In one sentence: what is missing, and what to do.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=spec.hub, repo_type="model")
    proxies = getproxies().keys() & {"http", "https", "all"}
    if (folder / "snapshots").exists() or constants.HF_HUB_OFFLINE or proxies:
        return
    place = urlsplit(constants.ENDPOINT)
    failure: OSError | None = None
    try:
        port = place.port or place.scheme
        found = socket.getaddrinfo(place.hostname, port, type=socket.SOCK_STREAM)
    except OSError as exc:  # nobody knows the name
        found, failure = [], exc
    for family, kind, protocol, _, address in _some_of_each_family(found):
        with socket.socket(family, kind, protocol) as trial:
            trial.settimeout(_CONNECT_S)
            try:
                trial.connect(address)
            except OSError as exc:
                failure = exc
            else:
                return
    raise EncoderError(_not_here(spec, f"{place.hostname} cannot be reached")) from failure


def _some_of_each_family(found: list[_Address]) -> list[_Address]:
    """Take the first addresses of IPv4 and of IPv6, of which one may lead nowhere."""
    families = dict.fromkeys(address[0] for address in found)
    return [
        one
        for family in families
        for one in [address for address in found if address[0] == family][:_N_ADDRESSES]
    ]


def hub_sentence(spec: BackboneSpec, error: Exception) -> str:
    """Say in one sentence why the hub gave nothing and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page, by_hand = _page(spec), _by_hand(spec)
    if isinstance(error, RevisionNotFoundError):
        return f"{spec.title} has no such revision on {page}; leave revision out for the newest."
    if isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
        return f"{page} does not exist for you: run `hf auth login` with an account that may see it, {by_hand}."
    if isinstance(error, GatedRepoError):
        return (
            f"{spec.title} is given on request: ask for access on {page}, run `hf auth login` once it is "
            f"granted, {by_hand}."
        )
    offline = constants.HF_HUB_OFFLINE
    if isinstance(error, LocalEntryNotFoundError) or offline:
        place = urlsplit(constants.ENDPOINT).hostname
        reason = "HF_HUB_OFFLINE is set" if offline else f"{place} cannot be reached"
        return _not_here(spec, reason)
    return f"The weights of {spec.title} could not be downloaded from {page} ({error}): try again, {by_hand}."


def _page(spec: BackboneSpec) -> str:
    return f"https://huggingface.co/{spec.hub}"


def _by_hand(spec: BackboneSpec) -> str:
    return (
        "or give a file that you have as the weights of the tower's section, for example "
        f"--set model.image_tower.weights=/path/{spec.files[0]}"
    )


def _not_here(spec: BackboneSpec, reason: str) -> str:
    once = f"connect once (they are on {_page(spec)})"
    if spec.gated:
        once = f"ask for access on {_page(spec)}, run `hf auth login` and connect once"
    return f"The weights of {spec.title} are not on this machine and {reason}: {once}, {_by_hand(spec)}."
