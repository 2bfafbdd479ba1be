"""Goal: a whole VPC, as people build one, is made, changed and taken away by Amazon's own clients, and nothing stays behind.
Method: terraform/network.tf and the aws command, unmodified, against simulated hosts; what they made is read with boto3.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import Cloud
from tests.e2e.commands import needs_terraform, run, terraform_of
from tests.e2e.test_clients import IMAGE

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

CHANGED = ("-var", "stage=two", "-var", "office=198.51.100.0/24")


def everything(ec2: Any) -> dict[str, list[str]]:
    """Ids of all that a network is made of, and that is not gone."""
    return {
        "vpcs": [one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]],
        "subnets": [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]],
        "tables": [one["RouteTableId"] for one in ec2.describe_route_tables()["RouteTables"]],
        "gateways": [one["InternetGatewayId"] for one in ec2.describe_internet_gateways()["InternetGateways"]],
        "nats": [one["NatGatewayId"] for one in ec2.describe_nat_gateways()["NatGateways"] if one["State"] != "deleted"],
        "addresses": [one["AllocationId"] for one in ec2.describe_addresses()["Addresses"]],
        "acls": [one["NetworkAclId"] for one in ec2.describe_network_acls()["NetworkAcls"]],
        "groups": [one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]],
        "lists": [one["PrefixListId"] for one in ec2.describe_managed_prefix_lists()["PrefixLists"]],
        "options": [one["DhcpOptionsId"] for one in ec2.describe_dhcp_options()["DhcpOptions"]],
        "interfaces": [one["NetworkInterfaceId"] for one in ec2.describe_network_interfaces()["NetworkInterfaces"]],
        "templates": [one["LaunchTemplateId"] for one in ec2.describe_launch_templates()["LaunchTemplates"]],
    }


@needs_terraform
def test_terraform_builds_changes_and_destroys_a_network(simulated: Cloud, tmp_path: Path) -> None:
    terraform = terraform_of(simulated, "network.tf", tmp_path)
    ec2 = simulated.client()
    before = everything(ec2)
    terraform("apply", "-auto-approve")
    again = terraform("plan", "-detailed-exitcode", ok=False)
    assert again.returncode == 0, f"the second plan is not empty:\n{again.stdout}"
    assert seen(ec2) == {
        "domain": "one.example",
        "ways out of private subnets": {"nat", "pcx"},
        "ping": [200],
        "offices": ["192.0.2.0/24"],
        "ports of the store": [(5432, 5432)],
        "the store's addresses": ["10.20.128.10", "10.20.128.11"],
    }
    terraform("apply", "-auto-approve", *CHANGED)
    changed = seen(ec2)
    assert (changed["domain"], changed["ping"], changed["offices"]) == ("two.example", [210], ["198.51.100.0/24"])
    assert changed["ports of the store"] == [(5432, 5433)]
    (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
    assert template["DefaultVersionNumber"] == 2
    terraform("destroy", "-auto-approve", *CHANGED)
    assert everything(ec2) == before


def seen(ec2: Any) -> dict[str, Any]:
    """What the configuration is about, as EC2 tells it."""
    named = [{"Name": "tag:Name", "Values": ["main"]}, {"Name": "tag:made_by", "Values": ["terraform"]}]
    (vpc,) = ec2.describe_vpcs(Filters=named)["Vpcs"]
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    (options,) = ec2.describe_dhcp_options(DhcpOptionsIds=[vpc["DhcpOptionsId"]])["DhcpOptions"]
    settings = {one["Key"]: one["Values"][0]["Value"] for one in options["DhcpConfigurations"]}
    tables = ec2.describe_route_tables(Filters=inside)["RouteTables"]
    routes = [route for table in tables for route in table["Routes"] if route["State"] == "active"]
    acls = ec2.describe_network_acls(Filters=[*inside, {"Name": "default", "Values": ["false"]}])["NetworkAcls"]
    (prefixes,) = [one for one in ec2.describe_managed_prefix_lists()["PrefixLists"] if one["OwnerId"] != "AWS"]
    entries = ec2.get_managed_prefix_list_entries(PrefixListId=prefixes["PrefixListId"])["Entries"]
    (store,) = ec2.describe_security_groups(Filters=[*inside, {"Name": "group-name", "Values": ["store"]}])["SecurityGroups"]
    (launched,) = ec2.describe_instances(
        Filters=[*inside, {"Name": "instance-state-name", "Values": ["running"]}, {"Name": "subnet-id", "Values": ["*"]}]
    )["Reservations"]
    return {
        "domain": settings["domain-name"],
        "ways out of private subnets": {
            id.partition("-")[0]
            for route in routes
            for id in (route.get("NatGatewayId"), route.get("VpcPeeringConnectionId"))
            if id is not None
        },
        "ping": [entry["RuleNumber"] for acl in acls for entry in acl["Entries"] if entry["Protocol"] == "1"],
        "offices": [entry["Cidr"] for entry in entries],
        "ports of the store": [(one["FromPort"], one["ToPort"]) for one in store["IpPermissions"]],
        "the store's addresses": [
            one["PrivateIpAddress"]
            for interface in launched["Instances"][0]["NetworkInterfaces"]
            for one in interface["PrivateIpAddresses"]
        ],
    }


def test_the_aws_command_builds_a_network_and_takes_it_away(simulated: Cloud) -> None:
    if shutil.which("aws") is None:
        pytest.skip("needs the aws command: pip install awscli")

    def aws(*argv: str, query: str = "") -> str:
        more = ("--query", query, "--output", "text") if query else ()
        return run(simulated, "aws", "ec2", *argv, *more).stdout.strip()

    ec2 = simulated.client()
    before = everything(ec2)
    vpc = aws("create-vpc", "--cidr-block", "10.40.0.0/16", query="Vpc.VpcId")
    aws("wait", "vpc-available", "--vpc-ids", vpc)
    of_vpc = ("--vpc-id", vpc)
    public = aws("create-subnet", *of_vpc, "--cidr-block", "10.40.0.0/24", query="Subnet.SubnetId")
    private = aws("create-subnet", *of_vpc, "--cidr-block", "10.40.1.0/24", query="Subnet.SubnetId")
    gateway = aws("create-internet-gateway", query="InternetGateway.InternetGatewayId")
    aws("attach-internet-gateway", "--internet-gateway-id", gateway, *of_vpc)
    table = aws("create-route-table", *of_vpc, query="RouteTable.RouteTableId")
    everywhere = ("--route-table-id", table, "--destination-cidr-block", "0.0.0.0/0")
    aws("create-route", *everywhere, "--gateway-id", gateway)
    association = aws("associate-route-table", "--route-table-id", table, "--subnet-id", public, query="AssociationId")
    address = aws("allocate-address", "--domain", "vpc", query="AllocationId")
    nat = aws(*("create-nat-gateway", "--subnet-id", public, "--allocation-id", address), query="NatGateway.NatGatewayId")
    aws("wait", "nat-gateway-available", "--nat-gateway-ids", nat)
    main = aws(
        *("describe-route-tables", "--filters", f"Name=vpc-id,Values={vpc}", "Name=association.main,Values=true"),
        query="RouteTables[].RouteTableId",
    )
    aws("create-route", "--route-table-id", main, "--destination-cidr-block", "0.0.0.0/0", "--nat-gateway-id", nat)
    group = aws("create-security-group", "--group-name", "web", "--description", "web", *of_vpc, query="GroupId")
    aws(
        *("authorize-security-group-ingress", "--group-id", group, "--protocol", "tcp", "--port", "22"),
        *("--source-group", group),
    )
    acl = aws("create-network-acl", *of_vpc, query="NetworkAcl.NetworkAclId")
    for direction in ("--ingress", "--egress"):
        aws(
            *("create-network-acl-entry", "--network-acl-id", acl, direction, "--rule-number", "100", "--protocol", "-1"),
            *("--rule-action", "allow", "--cidr-block", "0.0.0.0/0"),
        )
    old = aws(
        *("describe-network-acls", "--filters", f"Name=association.subnet-id,Values={private}"),
        query=f"NetworkAcls[].Associations[?SubnetId=='{private}'][].NetworkAclAssociationId",
    )
    new = aws("replace-network-acl-association", "--association-id", old, "--network-acl-id", acl, query="NewAssociationId")
    instance = aws(
        *("run-instances", "--image-id", IMAGE, "--instance-type", "t3.nano", "--subnet-id", private),
        *("--security-group-ids", group),
        query="Instances[].InstanceId",
    )
    aws("wait", "instance-running", "--instance-ids", instance)

    # Nothing goes that something else needs.
    for kept in (
        ("delete-subnet", "--subnet-id", private),
        ("delete-vpc", *of_vpc),
        ("delete-security-group", "--group-id", group),
    ):
        assert "DependencyViolation" in run(simulated, "aws", "ec2", *kept, ok=False).stderr

    aws("terminate-instances", "--instance-ids", instance)
    aws("wait", "instance-terminated", "--instance-ids", instance)
    aws("delete-nat-gateway", "--nat-gateway-id", nat)
    aws("wait", "nat-gateway-deleted", "--nat-gateway-ids", nat)
    aws("release-address", "--allocation-id", address)
    default = next(one for one in ec2.describe_network_acls()["NetworkAcls"] if one["VpcId"] == vpc and one["IsDefault"])
    aws("replace-network-acl-association", "--association-id", new, "--network-acl-id", default["NetworkAclId"])
    aws("delete-network-acl", "--network-acl-id", acl)
    aws("delete-security-group", "--group-id", group)
    aws("disassociate-route-table", "--association-id", association)
    aws("delete-route-table", "--route-table-id", table)
    aws("detach-internet-gateway", "--internet-gateway-id", gateway, *of_vpc)
    aws("delete-internet-gateway", "--internet-gateway-id", gateway)
    for subnet in (public, private):
        aws("delete-subnet", "--subnet-id", subnet)
    aws("delete-vpc", *of_vpc)
    assert everything(ec2) == before
