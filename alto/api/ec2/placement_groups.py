"""Placement groups: CreatePlacementGroup, DescribePlacementGroups, DeletePlacementGroup, and what a launch asks of hosts.

Who may stand beside whom is decided in `plan/placement.py`. Invariant: a group that has members stays.
"""

from collections.abc import Mapping, Sequence

import msgspec

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned
from alto.api.ec2.shapes import NO_OPERATOR
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.instances import Instance, PlacementWish
from alto.model.placement_groups import DEFAULT_PARTITIONS, PARTITIONS_MAX, PlacementGroup, PlacementMember, Strategy
from alto.plan.placement import Demand, Neighbours
from alto.store.store import Reader, Tx

NAME_MAX = 255
SPREAD_LEVELS = ("host", "rack")
TENANCIES = ("default", "dedicated")  # of an instance


class Placement(msgspec.Struct, frozen=True, rename="pascal"):
    """RunInstances' Placement."""

    availability_zone: str | None = None
    availability_zone_id: str | None = None
    group_name: str | None = None
    group_id: str | None = None
    partition_number: int | None = None
    host_id: str | None = None
    affinity: str | None = None
    tenancy: str | None = None


class CreatePlacementGroupRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_name: str | None = None
    strategy: str | None = None
    partition_count: int | None = None
    spread_level: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_placement_group(call: Call, request: CreatePlacementGroupRequest) -> dict[str, object]:
    name = request.group_name
    if not name:
        raise Refused("MissingParameter", "The request must contain the parameter GroupName")
    if len(name) > NAME_MAX or not name.isascii() or not name.isprintable():
        raise Refused("InvalidParameterValue", f"Value ({name[:80]!r}) for parameter GroupName is invalid: ASCII, at most 255")
    wanted = request.strategy or Strategy.CLUSTER
    if wanted not in tuple(Strategy):
        raise Refused(
            "InvalidParameterValue", f"Value ({wanted[:40]}) for strategy is invalid: one of {', '.join(tuple(Strategy))}"
        )
    strategy = Strategy(wanted)
    count = request.partition_count
    if count is not None and strategy is not Strategy.PARTITION:
        raise Refused("InvalidParameterCombination", "PartitionCount is valid only when the strategy is partition.")
    if count is not None and not 1 <= count <= PARTITIONS_MAX:
        raise Refused("InvalidParameterValue", f"Value ({count}) for PartitionCount is invalid: 1 to {PARTITIONS_MAX}")
    level = request.spread_level
    if level is not None and strategy is not Strategy.SPREAD:
        raise Refused("InvalidParameterCombination", "SpreadLevel is valid only when the strategy is spread.")
    if level is not None and level not in SPREAD_LEVELS:
        raise Refused("InvalidParameterValue", f"Value ({level[:40]}) for SpreadLevel is invalid: host or rack")
    group = PlacementGroup(
        id=draw_id(call.world.chance, "pg"),
        account=call.account,
        region=call.region,
        name=name,
        strategy=strategy,
        partitions=(count or DEFAULT_PARTITIONS) if strategy is Strategy.PARTITION else 0,
        spread_level=(level or "rack") if strategy is Strategy.SPREAD else None,
        created_at=call.world.clock.now(),
        tags=tags_for(request.tag_specifications, "placement-group")["placement-group"],
    )

    def body(tx: Tx) -> PlacementGroup:
        if _find_by_name(tx, call, name) is not None:
            raise Refused("InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists.")
        return tx.put(group)

    return {"PlacementGroup": _shape(await call.store.write(body))}


def _arn(group: PlacementGroup) -> str:
    return f"arn:aws:ec2:{group.region}:{group.account}:placement-group/{group.name}"


def _shape(group: PlacementGroup) -> dict[str, object]:
    shape: dict[str, object] = {
        "GroupName": group.name,
        "State": "available",
        "Strategy": group.strategy,
        "GroupId": group.id,
        "Tags": shown(group.tags),
        "GroupArn": _arn(group),
        "Operator": NO_OPERATOR,
    }
    if group.strategy is Strategy.PARTITION:
        shape["PartitionCount"] = group.partitions
    if group.spread_level is not None:
        shape["SpreadLevel"] = group.spread_level
    return shape


def _find_by_name(reader: Reader, call: Call, name: str) -> PlacementGroup | None:
    found = reader.where(PlacementGroup, account=call.account, region=call.region, name=name, limit=1)
    return found[0] if found else None


def _get_by_name(reader: Reader, call: Call, name: str) -> PlacementGroup:
    found = _find_by_name(reader, call, name)
    if found is None:
        raise Refused("InvalidPlacementGroup.Unknown", f"The Placement Group '{name[:80]}' is unknown.")
    return found


class DescribePlacementGroupsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_ids: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


_FILTERS: Filters[PlacementGroup] = {
    "group-arn": _arn,
    "group-id": lambda group: group.id,
    "group-name": lambda group: group.name,
    "spread-level": lambda group: group.spread_level,
    "state": lambda group: "available",
    "strategy": lambda group: group.strategy,
}


async def describe_placement_groups(call: Call, request: DescribePlacementGroupsRequest) -> dict[str, object]:
    matches = matcher(request.filters, _FILTERS)

    def read(reader: Reader) -> Sequence[PlacementGroup]:
        if not request.group_ids and not request.group_names:
            return reader.where(PlacementGroup, account=call.account, region=call.region)
        named = [owned(reader, call, PlacementGroup, id) for id in request.group_ids]
        named += [_get_by_name(reader, call, name) for name in request.group_names]
        return list({group.id: group for group in named}.values())

    groups = sorted((group for group in call.store.read(read) if matches(group)), key=lambda group: group.name)
    return {"PlacementGroups": [_shape(group) for group in groups]}


class DeletePlacementGroupRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_name: str


async def delete_placement_group(call: Call, request: DeletePlacementGroupRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        group = _get_by_name(tx, call, request.group_name)
        if tx.where(PlacementMember, group_id=group.id, limit=1):
            raise Refused(
                "InvalidPlacementGroup.InUse", f"The placement group '{group.name}' is in use and may not be deleted."
            )
        tx.delete(PlacementGroup, group.id)

    await call.store.write(body)
    return {}


# What a launch asks for.


def check_placement(placement: Placement) -> None:
    """What can be said without looking. Raises: Refused."""
    if placement.tenancy == "host":
        raise Refused(
            "InsufficientHostCapacity",
            "There is not enough capacity to fulfill your Dedicated Host request: no Dedicated Hosts are allocated here. The "
            "tenancy 'dedicated' keeps other accounts' instances away, and Placement.HostId alone an instance on one host.",
        )
    if placement.tenancy not in (None, "", *TENANCIES):
        raise Refused(
            "InvalidParameterValue",
            f"Value ({placement.tenancy[:40]}) for parameter tenancy is invalid. Valid values: {', '.join(TENANCIES)}, host",
        )
    if placement.affinity not in (None, "default", "host"):
        raise Refused("InvalidParameterValue", f"Value ({placement.affinity[:40]}) for affinity is invalid: default or host")
    if placement.affinity == "host" and placement.host_id is None:
        raise Refused("InvalidParameterCombination", "The affinity 'host' needs a HostId.")
    if placement.group_name and placement.group_id:
        raise Refused("InvalidParameterCombination", "Either GroupName or GroupId may name a placement group, not both.")
    if placement.partition_number is not None and not (placement.group_name or placement.group_id):
        raise Refused("InvalidParameterCombination", "A PartitionNumber needs a placement group.")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A launch's wish for hosts, looked up."""

    wish: PlacementWish
    group: PlacementGroup | None = None
    partition: int | None = None

    def demand(self, reader: Reader, bare: Demand) -> Demand:
        """`bare` with what this asks of hosts."""
        group = None
        if self.group is not None:
            group = Neighbours(self.group, reader.where(PlacementMember, group_id=self.group.id))
        return msgspec.structs.replace(
            bare, host_id=self.wish.host_id, group=group, partition=self.partition, dedicated=self.wish.dedicated
        )

    def member(self, instance: Instance) -> PlacementMember | None:
        """The place in the group of a new instance."""
        if self.group is None:
            return None
        spread_of = self.group.id if self.group.strategy is Strategy.SPREAD else None
        return PlacementMember(id=instance.id, group_id=self.group.id, spread_of=spread_of, partition=self.partition)


def find_wanted(reader: Reader, call: Call, placement: Placement) -> Wanted | None:
    """None: any host will do. Raises: Refused, NotFound."""
    group: PlacementGroup | None = None
    if placement.group_id:
        group = owned(reader, call, PlacementGroup, placement.group_id)
    elif placement.group_name:
        group = _get_by_name(reader, call, placement.group_name)
    if placement.partition_number is not None and group is not None:
        check_partition(group, placement.partition_number)
    if placement.host_id is not None and reader.find(Host, placement.host_id) is None:
        raise Refused("InvalidHostID.NotFound", f"The host '{placement.host_id[:80]}' does not exist. See `alto host list`.")
    dedicated = placement.tenancy == "dedicated"
    if group is None and placement.host_id is None and not dedicated:
        return None
    if dedicated and group is not None and group.strategy is Strategy.SPREAD:
        raise Refused("InvalidParameterCombination", "Spread placement groups do not support Dedicated Instances.")
    wish = PlacementWish(
        group_id=group.id if group else None,
        group_name=group.name if group else None,
        partition=placement.partition_number,
        host_id=placement.host_id,
        dedicated=dedicated,
    )
    return Wanted(wish=wish, group=group, partition=placement.partition_number)


def check_partition(group: PlacementGroup, number: int) -> None:
    if group.strategy is not Strategy.PARTITION:
        raise Refused("InvalidParameterCombination", f"The placement group '{group.name}' has no partitions.")
    if not 1 <= number <= group.partitions:
        raise Refused(
            "InvalidParameterValue",
            f"Value ({number}) for PartitionNumber is invalid: the group '{group.name}' has {group.partitions} partitions.",
        )


OPERATIONS: Mapping[str, Operation] = {
    "CreatePlacementGroup": Operation(CreatePlacementGroupRequest, create_placement_group),
    "DeletePlacementGroup": Operation(DeletePlacementGroupRequest, delete_placement_group),
    "DescribePlacementGroups": Operation(DescribePlacementGroupsRequest, describe_placement_groups),
}
