"""Ray on this machine: a crew of two workers, or two nodes of which one can be lost."""

from __future__ import annotations

import gc
import warnings
from contextlib import contextmanager

import pytest

from stamp_index.crew import open_crew

_OBJECT_STORE_BYTES = 80 * 2**20  # the least that Ray takes


@contextmanager
def _without_its_warnings():
    """Warnings about what Ray leaves behind are errors elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # sockets and processes
        warnings.filterwarnings("ignore", "lance is not fork-safe")  # it forks to start processes
        yield


def collect():
    """Collect what Ray has left behind so far."""
    with _without_its_warnings():
        gc.collect()


@contextmanager
def crew_on_ray():
    """A crew of two workers."""
    pytest.importorskip("ray")
    with open_crew("ray", n_workers=2) as crew:
        yield crew
    collect()


@contextmanager
def two_nodes():
    """Two nodes of one core each, with processes of their own; Ray's `Cluster`."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": _OBJECT_STORE_BYTES}
    with _without_its_warnings():
        cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        cluster.add_node(**node)
        yield cluster
        cluster.shutdown()
        gc.collect()


def lose_second(cluster):
    """Kill the node that is not the head, with all that runs there."""
    second = next(node for node in cluster.list_all_nodes() if not node.head)
    cluster.remove_node(second, allow_graceful=False)
