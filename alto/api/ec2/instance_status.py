"""DescribeInstanceStatus: status checks as hosts measure them (`agent/checks.py`).

The system's check is that the host is heard of and the machine's process answers; the instance's, that the guest's kernel
answers on its network. A host that is not heard of measures nothing: then nobody knows of the guest (insufficient-data).
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filters
from alto.api.ec2.instance_moments import until_begun
from alto.api.ec2.instances import DescribeInstancesRequest, select
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.regions import zone_id
from alto.api.ec2.shapes import NO_OPERATOR, state
from alto.model.hosts import Host, HostState
from alto.model.instances import Instance
from alto.plan.instances import STATE_CODES, state_name
from alto.store.store import Reader


class Check(msgspec.Struct, frozen=True):
    """EC2's status and, of its one detail (reachability), the status and since when it fails."""

    status: str
    reachability: str | None = None
    since: float | None = None


_PASSED = Check("ok", "passed")
_NOT_RUNNING = Check("not-applicable")
_UNKNOWN = Check("insufficient-data", "insufficient-data")

HostOf = Callable[[Instance], Host | None]


def checks_of(instance: Instance, host: Host | None) -> tuple[Check, Check]:
    """The system's and the instance's."""
    if state_name(instance) != "running":
        return _NOT_RUNNING, _NOT_RUNNING
    if host is None or host.state is HostState.UNREACHABLE:
        return Check("impaired", "failed"), _UNKNOWN
    checks = instance.checks
    system, guest = _PASSED, _PASSED
    if checks is not None and checks.machine_failed_since is not None:
        system = Check("impaired", "failed", checks.machine_failed_since)
    if checks is not None and checks.guest_failed_since is not None:
        guest = Check("impaired", "failed", checks.guest_failed_since)
    elif instance.guest_reached_at is None:
        guest = Check("initializing", "initializing")
    return system, guest


def _filters(host_of: HostOf) -> Filters[Instance]:
    def check(number: int) -> Callable[[Instance], Check]:
        return lambda instance: checks_of(instance, host_of(instance))[number]

    system, guest = check(0), check(1)
    return {
        "availability-zone": lambda i: i.zone,
        "availability-zone-id": lambda i: zone_id(i.zone),
        "instance-state-code": lambda i: STATE_CODES[state_name(i)],
        "instance-state-name": state_name,
        "instance-status.reachability": lambda i: guest(i).reachability,
        "instance-status.status": lambda i: guest(i).status,
        "operator.managed": lambda i: False,
        "system-status.reachability": lambda i: system(i).reachability,
        "system-status.status": lambda i: system(i).status,
        # Documented, and nothing here measures or plans them.
        **dict.fromkeys(
            (
                "application-status.status",
                "attached-ebs-status.status",
                "event.code",
                "event.description",
                "event.instance-event-id",
                "event.not-after",
                "event.not-before",
                "event.not-before-deadline",
                "operator.principal",
            ),
            lambda i: None,
        ),
    }


class DescribeInstanceStatusRequest(DescribeInstancesRequest, frozen=True, rename="pascal"):
    include_all_instances: bool = False


async def describe_instance_status(call: Call, request: DescribeInstanceStatusRequest) -> dict[str, Any]:
    check_page(request.max_results, request.instance_ids)
    await until_begun(call, request.instance_ids)

    def wanted(instance: Instance) -> bool:
        return request.include_all_instances or state_name(instance) == "running"

    def read(reader: Reader) -> dict[str, Any]:
        host_of = _hosts(reader)
        instances, token = select(reader, call, request, _filters(host_of), wanted)
        return listing("InstanceStatuses", [_shape(one, host_of(one)) for one in instances], token)

    return call.store.read(read)


def _hosts(reader: Reader) -> HostOf:
    """Each host is looked up once for a listing."""
    known: dict[str, Host | None] = {}

    def host_of(instance: Instance) -> Host | None:
        id = instance.host_id
        if id is None:
            return None
        if id not in known:
            known[id] = reader.find(Host, id)
        return known[id]

    return host_of


def _shape(instance: Instance, host: Host | None) -> dict[str, Any]:
    system, guest = checks_of(instance, host)
    return {
        "InstanceId": instance.id,
        "AvailabilityZone": instance.zone,
        "AvailabilityZoneId": zone_id(instance.zone),
        "InstanceState": state(instance),
        "InstanceStatus": _summary(guest),
        "SystemStatus": _summary(system),
        "Events": [],
        "Operator": NO_OPERATOR,
    }


def _summary(check: Check) -> dict[str, Any]:
    if check.reachability is None:
        return {"Status": check.status, "Details": []}
    detail: dict[str, Any] = {"Name": "reachability", "Status": check.reachability}
    if check.since is not None:
        detail["ImpairedSince"] = check.since
    return {"Status": check.status, "Details": [detail]}


OPERATIONS: Mapping[str, Operation] = {
    "DescribeInstanceStatus": Operation(DescribeInstanceStatusRequest, describe_instance_status),
}
