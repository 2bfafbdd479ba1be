"""RunInstances: one transaction that looks everything up, claims addresses and writes the rows; answers "pending".

The host is chosen afterwards (`control/scheduler.py`). A launch that cannot fit now is refused here with what every host
lacks. The same client token with the same parameters answers the same reservation, in its present state, and makes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec.structs import replace

from alto.api.accounts import default_vpc, draw_id, draw_ids
from alto.api.call import Call, Operation
from alto.api.ec2.address_pools import check_private, is_private_taken, refuse_taken
from alto.api.ec2.block_devices import BlockDeviceMapping, Ciphers, Devices, launch_devices
from alto.api.ec2.encryption import Encrypting, own_region
from alto.api.ec2.ids import find_launchable, is_own, owned
from alto.api.ec2.instance_metadata_defaults import default_metadata
from alto.api.ec2.instance_profiles import ProfileSpecification, associate, find_arn
from alto.api.ec2.keypairs import find_by_name
from alto.api.ec2.launch_interfaces import (
    InterfaceSpecification,
    check_interfaces,
    draw_others,
    existing,
    named_addresses,
    with_interfaces,
)
from alto.api.ec2.launch_options import (
    Cpus,
    LaunchOptions,
    check_options,
    chosen_cpus,
    chosen_credits,
    chosen_naming,
    chosen_preference,
)
from alto.api.ec2.launch_template_data import LaunchTemplateSpecification, with_template
from alto.api.ec2.new_interfaces import AddressesV6, Ipv6Address, check_group_count, wanted_v6
from alto.api.ec2.placement_groups import Placement, Wanted, check_placement, find_wanted
from alto.api.ec2.regions import zone_by_id, zone_id
from alto.api.ec2.shapes import show_reservation
from alto.api.ec2.tags import TagSpecification, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.api.ec2.user_data import check_user_data
from alto.api.security_groups import is_in_vpc
from alto.model.errors import NoCapacity, NotFound, Refused
from alto.model.hosts import Host
from alto.model.images import ImageState, KeyPair, host_kind_of
from alto.model.instance_types import DEFAULT_INSTANCE_TYPE, InstanceType, instance_type
from alto.model.instances import Instance, MetadataOptions, Phase
from alto.model.networks import (
    AddressPool,
    PublicAddress,
    SecurityGroup,
    Subnet,
    Vpc,
)
from alto.model.records import ID_DIGITS, Tags
from alto.plan.launch import IDS_PER_INSTANCE, Order, plan_launch
from alto.plan.placement import Demand, Room, fitting, look_around, room_of, why_nowhere
from alto.store.claims import PUBLIC_POOL, lead_elastic
from alto.store.store import Reader, Tx

COUNT_MAX = 1000  # one call's bound, so that one transaction stays short


class Monitoring(msgspec.Struct, frozen=True, rename="pascal"):
    enabled: bool | None = None


class MetadataOptionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    http_tokens: str | None = None
    http_put_response_hop_limit: int | None = None
    http_endpoint: str | None = None
    instance_metadata_tags: str | None = None
    http_protocol_ipv6: str | None = None


NO_METADATA_OPTIONS = MetadataOptionsRequest()


class RunInstancesRequest(LaunchOptions, frozen=True, rename="pascal"):
    """None and empty: not given, so that a launch template may say it."""

    launch_template: LaunchTemplateSpecification | None = None
    image_id: str | None = None
    instance_type: str | None = None
    min_count: int | None = None
    max_count: int | None = None
    key_name: str | None = None
    iam_instance_profile: ProfileSpecification | None = None
    security_group_ids: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    subnet_id: str | None = None
    private_ip_address: str | None = None
    ipv6_addresses: tuple[Ipv6Address, ...] = ()
    ipv6_address_count: int | None = None
    user_data: str | None = None
    client_token: str | None = None
    placement: Placement = Placement()
    monitoring: Monitoring = Monitoring()
    ebs_optimized: bool | None = None
    disable_api_termination: bool | None = None
    disable_api_stop: bool | None = None
    instance_initiated_shutdown_behavior: str | None = None
    block_device_mappings: tuple[BlockDeviceMapping, ...] = ()
    network_interfaces: tuple[InterfaceSpecification, ...] = ()
    metadata_options: MetadataOptionsRequest = NO_METADATA_OPTIONS
    tag_specifications: tuple[TagSpecification, ...] = ()


async def run_instances(call: Call, request: RunInstancesRequest) -> dict[str, Any]:
    return await launch(call, request)


async def launch(call: Call, request: RunInstancesRequest, *, group_name: str | None = None) -> dict[str, Any]:
    """`group_name` is the AutoScalingGroup that launches, if one does."""
    own_tags: Tags = {"aws:autoscaling:groupName": group_name} if group_name else {}
    if request.launch_template is not None:
        request, template_tags = with_template(call, request, request.launch_template)
        own_tags |= template_tags
    least, most = _counts(request)
    type = instance_type(request.instance_type or DEFAULT_INSTANCE_TYPE)
    listed = _interfaces(request, most)
    interface = listed[0]
    addresses = interface.addresses
    more = len(listed) > 1 or bool(addresses.further) or interface.v6 != AddressesV6()
    named = named_addresses(listed) if more else ()
    tags = tags_for(request.tag_specifications, "instance", "volume", "network-interface")
    check_user_data(request.user_data)
    shutdown_behaviour = request.instance_initiated_shutdown_behavior or "stop"
    check_shutdown_behaviour(shutdown_behaviour)
    check_options(request, type)
    cpus = chosen_cpus(request.cpu_options, type)
    check_placement(request.placement)
    check_token(request.client_token)
    if request.image_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter ImageId")
    credits = chosen_credits(request.credit_specification, type)
    arn = find_arn(call, request.iam_instance_profile) if request.iam_instance_profile is not None else None
    now, chance, encrypting = call.world.clock.now(), call.world.chance, Encrypting(call)
    digits = draw_ids(chance, 1 + IDS_PER_INSTANCE * most)
    reservation_id, ids = f"r-{digits[:ID_DIGITS]}", digits[ID_DIGITS:]
    drawn = draw_others(call, listed, most)
    association_ids = [draw_id(chance, "iip-assoc") for _ in range(most)] if arn is not None else []

    def body(tx: Tx) -> dict[str, Any]:
        known = _by_token(tx, call, request.client_token)
        if known is not None:
            return show_reservation(tx, known)
        image = find_launchable(tx, call, request.image_id or "")
        if image.state is not ImageState.AVAILABLE:
            raise Refused("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available: it is {image.state}")
        check_architecture(image.architecture, type)
        key = _find_key(tx, call, request.key_name)
        own = existing(tx, call, interface)
        primary = replace(interface, subnet_id=own.subnet_id, groups=own.group_ids) if own is not None else interface
        subnet = _find_subnet(tx, call, request, primary, least)
        group_ids = _find_groups(tx, call, request, primary, subnet.vpc_id)
        pools = tx.get(AddressPool, subnet.id), tx.get(AddressPool, PUBLIC_POOL)
        if named:
            pools = replace(pools[0], in_turn=False), pools[1]
        wanted = find_wanted(tx, call, _tenant_of(tx, request.placement, subnet))
        region = own_region(tx, call)
        disks = launch_devices(tx, call, request.block_device_mappings, image, Ciphers(encrypting, region))
        host_kind = host_kind_of(image.source)
        ipv6 = any(one.v6.count(subnet) or one.v6.chosen for one in listed) if more or subnet.ipv6_on_creation else False
        count = _count_that_fits(tx, call, type, cpus, host_kind, subnet, pools, wanted, disks, ipv6, least, most)
        public, chosen = interface.associate_public_ip_address, addresses.primary
        private_ip = check_private(chosen, subnet) if chosen else None
        if private_ip is not None:
            refuse_taken(tx, pools[0], subnet.vpc_id, private_ip)
        order = Order(
            account=call.account,
            region=call.region,
            reservation_id=reservation_id,
            count=count,
            now=now,
            image_id=image.id,
            image_source=image.source,
            ena=image.ena,
            sriov=image.sriov,
            boot_mode=image.boot_mode,
            instance_type=type.name,
            vcpus=cpus.count,
            threads_per_core=cpus.threads_per_core,
            memory_mib=type.memory_mib,
            root=disks.root,
            volumes=disks.further,
            storage=disks.storage,
            subnet=subnet,
            group_ids=group_ids,
            # As at EC2: with several interfaces none is given a public address by itself.
            public=subnet.map_public_ip and len(listed) == 1 if public is None else public,
            private_ip=private_ip,
            key_name=key.name if key else None,
            public_key=key.public_key if key else None,
            user_data=request.user_data,
            client_token=request.client_token,
            shutdown_behaviour=shutdown_behaviour,
            termination_protected=bool(request.disable_api_termination),
            stop_protected=bool(request.disable_api_stop),
            metadata=metadata_options(request.metadata_options, default_metadata(region, imds_v2=image.imds_v2)),
            monitoring=bool(request.monitoring.enabled),
            ebs_optimized=bool(request.ebs_optimized),
            credit_specification=credits,
            auto_recovery=request.maintenance_options.auto_recovery or "default",
            capacity_preference=chosen_preference(request.capacity_reservation_specification),
            group_name=group_name,
            placement=wanted.wish if wanted else None,
            naming=chosen_naming(request.private_dns_name_options, subnet.naming),
            instance_tags=tags["instance"] | own_tags,
            volume_tags=tags["volume"],
            interface_tags=tags["network-interface"],
            interface_description=interface.description or "",
            interface_deleted=interface.delete_on_termination is not False,
            interface=own,
        )
        planned = plan_launch(
            order,
            ids,
            *pools,
            lambda address: address in named or is_private_taken(tx, pools[0], subnet.vpc_id, address),
            lambda address: tx.find(PublicAddress, address) is not None,
        )
        instances = list(planned.instances)
        if arn is not None:
            instances = [associate(tx, one, id, arn, now) for one, id in zip(instances, association_ids, strict=False)]
        instances = [tx.put(one) for one in instances]
        members = [wanted.member(one) for one in instances] if wanted is not None else []
        for record in (
            *(one for one in members if one is not None),
            *planned.interfaces,
            *planned.volumes,
            *planned.addresses,
            *planned.pools,
        ):
            tx.put(record)
        if own is not None:
            lead_elastic(tx, own, instances[0].id)
        if more or ipv6:
            its = drawn or [[] for _ in instances]
            instances = [
                with_interfaces(tx, call, one, listed, its[place], type, tags["network-interface"], now)
                for place, one in enumerate(instances)
            ]
        remember_result(tx, call, request.client_token, " ".join([one.id for one in instances]), now)
        return show_reservation(tx, instances)

    return await call.store.write(body)


def _by_token(tx: Tx, call: Call, token: str | None) -> list[Instance] | None:
    """What an earlier request with this token made, as it now is."""
    ids = known_result(tx, call, token)
    if ids is None:
        return None
    instances = [one for id in ids.split() if (one := tx.find(Instance, id)) is not None]
    if not instances or all(one.phase is Phase.TERMINATED for one in instances):
        raise Refused(
            "IdempotentInstanceTerminated",
            "The request cannot be completed: the instance that the client token made has been terminated",
        )
    return sorted(instances, key=lambda one: one.launch_index)


def _counts(request: RunInstancesRequest) -> tuple[int, int]:
    if request.min_count is None or request.max_count is None:
        missing = "MinCount" if request.min_count is None else "MaxCount"
        raise Refused("MissingParameter", f"The request must contain the parameter {missing}")
    least, most = request.min_count, request.max_count
    if least < 1 or most < 1:
        raise Refused("InvalidParameterValue", f"Value ( {min(least, most)} ) for a count is invalid: it must be at least 1")
    if least > most:
        raise Refused("InvalidParameterValue", f"MinCount ( {least} ) is greater than MaxCount ( {most} )")
    if least > COUNT_MAX:
        raise Refused("InstanceLimitExceeded", f"One request launches at most {COUNT_MAX} instances; ask for several")
    return least, min(most, COUNT_MAX)


def _interfaces(request: RunInstancesRequest, most: int) -> tuple[InterfaceSpecification, ...]:
    """The primary one first, however it was asked for: by NetworkInterfaces or by the request's own parameters."""
    if not request.network_interfaces:
        if request.security_groups and request.subnet_id is not None:
            raise Refused("InvalidParameterCombination", "The parameter groupName cannot be used with the parameter subnet")
        v6 = wanted_v6(request.ipv6_addresses, request.ipv6_address_count)
        if (request.private_ip_address is not None or v6.chosen) and most > 1:
            raise Refused(
                "InvalidParameterCombination", "A private IP address can be given to one instance only: MaxCount must be 1"
            )
        return (
            InterfaceSpecification(
                subnet_id=request.subnet_id,
                groups=request.security_group_ids,
                private_ip_address=request.private_ip_address,
                ipv6_addresses=request.ipv6_addresses,
                ipv6_address_count=request.ipv6_address_count,
            ),
        )
    for given, what in (
        (request.subnet_id, "subnet ID"),
        (request.security_group_ids or request.security_groups, "security groups"),
        (request.private_ip_address, "private address"),
        (request.ipv6_addresses or request.ipv6_address_count, "IPv6 address"),
    ):
        if given:
            raise Refused(
                "InvalidParameterCombination",
                f"Network interfaces and an instance-level {what} may not be specified on the same request",
            )
    return check_interfaces(request.network_interfaces, most)


def metadata_options(request: MetadataOptionsRequest, now: MetadataOptions) -> MetadataOptions:
    """`now` with what the request changes."""
    if request == NO_METADATA_OPTIONS:
        return now
    _one_of("HttpTokens", request.http_tokens, ("optional", "required"))
    _one_of("HttpEndpoint", request.http_endpoint, ("enabled", "disabled"))
    _one_of("InstanceMetadataTags", request.instance_metadata_tags, ("enabled", "disabled"))
    _one_of("HttpProtocolIpv6", request.http_protocol_ipv6, ("enabled", "disabled"))
    hops = request.http_put_response_hop_limit
    if hops is not None and not 1 <= hops <= 64:
        raise Refused("InvalidParameterValue", f"Value ( {hops} ) for HttpPutResponseHopLimit is invalid: 1 to 64")
    return MetadataOptions(
        tokens_required=request.http_tokens == "required" if request.http_tokens else now.tokens_required,
        hop_limit=hops or now.hop_limit,
        enabled=request.http_endpoint == "enabled" if request.http_endpoint else now.enabled,
        tags_enabled=request.instance_metadata_tags == "enabled" if request.instance_metadata_tags else now.tags_enabled,
        ipv6_enabled=request.http_protocol_ipv6 == "enabled" if request.http_protocol_ipv6 else now.ipv6_enabled,
    )


def _one_of(name: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise Refused("InvalidParameterValue", f"Invalid value '{value}' for {name}. Valid values: {', '.join(allowed)}")


def check_shutdown_behaviour(value: str) -> None:
    _one_of("InstanceInitiatedShutdownBehavior", value, ("stop", "terminate"))


def check_architecture(architecture: str, type: InstanceType) -> None:
    """Raises: Refused: a system for `architecture` does not run on this type."""
    if architecture != type.architecture:
        raise Refused(
            "InvalidParameterValue",
            f"The architecture '{type.architecture}' of the specified instance type does not match the architecture "
            f"'{architecture}' of the specified AMI. Specify an instance type and an AMI that have matching architectures, "
            "and try again. You can use 'describe-instance-types' or 'describe-images' to discover the architecture of the "
            "instance type or AMI.",
        )


def _find_key(reader: Reader, call: Call, name: str | None) -> KeyPair | None:
    if name is None:
        return None
    found = find_by_name(reader, call.account, call.region, name)
    if found is None:
        raise NotFound(KeyPair.KIND, name)
    return found


def _zone(call: Call, placement: Placement) -> str | None:
    """By its name or by its id."""
    name, id = placement.availability_zone, placement.availability_zone_id
    if name is None and id is None:
        return None
    zones = call.settings.zones(call.region)
    if name is not None and name not in zones:
        raise Refused("InvalidParameterValue", f"Invalid availability zone: [{name}]. It must be one of {', '.join(zones)}")
    if id is None:
        return name
    by_id = zone_by_id(call, id)
    if by_id is None:
        ids = ", ".join(map(zone_id, zones))
        raise Refused("InvalidParameterValue", f"Invalid availability zone-id: [{id[:80]}]. It must be one of {ids}")
    if name is not None:
        raise Refused(
            "InvalidParameterCombination", "The parameters availabilityZone and availabilityZoneId exclude each other"
        )
    return by_id


def _find_subnet(
    reader: Reader, call: Call, request: RunInstancesRequest, interface: InterfaceSpecification, least: int
) -> Subnet:
    zone = _zone(call, request.placement)
    if interface.subnet_id is not None:
        subnet = owned(reader, call, Subnet, interface.subnet_id)
        if zone is not None and zone != subnet.zone:
            raise Refused("InvalidParameterCombination", f"Subnet {subnet.id} is in {subnet.zone}, not in {zone}")
        return subnet
    vpc = default_vpc(reader, call.account, call.region)
    if vpc is None:
        raise Refused(
            "VPCIdNotSpecified",
            "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.",
        )
    subnets = sorted(reader.where(Subnet, vpc_id=vpc.id), key=attrgetter("zone"))
    defaults = [one for one in subnets if one.default_for_zone]
    if not defaults:
        raise Refused("MissingInput", f"No subnets found for the default VPC '{vpc.id}'. Please specify a subnet.")
    fitting = [one for one in defaults if zone in (None, one.zone)]
    if not fitting:
        raise Refused("InvalidInput", f"No default subnet for availability zone: '{zone}'.")
    if len(fitting) == 1:
        return fitting[0]
    for subnet in fitting:
        pool = reader.get(AddressPool, subnet.id)
        if pool.size - pool.used >= least:
            return subnet
    return fitting[0]


def _tenant_of(reader: Reader, placement: Placement, subnet: Subnet) -> Placement:
    """In a VPC of dedicated tenancy every instance is dedicated, whatever was asked for."""
    # A default VPC never is one: the commonest launches need not read it.
    if subnet.default_for_zone or reader.get(Vpc, subnet.vpc_id).tenancy != "dedicated":
        return placement
    return replace(placement, tenancy="dedicated")


def _find_groups(
    reader: Reader, call: Call, request: RunInstancesRequest, interface: InterfaceSpecification, vpc_id: str
) -> tuple[str, ...]:
    if "" in interface.groups:
        raise Refused("InvalidParameterValue", "Value () for parameter groupId is invalid. The value cannot be empty")
    ids = [owned(reader, call, SecurityGroup, id) for id in interface.groups]
    for group in ids:
        if not is_in_vpc(reader, group, vpc_id):
            raise Refused("InvalidParameter", f"Security group {group.id} and the subnet belong to different networks.")
    names = []
    for name in request.security_groups:
        found = reader.where(SecurityGroup, vpc_id=vpc_id, name=name, limit=1)
        if not found or not is_own(call, found[0]):
            raise NotFound(SecurityGroup.KIND, name)
        names.append(found[0])
    if not ids and not names:
        return tuple(group.id for group in reader.where(SecurityGroup, vpc_id=vpc_id, name="default", limit=1))
    chosen = tuple(dict.fromkeys(group.id for group in (*ids, *names)))
    check_group_count(chosen)
    return chosen


def _count_that_fits(
    reader: Reader,
    call: Call,
    type: InstanceType,
    cpus: Cpus,
    host_kind: str,
    subnet: Subnet,
    pools: Sequence[AddressPool],
    wanted: Wanted | None,
    disks: Devices,
    ipv6: bool,
    least: int,
    most: int,
) -> int:
    """How many of `least`..`most` can be launched. Raises: NoCapacity with what is lacking."""
    count = min([most, *[pool.size - pool.used for pool in pools]])
    if count < least:
        raise Refused("InsufficientFreeAddressesInSubnet", f"Not enough free addresses in subnet {subnet.id}: {least} wanted")
    disk_gib = disks.root.size_gib
    if disks.further:
        disk_gib += sum(one.size_gib for one in disks.further)
    demand = Demand(
        instance_type=type.name,
        vcpus=cpus.count,
        memory_mib=type.memory_mib,
        host_kind=host_kind,
        disk_gib=disk_gib,
        storage=disks.storage,
        ipv6=ipv6,
        needs=type.needs,
        account=call.account,
    )
    if wanted is not None:
        demand = wanted.demand(reader, demand)
    hosts = reader.where(Host)
    rooms: Iterable[Room] = map(room_of, hosts)  # mostly the first will do, so the others are not looked at
    if demand.dedicated:
        rooms = list(rooms)
        look_around(rooms, lambda host_id: reader.where(Instance, host_id=host_id))
    fits = fitting(demand, count, rooms)
    if fits < least:
        seen = rooms if isinstance(rooms, list) else [room_of(host) for host in hosts]
        raise NoCapacity(f"{why_nowhere(demand, seen)}. Try fewer or smaller instances, or add a host.")
    return fits


OPERATIONS: Mapping[str, Operation] = {"RunInstances": Operation(RunInstancesRequest, run_instances)}
