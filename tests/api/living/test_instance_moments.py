"""Goal: who asks for the next step at once, as code that was written against a test double does, finds it possible; and nobody
waits for what is not about to happen. Method: a cloud with its loops and simulated hosts, on true time."""

from collections.abc import Iterator
from typing import Any

import pytest

from alto.api.wire.models import Models
from alto.daemons.server import TINY_IMAGE_ID
from tests.api.cloud import Cloud, Tenant
from tests.api.living.cloud import LivingCloud
from tests.api.rows import IMAGE, host, tiny

PATIENCE_S = 20.0  # far more than any step takes, however loaded the machine: what is awaited comes by itself


@pytest.fixture
def hasty(models: Models) -> Iterator[Tenant]:
    cloud = LivingCloud(models, patience_s=PATIENCE_S)
    yield cloud.operator
    cloud.close()


def launched(tenant: Tenant, **more: Any) -> str:
    wish = {"ImageId": TINY_IMAGE_ID, "MinCount": 1, "MaxCount": 1, "InstanceType": "t2.nano"} | more
    (instance,) = tenant("RunInstances", **wish)["Instances"]
    assert instance["State"]["Name"] == "pending"
    return str(instance["InstanceId"])


def state(tenant: Tenant, id: str) -> str:
    (found,) = tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"]
    return str(found["State"]["Name"])


def test_a_listing_right_after_the_launch_says_running(hasty: Tenant) -> None:
    id = launched(hasty)
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    found = hasty("DescribeInstances", Filters=running)["Reservations"]
    assert [one["InstanceId"] for each in found for one in each["Instances"]] == [id]
    second = launched(hasty)
    statuses = hasty("DescribeInstanceStatus")["InstanceStatuses"]
    assert {one["InstanceId"] for one in statuses} == {id, second}


def test_a_whole_life_without_a_pause(hasty: Tenant) -> None:
    id = launched(hasty)
    (stopping,) = hasty("StopInstances", InstanceIds=[id])["StoppingInstances"]
    assert (stopping["PreviousState"]["Name"], stopping["CurrentState"]["Name"]) == ("running", "stopping")
    hasty("ModifyInstanceAttribute", InstanceId=id, InstanceType={"Value": "t2.micro"})  # only of a stopped one
    (starting,) = hasty("StartInstances", InstanceIds=[id])["StartingInstances"]
    assert (starting["PreviousState"]["Name"], starting["CurrentState"]["Name"]) == ("stopped", "pending")
    hasty("RebootInstances", InstanceIds=[id])
    (ending,) = hasty("TerminateInstances", InstanceIds=[id])["TerminatingInstances"]
    assert (ending["PreviousState"]["Name"], ending["CurrentState"]["Name"]) == ("running", "shutting-down")
    assert state(hasty, id) == "terminated"


def test_a_launch_ends_as_a_running_one_does(hasty: Tenant) -> None:
    (ending,) = hasty("TerminateInstances", InstanceIds=[launched(hasty)])["TerminatingInstances"]
    assert (ending["PreviousState"]["Name"], ending["CurrentState"]["Name"]) == ("running", "shutting-down")


def test_an_interface_that_came_off_can_be_deleted(hasty: Tenant) -> None:
    id = launched(hasty)
    (found,) = hasty("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"]
    interface = hasty("CreateNetworkInterface", SubnetId=found["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
    attachment = hasty("AttachNetworkInterface", NetworkInterfaceId=interface, InstanceId=id, DeviceIndex=1)["AttachmentId"]
    (shown,) = hasty("DescribeNetworkInterfaces", NetworkInterfaceIds=[interface])["NetworkInterfaces"]
    assert shown["Attachment"]["Status"] == "attached"
    hasty("DetachNetworkInterface", AttachmentId=attachment)
    hasty("DeleteNetworkInterface", NetworkInterfaceId=interface)


def test_nobody_waits_longer_than_a_moment_nor_for_anothers(models: Models) -> None:
    """On a clock that only waiting moves, and with a host that never takes what is placed."""
    cloud = Cloud(models, patience_s=1.0)
    tenant, other = cloud.account("tenant"), cloud.account("other")
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(size_gib=2),
    )

    def waited(who: Tenant, operation: str, **parameters: Any) -> float:
        before = cloud.clock.seconds
        who(operation, **parameters)
        return cloud.clock.seconds - before

    assert waited(tenant, "DescribeInstances") == 0
    id = launched(tenant, ImageId=IMAGE)
    assert waited(other, "DescribeInstances") == 0
    assert 1 <= waited(tenant, "DescribeInstances") < 1.1
    # It is of long ago now.
    assert waited(tenant, "DescribeInstances", InstanceIds=[id]) == 0
    assert waited(tenant, "DescribeInstanceStatus") == 0
    cloud.close()
