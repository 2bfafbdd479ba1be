"""RunInstances' options of which one value is offered, mostly the default one: tools send them all the same.

What AWS sells and Alto has not (spot markets, reserved capacity, hibernation, enclaves) is refused as AWS refuses accounts
that may not have it. Invariant: an option that is accepted is true of the machine, or is a wish that is remembered and shown.
"""

import msgspec

from alto.model.errors import Refused
from alto.model.instance_types import InstanceType
from alto.model.networks import Naming

AUTO_RECOVERY = ("default", "disabled")
RESERVED_ONLY = "capacity-reservations-only"
PREFERENCES = ("open", "none", RESERVED_ONLY)
NO_SPOT = "Max spot instance count exceeded"


class HibernationOptions(msgspec.Struct, frozen=True, rename="pascal"):
    configured: bool | None = None


class EnclaveOptions(msgspec.Struct, frozen=True, rename="pascal"):
    enabled: bool | None = None


class MaintenanceOptions(msgspec.Struct, frozen=True, rename="pascal"):
    auto_recovery: str | None = None


class PrivateDnsNameOptions(msgspec.Struct, frozen=True, rename="pascal"):
    hostname_type: str | None = None
    enable_resource_name_dns_a_record: bool | None = msgspec.field(name="EnableResourceNameDnsARecord", default=None)
    enable_resource_name_dns_aaaa_record: bool | None = msgspec.field(name="EnableResourceNameDnsAAAARecord", default=None)


class CpuOptions(msgspec.Struct, frozen=True, rename="pascal"):
    core_count: int | None = None
    threads_per_core: int | None = None
    amd_sev_snp: str | None = None
    nested_virtualization: str | None = None


class CreditSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    cpu_credits: str | None = None


class SpotOptions(msgspec.Struct, frozen=True, rename="pascal"):
    """Known, so that the refusal is about the market and not about a parameter."""

    max_price: str | None = None
    spot_instance_type: str | None = None
    block_duration_minutes: int | None = None
    valid_until: float | None = None
    instance_interruption_behavior: str | None = None


class InstanceMarketOptions(msgspec.Struct, frozen=True, rename="pascal"):
    market_type: str | None = None
    spot_options: SpotOptions | None = None


class CapacityReservationTarget(msgspec.Struct, frozen=True, rename="pascal"):
    capacity_reservation_id: str | None = None
    capacity_reservation_resource_group_arn: str | None = None


class CapacityReservationSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    capacity_reservation_preference: str | None = None
    capacity_reservation_target: CapacityReservationTarget | None = None


class NetworkPerformanceOptions(msgspec.Struct, frozen=True, rename="pascal"):
    bandwidth_weighting: str | None = None


class LaunchOptions(msgspec.Struct, frozen=True, rename="pascal"):
    hibernation_options: HibernationOptions = HibernationOptions()
    enclave_options: EnclaveOptions = EnclaveOptions()
    maintenance_options: MaintenanceOptions = MaintenanceOptions()
    private_dns_name_options: PrivateDnsNameOptions = PrivateDnsNameOptions()
    cpu_options: CpuOptions | None = None
    credit_specification: CreditSpecification = CreditSpecification()
    instance_market_options: InstanceMarketOptions | None = None
    capacity_reservation_specification: CapacityReservationSpecification | None = None
    network_performance_options: NetworkPerformanceOptions | None = None


def check_options(options: LaunchOptions, type: InstanceType) -> None:
    """Raises: Refused."""
    if options.hibernation_options.configured:
        raise Refused("UnsupportedHibernationConfiguration", f"Hibernation is not supported here, for {type.name} or any type.")
    check_auto_recovery(options.maintenance_options.auto_recovery)
    if options.instance_market_options is not None:
        _check_market(options.instance_market_options)
    if options.capacity_reservation_specification is not None:
        _check_reservation(options.capacity_reservation_specification)
    _check_naming(options.private_dns_name_options)
    network = options.network_performance_options
    wishes = (
        (options.enclave_options.enabled, "enclaves"),
        (network is not None and network.bandwidth_weighting not in (None, "default"), "this BandwidthWeighting"),
    )
    for wished, what in wishes:
        if wished:
            raise Refused("UnsupportedOperation", f"RunInstances does not support {what} here.")


def check_auto_recovery(value: str | None) -> None:
    if value is not None and value not in AUTO_RECOVERY:
        raise Refused(
            "InvalidParameterValue", f"Invalid value '{value[:80]}' for AutoRecovery. Valid values: default, disabled"
        )


HOSTNAME_TYPES = ("ip-name", "resource-name")


def _check_naming(wanted: PrivateDnsNameOptions) -> None:
    if wanted.hostname_type is not None and wanted.hostname_type not in HOSTNAME_TYPES:
        raise Refused(
            "InvalidParameterValue",
            f"Invalid value '{wanted.hostname_type[:80]}' for HostnameType. Valid values: {', '.join(HOSTNAME_TYPES)}",
        )


def chosen_naming(wanted: PrivateDnsNameOptions, now: Naming | None) -> Naming | None:
    """`now` with what is wanted otherwise; None is how most are named. Raises: Refused."""
    _check_naming(wanted)
    type, a, aaaa = wanted.hostname_type, wanted.enable_resource_name_dns_a_record, wanted.enable_resource_name_dns_aaaa_record
    if type is None and a is None and aaaa is None:
        return now
    old = now or Naming()
    naming = Naming(
        by_resource=old.by_resource if type is None else type == "resource-name",
        a_record=old.a_record if a is None else a,
        aaaa_record=old.aaaa_record if aaaa is None else aaaa,
    )
    return naming if naming != Naming() else None


class Cpus(msgspec.Struct, frozen=True):
    """How many a machine has; `threads_per_core` is None where nobody chose."""

    count: int
    threads_per_core: int | None = None


def chosen_cpus(wanted: CpuOptions | None, type: InstanceType) -> Cpus:
    """Raises: Refused."""
    if wanted is None:
        return Cpus(type.vcpus)
    for switch, name in ((wanted.amd_sev_snp, "AmdSevSnp"), (wanted.nested_virtualization, "NestedVirtualization")):
        if switch not in (None, "disabled"):
            raise Refused("UnsupportedOperation", f"{name} is not supported here.")
    cores, threads = wanted.core_count, wanted.threads_per_core
    if cores is None and threads is None:
        return Cpus(type.vcpus)
    if cores is None or threads is None:
        raise Refused("InvalidParameterCombination", "CpuOptions needs both CoreCount and ThreadsPerCore.")
    for name, value, valid in (
        ("CoreCount", cores, type.valid_cores),
        ("ThreadsPerCore", threads, type.valid_threads),
    ):
        if value not in valid:
            numbers = ", ".join(str(one) for one in valid)
            raise Refused("InvalidParameterValue", f"The {name} {value} is not valid for {type.name}. Valid values: {numbers}")
    return Cpus(cores * threads, threads)


def chosen_credits(wanted: CreditSpecification, type: InstanceType) -> str:
    """Raises: Refused."""
    credits = wanted.cpu_credits
    if credits is None:
        return type.credits or "standard"
    if credits not in ("standard", "unlimited"):
        raise Refused(
            "InvalidParameterValue", f"Invalid value '{credits[:80]}' for CpuCredits. Valid values: standard, unlimited"
        )
    if not type.burstable:
        raise Refused(
            "InstanceCreditSpecification.NotSupported",
            f"The {type.name} instance type does not support CPU credits: it is not a burstable one.",
        )
    return credits


def _check_market(wanted: InstanceMarketOptions) -> None:
    if wanted.market_type == "spot":
        raise Refused("MaxSpotInstanceCountExceeded", NO_SPOT)
    if wanted.market_type is not None or wanted.spot_options is not None:
        raise Refused(
            "InvalidParameterValue", f"Invalid value '{str(wanted.market_type)[:80]}' for MarketType. Valid values: spot"
        )


def chosen_preference(wanted: CapacityReservationSpecification | None) -> str:
    """`check_options` has seen it."""
    return (wanted.capacity_reservation_preference if wanted is not None else None) or "open"


def _check_reservation(wanted: CapacityReservationSpecification) -> None:
    target = wanted.capacity_reservation_target
    if target is not None and target.capacity_reservation_id is not None:
        raise Refused(
            "InvalidCapacityReservationId.NotFound",
            f"The capacity reservation ID '{target.capacity_reservation_id[:80]}' does not exist",
        )
    preference = wanted.capacity_reservation_preference
    if preference is not None and preference not in PREFERENCES:
        raise Refused(
            "InvalidParameterValue",
            f"Invalid value '{preference[:80]}' for CapacityReservationPreference. Valid values: {', '.join(PREFERENCES)}",
        )
    if preference == RESERVED_ONLY or target is not None:
        raise Refused("UnsupportedOperation", "There is no reserved capacity here: the preference is open or none.")
