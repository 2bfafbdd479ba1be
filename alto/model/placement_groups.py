"""Placement groups: which instances must, and which must not, share a host. A host is the smallest thing that fails alone here,
so it is what EC2's racks are: spread keeps members on different hosts, partition keeps partitions on different hosts, cluster
keeps all members on one host."""

import enum
from typing import ClassVar

from alto.model.records import Record, Tags

PARTITIONS_MAX = 7  # "Placement strategies", EC2 user guide
DEFAULT_PARTITIONS = 2


class Strategy(enum.StrEnum):
    CLUSTER = "cluster"
    SPREAD = "spread"
    PARTITION = "partition"


class PlacementGroup(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "placement_group"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region", "name"),)

    account: str
    region: str
    name: str
    strategy: Strategy
    partitions: int = 0  # of a partition group
    spread_level: str | None = None  # of a spread group: "rack" or "host", which are one thing here
    created_at: float
    tags: Tags = {}


class PlacementMember(Record, frozen=True, kw_only=True):
    """One instance's place in a group; `id` is the instance's. From its launch until it is terminated: a stopped one keeps its
    disk on its host, and so its place. `spread_of` is the group's id when that is a spread group: the unique key then keeps two
    members from one host, whatever raced."""

    KIND: ClassVar[str] = "placement_member"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("group_id",),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("spread_of", "host_id"),)

    group_id: str
    spread_of: str | None = None
    host_id: str | None = None  # control.scheduler writes, with the instance's
    partition: int | None = None  # as asked for; else control.scheduler chooses
