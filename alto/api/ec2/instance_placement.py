"""ModifyInstancePlacement: another placement group, or another wish for a host, for an instance that is stopped.

A stopped instance keeps its disk on its host, so only what holds for that host can be wished; what does not is refused with
the sentence that a launch would read. Invariant: the instance's wish and its place in the group say the same.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.ids import owned
from alto.api.ec2.instances import not_stopped
from alto.api.ec2.placement_groups import Placement, Wanted, check_placement, find_wanted
from alto.model.errors import Refused
from alto.model.instances import Instance
from alto.model.networks import Vpc
from alto.model.placement_groups import PlacementMember, Strategy
from alto.plan.instances import state_name
from alto.plan.placement import Demand
from alto.store.store import Reader, Tx


class ModifyInstancePlacementRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str
    group_name: str | None = None  # empty: no group any more
    group_id: str | None = None
    partition_number: int | None = None
    host_id: str | None = None
    affinity: str | None = None  # "default": any host
    tenancy: str | None = None


async def modify_instance_placement(call: Call, request: ModifyInstancePlacementRequest) -> dict[str, object]:
    given = Placement(
        group_name=request.group_name,
        group_id=request.group_id,
        partition_number=request.partition_number,
        host_id=request.host_id,
        affinity=request.affinity,
        tenancy=request.tenancy,
    )
    check_placement(given)
    if all(value is None for value in msgspec.structs.astuple(given)):
        raise Refused("MissingParameter", "The request must contain what of the placement is to change")

    def body(tx: Tx) -> None:
        instance = owned(tx, call, Instance, request.instance_id)
        if state_name(instance) != "stopped":
            raise not_stopped(instance)
        _check_tenancy(tx, instance, given)
        wanted = find_wanted(tx, call, _kept(instance, given))
        _leave(tx, instance)
        if wanted is not None and instance.host_id is not None:
            wanted = _on(tx, instance, instance.host_id, wanted)
            member = wanted.member(instance)
            if member is not None:
                tx.put(replace(member, host_id=instance.host_id, partition=wanted.partition))
        tx.put(replace(instance, placement=wanted.wish if wanted is not None else None))

    await call.store.write(body)
    return {"Return": True}


def _check_tenancy(reader: Reader, instance: Instance, given: Placement) -> None:
    """Raises: Refused: what its VPC made dedicated stays so, as long as the VPC does that."""
    vpc = reader.get(Vpc, instance.nic.vpc_id)
    if given.tenancy == "default" and instance.is_dedicated and vpc.tenancy == "dedicated":
        raise Refused(
            "InvalidRequest", f"Every instance in {vpc.id} is dedicated: ModifyVpcTenancy changes that of the VPC first."
        )


def _kept(instance: Instance, given: Placement) -> Placement:
    """`given`, and of what it leaves alone what the instance has."""
    now = instance.placement
    if now is None:
        return given
    if given.group_name is None and given.group_id is None:
        given = replace(given, group_id=now.group_id, partition_number=given.partition_number or now.partition)
    if given.host_id is None and given.affinity != "default":
        given = replace(given, host_id=now.host_id)
    if given.tenancy is None and now.dedicated:
        given = replace(given, tenancy="dedicated")
    return given


def _leave(tx: Tx, instance: Instance) -> None:
    if instance.placement is not None and instance.placement.group_id is not None:
        tx.delete(PlacementMember, instance.id)


def _on(tx: Tx, instance: Instance, host_id: str, wanted: Wanted) -> Wanted:
    """`wanted` as it is true on the host that has the disk. Raises: Refused."""
    if wanted.wish.host_id not in (None, host_id):
        raise Refused(
            "InvalidHostConfiguration",
            f"The disk of {instance.id} is on the host {host_id} and cannot go to {wanted.wish.host_id}.",
        )
    neighbours = wanted.demand(tx, Demand(instance_type="", vcpus=0, memory_mib=0)).group
    if wanted.group is None or neighbours is None:
        return wanted
    numbers = [wanted.partition] if wanted.partition is not None else neighbours.partitions()
    refusals = [neighbours.refuses(host_id, number) for number in numbers]
    if None not in refusals:
        raise Refused("InsufficientInstanceCapacity", f"The host that has the disk of {instance.id} is {refusals[0]}.")
    number = numbers[refusals.index(None)] if wanted.group.strategy is Strategy.PARTITION else None
    return replace(wanted, partition=number, wish=replace(wanted.wish, partition=number))


OPERATIONS: Mapping[str, Operation] = {
    "ModifyInstancePlacement": Operation(ModifyInstancePlacementRequest, modify_instance_placement)
}
