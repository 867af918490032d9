"""What lives in a worker of Ray: it makes what does the jobs, and does them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import CrewError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Releases that must be the same on all machines: results depend on them.
PACKAGES: Final = (
    "stamp-index",
    "numpy",
    "faiss-cpu",
    "faiss-gpu",
    "pylance",
    "torch",
    "timm",
)


def hand_class() -> type:
    """Class of the actor.

    It is defined in a function, so that Ray sends it by value: it says which releases a machine has even where
    that has no stamp_index, or another.
    """

    class Hand:
        def __init__(self) -> None:
            self._work: Callable[[Any], Any] | None = None

        def releases(self, packages: tuple[str, ...]) -> dict[str, str]:
            """Releases of packages and of Python, and the name of the machine."""
            import platform
            from importlib.metadata import PackageNotFoundError, version

            found = {"python": ".".join(platform.python_version_tuple()[:2])}
            for package in packages:
                try:
                    found[package] = version(package)
                except PackageNotFoundError:
                    found[package] = "none"
            return found | {"node": platform.node()}

        def prepare(self, make_worker: Callable[[], Callable[[Any], Any]]) -> None:
            """Make what does the jobs."""
            self._work = make_worker()

        def do(self, job: Any) -> tuple[Any, float, str]:  # noqa: ANN401 - whatever the job is
            """Do a job: its result, seconds, and the machine."""
            import platform
            import time

            if self._work is None:  # as after a restart, which we do not ask for
                msg = "prepare() comes first"
                raise RuntimeError(msg)
            began = time.perf_counter()
            result = self._work(job)
            return result, time.perf_counter() - began, platform.node()

    return Hand


def releases_here() -> dict[str, str]:
    """Releases of this process, as `Hand.releases` says them."""
    found: dict[str, str] = hand_class()().releases(PACKAGES)
    return found


def require_same_releases(theirs: Mapping[str, str]) -> None:
    """Refuse a worker on a machine with other releases.

    Raises
    ------
    CrewError
        If one differs.
    """
    ours = releases_here()
    other = [name for name in ours if name != "node" and theirs.get(name) != ours[name]]
    if other:
        listed = ", ".join(f"{name} {theirs.get(name)} (here {ours[name]})" for name in other)
        msg = (
            f"The machine {theirs.get('node')} of the Ray cluster has {listed}. Results would depend on who works: "
            f"install the same releases on all machines."
        )
        raise CrewError(msg)
