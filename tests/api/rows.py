"""Rows that most tests begin with, and what the product's own audit says of a test's rows."""

from typing import Any

from alto.api.alto.routes import read_state
from alto.model.hosts import Capabilities, Host
from alto.model.images import Image
from alto.model.networks import NetworkInterface
from alto.plan.audit import audit
from tests.api.cloud import NOW, Cloud, Tenant

IMAGE = "ami-0a170000000000001"


def host(number: int, *, vcpus: int = 8, memory_mib: int = 8192, kind: str = "fake") -> Host:
    return Host(
        id=f"h-{number}",
        name=f"host{number}",
        capabilities=Capabilities(kind=kind, accelerator="none", vcpus=vcpus, memory_mib=memory_mib),
        vcpus=vcpus,
        memory_mib=memory_mib,
        joined_at=0.0,
    )


def tiny(*, size_gib: int = 1) -> Image:
    """Everybody may launch it; it needs that much disk."""
    return Image(id=IMAGE, account="0", region=None, name="tiny", public=True, source="tiny", size_gib=size_gib, created_at=NOW)


def interface_in(tenant: Tenant, subnet: dict[str, Any]) -> NetworkInterface:
    """An address in a subnet, which is 10.0.1.0/24, as the API shows it."""
    return NetworkInterface(
        id="eni-01111111111111111",
        account=tenant.account.id,
        region=tenant.region,
        vpc_id=subnet["VpcId"],
        subnet_id=subnet["SubnetId"],
        zone=subnet["AvailabilityZone"],
        mac="02:00:00:00:00:01",
        private_ip="10.0.1.9",
    )


def way_in(tenant: Tenant, subnet: str) -> str:
    """An internet gateway for the VPC of this subnet."""
    (found,) = tenant("DescribeSubnets", SubnetIds=[subnet])["Subnets"]
    id: str = tenant("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    tenant("AttachInternetGateway", InternetGatewayId=id, VpcId=found["VpcId"])
    return id


def sound(cloud: Cloud) -> list[str]:
    """Sentences about what is wrong now, and would be wrong at any time."""
    found = cloud.store.read(lambda reader: audit(read_state(reader)))
    return [one.sentence for one in found if one.grace_s == 0]
