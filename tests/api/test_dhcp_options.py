"""Goal: sets of DHCP options behave as the API reference says. Method: whole operations over a store in memory."""

from typing import Any

import pytest

from tests.api.cloud import Tenant

SETTINGS = [
    {"Key": "domain-name", "Values": ["example.com"]},
    {"Key": "domain-name-servers", "Values": ["10.0.10.2", "AmazonProvidedDNS"]},
]


def test_each_region_begins_with_amazons_own(tenant: Tenant) -> None:
    def domain(of: Tenant) -> dict[str, list[str]]:
        (options,) = of("DescribeDhcpOptions")["DhcpOptions"]
        return {each["Key"]: [value["Value"] for value in each["Values"]] for each in options["DhcpConfigurations"]}

    assert domain(tenant) == {"domain-name": ["ec2.internal"], "domain-name-servers": ["AmazonProvidedDNS"]}
    assert domain(tenant.in_region("eu-central-1"))["domain-name"] == ["eu-central-1.compute.internal"]


def test_the_life_of_a_set(tenant: Tenant) -> None:
    made = tenant("CreateDhcpOptions", DhcpConfigurations=SETTINGS)["DhcpOptions"]
    id = made["DhcpOptionsId"]
    assert made["DhcpConfigurations"][1]["Values"] == [{"Value": "10.0.10.2"}, {"Value": "AmazonProvidedDNS"}]
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    tenant("AssociateDhcpOptions", DhcpOptionsId=id, VpcId=vpc)
    (found,) = tenant("DescribeVpcs", Filters=[{"Name": "dhcp-options-id", "Values": [id]}])["Vpcs"]
    assert found["VpcId"] == vpc
    assert tenant.refused("DeleteDhcpOptions", DhcpOptionsId=id) == "DependencyViolation"
    tenant("AssociateDhcpOptions", DhcpOptionsId="default", VpcId=vpc)
    assert tenant("DescribeVpcs", VpcIds=[vpc])["Vpcs"][0]["DhcpOptionsId"] == "default"
    tenant("DeleteDhcpOptions", DhcpOptionsId=id)
    assert tenant.refused("DeleteDhcpOptions", DhcpOptionsId=id) == "InvalidDhcpOptionsID.NotFound"
    assert tenant.refused("DescribeDhcpOptions", DhcpOptionsIds=["foo-1234abcd"]) == "InvalidDhcpOptionID.NotFound"
    slip = tenant.refusal("DeleteDhcpOptions", DhcpOptionsId="foo-1234abcd")
    assert slip == 'InvalidDhcpOptionsId.Malformed: Invalid id: "foo-1234abcd" (expecting "dopt-...")'


def test_several_addresses(tenant: Tenant) -> None:
    times = [f"10.0.0.{n}" for n in range(4)] + [f"fd00::{n}" for n in range(4)]
    asked = [
        {"Key": "domain-name-servers", "Values": ["10.0.0.2, 10.0.0.3", "10.0.0.4"]},
        {"Key": "ntp-servers", "Values": times},
    ]
    servers, ntp = tenant("CreateDhcpOptions", DhcpConfigurations=asked)["DhcpOptions"]["DhcpConfigurations"]
    assert [each["Value"] for each in servers["Values"]] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    assert [each["Value"] for each in ntp["Values"]] == times


def test_choosing_sets(tenant: Tenant) -> None:
    id = tenant("CreateDhcpOptions", DhcpConfigurations=SETTINGS)["DhcpOptions"]["DhcpOptionsId"]

    def chosen(name: str, value: str) -> list[str]:
        found = tenant("DescribeDhcpOptions", Filters=[{"Name": name, "Values": [value]}])["DhcpOptions"]
        return [each["DhcpOptionsId"] for each in found]

    assert chosen("value", "example.com") == [id]
    assert chosen("value", "10.*") == [id]
    assert len(chosen("key", "domain-name")) == 2
    assert chosen("key", "ntp-servers") == []


@pytest.mark.parametrize(
    "settings",
    [
        [{"Key": "no-such-option", "Values": ["1"]}],
        [{"Key": "domain-name", "Values": []}],
        [{"Key": "domain-name", "Values": ["a.example", "b.example"]}],
        [{"Key": "domain-name", "Values": ["a\nb"]}],
        [{"Key": "netbios-node-type", "Values": ["0"]}],
        [{"Key": "ntp-servers", "Values": ["not an address"]}],
        [{"Key": "ntp-servers", "Values": [f"10.0.0.{n}" for n in range(5)]}],
        [{"Key": "domain-name-servers", "Values": ["f.example"]}],
        [{"Key": "domain-name-servers", "Values": ["10.0.0.2,"]}],
        [{"Key": "domain-name-servers", "Values": ["10.0.0.1,10.0.0.2", "10.0.0.3,10.0.0.4", "10.0.0.5"]}],
    ],
)
def test_what_no_guest_could_be_told(tenant: Tenant, settings: list[dict[str, Any]]) -> None:
    assert tenant.refused("CreateDhcpOptions", DhcpConfigurations=settings) == "InvalidParameterValue"
    assert len(tenant("DescribeDhcpOptions")["DhcpOptions"]) == 1
