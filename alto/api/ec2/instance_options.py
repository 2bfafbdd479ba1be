"""What tools ask and set beside an instance: CPU options and credits, detailed monitoring, and the (absent) password.

Credits and monitoring are wishes that EC2 bills and Alto only remembers: no processor here is throttled, and metrics come as
often for all.
"""

from collections.abc import Mapping, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.errors import to_wire
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import all_owned, owned, page_of_own
from alto.api.ec2.launch_options import CpuOptions, check_auto_recovery, chosen_cpus
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.shapes import cpu_shape
from alto.model.errors import NotFound, Refused
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Instance, Phase
from alto.plan.instances import state_name
from alto.store.store import Tx

log = structlog.get_logger()

_CREDIT_FILTERS: Filters[Instance] = {"instance-id": lambda instance: instance.id}


class DescribeCreditSpecificationsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_credit_specifications(call: Call, request: DescribeCreditSpecificationsRequest) -> dict[str, object]:
    """With ids, each one's option, "standard" where the type has none. Without, those that are unlimited, or were when they
    had a type that has credits."""
    check_page(request.max_results, request.instance_ids)
    matches = matcher(request.filters, _CREDIT_FILTERS)

    def is_listed(instance: Instance) -> bool:
        if not request.instance_ids and (instance.credit_specification != "unlimited" or instance.phase is Phase.TERMINATED):
            return False
        return matches(instance)

    page = call.store.read(
        lambda reader: page_of_own(
            reader, call, Instance, request.instance_ids, is_listed, request.max_results, request.next_token
        )
    )
    items = [{"InstanceId": instance.id, "CpuCredits": _credits(instance)} for instance in page.items]
    return listing("InstanceCreditSpecifications", items, page.next_token)


def _credits(instance: Instance) -> str:
    kind = CATALOGUE.get(instance.instance_type)
    return instance.credit_specification if kind is not None and kind.burstable else "standard"


class CreditRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str | None = None
    cpu_credits: str | None = None


class ModifyCreditsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_credit_specifications: tuple[CreditRequest, ...] = ()
    client_token: str | None = None  # setting twice what is set already changes nothing


async def modify_credit_specification(call: Call, request: ModifyCreditsRequest) -> dict[str, object]:
    """Each instance by itself: what cannot be changed is listed with its reason, the others are changed."""
    wanted = {}
    for each in request.instance_credit_specifications:
        if not each.instance_id or not each.cpu_credits:
            raise Refused("MissingParameter", "Each specification must contain InstanceId and CpuCredits")
        if each.cpu_credits not in ("standard", "unlimited"):
            raise Refused("InvalidCpuCredits", f"Value ({each.cpu_credits[:80]}) is invalid: standard or unlimited")
        if each.instance_id in wanted:
            raise Refused(
                "InvalidInstanceCreditSpecification.DuplicateInstanceId", f"The instance '{each.instance_id}' is named twice"
            )
        wanted[each.instance_id] = each.cpu_credits
    if not wanted:
        raise Refused("MissingParameter", "The request must contain the parameter InstanceCreditSpecification")

    def body(tx: Tx) -> dict[str, object]:
        done, undone = [], []
        for id, credits in wanted.items():
            try:
                instance = owned(tx, call, Instance, id)
                if instance.phase is Phase.TERMINATED:
                    raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is terminated")
                kind = CATALOGUE.get(instance.instance_type)
                if kind is None or not kind.burstable:
                    raise Refused("InstanceCreditSpecification.NotSupported", f"{instance.instance_type} has no CPU credits")
            except (NotFound, Refused) as error:
                wire = to_wire(error)
                undone.append({"InstanceId": id, "Error": {"Code": wire.code, "Message": wire.message}})
                continue
            tx.put(replace(instance, credit_specification=credits))
            done.append({"InstanceId": id})
        return {"SuccessfulInstanceCreditSpecifications": done, "UnsuccessfulInstanceCreditSpecifications": undone}

    return await call.store.write(body)


class MonitorRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_ids: tuple[str, ...] = ()


async def monitor_instances(call: Call, request: MonitorRequest) -> dict[str, object]:
    return await _monitor(call, request.instance_ids, True, "pending")


async def unmonitor_instances(call: Call, request: MonitorRequest) -> dict[str, object]:
    return await _monitor(call, request.instance_ids, False, "disabling")


async def _monitor(call: Call, ids: Sequence[str], wanted: bool, state: str) -> dict[str, object]:
    def body(tx: Tx) -> list[Instance]:
        instances = all_owned(tx, call, Instance, ids)
        for instance in instances:
            if instance.phase is Phase.TERMINATED:
                raise Refused("InvalidState", f"The instance '{instance.id}' is terminated")
            if instance.monitoring is not wanted:
                tx.put(replace(instance, monitoring=wanted))
        return instances

    changed = await call.store.write(body)
    return {"InstanceMonitorings": [{"InstanceId": one.id, "Monitoring": {"State": state}} for one in changed]}


class GetPasswordDataRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str | None = None


async def get_password_data(call: Call, request: GetPasswordDataRequest) -> dict[str, object]:
    """Empty, as EC2 answers for every instance that is not Windows."""
    id = request.instance_id
    if not id:
        raise Refused("MissingParameter", "The request must contain the parameter InstanceId")
    instance = call.store.read(lambda reader: owned(reader, call, Instance, id))
    return {"InstanceId": instance.id, "Timestamp": instance.launched_at, "PasswordData": ""}


class MaintenanceRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str
    auto_recovery: str | None = None
    reboot_migration: str | None = None


async def modify_maintenance_options(call: Call, request: MaintenanceRequest) -> dict[str, object]:
    check_auto_recovery(request.auto_recovery)
    if request.reboot_migration not in (None, "disabled"):
        raise Refused("UnsupportedOperation", "Machines are not moved at a reboot here: RebootMigration is disabled.")
    if request.auto_recovery is None and request.reboot_migration is None:
        raise Refused("MissingParameter", "The request must contain the parameter AutoRecovery or RebootMigration")

    def body(tx: Tx) -> Instance:
        instance = owned(tx, call, Instance, request.instance_id)
        if instance.phase is Phase.TERMINATED:
            raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is terminated")
        return tx.put(replace(instance, auto_recovery=request.auto_recovery or instance.auto_recovery))

    changed = await call.store.write(body)
    return {"InstanceId": changed.id, "AutoRecovery": changed.auto_recovery, "RebootMigration": "disabled"}


class CpuOptionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str
    core_count: int | None = None
    threads_per_core: int | None = None
    nested_virtualization: str | None = None


async def modify_cpu_options(call: Call, request: CpuOptionsRequest) -> dict[str, object]:
    """Of a stopped one: room was given back when it stopped, and is claimed anew, for these, when it starts."""
    wanted = CpuOptions(
        core_count=request.core_count,
        threads_per_core=request.threads_per_core,
        nested_virtualization=request.nested_virtualization,
    )
    if wanted.core_count is None and wanted.threads_per_core is None:
        raise Refused("MissingParameter", "The request must contain the parameters CoreCount and ThreadsPerCore")

    def body(tx: Tx) -> Instance:
        instance = owned(tx, call, Instance, request.instance_id)
        cpus = chosen_cpus(wanted, CATALOGUE[instance.instance_type])
        if state_name(instance) != "stopped":
            raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")
        return tx.put(replace(instance, vcpus=cpus.count, threads_per_core=cpus.threads_per_core))

    changed = await call.store.write(body)
    return {"InstanceId": changed.id, **cpu_shape(changed, CATALOGUE[changed.instance_type])}


class ReportStatusRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instances: tuple[str, ...]
    status: str
    reason_codes: tuple[str, ...]
    start_time: float | None = None
    end_time: float | None = None
    description: str | None = None


REASONS = (
    "instance-stuck-in-state",
    "unresponsive",
    "not-accepting-credentials",
    "password-not-available",
    "performance-network",
    "performance-instance-store",
    "performance-ebs-volume",
    "performance-other",
    "other",
)


async def report_instance_status(call: Call, request: ReportStatusRequest) -> dict[str, object]:
    """The operator reads it in the log. As in EC2, DescribeInstanceStatus tells what is measured, and not this."""
    if request.status not in ("ok", "impaired"):
        raise Refused("InvalidParameterValue", f"Value ({request.status[:80]}) for parameter status is invalid. ok or impaired")
    for reason in request.reason_codes:
        if reason not in REASONS:
            raise Refused("InvalidParameterValue", f"Value ({reason[:80]}) for parameter reasonCode is invalid.")
    for instance in call.store.read(lambda reader: all_owned(reader, call, Instance, request.instances)):
        if state_name(instance) != "running":
            raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'running' state.")
        log.warning(
            "an instance's status was reported",
            instance=instance.id,
            status=request.status,
            reasons=request.reason_codes,
            words=(request.description or "")[:500],
        )
    return {}


class ConsoleScreenshotRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str
    wake_up: bool = False


async def get_console_screenshot(call: Call, request: ConsoleScreenshotRequest) -> dict[str, object]:
    instance = call.store.read(lambda reader: owned(reader, call, Instance, request.instance_id))
    raise Refused(
        "UnsupportedOperation", f"{instance.id} has no screen: its console is a serial line. GetConsoleOutput has what it said."
    )


OPERATIONS: Mapping[str, Operation] = {
    "DescribeInstanceCreditSpecifications": Operation(DescribeCreditSpecificationsRequest, describe_credit_specifications),
    "GetConsoleScreenshot": Operation(ConsoleScreenshotRequest, get_console_screenshot),
    "GetPasswordData": Operation(GetPasswordDataRequest, get_password_data),
    "ModifyInstanceCpuOptions": Operation(CpuOptionsRequest, modify_cpu_options),
    "ModifyInstanceCreditSpecification": Operation(ModifyCreditsRequest, modify_credit_specification),
    "ModifyInstanceMaintenanceOptions": Operation(MaintenanceRequest, modify_maintenance_options),
    "MonitorInstances": Operation(MonitorRequest, monitor_instances),
    "ReportInstanceStatus": Operation(ReportStatusRequest, report_instance_status),
    "UnmonitorInstances": Operation(MonitorRequest, unmonitor_instances),
}
