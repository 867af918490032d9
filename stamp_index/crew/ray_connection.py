"""The connection of this process to a Ray cluster: one of its own, one that runs somewhere, or one that it has."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from stamp_index.crew.ray_crew import RayCrew
from stamp_index.crew.ray_token import SET_TOKEN, require_cluster
from stamp_index.errors import CrewError
from stamp_index.machine import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_OBJECT_STORE_BYTES: Final = 80 * 2**20  # the least that Ray takes: paths travel, not arrays
_REACH_S: Final = 5.0
_LOG: Final = logging.getLogger(__name__)


@contextmanager
def connected(address: str | None, n_workers: int | None) -> Iterator[RayCrew]:
    """Connect, and disconnect in the end from what was connected to here.

    Parameters
    ----------
    address : str or None
        As `open_crew` says; None starts a Ray of its own.
    n_workers : int or None
        At most.

    Raises
    ------
    CrewError
        If Ray is not installed, or there is no cluster at the address.
    """
    ray = load_ray()
    ours = not ray.is_initialized()
    if ours:
        start(ray, address, cores=n_workers or 0, object_store_memory=_OBJECT_STORE_BYTES)
    else:
        _require_same(ray, address)
    crew = RayCrew(ray, n_workers)
    try:
        yield crew
    finally:
        crew.close()
        if ours:
            ray.shutdown()


def load_ray() -> ModuleType:
    """Import Ray, set up as this package needs it.

    Raises
    ------
    CrewError
        If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    # Workers that did not ask for a GPU see none, in releases to come as well.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import ray
    except ImportError as exc:
        msg = f"Ray is not installed ({exc}). Install it with: pip install 'stamp-index[ray]'"
        raise CrewError(msg) from exc
    return ray


def start(
    ray: ModuleType,
    address: str | None,
    *,
    cores: int = 0,
    object_store_memory: int | None = None,
) -> None:
    """Connect to a cluster, or start one on this machine.

    Parameters
    ----------
    ray : module
        Of `load_ray`, not connected yet.
    address : str or None
        As `open_crew` says; None starts a Ray of its own.
    cores : int
        Of a Ray of its own, at least.
    object_store_memory : int, optional
        Bytes of a Ray of its own for what its processes send each other; by default as Ray decides.

    Raises
    ------
    CrewError
        If there is no cluster at the address, it asks for a token that this process does not send, or none can be
        started.
    """
    from ray.exceptions import AuthenticationError

    if address is None:
        ours: dict[str, Any] = {
            "address": "local",
            "num_cpus": max(usable_cores(), cores),
            "object_store_memory": object_store_memory,
            "include_dashboard": False,
        }
    else:
        _require_reachable(address)
        _LOG.info("Connecting to the Ray cluster at %s.", address)
        ours = {"address": address}
    try:
        with warnings.catch_warnings():
            # Ray forks to start its processes, which do nothing else than that.
            warnings.filterwarnings("ignore", "lance is not fork-safe")
            warnings.filterwarnings("ignore", "Ray Client connection timed out")  # is said below
            ray.init(**ours, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError, AuthenticationError) as exc:
        if address is None:
            msg = f"Ray cannot be started on this machine: {_first_line(exc)}."
            raise CrewError(msg) from exc
        raise CrewError(_not_joined(address, exc)) from exc


def _require_same(ray: ModuleType, address: str | None) -> None:
    """Refuse another cluster than the one that this process is connected to.

    Raises
    ------
    CrewError
        If it is another.
    """
    have = str(ray.get_runtime_context().gcs_address)
    if address not in (None, "auto", have):
        msg = (
            f"This process is connected to the Ray cluster at {have}, not to {address!r}. Leave the address out to "
            f"work there, or call ray.shutdown() first."
        )
        raise CrewError(msg)


def _require_reachable(address: str) -> None:
    """Try the address for some seconds; Ray itself would for minutes.

    Raises
    ------
    CrewError
        If nobody answers there, or no cluster, or a token is asked for and not set.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise CrewError(_unreachable(address, "that is no address."))
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except (OSError, OverflowError, UnicodeError) as exc:
        raise CrewError(_unreachable(address, f"{exc}.")) from exc
    require_cluster(address)


def _not_joined(address: str, exc: Exception) -> str:
    """Say why a cluster could not be joined at an address where somebody listens."""
    from ray.exceptions import AuthenticationError

    why = _first_line(exc)
    if isinstance(exc, AuthenticationError):  # its own words are a page
        why = "this process has no token, or another one"
    if address == "auto":
        return _unreachable(address, f"{why}. If it asks for a token, {SET_TOKEN}.")
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return f"Something answers at {address!r}, but cannot be joined as a Ray cluster: {why}."
    return (
        f"Something answers at {address!r}, but cannot be joined as a Ray cluster: {why}. RAY_AUTH_MODE is token: if it "
        f"asks for none, unset that; if it does, check that RAY_AUTH_TOKEN (or ~/.ray/auth_token) is what `ray "
        f"get-auth-token` prints on its machine."
    )


def _unreachable(address: str, why: str) -> str:
    return (
        f'There is no Ray cluster at {address!r}: {why} Expected for example "auto", "host:6379" or '
        f'"ray://host:10001"; without an address one is started on this machine.'
    )


def _first_line(exc: Exception) -> str:
    text = str(exc).strip()
    return text.splitlines()[0].rstrip(".") if text else type(exc).__name__
