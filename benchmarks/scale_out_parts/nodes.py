"""Two machines of Ray on this one, of which one can be killed."""

from __future__ import annotations

import gc
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OBJECTS: int = 80 * 2**20


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Run two nodes of one core each, with processes of their own; gives Ray's `Cluster`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": _OBJECTS, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(num_cpus=1, object_store_memory=_OBJECTS)
    try:
        yield cluster
    finally:
        cluster.shutdown()
        gc.collect()


def kill_second(cluster: Any) -> None:  # noqa: ANN401 - Ray's Cluster
    """Kill the node that is not the head, with all that runs there."""
    second = next(node for node in cluster.list_all_nodes() if not node.head)
    cluster.remove_node(second, allow_graceful=False)
