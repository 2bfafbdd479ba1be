"""Where a new volume or snapshot goes, what its type allows, and what it is called. Same input, same answer."""

from collections.abc import Iterable

from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.instances import Instance
from alto.model.volumes import VOLUME_TYPES, Volume, VolumePhase
from alto.plan.placement import room_of

MIB_PER_OPERATION_MAX = 0.25  # of gp3, which alone has a throughput to choose
IOPS_OF_ANOTHER_TYPE = 3000  # what a change to a type that needs a number gives, where the request has none


def choose_home(hosts: Iterable[Host], size_gib: int, storage: str | None = None) -> Host:
    """The host with the most room among those that reach `storage` (None: any). Raises: Refused, with what each lacked."""
    lacking: dict[str, int] = {}
    best: Host | None = None
    for host in hosts:
        why = _lacks(host, size_gib, storage)
        if why is not None:
            lacking[why] = lacking.get(why, 0) + 1
        elif best is None or (-_free(host), host.id) < (-_free(best), best.id):
            best = host
    if best is not None:
        return best
    reasons = "; ".join(f"{count} {'host' if count == 1 else 'hosts'} {why}" for why, count in sorted(lacking.items()))
    raise Refused(
        "InsufficientVolumeCapacity",
        f"No host has room for a volume of {size_gib} GiB ({reasons or 'there is no host'}). Try a smaller one, or add a host.",
        status=503,
    )


def _lacks(host: Host, size_gib: int, storage: str | None) -> str | None:
    refuses = room_of(host).refuses
    if refuses is not None:
        return refuses
    if not host.capabilities.storage:
        return "without a storage for volumes"
    if storage is not None and host.capabilities.storage != storage:
        return "without the storage that it needs"
    if _free(host) < size_gib:
        return "short of disk"
    return None


def _free(host: Host) -> int:
    return host.disk_gib - host.disk_gib_used if host.disk_gib is not None else 1 << 40


def check_type(name: str, size_gib: int, iops: int | None, throughput: int | None, *, kept: bool = False) -> None:
    """`kept`: type, IOPS and throughput are what the volume has, so that their ratio is nothing that a request could mend.

    Raises: Refused: there is no such type, or it does not come so ("Amazon EBS volume types")."""
    type = VOLUME_TYPES.get(name)
    if type is None:
        raise Refused("UnknownVolumeType", f"Unsupported volume type '{name[:80]}' for volume creation.")
    low, high = type.size_gib
    if not low <= size_gib <= high:
        raise Refused(
            "InvalidParameterValue",
            f"Volume of {size_gib}GiB is {'too small' if size_gib < low else 'too large'} for volume type {name}; "
            f"{'minimum' if size_gib < low else 'maximum'} is {low if size_gib < low else high}GiB.",
        )
    if iops is None and type.iops_needed:
        raise Refused("InvalidParameterCombination", f"The parameter iops must be specified for {name} volumes.")
    if iops is not None and type.iops is None:
        raise Refused("InvalidParameterCombination", f"The parameter iops is not supported for {name} volumes.")
    if throughput is not None and type.throughput is None:
        raise Refused("InvalidParameterCombination", f"The parameter throughput is not supported for {name} volumes.")
    if iops is not None and type.iops is not None:
        _check_range("iops", iops, *type.iops)
        if iops > max(type.iops_per_gib_max * size_gib, type.iops_default or 0, type.iops[0]):
            raise Refused(
                "InvalidParameterValue",
                f"Iops to volume size ratio of {iops / size_gib:f} is too high; maximum is {type.iops_per_gib_max}.",
            )
    if throughput is not None and type.throughput is not None:
        _check_range("throughput", throughput, *type.throughput)
        promised = iops or type.iops_default or 0
        if not kept and throughput > promised * MIB_PER_OPERATION_MAX:
            raise Refused(
                "InvalidParameterValue",
                f"Throughput (MiBps) to iops ratio of {throughput / promised:f} is too high; maximum is "
                f"{MIB_PER_OPERATION_MAX:f} MiBps per iops.",
            )


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        least = value < low
        raise Refused(
            "InvalidParameterValue",
            f"Volume {name} of {value} is {'too low; minimum' if least else 'too high; maximum'} is {low if least else high}.",
        )


def iops_of(type: str, size_gib: int, iops: int | None) -> int | None:
    """What EC2 gives a volume of its type unless more is paid for. Alto promises no number, and tools read one."""
    if type == "gp2":
        return min(max(3 * size_gib, 100), 16_000)
    return iops if iops is not None else VOLUME_TYPES[type].iops_default


def throughput_of(type: str, throughput: int | None) -> int | None:
    return throughput if throughput is not None else VOLUME_TYPES[type].throughput_default


def volume_state(volume: Volume) -> str:
    match volume.phase:
        case VolumePhase.CREATING:
            return "creating"
        case VolumePhase.FAILED:
            return "error"
        case VolumePhase.DELETING:
            return "deleting"
    return "in-use" if volume.instance_id is not None else "available"


def home_of(volume: Volume, instance: Instance | None) -> str | None:
    """The host whose disk its bytes are counted on; None while its instance has not been placed."""
    if volume.host_id is not None:
        return volume.host_id
    return instance.host_id if instance is not None else None
