"""Instances: DescribeInstances, and the wishes Start, Stop, Reboot, Terminate.

A change of wish is one transaction over all instances named: all of them, or none. What is not true yet is never answered
as if it were: states come from wish and truth together (`plan.instances.state_name`).
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import all_owned, owned
from alto.api.ec2.instance_filters import instance_filters
from alto.api.ec2.instance_moments import until_begun, until_settled
from alto.api.ec2.paging import check_page, listing, page_of_records
from alto.api.ec2.shapes import cached_instance, has_hostnames, state
from alto.model.errors import CapacityExceeded, DriverFault, NoCapacity, Refused
from alto.model.hosts import Host
from alto.model.instances import Instance, Phase, StateReason, Wish
from alto.plan.instances import USER_STOPPED, state_name
from alto.plan.placement import LEFT_FOR_ALL, demand_of, last_shared, look_around, room_of
from alto.store.claims import give_room, release_all
from alto.store.store import Reader, Tx


class InstanceIds(msgspec.Struct, frozen=True, rename="pascal"):
    instance_ids: tuple[str, ...] = ()


class StopRequest(InstanceIds, frozen=True, rename="pascal"):
    # The guest is asked, and after a while the plug is pulled: what Force means is what always happens.
    force: bool = False
    skip_os_shutdown: bool = False
    hibernate: bool = False


class TerminateRequest(InstanceIds, frozen=True, rename="pascal"):
    # The plug is pulled and the disk goes: the guest is not asked, with or without these.
    force: bool = False
    skip_os_shutdown: bool = False


class DescribeInstancesRequest(InstanceIds, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None
    include_managed_resources: bool = False  # there are none


async def describe_instances(call: Call, request: DescribeInstancesRequest) -> dict[str, Any]:
    check_page(request.max_results, request.instance_ids)
    await until_begun(call, request.instance_ids)

    def read(reader: Reader) -> dict[str, Any]:
        instances, token = select(reader, call, request, instance_filters(reader, request.filters))
        reservations: dict[str, dict[str, Any]] = {}
        vpc_ids = {nic.vpc_id for instance in instances for nic in instance.nics}
        named = {vpc_id for vpc_id in vpc_ids if has_hostnames(reader, vpc_id)}
        for instance in instances:
            reservation = reservations.get(instance.reservation_id)
            if reservation is None:
                reservation = reservations[instance.reservation_id] = {
                    "ReservationId": instance.reservation_id,
                    "OwnerId": instance.account,
                    "Groups": [],
                    "Instances": [],
                }
            reservation["Instances"].append(cached_instance(call.store, instance, named))
        return listing("Reservations", list(reservations.values()), token)

    return call.store.read(read)


def select(
    reader: Reader,
    call: Call,
    request: DescribeInstancesRequest,
    table: Filters[Instance],
    also: Callable[[Instance], bool] = lambda instance: True,
) -> tuple[list[Instance], str | None]:
    matches = matcher(request.filters, table)
    if request.instance_ids:
        found = [one for one in all_owned(reader, call, Instance, request.instance_ids) if matches(one) and also(one)]
        return found, None
    page = page_of_records(
        reader,
        Instance,
        matches=lambda one: matches(one) and also(one),
        max_results=request.max_results,
        next_token=request.next_token,
        account=call.account,
        region=call.region,
    )
    return page.items, page.next_token


# Wishes.

Change = Callable[[Tx, Instance, float], Instance]


async def _change_all(call: Call, ids: Sequence[str], change: Change, answer: str) -> dict[str, Any]:
    _check_some(ids)
    now = call.world.clock.now()

    def body(tx: Tx) -> list[dict[str, Any]]:
        return [_changed(tx, before, change, now) for before in all_owned(tx, call, Instance, ids)]

    return {answer: await call.store.write(body)}


def _check_some(ids: Sequence[str]) -> None:
    if not ids:
        raise Refused("InvalidParameterCombination", "No instances specified")


def _changed(tx: Tx, before: Instance, change: Change, now: float) -> dict[str, Any]:
    after = change(tx, before, now)
    if after != before:
        tx.put(after)
    return {"InstanceId": before.id, "CurrentState": state(after), "PreviousState": state(before)}


def in_wrong_state(instance: Instance, verb: str) -> Refused:
    return Refused(
        "IncorrectInstanceState",
        f"The instance '{instance.id}' is not in a state from which it can be {verb} (it is {state_name(instance)}).",
    )


def not_stopped(instance: Instance) -> Refused:
    return Refused("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")


async def start_instances(call: Call, request: InstanceIds) -> dict[str, Any]:
    await until_settled(call, request.instance_ids)
    answer = await _change_all(call, request.instance_ids, _started, "StartingInstances")
    await until_settled(call, request.instance_ids)
    return answer


def _started(tx: Tx, instance: Instance, now: float) -> Instance:
    """The next incarnation, on the host that has the disk."""
    now_is = state_name(instance)
    if now_is in ("running", "pending"):
        return instance
    if now_is != "stopped":
        raise in_wrong_state(instance, "started")
    if instance.root.away:
        raise Refused(
            "InvalidParameterValue",
            f"Invalid value '{instance.id}' for instanceId. Instance does not have a volume attached at root "
            f"({instance.root.device})",
        )
    if instance.host_id is not None:
        if others := _kept_out_by(tx, instance, instance.host_id):
            raise NoCapacity(f"The host that keeps the disk of {instance.id} is {others}. Try again later.")
        try:
            give_room(tx, instance.host_id, instance)
        except CapacityExceeded as error:
            raise NoCapacity(
                f"The host that keeps the disk of {instance.id} has no room for it now. Try again later."
            ) from error
    return replace(
        instance,
        wish=Wish.RUNNING,
        incarnation=instance.incarnation + 1,
        phase=Phase.PLACED if instance.host_id is not None else Phase.PENDING,
        launched_at=now,
        reason=None,
        ended_at=None,
        guest_reached_at=None,
        checks=None,
        skip_os_shutdown=False,
    )


def _kept_out_by(tx: Tx, instance: Instance, host_id: str) -> str | None:
    """Why tenancy keeps it from this host now."""
    room = room_of(tx.get(Host, host_id))
    if instance.is_dedicated:
        look_around([room], lambda id: tx.where(Instance, host_id=id))
        others = [room_of(host) for host in tx.where(Host) if host.id != host_id]
        if last_shared(demand_of(instance), [room, *others]) is room:
            return f"{LEFT_FOR_ALL}: one host more, or that tenancy (ModifyInstancePlacement), would do"
    return room.keeps_out(instance.account, dedicated=instance.is_dedicated)


async def stop_instances(call: Call, request: StopRequest) -> dict[str, Any]:
    if request.hibernate:
        raise Refused(
            "UnsupportedHibernationConfiguration", "Hibernation is not supported here: stop the instance without Hibernate."
        )
    ids = request.instance_ids
    await until_begun(call, ids)
    answer = await _change_all(call, ids, partial(_stopped, request.skip_os_shutdown), "StoppingInstances")
    await until_settled(call, ids)
    return answer


def _stopped(at_once: bool, tx: Tx, instance: Instance, now: float) -> Instance:
    now_is = state_name(instance)
    if now_is == "stopped":
        return instance
    if now_is == "stopping":
        return replace(instance, skip_os_shutdown=True) if at_once and not instance.skip_os_shutdown else instance
    if now_is != "running":
        raise in_wrong_state(instance, "stopped")
    if instance.stop_protected:
        raise Refused(
            "OperationNotPermitted",
            f"The instance '{instance.id}' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.",
        )
    return replace(instance, wish=Wish.STOPPED, reason=_by_user(now), skip_os_shutdown=at_once)


async def reboot_instances(call: Call, request: InstanceIds) -> dict[str, Any]:
    await until_begun(call, request.instance_ids)
    await _change_all(call, request.instance_ids, _rebooted, "Rebooted")
    return {}


def _rebooted(tx: Tx, instance: Instance, now: float) -> Instance:
    if state_name(instance) != "running":
        raise in_wrong_state(instance, "rebooted")
    return replace(instance, reboots=instance.reboots + 1)


async def terminate_instances(call: Call, request: TerminateRequest, *, protection_holds: bool = True) -> dict[str, Any]:
    """All or none within an availability zone: a protected instance keeps those of its zone, and the others go, although
    the request is refused (API reference, TerminateInstances). Protection is from people's accidents: a group that becomes
    smaller does not heed it."""
    _check_some(request.instance_ids)
    await until_begun(call, request.instance_ids)
    now = call.world.clock.now()

    def body(tx: Tx) -> tuple[list[dict[str, Any]], list[Instance]]:
        named = all_owned(tx, call, Instance, request.instance_ids)
        held = [one for one in named if protection_holds and _protected_by(one) and one.wish is not Wish.TERMINATED]
        zones = {one.zone for one in held}
        going = [one for one in named if one.zone not in zones]
        if held and not going:
            raise _held(held[0])  # in the transaction, where a dry run hears it
        return [_changed(tx, one, _terminated, now) for one in going], held

    changes, held = await call.store.write(body)
    if held:
        raise _held(held[0])
    await until_settled(call, request.instance_ids)
    return {"TerminatingInstances": changes}


def _protected_by(instance: Instance) -> str | None:
    """The attribute that keeps it. Stop protection keeps it from termination too (user guide, "Enable stop protection")."""
    if instance.termination_protected:
        return "disableApiTermination"
    return "disableApiStop" if instance.stop_protected else None


def _held(instance: Instance) -> Refused:
    return Refused(
        "OperationNotPermitted",
        f"The instance '{instance.id}' may not be terminated. Modify its '{_protected_by(instance)}' instance attribute and "
        "try again.",
    )


def _terminated(tx: Tx, instance: Instance, now: float) -> Instance:
    if instance.wish is Wish.TERMINATED:
        return instance
    changed = replace(instance, wish=Wish.TERMINATED, reason=_by_user(now))
    if instance.host_id is None:
        # No host ever heard of it: it is over at once.
        release_all(tx, changed)
        return replace(changed, phase=Phase.TERMINATED, ended_at=now)
    return changed


def _by_user(now: float) -> StateReason:
    at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S GMT")
    return replace(USER_STOPPED, transition=f"User initiated ({at})")


# The console is on the host: it is asked for through the host's session.


class Consoles(Protocol):
    async def console(self, host_id: str, instance_id: str, *, timeout_s: float) -> bytes:
        """The last of what the serial console said. Raises: DriverFault when the host does not answer."""


class GetConsoleOutputRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str | None = None
    latest: bool = False


CONSOLE_TIMEOUT_S = 5.0


async def get_console_output(consoles: Consoles, call: Call, request: GetConsoleOutputRequest) -> dict[str, Any]:
    id = request.instance_id
    if id is None:
        raise Refused("MissingParameter", "The request must contain the parameter InstanceId")
    instance = call.store.read(lambda reader: owned(reader, call, Instance, id))
    output = b""
    if instance.host_id is not None and instance.phase is not Phase.TERMINATED:
        try:
            output = await consoles.console(instance.host_id, instance.id, timeout_s=CONSOLE_TIMEOUT_S)
        except DriverFault as fault:
            raise Refused("Unavailable", f"The host of {instance.id} does not answer now. Try again.", status=503) from fault
    return {
        "InstanceId": instance.id,
        "Output": base64.b64encode(output).decode(),
        "Timestamp": call.world.clock.now(),
    }


OPERATIONS: Mapping[str, Operation] = {
    "DescribeInstances": Operation(DescribeInstancesRequest, describe_instances),
    "StartInstances": Operation(InstanceIds, start_instances),
    "StopInstances": Operation(StopRequest, stop_instances),
    "RebootInstances": Operation(InstanceIds, reboot_instances),
    "TerminateInstances": Operation(TerminateRequest, terminate_instances),
}


def console_operations(consoles: Consoles) -> Mapping[str, Operation]:
    return {"GetConsoleOutput": Operation(GetConsoleOutputRequest, partial(get_console_output, consoles))}
