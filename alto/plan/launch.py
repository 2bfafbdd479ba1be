"""What a launch makes: instances with their interfaces, root volumes and claimed addresses, as records to be written.

Pure: ids come in as hexadecimal digits from chance, whether an address is taken is asked of the caller. The caller writes
all records in one transaction; the store's unique keys and guards are the last word.
"""

from collections.abc import Callable, Iterator

import msgspec

from alto.model.images import ImageDevice
from alto.model.instances import Instance, MetadataOptions, Nic, PlacementWish, RootVolume
from alto.model.networks import AddressPool, Naming, NetworkInterface, PublicAddress, Subnet
from alto.model.records import ID_DIGITS, ID_GAP, Tags
from alto.model.volumes import Attachment, Volume
from alto.plan.addresses import given_out, mac, next_address, own_hostname

# One instance's: its own, its interface's, its root volume's, its attachment's.
IDS_PER_INSTANCE = 4
_DIGITS = IDS_PER_INSTANCE * ID_DIGITS


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One launch, with everything looked up."""

    account: str
    region: str
    reservation_id: str
    count: int
    now: float
    image_id: str
    image_source: str
    instance_type: str
    vcpus: int
    threads_per_core: int | None = None
    memory_mib: int
    root: ImageDevice
    volumes: tuple[ImageDevice, ...] = ()
    storage: str | None = None  # what the volumes need; "": any; None: there is only a root
    subnet: Subnet
    group_ids: tuple[str, ...]
    public: bool
    private_ip: str | None = None
    key_name: str | None = None
    public_key: str | None = None
    user_data: str | None = None
    client_token: str | None = None
    shutdown_behaviour: str = "stop"
    termination_protected: bool = False
    stop_protected: bool = False
    metadata: MetadataOptions = MetadataOptions()
    monitoring: bool = False
    ebs_optimized: bool = False
    credit_specification: str = "standard"
    auto_recovery: str = "default"
    capacity_preference: str = "open"
    ena: bool = True
    sriov: bool = False
    boot_mode: str | None = None
    group_name: str | None = None
    placement: PlacementWish | None = None
    naming: Naming | None = None
    instance_tags: Tags = {}
    volume_tags: Tags = {}
    interface_tags: Tags = {}
    interface_description: str = ""
    interface_deleted: bool = True  # with its instance
    interface: NetworkInterface | None = None  # one that exists already, for the only instance of this launch


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    instances: tuple[Instance, ...]
    interfaces: tuple[NetworkInterface, ...]
    volumes: tuple[Volume, ...]
    addresses: tuple[PublicAddress, ...]
    pools: tuple[AddressPool, ...]


def plan_launch(
    order: Order,
    ids: str,
    private_pool: AddressPool,
    public_pool: AddressPool,
    private_taken: Callable[[str], bool],
    public_taken: Callable[[str], bool],
) -> Launch:
    """Records for `order.count` instances; `ids` has IDS_PER_INSTANCE ids for each, which sort as they were drawn. The
    interfaces are without those claims that `order.interface` has already.

    Raises: NoCapacity: the subnet or the public pool has too few addresses left; nothing is planned then.
    """
    subnet = order.subnet
    if order.private_ip is not None:
        private_pool = msgspec.structs.replace(private_pool, in_turn=False)
    private = _addresses(private_pool, private_taken, order.private_ip)
    public = _addresses(public_pool, public_taken, None)
    private_cursor, public_cursor = private_pool.cursor, public_pool.cursor
    instances, interfaces, volumes, addresses = [], [], [], []
    for index in range(order.count):
        digits = ids[index * _DIGITS : (index + 1) * _DIGITS]
        instance_id, interface_id = "i-" + digits[0:17], "eni-" + digits[17:34]
        volume_id, attachment_id = "vol-" + digits[34:51], "eni-attach-" + digits[51:68]
        own = order.interface
        if own is None:
            private_cursor, private_ip = next(private)
            hardware = mac(interface_id)
            public_ip: str | None = None
            if order.public:
                public_cursor, public_ip = next(public)
                addresses.append(PublicAddress(id=public_ip, account=order.account, region=order.region, owner_id=instance_id))
        else:
            interface_id, hardware, private_ip, public_ip = own.id, own.mac, own.private_ip, own.public_ip
        instances.append(
            Instance(
                id=instance_id,
                account=order.account,
                region=order.region,
                reservation_id=order.reservation_id,
                launch_index=index,
                launched_at=order.now,
                created_at=order.now,
                image_id=order.image_id,
                image_source=order.image_source,
                instance_type=order.instance_type,
                vcpus=order.vcpus,
                threads_per_core=order.threads_per_core,
                memory_mib=order.memory_mib,
                zone=subnet.zone,
                key_name=order.key_name,
                public_key=order.public_key,
                user_data=order.user_data,
                client_token=order.client_token,
                shutdown_behaviour=order.shutdown_behaviour,
                termination_protected=order.termination_protected,
                stop_protected=order.stop_protected,
                metadata=order.metadata,
                nics=(
                    Nic(
                        interface_id=interface_id,
                        attachment_id=attachment_id,
                        subnet_id=subnet.id,
                        vpc_id=subnet.vpc_id,
                        mac=hardware,
                        private_ip=private_ip,
                        public_ip=public_ip,
                        group_ids=order.group_ids,
                        delete_on_termination=order.interface_deleted,
                        description=order.interface_description,
                    )
                    if own is None
                    else nic_of(own, attachment_id),
                ),
                root=RootVolume(
                    volume_id=volume_id,
                    size_gib=order.root.size_gib,
                    device=order.root.device,
                    delete_on_termination=order.root.delete_on_termination,
                    snapshot_id=order.root.snapshot_id,
                    sealed_key=order.root.encryption.sealed_key if order.root.encryption is not None else None,
                ),
                volumes=tuple([_attachment(order, data_volume_id(volume_id, at), one) for at, one in enumerate(order.volumes)])
                if order.volumes
                else (),
                storage=order.storage,
                hostname=own_hostname(instance_id, private_ip, order.region, order.naming),
                naming=order.naming,
                monitoring=order.monitoring,
                ebs_optimized=order.ebs_optimized,
                credit_specification=order.credit_specification,
                auto_recovery=order.auto_recovery,
                capacity_preference=order.capacity_preference,
                ena=order.ena,
                sriov=order.sriov,
                boot_mode=order.boot_mode,
                group_name=order.group_name,
                placement=order.placement,
                tags=order.instance_tags,
            )
        )
        interfaces.append(
            NetworkInterface(
                id=interface_id,
                account=order.account,
                region=order.region,
                vpc_id=subnet.vpc_id,
                subnet_id=subnet.id,
                zone=subnet.zone,
                mac=hardware,
                private_ip=private_ip,
                public_ip=public_ip,
                group_ids=order.group_ids,
                instance_id=instance_id,
                attachment_id=attachment_id,
                attached_at=order.now,
                delete_on_termination=order.interface_deleted,
                description=order.interface_description,
                tags=order.interface_tags,
            )
            if own is None
            else msgspec.structs.replace(
                own, instance_id=instance_id, attachment_id=attachment_id, attached_at=order.now, device_index=0
            )
        )
        volumes.append(_volume(order, instance_id, order.root, volume_id))
        if order.volumes:
            volumes += [_volume(order, instance_id, one, data_volume_id(volume_id, at)) for at, one in enumerate(order.volumes)]
    pools = [given_out(private_pool, private_cursor, order.count)] if order.interface is None else []
    if order.public and order.interface is None:
        pools.append(given_out(public_pool, public_cursor, order.count))
    return Launch(
        instances=tuple(instances),
        interfaces=tuple(interfaces),
        volumes=tuple(volumes),
        addresses=tuple(addresses),
        pools=tuple(pools),
    )


def _volume(order: Order, instance_id: str, device: ImageDevice, volume_id: str) -> Volume:
    return Volume(
        id=volume_id,
        account=order.account,
        region=order.region,
        zone=order.subnet.zone,
        size_gib=device.size_gib,
        type=device.type,
        iops=device.iops,
        throughput=device.throughput,
        created_at=order.now,
        snapshot_id=device.snapshot_id,
        encryption=device.encryption,
        storage=order.storage or None,
        instance_id=instance_id,
        device=device.device,
        attached_at=order.now,
        delete_on_termination=device.delete_on_termination,
        tags=order.volume_tags,
    )


def _attachment(order: Order, volume_id: str, device: ImageDevice) -> Attachment:
    return Attachment(
        volume_id=volume_id,
        device=device.device,
        size_gib=device.size_gib,
        delete_on_termination=device.delete_on_termination,
        attached_at=order.now,
        made_here=True,
        snapshot_id=device.snapshot_id,
        sealed_key=device.encryption.sealed_key if device.encryption is not None else None,
    )


def data_volume_id(root_volume_id: str, at: int) -> str:
    """Behind the root's: how many are needed is known only within the transaction, so none was drawn. `at` begins with 0."""
    assert at + 1 < ID_GAP
    return f"vol-{int(root_volume_id.removeprefix('vol-'), 16) + at + 1:0{ID_DIGITS}x}"


def nic_of(interface: NetworkInterface, attachment_id: str) -> Nic:
    """An interface that there was before, as the first of an instance that does not take it along when it goes."""
    return Nic(
        interface_id=interface.id,
        attachment_id=attachment_id,
        subnet_id=interface.subnet_id,
        vpc_id=interface.vpc_id,
        mac=interface.mac,
        private_ip=interface.private_ip,
        public_ip=interface.public_ip,
        group_ids=interface.group_ids,
        elastic=interface.elastic,
        secondary=interface.secondary,
        ipv6=interface.ipv6,
        source_dest_check=interface.source_dest_check,
        delete_on_termination=False,
        description=interface.description,
    )


def _addresses(pool: AddressPool, taken: Callable[[str], bool], wanted: str | None) -> Iterator[tuple[int, str]]:
    """(cursor, address) for each further instance."""
    if wanted is not None:
        yield pool.cursor, wanted
        return
    cursor = pool.cursor
    given: set[str] = set()
    while True:
        cursor, address = next_address(pool, cursor, lambda address: address in given or taken(address))
        given.add(address)
        yield cursor, address
