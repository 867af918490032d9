"""Whether a Ray cluster answers and asks for a token: Ray itself tries for half a minute and longer to find out."""

from __future__ import annotations

import os
from typing import Final

from stamp_index.errors import CrewError

# What a cluster answers at once to whoever may ask, by the port that is asked: of Ray's client, of the head.
_CLIENT: Final = "/ray.rpc.RayletDriver/ClusterInfo"
_HEAD: Final = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_ANSWER_S: Final = 10.0
# What other services come to: other methods, other words than gRPC's, silence.
_OF_OTHERS: Final = ("UNIMPLEMENTED", "UNAVAILABLE", "UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED")
SET_TOKEN: Final = (
    "set RAY_AUTH_MODE=token here; from another machine than the cluster's also RAY_AUTH_TOKEN, to what "
    "`ray get-auth-token` prints there"
)


def require_cluster(address: str) -> None:
    """Refuse what is no cluster, and one that asks for a token where this process is not set to send one.

    Parameters
    ----------
    address : str
        ``host:port`` or ``ray://host:port``, where somebody listens.

    Raises
    ------
    CrewError
        If it is none, or asks for one.

    Notes
    -----
    Ray finds out by itself for the address "auto" alone. For others we do not set the mode either: the token would go
    to whoever listens there, and workers of a cluster without tokens die where the driver has one (ray 2.60).
    """
    import grpc  # type: ignore[import-untyped]

    method = _CLIENT if address.startswith("ray://") else _HEAD
    options = [("grpc.enable_http_proxy", 0)]  # as Ray does
    with grpc.insecure_channel(address.removeprefix("ray://"), options) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=_ANSWER_S)
        except grpc.RpcError as exc:
            code = exc.code().name
            if code == "UNAUTHENTICATED" and not _sends_token():
                msg = f"A Ray cluster answers at {address!r} and asks for a token: {SET_TOKEN}."
                raise CrewError(msg) from exc
            if code in _OF_OTHERS:
                msg = (
                    f"Something answers at {address!r}, but it is no Ray cluster, or another port of one ({code}). Expected that of a "
                    f"cluster's head, such as host:6379, or of Ray's client, such as ray://host:10001."
                )
                raise CrewError(msg) from exc


def _sends_token() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
