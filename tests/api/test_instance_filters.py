"""Goal: DescribeInstances' filters find what its answer shows, and no more. Method: whole calls through the gateway; the value
of each filter is read out of the answer itself."""

from typing import Any

import pytest

from alto.model.instances import Phase
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import IMAGE, host, tiny
from tests.api.test_launches import says


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(host(1, vcpus=8, memory_mib=4096), tiny())


@pytest.fixture
def instance(tenant: Tenant) -> dict[str, Any]:
    """With two interfaces, of different groups, and a profile."""
    (subnet, *_) = tenant("DescribeSubnets")["Subnets"]
    second = tenant("CreateSecurityGroup", GroupName="second", Description="of the second", VpcId=subnet["VpcId"])["GroupId"]
    (made,) = tenant(
        "RunInstances",
        ImageId=IMAGE,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        IamInstanceProfile={"Name": "role"},
        NetworkInterfaces=[
            {"DeviceIndex": 0, "SubnetId": subnet["SubnetId"]},
            {"DeviceIndex": 1, "SubnetId": subnet["SubnetId"], "Groups": [second]},
        ],
    )["Instances"]
    return dict(made)


def found(tenant: Tenant, name: str, value: str) -> bool:
    return bool(tenant("DescribeInstances", Filters=[{"Name": name, "Values": [value]}])["Reservations"])


SHOWN: list[tuple[str, tuple[str | int, ...]]] = [
    ("network-performance-options.bandwidth-weighting", ("NetworkPerformanceOptions", "BandwidthWeighting")),
    ("metadata-options.state", ("MetadataOptions", "State")),
    ("state-reason-code", ("StateReason", "Code")),
    ("state-reason-message", ("StateReason", "Message")),
    ("network-interface.group-name", ("NetworkInterfaces", 1, "Groups", 0, "GroupName")),
]
GIVEN_BACK: list[tuple[str, tuple[str | int, ...]]] = [
    ("block-device-mapping.device-name", ("BlockDeviceMappings", 0, "DeviceName")),
    ("block-device-mapping.status", ("BlockDeviceMappings", 0, "Ebs", "Status")),
    ("block-device-mapping.volume-id", ("BlockDeviceMappings", 0, "Ebs", "VolumeId")),
    ("iam-instance-profile.arn", ("IamInstanceProfile", "Arn")),
    ("instance.group-id", ("SecurityGroups", 0, "GroupId")),
    ("instance.group-name", ("SecurityGroups", 0, "GroupName")),
    ("network-interface.group-id", ("NetworkInterfaces", 1, "Groups", 0, "GroupId")),
    ("network-interface.network-interface-id", ("NetworkInterfaces", 1, "NetworkInterfaceId")),
    ("private-dns-name", ("PrivateDnsName",)),
    ("private-ip-address", ("PrivateIpAddress",)),
    ("subnet-id", ("SubnetId",)),
    ("vpc-id", ("VpcId",)),
]


@pytest.mark.parametrize(("name", "path"), [*SHOWN, *GIVEN_BACK])
def test_what_is_shown_is_found(tenant: Tenant, instance: dict[str, Any], name: str, path: tuple[str | int, ...]) -> None:
    value: Any = instance
    for step in path:
        value = value[step]
    assert found(tenant, name, value)
    assert not found(tenant, name, f"{value} or not")


def test_a_terminated_one_is_not_found_by_what_it_gave_back(cloud: Cloud, tenant: Tenant, instance: dict[str, Any]) -> None:
    says(cloud, instance["InstanceId"], Phase.RUNNING)
    tenant("TerminateInstances", InstanceIds=[instance["InstanceId"]])
    assert found(tenant, "vpc-id", instance["VpcId"])
    says(cloud, instance["InstanceId"], Phase.TERMINATED)
    assert found(tenant, "instance-state-name", "terminated")
    for name, path in GIVEN_BACK:
        value: Any = instance
        for step in path:
            value = value[step]
        assert not found(tenant, name, value), name


def test_nobody_else_keeps_an_instance(tenant: Tenant, instance: dict[str, Any]) -> None:
    assert instance["Operator"] == {"Managed": False}
    assert {each["Operator"]["Managed"] for each in instance["NetworkInterfaces"]} == {False}
    (status,) = tenant("DescribeInstanceStatus", IncludeAllInstances=True)["InstanceStatuses"]
    group = tenant("CreatePlacementGroup", GroupName="near", Strategy="cluster")["PlacementGroup"]
    assert status["Operator"] == group["Operator"] == {"Managed": False}
    assert found(tenant, "operator.managed", "false")
    assert found(tenant, "network-interface.operator.managed", "false")
    assert not found(tenant, "operator.managed", "true")
