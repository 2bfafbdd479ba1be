"""Goal: a dry run says what the request itself would meet, and changes nothing. Method: whole calls through the gateway; each
request is asked twice, with DryRun and in earnest, and the rows are counted between."""

from typing import Any

import pytest

from alto.model.instances import Instance
from alto.model.networks import NetworkInterface, PublicAddress, Vpc
from alto.model.volumes import Volume
from tests.api.cloud import Answered, Cloud, Tenant
from tests.api.rows import IMAGE, host, tiny

NOBODY = "i-0123456789abcdef0"
ONE = {"ImageId": IMAGE, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(host(1, vcpus=8, memory_mib=1024), tiny())


def rows(cloud: Cloud) -> tuple[int, ...]:
    kinds = (Instance, NetworkInterface, Volume, PublicAddress, Vpc)
    return cloud.store.read(lambda reader: tuple(len(reader.where(kind)) for kind in kinds))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("RunInstances", {**ONE, "ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
    ("RunInstances", {**ONE, "KeyName": "none"}, "InvalidKeyPair.NotFound"),
    ("RunInstances", {**ONE, "MinCount": 100, "MaxCount": 100}, "InsufficientInstanceCapacity"),
    ("StartInstances", {"InstanceIds": [NOBODY]}, "InvalidInstanceID.NotFound"),
    ("TerminateInstances", {"InstanceIds": [NOBODY]}, "InvalidInstanceID.NotFound"),
    ("ModifyInstanceMetadataOptions", {"InstanceId": NOBODY, "HttpTokens": "required"}, "InvalidInstanceID.NotFound"),
    ("DescribeInstances", {"InstanceIds": [NOBODY]}, "InvalidInstanceID.NotFound"),
    ("DescribeInstances", {"Filters": [{"Name": "odd", "Values": ["1"]}]}, "InvalidParameterValue"),
    ("CreateVpc", {"CidrBlock": "10.0.0.0/8"}, "InvalidVpc.Range"),
    ("DeleteVolume", {"VolumeId": "vol-0123456789abcdef0"}, "InvalidVolume.NotFound"),
]


@pytest.mark.parametrize(("operation", "parameters", "code"), REFUSED)
def test_what_would_be_refused_is_refused(tenant: Tenant, operation: str, parameters: dict[str, Any], code: str) -> None:
    assert tenant.refused(operation, **parameters, DryRun=True) == code
    assert tenant.refused(operation, **parameters) == code


SUCCEEDS: list[tuple[str, dict[str, Any]]] = [
    ("RunInstances", {**ONE, "MaxCount": 2, "ClientToken": "once"}),
    ("CreateVpc", {"CidrBlock": "10.0.0.0/16"}),
    ("CreateKeyPair", {"KeyName": "key", "KeyType": "ed25519"}),
    ("AllocateAddress", {}),
    ("DescribeInstances", {}),
]


@pytest.mark.parametrize(("operation", "parameters"), SUCCEEDS)
def test_what_would_succeed_leaves_nothing(cloud: Cloud, tenant: Tenant, operation: str, parameters: dict[str, Any]) -> None:
    tenant("DescribeVpcs")  # a region's first request makes its default VPC
    before = rows(cloud)
    for _ in range(2):
        with pytest.raises(Answered) as answer:
            tenant(operation, **parameters, DryRun=True)
        assert (answer.value.status, answer.value.code) == (412, "DryRunOperation")
    assert rows(cloud) == before
    tenant(operation, **parameters)


def test_protection_is_met_by_a_dry_run(tenant: Tenant) -> None:
    ids = [tenant("RunInstances", **ONE, DisableApiTermination=wish)["Instances"][0]["InstanceId"] for wish in (True, False)]
    assert tenant.refused("TerminateInstances", InstanceIds=ids[:1], DryRun=True) == "OperationNotPermitted"
    assert tenant.refused("TerminateInstances", InstanceIds=ids[1:], DryRun=True) == "DryRunOperation"
    found = tenant("DescribeInstances", InstanceIds=ids)["Reservations"]
    assert {one["State"]["Name"] for each in found for one in each["Instances"]} == {"pending"}
