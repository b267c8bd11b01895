"""The dataset on disk: shards of INRs, and the index that lists them."""

from lightning_dws.inrs.store.addresses import is_address, local_folder
from lightning_dws.inrs.store.header import StoreHeader
from lightning_dws.inrs.store.index import write_index
from lightning_dws.inrs.store.shards import ShardRange, read_checked_shard, write_shard
from lightning_dws.inrs.store.store import INRStore

__all__ = [
    "INRStore",
    "ShardRange",
    "StoreHeader",
    "is_address",
    "local_folder",
    "read_checked_shard",
    "write_index",
    "write_shard",
]
