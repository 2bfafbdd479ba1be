"""DescribeInstanceTypes and DescribeInstanceTypeOfferings: the catalogue (`model/instance_types.py`) in EC2's words.

What Amazon's machines have and Alto's have not (instance store, spot, hibernation) is said to be absent. A filter's
name is the path of what it looks at in the answer, as EC2 names them, so the table of filters is made from the answers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, Values, matcher
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.regions import zone_id
from alto.api.ec2.volume_attachments import ATTACHMENTS_MAX
from alto.api.wire.xml import Cached
from alto.model.errors import Refused
from alto.model.gpus import GPUS
from alto.model.images import boot_mode_of
from alto.model.instance_types import CATALOGUE, InstanceType
from alto.model.placement_groups import Strategy

NAMES_MAX = 100


@cache
def _shape(name: str) -> dict[str, object]:
    type = CATALOGUE[name]
    threads = type.threads_per_core
    return {
        "InstanceType": type.name,
        "CurrentGeneration": type.current_generation,
        "FreeTierEligible": type.free_tier,
        "SupportedUsageClasses": ["on-demand"],
        "SupportedRootDeviceTypes": ["ebs"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": type.bare_metal,
        "Hypervisor": None if type.bare_metal else type.hypervisor,
        "ProcessorInfo": {
            "SupportedArchitectures": [type.architecture],
            "SustainedClockSpeedInGhz": type.clock_ghz,
            "Manufacturer": type.manufacturer,
        },
        "VCpuInfo": {
            "DefaultVCpus": type.vcpus,
            "DefaultCores": type.cores,
            "DefaultThreadsPerCore": threads,
            "ValidCores": list(type.valid_cores),
            "ValidThreadsPerCore": list(type.valid_threads),
        },
        "MemoryInfo": {"SizeInMiB": type.memory_mib},
        "GpuInfo": _gpus(type),
        "InstanceStorageSupported": False,
        "EbsInfo": {
            "EbsOptimizedSupport": type.ebs_optimized,
            "EncryptionSupport": "supported",
            "NvmeSupport": "required" if type.nitro else "unsupported",
            "MaximumEbsAttachments": 1 + ATTACHMENTS_MAX,  # the root too
            "AttachmentLimitType": "dedicated",  # interfaces have a limit of their own
        },
        "NetworkInfo": {
            "NetworkPerformance": type.network,
            "MaximumNetworkInterfaces": type.interfaces_max,
            "MaximumNetworkCards": 1,
            "DefaultNetworkCardIndex": 0,
            "NetworkCards": [
                {
                    "NetworkCardIndex": 0,
                    "NetworkPerformance": type.network,
                    "MaximumNetworkInterfaces": type.interfaces_max,
                    "InterfaceTypes": ["interface"],
                }
            ],
            "Ipv4AddressesPerInterface": type.addresses_per_interface,
            "Ipv6AddressesPerInterface": type.addresses_per_interface,
            "Ipv6Supported": True,
            "EnaSupport": "required" if type.nitro else "unsupported",
            "EfaSupported": False,
            "EncryptionInTransitSupported": False,
            "EnaSrdSupported": False,
            "FlexibleEnaQueuesSupport": "unsupported",
            "SecondaryNetworkSupported": False,
        },
        "PlacementGroupInfo": {"SupportedStrategies": [str(strategy) for strategy in Strategy]},
        "HibernationSupported": False,
        "BurstablePerformanceSupported": type.burstable,
        "DedicatedHostsSupported": False,
        "AutoRecoverySupported": False,
        "SupportedBootModes": [boot_mode_of(type.architecture)],
        "NitroEnclavesSupport": "unsupported",
        "NitroTpmSupport": "unsupported",
        "PhcSupport": "unsupported",
        "RebootMigrationSupport": "unsupported",
        "SupportedInRegion": True,
    }


def _gpus(type: InstanceType) -> dict[str, object] | None:
    gpu = GPUS.get(type.name.partition(".")[0])
    if gpu is None:
        return None
    count = gpu.counts.get(type.vcpus, 1)
    memory = {"SizeInMiB": gpu.memory_mib}
    return {
        "Gpus": [{"Name": gpu.name, "Manufacturer": gpu.manufacturer, "Count": count, "MemoryInfo": memory}],
        "TotalGpuMemoryInMiB": count * gpu.memory_mib,
    }


def _paths(value: object, path: str) -> Iterator[tuple[str, str]]:
    """(filter name, text) of everything in an answer: "MemoryInfo"/"SizeInMiB" is memory-info.size-in-mib."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _paths(member, f"{path}.{_kebab(name)}" if path else _kebab(name))
    elif isinstance(value, list):
        for item in value:
            # A list's name is plural in the answer and singular in the filter, but for these.
            yield from _paths(item, _SINGULARS.get(path, path.removesuffix("s")))
    elif value is not None:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SINGULARS = {
    "supported-usage-classes": "supported-usage-class",
    "vcpu-info.valid-cores": "vcpu-info.valid-cores",
    "vcpu-info.valid-threads-per-core": "vcpu-info.valid-threads-per-core",
}


def _kebab(name: str) -> str:
    return _WORD.sub("-", name.replace("MiB", "Mib")).lower()


@cache
def _values(name: str) -> Mapping[str, frozenset[str]]:
    texts: dict[str, set[str]] = {}
    for path, text in _paths(_shape(name), ""):
        texts.setdefault(path, set()).add(text)
    return {path: frozenset(found) for path, found in texts.items()}


# Documented names that no type here has a value for.
_ABSENT = (
    "ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps",
    "ebs-info.ebs-optimized-info.baseline-iops",
    "ebs-info.ebs-optimized-info.baseline-throughput-in-mbps",
    "ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps",
    "ebs-info.ebs-optimized-info.maximum-iops",
    "ebs-info.ebs-optimized-info.maximum-throughput-in-mbps",
    "instance-storage-info.disk.count",
    "instance-storage-info.disk.size-in-gb",
    "instance-storage-info.disk.type",
    "instance-storage-info.encryption-support",
    "instance-storage-info.nvme-support",
    "instance-storage-info.total-size-in-gb",
    "network-info.bandwidth-weightings",
    "network-info.efa-info.maximum-efa-interfaces",
    "nitro-tpm-info.supported-versions",
    "processor-info.supported-features",
)


# Shown, and no documented name of a filter.
_UNFILTERED = frozenset(
    {
        "network-info.default-network-card-index",
        "network-info.ena-srd-supported",
        "network-info.network-card.interface-type",
        "network-info.network-card.maximum-network-interfaces",
        "network-info.network-card.network-card-index",
        "network-info.network-card.network-performance",
        "network-info.secondary-network-supported",
        "phc-support",
        "placement-group-info.supported-strategie",
        "processor-info.manufacturer",
        "supported-in-region",
    }
)


def _filter(path: str) -> Callable[[str], Values]:
    return lambda name: _values(name).get(path)


# All answers have the same members, but that a machine of bare metal has no hypervisor and the oldest no clock; by what
# only some have, graphics, EC2 does not filter.
_FILTERS: Filters[str] = {path: _filter(path) for path in {*_ABSENT, *_values("m5.large")} - _UNFILTERED}


class DescribeInstanceTypesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_types: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None
    include_unsupported_in_region: bool = False  # every region has every type


async def describe_instance_types(call: Call, request: DescribeInstanceTypesRequest) -> dict[str, object]:
    check_page(request.max_results, request.instance_types, high=100, ids_parameter="InstanceTypes")
    if len(request.instance_types) > NAMES_MAX:
        raise Refused("InvalidParameterValue", f"At most {NAMES_MAX} instance types can be named")
    unknown = [name for name in request.instance_types if name not in CATALOGUE]
    if unknown:
        raise Refused("InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(unknown)}]")
    matches = matcher(request.filters, _FILTERS, tags=lambda name: {})
    page = page_of_list(
        [name for name in dict.fromkeys(request.instance_types or CATALOGUE) if matches(name)],
        lambda name: name,
        scope="instance_types",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    items = [Cached((name,), partial(_shape, name)) for name in page.items]
    return listing("InstanceTypes", items, page.next_token)


class _Offering(msgspec.Struct, frozen=True):
    instance_type: str
    location: str


_OFFERING_FILTERS: Filters[_Offering] = {
    "instance-type": lambda offering: offering.instance_type,
    "location": lambda offering: offering.location,
}


class DescribeInstanceTypeOfferingsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    location_type: str = "region"
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_instance_type_offerings(call: Call, request: DescribeInstanceTypeOfferingsRequest) -> dict[str, object]:
    check_page(request.max_results)
    zones = call.settings.zones(call.region)
    locations = {
        "region": (call.region,),
        "availability-zone": zones,
        "availability-zone-id": tuple(map(zone_id, zones)),
        "outpost": (),
    }.get(request.location_type)
    if locations is None:
        raise Refused("InvalidParameterValue", f"Value ({request.location_type[:80]}) for parameter LocationType is invalid.")
    matches = matcher(request.filters, _OFFERING_FILTERS, tags=lambda offering: {})
    offerings = [_Offering(name, location) for name in CATALOGUE for location in locations]
    page = page_of_list(
        [offering for offering in offerings if matches(offering)],
        lambda offering: f"{offering.instance_type} {offering.location}",
        scope="instance_type_offerings",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    items = [
        {"InstanceType": each.instance_type, "LocationType": request.location_type, "Location": each.location}
        for each in page.items
    ]
    return listing("InstanceTypeOfferings", items, page.next_token)


OPERATIONS: Mapping[str, Operation] = {
    "DescribeInstanceTypeOfferings": Operation(DescribeInstanceTypeOfferingsRequest, describe_instance_type_offerings),
    "DescribeInstanceTypes": Operation(DescribeInstanceTypesRequest, describe_instance_types),
}
