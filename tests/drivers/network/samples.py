"""Networks, ports and machines to ask a network driver for: VPC 10.77.0.0/16, guest N at 10.77.0.(10+N)."""

from typing import Any

import msgspec

from alto.model.instances import Machine, Nic
from alto.model.network_plans import NetworkPlan, Port, RoutePlan, SubnetPlan
from alto.model.networks import Permission, SecurityGroup
from alto.model.routing import Target
from tests.drivers.compute import machines


def allow(
    protocol: str = "tcp",
    from_port: int = -1,
    to_port: int | None = None,
    *,
    cidr: str | None = None,
    cidr_v6: str | None = None,
    group: str | None = None,
    list: str | None = None,
    egress: bool = False,
    id: str = "sgr-1",
) -> Permission:
    return Permission(
        id=id,
        egress=egress,
        protocol=protocol,
        from_port=from_port,
        to_port=from_port if to_port is None else to_port,
        cidr=cidr,
        cidr_v6=cidr_v6,
        group_id=group,
        prefix_list_id=list,
    )


ALL_OUT = allow("-1", cidr="0.0.0.0/0", egress=True)


def group(id: str, *permissions: Permission, vpc_id: str = "vpc-1") -> SecurityGroup:
    """Lets everything out, as EC2's new groups do, and in what `permissions` say."""
    return SecurityGroup(
        id=id,
        account="000000000000",
        region="us-east-1",
        vpc_id=vpc_id,
        name=id,
        description="",
        permissions=(ALL_OUT, *permissions),
    )


TO_INTERNET = RoutePlan(destination="0.0.0.0/0", target=Target.INTERNET, target_id="igw-1")
DEFAULT = group("sg-default", allow("-1", group="sg-default"))


SUBNET_V6 = "fd00:a:0:1::/64"


def dual(*groups: SecurityGroup, **changes: Any) -> NetworkPlan:
    """`plan` with IPv6 in VPC and subnet."""
    made = plan(*groups, **changes)
    subnets = tuple(msgspec.structs.replace(one, cidr_v6=SUBNET_V6) for one in made.subnets)
    return msgspec.structs.replace(made, ranges_v6=("fd00:a::/56",), subnets=subnets)


def address_v6(number: int) -> str:
    return f"fd00:a:0:1::{10 + number:x}"


def dual_port(number: int = 1, *groups: str, **changes: Any) -> Port:
    """`port` with an address of IPv6."""
    return msgspec.structs.replace(
        port(number, *groups), **{"ipv6": (address_v6(number),), "subnet_cidr_v6": SUBNET_V6, **changes}
    )


def plan(*groups: SecurityGroup, vpc_id: str = "vpc-1", cidr: str = "10.77.0.0/16", **changes: Any) -> NetworkPlan:
    """One public subnet, unless there are others among `changes`."""
    subnet = SubnetPlan(id=f"subnet-{vpc_id}", cidr=cidr.replace("/16", "/24"), zone="us-east-1a", routes=(TO_INTERNET,))
    made = NetworkPlan(vpc_id=vpc_id, region="us-east-1", cidr=cidr, subnets=(subnet,), groups=groups or (DEFAULT,))
    return msgspec.structs.replace(made, **changes)


def port(number: int = 1, *groups: str, vpc_id: str = "vpc-1", **changes: Any) -> Port:
    """Port `number`; the same number is the same port. In the default group unless others are named."""
    last = 10 + number
    made = Port(
        id=f"eni-{number:017x}",
        instance_id=f"i-{number:017x}",
        vpc_id=vpc_id,
        subnet_cidr="10.77.0.0/24",
        mac=f"02:00:0a:4d:00:{last:02x}",
        private_ip=f"10.77.0.{last}",
        public_ip=None,
        hostname=f"ip-10-77-0-{last}.ec2.internal",
        group_ids=groups or ("sg-default",),
    )
    return msgspec.structs.replace(made, **changes)


def machine(number: int = 1, *, of: Port | None = None, **changes: Any) -> Machine:
    """The machine behind `port(number)`, or behind the port given."""
    near = of or port(number)
    nic = Nic(
        interface_id=near.id,
        attachment_id=near.id.replace("eni-", "eni-attach-"),
        subnet_id=f"subnet-{near.vpc_id}",
        vpc_id=near.vpc_id,
        mac=near.mac,
        private_ip=near.private_ip,
        public_ip=near.public_ip,
        ipv6=near.ipv6,
        group_ids=near.group_ids,
    )
    made = msgspec.structs.replace(machines.machine(number), nics=(nic,), hostname=near.hostname)
    return msgspec.structs.replace(made, **changes)
