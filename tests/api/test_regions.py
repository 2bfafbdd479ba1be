"""Goal: regions, zones and their room are told as EC2 tells them, and exactly.
Method: whole operations over a store in memory."""

import pytest
from msgspec.structs import replace

from tests.api.cloud import REGIONS, Cloud, Tenant
from tests.api.rows import host


def test_every_region_of_the_cloud_is_listed_with_a_bare_host_name(tenant: Tenant) -> None:
    regions = tenant("DescribeRegions")["Regions"]
    assert [region["RegionName"] for region in regions] == list(REGIONS)
    assert regions[0]["Endpoint"] == "ec2.us-east-1.amazonaws.com"  # no scheme: clients put their own before it


def test_regions_are_chosen_by_name_and_filter(tenant: Tenant) -> None:
    assert len(tenant("DescribeRegions", RegionNames=["eu-central-1"], AllRegions=True)["Regions"]) == 1
    by_filter = tenant("DescribeRegions", Filters=[{"Name": "endpoint", "Values": ["*eu-*"]}])["Regions"]
    assert [region["RegionName"] for region in by_filter] == ["eu-central-1"]
    assert tenant.refused("DescribeRegions", RegionNames=["mars-1"]) == "InvalidParameterValue"
    assert tenant.refused("DescribeRegions", Filters=[{"Name": "colour", "Values": ["red"]}]) == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("region", "count", "zone", "id"),
    # As many as Amazon has there, called as its own.
    [("us-east-1", 6, "us-east-1a", "use1-az1"), ("eu-central-1", 3, "eu-central-1c", "euc1-az3")],
)
def test_zones_have_amazons_names(tenant: Tenant, region: str, count: int, zone: str, id: str) -> None:
    zones = tenant.in_region(region)("DescribeAvailabilityZones")["AvailabilityZones"]
    assert len(zones) == count
    assert id in {each["ZoneId"] for each in zones if each["ZoneName"] == zone}
    assert {(each["State"], each["RegionName"]) for each in zones} == {("available", region)}


def test_zones_are_chosen_by_name_id_and_filter(tenant: Tenant) -> None:
    def names(**parameters: object) -> list[str]:
        return [zone["ZoneName"] for zone in tenant("DescribeAvailabilityZones", **parameters)["AvailabilityZones"]]

    assert names(ZoneNames=["us-east-1b"]) == ["us-east-1b"]
    assert names(ZoneIds=["use1-az3"]) == ["us-east-1c"]
    assert names(Filters=[{"Name": "zone-name", "Values": ["*-1a", "*-1c"]}]) == ["us-east-1a", "us-east-1c"]
    assert tenant.refused("DescribeAvailabilityZones", ZoneNames=["us-east-1z"]) == "InvalidParameterValue"


def test_a_cloud_without_a_host_says_so(cloud: Cloud, tenant: Tenant) -> None:
    zone = tenant("DescribeAvailabilityZones")["AvailabilityZones"][0]
    assert "no host" in zone["Messages"][0]["Message"]
    cloud.put(host(1))
    assert tenant("DescribeAvailabilityZones")["AvailabilityZones"][0]["Messages"] == []


def verbose(tenant: Tenant) -> dict[str, list[int]]:
    """{"m1.small": [free, max, cpu, ram, disk]}, read as a person reads the columns."""
    zones = tenant("DescribeAvailabilityZones", ZoneNames=["verbose"])["AvailabilityZones"]
    rows = {zone["ZoneName"]: zone["State"] for zone in zones}
    assert rows.pop("|- vm types").split() == ["free", "/", "max", "cpu", "ram", "disk"]
    return {
        name.removeprefix("|- "): [int(word) for word in state.replace("/", " ").split()]
        for name, state in rows.items()
        if name.startswith("|- ")
    }


def test_the_verbose_listing_counts_what_fits(cloud: Cloud, tenant: Tenant) -> None:
    # Two hosts of 8 vCPUs and 8192 MiB: 4 m1.small (1740 MiB) and one m1.large (2 vCPUs, 7680 MiB) on each, nothing larger.
    cloud.put(host(1), host(2), replace(host(3), draining=True))
    rows = verbose(tenant)
    assert rows["m1.small"] == [8, 8, 1, 1740, 160]
    assert rows["m1.large"] == [2, 2, 2, 7680, 840]
    assert rows["m1.xlarge"][:2] == [0, 0]
    assert rows["m1.tiny"][:2] == [16, 16]  # 8 vCPUs on each are the limit, not memory


def test_account_attributes_name_the_default_vpc(tenant: Tenant) -> None:
    vpc = tenant("DescribeVpcs")["Vpcs"][0]["VpcId"]
    attributes = tenant("DescribeAccountAttributes", AttributeNames=["default-vpc", "supported-platforms"])["AccountAttributes"]
    values = {each["AttributeName"]: [value["AttributeValue"] for value in each["AttributeValues"]] for each in attributes}
    assert values == {"default-vpc": [vpc], "supported-platforms": ["VPC"]}
    assert tenant.refused("DescribeAccountAttributes", AttributeNames=["favourite-colour"]) == "InvalidParameterValue"
