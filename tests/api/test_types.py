"""Goal: DescribeInstanceTypes tells the catalogue as Amazon tells its own. Method: whole calls; numbers from the user guide."""

from typing import Any

import pytest

from alto.model.gpus import GPUS
from alto.model.instance_types import CATALOGUE
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
    assert found["NetworkInfo"]["NetworkCards"][0]["InterfaceTypes"] == ["interface"]
    assert found["EbsInfo"]["MaximumEbsAttachments"] == 25
    assert found["SupportedInRegion"] is True
    assert found["PlacementGroupInfo"]["SupportedStrategies"] == ["cluster", "spread", "partition"]


def test_what_is_shown_and_no_documented_filter_is_refused(tenant: Tenant) -> None:
    for name in ("placement-group-info.supported-strategie", "processor-info.manufacturer", "supported-in-region"):
        assert tenant.refused("DescribeInstanceTypes", Filters=[{"Name": name, "Values": ["x"]}]) == "InvalidParameterValue"


def test_unknown_types_are_named(tenant: Tenant) -> None:
    assert tenant.refusal("DescribeInstanceTypes", InstanceTypes=["t3.micro", "t3.mcro", "m1.hug"]) == (
        "InvalidInstanceType: The following supplied instance types do not exist: [t3.mcro, m1.hug]"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("instance-type", "t2.*", {"t2.nano", "t2.micro", "t2.small", "t2.medium", "t2.large", "t2.xlarge", "t2.2xlarge"}),
        ("memory-info.size-in-mib", "627", {"t1.micro"}),
        ("vcpu-info.default-vcpus", "40", {"m4.10xlarge"}),
        ("vcpu-info.default-vcpus", "448", {"u-6tb1.112xlarge"}),
        (
            "processor-info.sustained-clock-speed-in-ghz",
            "2.9",
            {"c4.large", "c4.xlarge", "c4.2xlarge", "c4.4xlarge", "c4.8xlarge"},
        ),
        (
            "free-tier-eligible",
            "true",
            {"t3.micro", "t3.small", "t4g.micro", "t4g.small", "c7i-flex.large", "m7i-flex.large"},
        ),
        ("instance-type", "*5.metal", {"c5.metal", "m5.metal", "r5.metal"}),
        ("instance-type", "p3*", {"p3.2xlarge", "p3.8xlarge", "p3.16xlarge", "p3dn.24xlarge"}),
        ("supported-usage-class", "spot", set()),
        ("ebs-info.maximum-ebs-attachments", "24", set()),
        ("instance-storage-supported", "true", set()),
    ],
)
def test_filters_are_paths_of_the_answer(tenant: Tenant, name: str, value: str, expected: set[str]) -> None:
    found = set(names(tenant, Filters=[{"Name": name, "Values": [value]}]))
    assert found == expected


def test_types_of_other_processors_and_whole_machines_are_told(tenant: Tenant) -> None:
    (arm,) = tenant("DescribeInstanceTypes", InstanceTypes=["m6g.16xlarge"])["InstanceTypes"]
    assert arm["ProcessorInfo"]["SupportedArchitectures"] == ["arm64"]
    assert (arm["VCpuInfo"]["DefaultVCpus"], arm["VCpuInfo"]["DefaultCores"], arm["MemoryInfo"]["SizeInMiB"]) == (
        64,
        64,
        262144,
    )
    filters = [{"Name": "processor-info.supported-architecture", "Values": ["arm64"]}]
    assert set(names(tenant, Filters=[*filters, {"Name": "instance-type", "Values": ["a1.*"]}])) == {
        "a1.medium",
        "a1.large",
        "a1.xlarge",
        "a1.2xlarge",
        "a1.4xlarge",
        "a1.metal",
    }
    (metal,) = tenant("DescribeInstanceTypes", InstanceTypes=["c5.metal"])["InstanceTypes"]
    assert metal["BareMetal"] is True
    assert "Hypervisor" not in metal
    assert metal["VCpuInfo"]["DefaultVCpus"] == 96


@pytest.mark.parametrize(
    ("type", "gpu", "total_mib"),
    [
        ("p3.8xlarge", ("V100", "NVIDIA", 4, 16_384), 65_536),
        ("g4dn.16xlarge", ("T4", "NVIDIA", 1, 16_384), 16_384),
        ("g4dn.metal", ("T4", "NVIDIA", 8, 16_384), 131_072),
        ("g4ad.8xlarge", ("Radeon Pro V520", "AMD", 2, 8192), 16_384),
        ("p2.16xlarge", ("K80", "NVIDIA", 16, 12_288), 196_608),
        ("g6.48xlarge", ("L4", "NVIDIA", 8, 22_888), 183_104),
    ],
)
def test_graphics_are_told(tenant: Tenant, type: str, gpu: tuple[object, ...], total_mib: int) -> None:
    (found,) = tenant("DescribeInstanceTypes", InstanceTypes=[type])["InstanceTypes"]
    (one,) = found["GpuInfo"]["Gpus"]
    assert (one["Name"], one["Manufacturer"], one["Count"], one["MemoryInfo"]["SizeInMiB"]) == gpu
    assert found["GpuInfo"]["TotalGpuMemoryInMiB"] == total_mib


def test_who_needs_graphics_has_graphics_told_and_nobody_else(tenant: Tenant) -> None:
    """As `needs` says it of a type; that is what keeps it from hosts which have none."""
    told = {found["InstanceType"] for found in tenant("DescribeInstanceTypes")["InstanceTypes"] if "GpuInfo" in found}
    assert told == {type.name for type in CATALOGUE.values() if type.accelerator == "GPUs"}
    for family, gpu in GPUS.items():
        sizes = {type.vcpus for type in CATALOGUE.values() if type.name.partition(".")[0] == family}
        assert gpu.counts.keys() & sizes or not gpu.counts, family


def test_pages(tenant: Tenant) -> None:
    seen: list[str] = []
    token: dict[str, str] = {}
    for _ in range(40):
        page = tenant("DescribeInstanceTypes", MaxResults=97, **token)
        seen += [found["InstanceType"] for found in page["InstanceTypes"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert len(seen) == len(set(seen)) > 900
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
