"""Goal: RunInstances and the wishes after it behave as EC2's reference says, refusals included, and a refused request leaves
nothing behind. Method: whole calls through the gateway; no agent runs, so what is launched stays pending until a test says
what its host reports."""

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.images import Image
from alto.model.instances import Instance, Phase, Report
from alto.model.networks import AddressPool, NetworkInterface, PublicAddress, Volume
from alto.plan.instances import accept
from tests.api.cloud import NOW, Cloud, Tenant
from tests.api.test_regions import host

IMAGE = "ami-0a170000000000001"
ONE = {"ImageId": IMAGE, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(
        host(1, vcpus=8, memory_mib=1024),
        Image(id=IMAGE, account="0", region=None, name="tiny", public=True, source="tiny", size_gib=1, created_at=NOW),
    )


def launch(tenant: Tenant, **more: Any) -> list[dict[str, Any]]:
    return list(tenant("RunInstances", **{**ONE, **more})["Instances"])


def says(cloud: Cloud, id: str, phase: Phase) -> None:
    """The host reports; the placement is made up here."""
    instance = cloud.store.read(lambda reader: reader.get(Instance, id))
    placed = instance if instance.host_id else replace(instance, host_id="h-1", epoch=1, phase=Phase.PLACED)
    report = Report(instance_id=id, epoch=placed.epoch, incarnation=placed.incarnation, phase=phase, at=NOW)
    after = accept(placed, report)
    assert after is not None
    cloud.put(after)


def state(tenant: Tenant, id: str) -> str:
    found = tenant("DescribeInstances", InstanceIds=[id])["Reservations"]
    return str(found[0]["Instances"][0]["State"]["Name"])


def rows(cloud: Cloud) -> tuple[int, ...]:
    kinds = (Instance, NetworkInterface, Volume, PublicAddress)
    return cloud.store.read(
        lambda reader: (*(len(reader.where(kind)) for kind in kinds), sum(pool.used for pool in reader.where(AddressPool)))
    )


def test_a_launch_answers_pending_with_addresses_and_indexes(tenant: Tenant) -> None:
    instances = launch(tenant, MaxCount=3, MinCount=3)
    assert [one["State"] for one in instances] == [{"Code": 0, "Name": "pending"}] * 3
    assert [one["AmiLaunchIndex"] for one in instances] == [0, 1, 2]
    assert len({one["PrivateIpAddress"] for one in instances} | {one["PublicIpAddress"] for one in instances}) == 6


def test_the_same_token_answers_the_same_and_other_parameters_are_refused(cloud: Cloud, tenant: Tenant) -> None:
    first = launch(tenant, ClientToken="t-1")
    before = rows(cloud)
    says(cloud, first[0]["InstanceId"], Phase.RUNNING)
    again = launch(tenant, ClientToken="t-1")
    assert again[0]["InstanceId"] == first[0]["InstanceId"]
    assert again[0]["State"]["Name"] == "running", "in its present state"
    assert rows(cloud) == before
    assert (
        tenant.refused("RunInstances", **{**ONE, "InstanceType": "t3.nano"}, ClientToken="t-1") == "IdempotentParameterMismatch"
    )
    tenant("TerminateInstances", InstanceIds=[first[0]["InstanceId"]])
    says(cloud, first[0]["InstanceId"], Phase.TERMINATED)
    assert tenant.refused("RunInstances", **ONE, ClientToken="t-1") == "IdempotentInstanceTerminated"
    assert launch(tenant, ClientToken="t-2")[0]["InstanceId"] != first[0]["InstanceId"]


BIG = base64.b64encode(b"x" * (16 * 1024 + 1)).decode()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "tiny"}, "InvalidAMIID.Malformed"),
        ({"InstanceType": "m9.huge"}, "InvalidParameterValue"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroups": ["nobody"]}, "InvalidGroup.NotFound"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"Placement": {"AvailabilityZone": "us-east-1q"}}, "InvalidParameterValue"),
        ({"Placement": {"Tenancy": "dedicated"}}, "UnsupportedOperation"),
        ({"UserData": "not base64!"}, "InvalidUserData.Malformed"),
        ({"UserData": BIG}, "InvalidParameterValue"),
        ({"MinCount": 2}, "InvalidParameterValue"),
        ({"MinCount": 0, "MaxCount": 0}, "InvalidParameterValue"),
        ({"InstanceInitiatedShutdownBehavior": "explode"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "172.31.0.1"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "10.0.0.9"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "172.31.0.9", "MinCount": 2, "MaxCount": 2}, "InvalidParameterCombination"),
        ({"ClientToken": "x" * 65}, "InvalidParameterValue"),
        ({"InstanceType": "t3.2xlarge"}, "InsufficientInstanceCapacity"),
        ({"MinCount": 9, "MaxCount": 9}, "InsufficientInstanceCapacity"),
        ({"IamInstanceProfile": {"Name": "role"}}, "UnsupportedOperation"),
        ({"HibernationOptions": {"Configured": True}}, "UnsupportedOperation"),
        ({"MetadataOptions": {"HttpPutResponseHopLimit": 65}}, "InvalidParameterValue"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]}, "UnsupportedOperation"),
        ({"TagSpecifications": [{"ResourceType": "vpc", "Tags": [{"Key": "a", "Value": "b"}]}]}, "InvalidParameterValue"),
        (
            {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:a", "Value": "b"}]}]},
            "InvalidParameterValue",
        ),
    ],
)
def test_what_ec2_refuses_is_refused_with_its_code_and_leaves_nothing(
    cloud: Cloud, tenant: Tenant, more: dict[str, Any], code: str
) -> None:
    tenant("DescribeVpcs")  # the region has begun
    before = rows(cloud)
    assert tenant.refused("RunInstances", **{**ONE, **more}) == code
    assert rows(cloud) == before


def test_a_chosen_address_is_given_once(cloud: Cloud, tenant: Tenant) -> None:
    assert launch(tenant, PrivateIpAddress="172.31.0.9")[0]["PrivateIpAddress"] == "172.31.0.9"
    before = rows(cloud)
    assert tenant.refused("RunInstances", **ONE, PrivateIpAddress="172.31.0.9") == "InvalidIPAddress.InUse"
    assert rows(cloud) == before


def test_as_many_are_launched_as_fit_when_fewer_will_do(tenant: Tenant) -> None:
    assert len(launch(tenant, MinCount=2, MaxCount=20)) == 8


def test_every_wish_asks_for_the_state_that_ec2_asks_for(cloud: Cloud, tenant: Tenant) -> None:
    id = launch(tenant)[0]["InstanceId"]
    for action in ("StopInstances", "RebootInstances"):
        assert tenant.refused(action, InstanceIds=[id]) == "IncorrectInstanceState", "it is pending"
    says(cloud, id, Phase.RUNNING)
    change = tenant("StopInstances", InstanceIds=[id])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    assert tenant.refused("StartInstances", InstanceIds=[id]) == "IncorrectInstanceState", "it is stopping"
    says(cloud, id, Phase.STOPPED)
    assert state(tenant, id) == "stopped"
    started = tenant("StartInstances", InstanceIds=[id])["StartingInstances"][0]
    assert (started["PreviousState"]["Name"], started["CurrentState"]["Name"]) == ("stopped", "pending")
    tenant("TerminateInstances", InstanceIds=[id])
    assert state(tenant, id) == "shutting-down"
    assert tenant.refused("StartInstances", InstanceIds=[id]) == "IncorrectInstanceState"


def test_all_or_none_of_the_instances_named_are_changed(cloud: Cloud, tenant: Tenant) -> None:
    one, other = (launch(tenant)[0]["InstanceId"] for _ in range(2))
    says(cloud, one, Phase.RUNNING)
    assert tenant.refused("StopInstances", InstanceIds=[one, other]) == "IncorrectInstanceState"
    assert state(tenant, one) == "running"
    unknown = "i-0123456789abcdef0"
    assert tenant.refused("TerminateInstances", InstanceIds=[one, unknown]) == "InvalidInstanceID.NotFound"
    assert state(tenant, one) == "running"


def test_what_was_never_given_to_a_host_is_gone_at_once_with_all_it_held(cloud: Cloud, tenant: Tenant) -> None:
    tenant("DescribeVpcs")
    before = rows(cloud)[1:]
    id = launch(tenant)[0]["InstanceId"]
    change = tenant("TerminateInstances", InstanceIds=[id])["TerminatingInstances"][0]
    assert change["CurrentState"]["Name"] == "terminated"
    assert rows(cloud)[1:] == before


def test_protection_holds_until_it_is_taken_away(cloud: Cloud, tenant: Tenant) -> None:
    id = launch(tenant, DisableApiTermination=True, DisableApiStop=True)[0]["InstanceId"]
    says(cloud, id, Phase.RUNNING)
    assert tenant.refused("TerminateInstances", InstanceIds=[id]) == "OperationNotPermitted"
    assert tenant.refused("StopInstances", InstanceIds=[id]) == "OperationNotPermitted"
    tenant("ModifyInstanceAttribute", InstanceId=id, DisableApiTermination={"Value": False})
    tenant("ModifyInstanceAttribute", InstanceId=id, DisableApiStop={"Value": False})
    tenant("StopInstances", InstanceIds=[id])
    assert state(tenant, id) == "stopping"


def test_user_data_comes_back_as_it_was_given_and_changes_only_while_stopped(cloud: Cloud, tenant: Tenant) -> None:
    text = base64.b64encode(b"#!/bin/sh\necho hello\n").decode()
    id = launch(tenant, UserData=text)[0]["InstanceId"]

    def user_data() -> Any:
        return tenant("DescribeInstanceAttribute", InstanceId=id, Attribute="userData")["UserData"].get("Value")

    assert user_data() == text
    says(cloud, id, Phase.RUNNING)
    new = {"InstanceId": id, "UserData": {"Value": b"#!/bin/sh\ntrue\n"}}
    assert tenant.refused("ModifyInstanceAttribute", **new) == "IncorrectInstanceState"
    tenant("StopInstances", InstanceIds=[id])
    says(cloud, id, Phase.STOPPED)
    tenant("ModifyInstanceAttribute", **new)
    assert base64.b64decode(user_data()) == b"#!/bin/sh\ntrue\n"
    tenant("ModifyInstanceAttribute", InstanceId=id, InstanceType={"Value": "t3.nano"})
    shown = tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0]
    assert shown["InstanceType"] == "t3.nano"
