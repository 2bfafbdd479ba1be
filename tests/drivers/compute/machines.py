"""Machines to ask a compute driver for."""

from alto.model.instances import Machine, MetadataOptions, Nic, RootVolume, Wish


def machine(number: int = 1, *, incarnation: int = 1, vcpus: int = 1, memory_mib: int = 128, mac: str = "") -> Machine:
    """Machine `number`; the same number is the same machine."""
    return Machine(
        id=f"i-{number:017x}",
        account="000000000000",
        region="us-east-1",
        zone="us-east-1a",
        epoch=1,
        incarnation=incarnation,
        wish=Wish.RUNNING,
        image_id="ami-00000000000000001",
        image_source="tiny",
        instance_type="t3.nano",
        vcpus=vcpus,
        memory_mib=memory_mib,
        root=RootVolume(volume_id=f"vol-{number:017x}", size_gib=1),
        nics=(
            Nic(
                interface_id=f"eni-{number:017x}",
                attachment_id=f"eni-attach-{number:017x}",
                subnet_id="subnet-00000000000000001",
                vpc_id="vpc-00000000000000001",
                mac=mac or f"02:00:00:00:00:{number:02x}",
                private_ip=f"10.77.0.{10 + number}",
                public_ip=None,
                group_ids=(),
            ),
        ),
        hostname=f"ip-10-77-0-{10 + number}.ec2.internal",
        public_key=None,
        key_name=None,
        user_data=None,
        metadata=MetadataOptions(),
        shutdown_behaviour="stop",
        reservation_id="r-00000000000000001",
        launch_index=0,
        launched_at=0.0,
        reboots=0,
    )
