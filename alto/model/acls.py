"""NetworkAcl and PrefixList, as EC2 has them."""

from typing import ClassVar

import msgspec

from alto.model.records import Record, Tags

LAST_ENTRY = 32767  # the default rule, shown as "*": it denies what no entry before it named


class AclEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of one direction are asked in the order of their numbers; the first that matches decides. `protocol` is a
    number as text, or "-1" for all; ports for TCP and UDP, type and code (-1: any) for ICMP."""

    number: int
    egress: bool
    allow: bool
    protocol: str
    cidr: str | None = None
    cidr_v6: str | None = None
    from_port: int | None = None
    to_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


class AclAssociation(msgspec.Struct, frozen=True, kw_only=True):
    id: str  # "aclassoc-..."
    subnet_id: str


class NetworkAcl(Record, frozen=True, kw_only=True):
    """Stateless rules at a subnet's border. `entries` do not contain the last one, which always denies. Each subnet is in
    exactly one table of its VPC: the default one unless another names it."""

    KIND: ClassVar[str] = "network_acl"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("vpc_id",))

    account: str
    region: str
    vpc_id: str
    default: bool = False
    entries: tuple[AclEntry, ...] = ()
    associations: tuple[AclAssociation, ...] = ()
    tags: Tags = {}


class PrefixListEntry(msgspec.Struct, frozen=True, kw_only=True):
    cidr: str
    description: str | None = None


class PrefixList(Record, frozen=True, kw_only=True):
    """A customer-managed list of ranges that rules and routes may name. `revision` is EC2's Version; `earlier` what the
    revisions just before it held, oldest first; `done` what was last done to it, as EC2's State says."""

    KIND: ClassVar[str] = "prefix_list"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)

    account: str
    region: str
    name: str
    family: str = "IPv4"
    max_entries: int
    entries: tuple[PrefixListEntry, ...] = ()
    revision: int = 1
    earlier: tuple[tuple[PrefixListEntry, ...], ...] = ()
    done: str = "create-complete"
    tags: Tags = {}
