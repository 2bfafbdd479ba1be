"""What a tenant has in a living cloud: made, and waited for; and how the API shows it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from alto.daemons.server import TINY_IMAGE_ID
from tests.api.cloud import Tenant

WAIT_S = 30.0
ZONE = "us-east-1a"


def until(tenant: Tenant, true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < give_up_at
        tenant.cloud.runner.run(asyncio.sleep(0.02))


def state(tenant: Tenant, id: str) -> str:
    return str(volume(tenant, id)["State"])


def volume(tenant: Tenant, id: str) -> dict[str, Any]:
    (found,) = tenant("DescribeVolumes", VolumeIds=[id])["Volumes"]
    return dict(found)


def made(tenant: Tenant, **parameters: Any) -> str:
    id: str = tenant("CreateVolume", AvailabilityZone=ZONE, **({"Size": 8} | parameters))["VolumeId"]
    until(tenant, lambda: state(tenant, id) == "available")
    return id


def launched(tenant: Tenant, zone: str = ZONE, **parameters: Any) -> str:
    wish = {"ImageId": TINY_IMAGE_ID, "MinCount": 1, "MaxCount": 1, "InstanceType": "t2.nano"} | parameters
    (instance,) = tenant("RunInstances", Placement={"AvailabilityZone": zone}, **wish)["Instances"]
    until(tenant, lambda: instance_of(tenant, instance["InstanceId"])["State"]["Name"] == "running")
    return str(instance["InstanceId"])


def instance_of(tenant: Tenant, id: str) -> dict[str, Any]:
    (reservation,) = tenant("DescribeInstances", InstanceIds=[id])["Reservations"]
    return dict(reservation["Instances"][0])


def copied(tenant: Tenant, volume_id: str, **parameters: Any) -> str:
    id: str = tenant("CreateSnapshot", VolumeId=volume_id, **parameters)["SnapshotId"]
    until(tenant, lambda: tenant("DescribeSnapshots", SnapshotIds=[id])["Snapshots"][0]["State"] == "completed")
    return id


def image(tenant: Tenant, id: str) -> dict[str, Any]:
    (found,) = tenant("DescribeImages", ImageIds=[id])["Images"]
    return dict(found)


def imaged(tenant: Tenant, instance: str, **parameters: Any) -> str:
    id: str = tenant("CreateImage", InstanceId=instance, **({"Name": "mine"} | parameters))["ImageId"]
    until(tenant, lambda: image(tenant, id)["State"] == "available")
    return id


def disks(tenant: Tenant, instance: str) -> dict[str, dict[str, Any]]:
    """By device: the volume."""
    mappings = instance_of(tenant, instance)["BlockDeviceMappings"]
    return {each["DeviceName"]: volume(tenant, each["Ebs"]["VolumeId"]) for each in mappings}
