"""How long is waited: by a service for its shards, and by who asks the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 5.0  # for a shard to answer
MOST_TIMEOUT_S: Final = 3_600.0
_MARGIN_S: Final = 5.0  # besides the time that shards have, for the way there and back
_SERVICE: Final = "service"  # beside the modalities; releases that do not know it pass it over


class Patience:
    """How long one client waits for an answer of a service: as long as its shards have, and a margin.

    Parameters
    ----------
    wait_s : float, optional
        Seconds, whatever the service says.
    """

    def __init__(self, wait_s: float | None = None) -> None:
        self.wait_s = TIMEOUT_S + _MARGIN_S if wait_s is None else wait_s
        self._is_told = wait_s is not None

    def hear(self, said: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Read what `announced` wrote, and wait so long from now on; services of older releases say no time.

        Parameters
        ----------
        said : mapping
            JSON of a service.

        Returns
        -------
        dict of str to dict
            Facts of its plans by modality.

        Raises
        ------
        ValueError
            If it is something else.
        """
        if not isinstance(said, dict) or not all(isinstance(one, dict) for one in said.values()):
            msg = "no plans"
            raise ValueError(msg)
        plans = dict(said)
        timeout_s = float(str(plans.pop(_SERVICE, {}).get("timeout_s", TIMEOUT_S)))
        check_timeout(timeout_s)
        if not self._is_told:
            self.wait_s = timeout_s + _MARGIN_S
        return plans


def announced(
    plans: Mapping[str, Mapping[str, str]], timeout_s: float
) -> dict[str, Mapping[str, str]]:
    """Return what a service says of itself: facts of its plans by modality, and how long its shards have."""
    return {**plans, _SERVICE: {"timeout_s": str(timeout_s)}}


def check_timeout(timeout_s: float) -> None:
    """Refuse a time that no shard is given.

    Raises
    ------
    ValueError
        If it is not above 0, or more than an hour.
    """
    if not 0 < timeout_s <= MOST_TIMEOUT_S:
        msg = f"A shard has {timeout_s:g} s to answer; expected seconds above 0, at most {MOST_TIMEOUT_S:,.0f}."
        raise ValueError(msg)
