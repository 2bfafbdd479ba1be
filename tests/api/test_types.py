"""Goal: DescribeInstanceTypes tells the catalogue as Amazon tells its own. Method: whole calls; numbers from the user guide."""

from typing import Any

import pytest

from tests.api.cloud import Tenant


def names(tenant: Tenant, **parameters: Any) -> list[str]:
    return [found["InstanceType"] for found in tenant("DescribeInstanceTypes", **parameters)["InstanceTypes"]]


def test_one_type_has_what_terraform_reads(tenant: Tenant) -> None:
    (found,) = tenant("DescribeInstanceTypes", InstanceTypes=["t3.micro"])["InstanceTypes"]
    assert found["VCpuInfo"]["DefaultVCpus"] == 2
    assert found["VCpuInfo"]["DefaultCores"] == 1
    assert found["MemoryInfo"]["SizeInMiB"] == 1024
    assert found["BurstablePerformanceSupported"] is True
    assert found["Hypervisor"] == "nitro"
    assert found["InstanceStorageSupported"] is False
    assert found["NetworkInfo"]["MaximumNetworkInterfaces"] == 2
    assert found["PlacementGroupInfo"]["SupportedStrategies"] == ["cluster", "spread", "partition"]


def test_unknown_types_are_named(tenant: Tenant) -> None:
    assert tenant.refusal("DescribeInstanceTypes", InstanceTypes=["t3.micro", "t3.mcro", "m1.hug"]) == (
        "InvalidInstanceType: The following supplied instance types do not exist: [t3.mcro, m1.hug]"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("instance-type", "t2.*", {"t2.nano", "t2.micro", "t2.small", "t2.medium", "t2.large", "t2.xlarge", "t2.2xlarge"}),
        ("memory-info.size-in-mib", "627", {"t1.micro"}),
        ("vcpu-info.default-vcpus", "16", {"m4.4xlarge", "c5.4xlarge", "r7i.4xlarge"}),
        ("processor-info.sustained-clock-speed-in-ghz", "2.9", {"c4.large", "c4.xlarge", "c4.2xlarge", "c4.4xlarge"}),
        ("free-tier-eligible", "true", {"t3.micro", "t3.small"}),
        ("bare-metal", "true", set()),
        ("supported-usage-class", "spot", set()),
        ("instance-storage-supported", "true", set()),
    ],
)
def test_filters_are_paths_of_the_answer(tenant: Tenant, name: str, value: str, expected: set[str]) -> None:
    found = set(names(tenant, Filters=[{"Name": name, "Values": [value]}]))
    if name == "vcpu-info.default-vcpus":
        assert expected <= found
        assert all(each.endswith(".4xlarge") for each in found)
    else:
        assert found == expected


def test_pages(tenant: Tenant) -> None:
    seen: list[str] = []
    token: dict[str, str] = {}
    for _ in range(40):
        page = tenant("DescribeInstanceTypes", MaxResults=7, **token)
        seen += [found["InstanceType"] for found in page["InstanceTypes"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert len(seen) == len(set(seen)) > 60
    assert set(seen) == set(names(tenant))
    assert tenant.refused("DescribeInstanceTypes", MaxResults=101) == "InvalidParameterValue"
    assert tenant.refused("DescribeInstanceTypes", MaxResults=5, NextToken="x") == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("kind", "locations"),
    [
        ("region", {"us-east-1"}),
        ("availability-zone", {f"us-east-1{letter}" for letter in "abcdef"}),
        ("availability-zone-id", {f"use1-az{number}" for number in range(1, 7)}),
        ("outpost", set()),
    ],
)
def test_every_type_is_offered_everywhere(tenant: Tenant, kind: str, locations: set[str]) -> None:
    filters = [{"Name": "instance-type", "Values": ["m1.small"]}]
    found = tenant("DescribeInstanceTypeOfferings", LocationType=kind, Filters=filters)["InstanceTypeOfferings"]
    assert {each["Location"] for each in found} == locations
    assert {each["LocationType"] for each in found} <= {kind}


def test_the_default_location_is_the_region(tenant: Tenant) -> None:
    filters = [{"Name": "location", "Values": ["us-east-1"]}, {"Name": "instance-type", "Values": ["t3.micro"]}]
    (found,) = tenant("DescribeInstanceTypeOfferings", Filters=filters)["InstanceTypeOfferings"]
    assert found == {"InstanceType": "t3.micro", "LocationType": "region", "Location": "us-east-1"}
