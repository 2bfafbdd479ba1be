"""Goal: what a container's host cannot keep is refused, not promised: volumes beside the root, a root that stays or grows.
Method: whole calls, for an instance of the container image, against simulated hosts, which take every kind."""

import pytest

from alto.daemons.server import CONTAINER_IMAGE_ID, first_start
from tests.api.cloud import Tenant
from tests.api.living.cloud import LivingCloud
from tests.api.living.things import instance_of, until


@pytest.fixture(autouse=True)
def container_image(cloud: LivingCloud) -> None:
    cloud.runner.run(first_start(cloud.world, cloud.store, cloud.settings, containers=True))


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
    until(tenant, lambda: instance_of(tenant, id)["State"]["Name"] == "running")
    (root,) = tenant("DescribeVolumes", Filters=[{"Name": "attachment.instance-id", "Values": [id]}])["Volumes"]
    said = tenant.refusal("CreateSnapshot", VolumeId=root["VolumeId"])
    assert said.startswith("UnsupportedOperation: ")
    assert f"{id} is a container" in said
    assert tenant.refused("CreateSnapshots", InstanceSpecification={"InstanceId": id}) == "UnsupportedOperation"
    assert tenant.refused("CreateImage", InstanceId=id, Name="copy") == "UnsupportedOperation"
    assert tenant("DescribeSnapshots", OwnerIds=["self"])["Snapshots"] == []
    assert tenant("DescribeImages", Owners=["self"])["Images"] == []
