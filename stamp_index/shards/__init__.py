"""Indexes divided between machines: made, served, and searched as one.

`shard_index` divides a built index by its slides, each shard's files in a folder of their own. A service answers for
all shards: `LocalShards` in this process, or Ray Serve (`ray_serve`) over as many machines as there are. A `ShardedIndex`
asks it, and is searched like any index; the Lance tables of the store stay the truth that every machine reads.
"""

from stamp_index.shards.connecting import connect
from stamp_index.shards.index import ShardedIndex
from stamp_index.shards.plan import PartPlan, ShardPlan, has_plan, read_plan, shards_folder
from stamp_index.shards.service import LocalShards, ShardService
from stamp_index.shards.splitting import shard_index

__all__ = [
    "LocalShards",
    "PartPlan",
    "ShardPlan",
    "ShardService",
    "ShardedIndex",
    "connect",
    "has_plan",
    "read_plan",
    "shard_index",
    "shards_folder",
]
