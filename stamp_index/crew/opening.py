"""Which crew does the work."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, get_args

from stamp_index.crew.local import LocalCrew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stamp_index.crew.crew import Crew

EngineName = Literal["local", "ray"]
ENGINES: Final[tuple[str, ...]] = get_args(EngineName)


@contextmanager
def open_crew(
    engine: EngineName = "local", *, address: str | None = None, n_workers: int | None = None
) -> Iterator[Crew]:
    """Have a crew, and let it go in the end.

    Parameters
    ----------
    engine : {"local", "ray"}
        This process, or workers of Ray.
    address : str, optional
        Cluster to work on: ``"host:6379"``, ``"ray://host:10001"``, or ``"auto"`` for the one that this machine
        belongs to. By default a Ray of its own is started on this machine, and stopped in the end. Every machine of
        a cluster needs the same release of this package and of its libraries, and the same files under the same paths.
    n_workers : int, optional
        Workers of Ray at most; by default as many as the cluster has room for.

    Raises
    ------
    CrewError
        If Ray is not installed, there is no cluster at the address, or it asks for a token that is not set here.
    ValueError, TypeError
        If an argument is no such thing, or belongs to Ray and the engine is "local".

    Notes
    -----
    Where this process is connected to a Ray cluster already, that one is used and stays connected.

    A Ray of its own takes some 600 MB and four seconds to start. Ray answers on all network interfaces. From 2.60 on a Ray
    of its own asks for a token, which it keeps in ``~/.ray/auth_token``, and so does ``ray start`` where that file is
    there. To join a cluster that asks for one by its address, set ``RAY_AUTH_MODE=token``; from another machine also
    ``RAY_AUTH_TOKEN``, to what ``ray get-auth-token`` prints on the cluster's. Whoever gets at an unprotected cluster can
    run any code on it.
    """
    _check(engine, address, n_workers)
    if engine == "local":
        yield LocalCrew()
        return
    from stamp_index.crew.ray_connection import connected

    with connected(address, n_workers) as crew:
        yield crew


def _check(engine: str, address: str | None, n_workers: int | None) -> None:
    if engine not in ENGINES:
        msg = f"There is no engine {engine!r}; expected {' or '.join(ENGINES)}."
        raise ValueError(msg)
    if engine == "local" and (address is not None or n_workers is not None):
        msg = (
            "The local engine has no address and no number of workers: it is this process, which takes the cores "
            'that it is given. Leave them out, or take engine "ray".'
        )
        raise ValueError(msg)
    if n_workers is not None and (isinstance(n_workers, bool) or not isinstance(n_workers, int)):
        msg = f"n_workers is {n_workers!r}; expected a whole number from 1, or None."
        raise TypeError(msg)
    if n_workers is not None and n_workers < 1:
        msg = f"n_workers is {n_workers}; expected a whole number from 1, or None."
        raise ValueError(msg)
    if address is not None and not (isinstance(address, str) and address.strip()):
        msg = f'address is {address!r}; expected for example "auto", "host:6379" or "ray://host:10001".'
        raise ValueError(msg)
