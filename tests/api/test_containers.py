"""Goal: what a container's host cannot keep is refused, not promised: volumes beside the root, a root that stays or grows.
Method: whole calls, for an instance of the container image, against simulated hosts, which take every kind."""

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
