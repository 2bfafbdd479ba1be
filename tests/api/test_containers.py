"""Goal: what a container's host cannot keep is refused, not promised: volumes beside the root, a root that stays or grows.
Method: whole calls, for an instance of the container image, against simulated hosts, which take every kind."""

import asyncio
from collections.abc import Iterator

import pytest

from alto.api.wire.models import Models
from alto.daemons.server import CONTAINER_IMAGE_ID, first_start
from tests.api.cloud import Tenant
from tests.api.living import LivingCloud


@pytest.fixture
def tenant(models: Models) -> Iterator[Tenant]:
    cloud = LivingCloud(models)
    cloud.runner.run(first_start(cloud.world, cloud.store, cloud.settings, containers=True))
    yield cloud.account("containers")
    cloud.close()


def test_root_goes_with_its_container(tenant: Tenant) -> None:
    launch = {"ImageId": CONTAINER_IMAGE_ID, "MinCount": 1, "MaxCount": 1, "InstanceType": "m1.tiny"}
    kept = {"DeviceName": "/dev/sda1", "Ebs": {"DeleteOnTermination": False}}
    further = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}
    for mapping in (kept, further):
        assert tenant.refused("RunInstances", **launch, BlockDeviceMappings=[mapping]) == "UnsupportedOperation"
    assert tenant("DescribeInstances")["Reservations"] == []

    (instance,) = tenant("RunInstances", **launch)["Instances"]
    id = instance["InstanceId"]
    assert tenant.refused("ModifyInstanceAttribute", InstanceId=id, BlockDeviceMappings=[kept]) == "UnsupportedOperation"
    (root,) = tenant("DescribeVolumes", Filters=[{"Name": "attachment.instance-id", "Values": [id]}])["Volumes"]
    assert tenant.refused("ModifyVolume", VolumeId=root["VolumeId"], Size=root["Size"] + 1) == "UnsupportedOperation"
    (after,) = tenant("DescribeVolumes", VolumeIds=[root["VolumeId"]])["Volumes"]
    assert (after["Size"], after["Attachments"][0]["DeleteOnTermination"]) == (root["Size"], True)


def test_root_of_a_container_is_not_copied(tenant: Tenant) -> None:
    launch = {"ImageId": CONTAINER_IMAGE_ID, "MinCount": 1, "MaxCount": 1, "InstanceType": "m1.tiny"}
    (instance,) = tenant("RunInstances", **launch)["Instances"]
    id = instance["InstanceId"]
    wait_until_running(tenant, id)
    (root,) = tenant("DescribeVolumes", Filters=[{"Name": "attachment.instance-id", "Values": [id]}])["Volumes"]
    said = tenant.refusal("CreateSnapshot", VolumeId=root["VolumeId"])
    assert said.startswith("UnsupportedOperation: ")
    assert f"{id} is a container" in said
    assert tenant.refused("CreateSnapshots", InstanceSpecification={"InstanceId": id}) == "UnsupportedOperation"
    assert tenant.refused("CreateImage", InstanceId=id, Name="copy") == "UnsupportedOperation"
    assert tenant("DescribeSnapshots", OwnerIds=["self"])["Snapshots"] == []
    assert tenant("DescribeImages", Owners=["self"])["Images"] == []


def wait_until_running(tenant: Tenant, id: str) -> None:
    async def turn() -> None:
        await asyncio.sleep(0.01)

    for _ in range(3000):
        (found,) = tenant("DescribeInstances", InstanceIds=[id])["Reservations"]
        if found["Instances"][0]["State"]["Name"] == "running":
            return
        tenant.cloud.runner.run(turn())
    raise AssertionError(f"{id} does not run")
