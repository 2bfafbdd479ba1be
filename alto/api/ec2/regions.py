"""Where one can launch, and how much fits: DescribeRegions, DescribeAvailabilityZones, DescribeAccountAttributes.

All regions of a cloud answer on one endpoint and share its hosts. Not here: which host takes an instance
(`plan/placement.py`), though the verbose listing counts by the same rule, so that it is exact after each launch.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache

import msgspec

from alto.api.accounts import default_vpc
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.new_interfaces import GROUPS_MAX
from alto.model.addresses import ADDRESSES_MAX
from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.instance_types import CATALOGUE, InstanceType
from alto.model.instances import Instance, Phase, Wish
from alto.plan.placement import Placed, Room, demand_of, place, room_of, take
from alto.store.store import Reader

# What euca2ools and the `verbose` form have always listed, with our smallest in front.
VERBOSE_TYPES = ("m1.tiny", "m1.small", "c1.medium", "m1.large", "m1.xlarge", "c1.xlarge")
# Four or five digits is what the column holds.
COUNT_MAX = 99_999
# Instances without a host that a listing takes into account; more than this wait only while nothing fits anyway.
WAITING_MAX = 1000

_DIRECTIONS = re.compile(r"north|south|east|west|central|gov")


@cache  # of this cloud's zones only
def zone_id(zone: str) -> str:
    """ "us-east-1a" -> "use1-az1", "ap-southeast-2b" -> "apse2-az2": as Amazon abbreviates its own."""
    region, letter = zone[:-1], zone[-1]
    parts = region.split("-")
    short = parts[0] + "".join(_abbreviated(part) for part in parts[1:])
    return f"{short}-az{ord(letter) - ord('a') + 1}"


def zone_by_id(call: Call, id: str) -> str | None:
    return next((zone for zone in call.settings.zones(call.region) if zone_id(zone) == id), None)


def _abbreviated(part: str) -> str:
    if part.isdigit():
        return part
    directions = _DIRECTIONS.findall(part)
    return "".join(direction[0] for direction in directions) or part[:1]


def endpoint(region: str) -> str:
    """A bare host name, no URL: old clients put "https://" before it themselves."""
    return f"ec2.{region}.amazonaws.com"


class _Region(msgspec.Struct, frozen=True):
    name: str


_REGION_FILTERS: Filters[_Region] = {
    "endpoint": lambda region: endpoint(region.name),
    "opt-in-status": lambda region: "opt-in-not-required",
    "region-name": lambda region: region.name,
}


class DescribeRegionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    region_names: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    all_regions: bool = False  # every region is opted in, so both answers are the same


async def describe_regions(call: Call, request: DescribeRegionsRequest) -> dict[str, object]:
    known = call.settings.regions
    unknown = [name for name in request.region_names if name not in known]
    if unknown:
        raise Refused("InvalidParameterValue", f"Invalid region: {unknown[0]}. This cloud answers for {', '.join(known)}.")
    matches = matcher(request.filters, _REGION_FILTERS)
    regions = [_Region(name) for name in known if not request.region_names or name in request.region_names]
    return {
        "Regions": [
            {"RegionName": region.name, "Endpoint": endpoint(region.name), "OptInStatus": "opt-in-not-required"}
            for region in regions
            if matches(region)
        ]
    }


class _Zone(msgspec.Struct, frozen=True):
    name: str
    region: str


_ZONE_FILTERS: Filters[_Zone] = {
    "group-long-name": lambda zone: _group_name(zone),
    "group-name": lambda zone: _group(zone),
    "message": lambda zone: None,
    "opt-in-status": lambda zone: "opt-in-not-required",
    "parent-zone-id": lambda zone: None,
    "parent-zone-name": lambda zone: None,
    "region-name": lambda zone: zone.region,
    "state": lambda zone: "available",
    "zone-id": lambda zone: zone_id(zone.name),
    "zone-name": lambda zone: zone.name,
    "zone-type": lambda zone: "availability-zone",
}


def _group(zone: _Zone) -> str:
    return f"{zone.region}-zg-1"


def _group_name(zone: _Zone) -> str:
    return f"{zone.region} 1"


class DescribeAvailabilityZonesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    zone_names: tuple[str, ...] = ()
    zone_ids: tuple[str, ...] = ()
    all_availability_zones: bool = False


VERBOSE = "verbose"


async def describe_availability_zones(call: Call, request: DescribeAvailabilityZonesRequest) -> dict[str, object]:
    zones = [_Zone(name, call.region) for name in call.settings.zones(call.region)]
    by_name, by_id = {zone.name for zone in zones}, {zone_id(zone.name) for zone in zones}
    names = [name for name in request.zone_names if name != VERBOSE]
    unknown = [name for name in names if name not in by_name] + [id for id in request.zone_ids if id not in by_id]
    if unknown:
        raise Refused("InvalidParameterValue", f"Invalid availability zone: [{unknown[0]}]")
    matches = matcher(request.filters, _ZONE_FILTERS)
    shown = [
        zone
        for zone in zones
        if (not names or zone.name in names)
        and (not request.zone_ids or zone_id(zone.name) in request.zone_ids)
        and matches(zone)
    ]
    hosts = call.store.read(lambda reader: reader.where(Host))
    messages = [] if any(host.takes_instances for host in hosts) else [{"Message": _no_host(hosts)}]
    rows = [_zone(zone, messages) for zone in shown]
    if VERBOSE in request.zone_names:
        rows += _verbose(call.region, call.store.read(rooms_of))
    return {"AvailabilityZones": rows}


def _no_host(hosts: Sequence[Host]) -> str:
    if not hosts:
        return "This cloud has no host yet: instances wait until one joins"
    return f"None of {len(hosts)} hosts takes new instances: all are unreachable, draining or full"


def _zone(zone: _Zone, messages: list[dict[str, str]]) -> dict[str, object]:
    return {
        "ZoneName": zone.name,
        "ZoneId": zone_id(zone.name),
        "ZoneType": "availability-zone",
        "RegionName": zone.region,
        "State": "available",
        "OptInStatus": "opt-in-not-required",
        "GroupName": _group(zone),
        "GroupLongName": _group_name(zone),
        "NetworkBorderGroup": zone.region,
        "Messages": messages,
    }


def _verbose(region: str, rooms: Sequence[Room]) -> list[dict[str, object]]:
    """Eucalyptus' rows, as `euca-describe-availability-zones verbose` prints them: the name in the first column, and in the
    second (the state's place) free and largest number of instances of a type, its CPUs, MiB and GB."""
    rows = [("|- vm types", "free / max   cpu   ram  disk")]
    for name in VERBOSE_TYPES:
        kind = CATALOGUE[name]
        free, most = capacity(kind, rooms)
        rows.append((f"|- {name}", f"{free:04d} / {most:04d}   {kind.vcpus:2d}   {kind.memory_mib:4d}   {kind.storage_gb:3d}"))
    return [{"ZoneName": name, "State": state, "RegionName": region, "Messages": []} for name, state in rows]


def rooms_of(reader: Reader) -> list[Room]:
    """What each host that takes instances has left, once those that still wait for a host have theirs: a listing right
    after a launch must not show the room that the launch took."""
    rooms = [room_of(host) for host in reader.where(Host) if host.takes_instances]
    by_id = {room.host_id: room for room in rooms}
    for waiting in reader.where(Instance, phase=Phase.PENDING, limit=WAITING_MAX):
        if waiting.host_id is None and waiting.wish is Wish.RUNNING:
            demand = demand_of(waiting)
            placed = place(demand, rooms)
            if isinstance(placed, Placed):
                take(demand, by_id[placed.host_id])
    return rooms


def capacity(kind: InstanceType, rooms: Sequence[Room]) -> tuple[int, int]:
    """(free, most): how many instances of a type fit now, and would if the hosts ran nothing else."""
    free = sum(_fit(room.vcpus_free, room.memory_mib_free, kind) for room in rooms)
    most = sum(_fit(room.vcpus, room.memory_mib, kind) for room in rooms)
    return min(free, COUNT_MAX), min(most, COUNT_MAX)


def _fit(vcpus: int, memory_mib: int, kind: InstanceType) -> int:
    return max(min(vcpus // kind.vcpus, memory_mib // kind.memory_mib), 0)


class DescribeAccountAttributesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    attribute_names: tuple[str, ...] = ()


# Amazon's numbers where Alto has no quota yet: what is here is not enforced, what is enforced is elsewhere.
_ATTRIBUTES: Mapping[str, str] = {
    "supported-platforms": "VPC",
    "vpc-max-security-groups-per-interface": str(GROUPS_MAX),
    "max-elastic-ips": str(ADDRESSES_MAX),
    "max-instances": "1000",
    "vpc-max-elastic-ips": str(ADDRESSES_MAX),
}


async def describe_account_attributes(call: Call, request: DescribeAccountAttributesRequest) -> dict[str, object]:
    unknown = [name for name in request.attribute_names if name not in _ATTRIBUTES and name != "default-vpc"]
    if unknown:
        raise Refused("InvalidParameterValue", f"Value ( {unknown[0]} ) for parameter attributeName is invalid.")
    vpc = call.store.read(lambda reader: default_vpc(reader, call.account, call.region))
    values = {**_ATTRIBUTES, "default-vpc": vpc.id if vpc is not None else "none"}
    return {
        "AccountAttributes": [
            {"AttributeName": name, "AttributeValues": [{"AttributeValue": value}]}
            for name, value in values.items()
            if not request.attribute_names or name in request.attribute_names
        ]
    }


OPERATIONS: Mapping[str, Operation] = {
    "DescribeAccountAttributes": Operation(DescribeAccountAttributesRequest, describe_account_attributes),
    "DescribeAvailabilityZones": Operation(DescribeAvailabilityZonesRequest, describe_availability_zones),
    "DescribeRegions": Operation(DescribeRegionsRequest, describe_regions),
}
