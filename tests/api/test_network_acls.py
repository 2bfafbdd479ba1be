"""Goal: network ACLs, their entries and associations behave as "Network ACLs" in the VPC user guide says. Method: whole
operations over a store in memory."""

from typing import Any

import pytest

from tests.api.cloud import Tenant

LAST = [(True, 32767, "deny"), (False, 32767, "deny")]


@pytest.fixture
def vpc(tenant: Tenant) -> str:
    id: str = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return id


@pytest.fixture
def acl(tenant: Tenant, vpc: str) -> str:
    id: str = tenant("CreateNetworkAcl", VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    return id


def shown(tenant: Tenant, id: str) -> dict[str, Any]:
    (found,) = tenant("DescribeNetworkAcls", NetworkAclIds=[id])["NetworkAcls"]
    return dict(found)


def entries(acl: dict[str, Any]) -> list[tuple[bool, int, str]]:
    return [(entry["Egress"], entry["RuleNumber"], entry["RuleAction"]) for entry in acl["Entries"]]


def default_of(tenant: Tenant, vpc: str) -> dict[str, Any]:
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "default", "Values": ["true"]}]
    (found,) = tenant("DescribeNetworkAcls", Filters=filters)["NetworkAcls"]
    return dict(found)


def test_the_default_acl_lets_everything_through(tenant: Tenant, vpc: str) -> None:
    default = default_of(tenant, vpc)
    assert sorted(entries(default)) == sorted([(True, 100, "allow"), (False, 100, "allow"), *LAST])
    assert {entry["CidrBlock"] for entry in default["Entries"]} == {"0.0.0.0/0"}
    assert tenant.refused("DeleteNetworkAcl", NetworkAclId=default["NetworkAclId"]) == "InvalidParameterValue"


def test_a_new_acl_lets_nothing_through(tenant: Tenant, acl: str) -> None:
    found = shown(tenant, acl)
    assert found["IsDefault"] is False
    assert sorted(entries(found)) == sorted(LAST)
    tenant("DeleteNetworkAcl", NetworkAclId=acl)
    assert tenant.refused("DeleteNetworkAcl", NetworkAclId=acl) == "InvalidNetworkAclID.NotFound"


def test_the_last_entries_of_ipv6_are_there_where_the_vpc_has_it(tenant: Tenant, vpc: str, acl: str) -> None:
    last_v6 = [(egress, 32768, "deny") for egress in (True, False)]
    by_range = [{"Name": "entry.ipv6-cidr", "Values": ["::/0"]}]
    entry = {"NetworkAclId": acl, "RuleNumber": 1, "Egress": True, "Protocol": "-1", "RuleAction": "allow"}
    tenant("CreateNetworkAclEntry", **entry, Ipv6CidrBlock="fd00::/8")
    assert sorted(entries(shown(tenant, acl))) == sorted([(True, 1, "allow"), *LAST])
    assert tenant("DescribeNetworkAcls", Filters=by_range)["NetworkAcls"] == []
    tenant("AssociateVpcCidrBlock", VpcId=vpc, AmazonProvidedIpv6CidrBlock=True)
    assert sorted(entries(shown(tenant, acl))) == sorted([(True, 1, "allow"), *LAST, *last_v6])
    assert sorted(entries(tenant("CreateNetworkAcl", VpcId=vpc)["NetworkAcl"])) == sorted([*LAST, *last_v6])
    assert len(tenant("DescribeNetworkAcls", Filters=by_range)["NetworkAcls"]) == 3
    for number in (32767, 32768):
        refusal = tenant.refusal("DeleteNetworkAclEntry", NetworkAclId=acl, RuleNumber=number, Egress=True)
        assert refusal == (
            f"InvalidParameterValue: Value ({number}) for parameter ruleNumber is invalid. Rulenumber must be in range 1..32766"
        )


def test_entries(tenant: Tenant, acl: str) -> None:
    entry = {"NetworkAclId": acl, "RuleNumber": 110, "Egress": False, "CidrBlock": "10.0.0.0/8", "RuleAction": "allow"}
    tenant("CreateNetworkAclEntry", **entry, Protocol="6", PortRange={"From": 443, "To": 443})
    again = tenant.refused("CreateNetworkAclEntry", **entry, Protocol="-1")
    assert again == "NetworkAclEntryAlreadyExists"
    tenant("CreateNetworkAclEntry", **{**entry, "Egress": True}, Protocol="1", IcmpTypeCode={"Type": 8, "Code": -1})
    found = {(each["Egress"], each["RuleNumber"]): each for each in shown(tenant, acl)["Entries"]}
    assert found[False, 110] == {
        "CidrBlock": "10.0.0.0/8",
        "Egress": False,
        "PortRange": {"From": 443, "To": 443},
        "Protocol": "6",
        "RuleAction": "allow",
        "RuleNumber": 110,
    }
    assert found[True, 110]["IcmpTypeCode"] == {"Type": 8, "Code": -1}
    tenant("ReplaceNetworkAclEntry", **{**entry, "RuleAction": "deny"}, Protocol="-1")
    found = {(each["Egress"], each["RuleNumber"]): each for each in shown(tenant, acl)["Entries"]}
    assert (found[False, 110]["RuleAction"], found[False, 110]["Protocol"]) == ("deny", "-1")
    tenant("DeleteNetworkAclEntry", NetworkAclId=acl, RuleNumber=110, Egress=False)
    gone = tenant.refused("DeleteNetworkAclEntry", NetworkAclId=acl, RuleNumber=110, Egress=False)
    assert gone == "InvalidNetworkAclEntry.NotFound"
    assert tenant.refused("ReplaceNetworkAclEntry", **entry, Protocol="-1") == "InvalidNetworkAclEntry.NotFound"


def test_icmpv6_of_an_ipv4_range_means_all_its_types(tenant: Tenant, acl: str) -> None:
    entry = {"NetworkAclId": acl, "Egress": False, "Protocol": "58", "RuleAction": "allow"}
    tenant("CreateNetworkAclEntry", **entry, RuleNumber=1, CidrBlock="10.0.0.0/8")
    tenant("CreateNetworkAclEntry", **entry, RuleNumber=2, CidrBlock="10.0.0.0/8", IcmpTypeCode={"Type": 128, "Code": 0})
    assert tenant.refused("CreateNetworkAclEntry", **entry, RuleNumber=3, Ipv6CidrBlock="::/0") == "MissingParameter"
    found = {each["RuleNumber"]: each for each in shown(tenant, acl)["Entries"]}
    assert all("IcmpTypeCode" not in found[number] for number in (1, 2))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"RuleNumber": 32767}, "InvalidParameterValue"),
        ({"RuleNumber": 0}, "InvalidParameterValue"),
        ({"RuleAction": "maybe"}, "InvalidParameterValue"),
        ({"Protocol": "256"}, "InvalidParameterValue"),
        ({"Protocol": "17"}, "MissingParameter"),
        ({"Protocol": "1"}, "MissingParameter"),
        ({"Protocol": "6", "PortRange": {"From": 2, "To": 1}}, "InvalidParameterValue"),
        ({"CidrBlock": "10.0.0.0"}, "InvalidParameterValue"),
        ({"Ipv6CidrBlock": "::/0"}, "InvalidParameterCombination"),
    ],
)
def test_what_an_entry_may_not_be(tenant: Tenant, acl: str, changes: dict[str, Any], code: str) -> None:
    good = {"RuleNumber": 1, "Egress": False, "Protocol": "-1", "RuleAction": "deny", "CidrBlock": "0.0.0.0/0"}
    assert tenant.refused("CreateNetworkAclEntry", NetworkAclId=acl, **{**good, **changes}) == code
    assert sorted(entries(shown(tenant, acl))) == sorted(LAST)


def test_a_subnet_moves_from_one_acl_to_another(tenant: Tenant, vpc: str, acl: str) -> None:
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    (old,) = default_of(tenant, vpc)["Associations"]
    assert old["SubnetId"] == subnet
    new = tenant("ReplaceNetworkAclAssociation", AssociationId=old["NetworkAclAssociationId"], NetworkAclId=acl)[
        "NewAssociationId"
    ]
    assert default_of(tenant, vpc)["Associations"] == []
    assert shown(tenant, acl)["Associations"] == [{"NetworkAclAssociationId": new, "NetworkAclId": acl, "SubnetId": subnet}]
    by_subnet = tenant("DescribeNetworkAcls", Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])
    assert [each["NetworkAclId"] for each in by_subnet["NetworkAcls"]] == [acl]
    assert tenant.refused("DeleteNetworkAcl", NetworkAclId=acl) == "DependencyViolation"
    stale = tenant.refused("ReplaceNetworkAclAssociation", AssociationId=old["NetworkAclAssociationId"], NetworkAclId=acl)
    assert stale == "InvalidAssociationID.NotFound"
    tenant("DeleteSubnet", SubnetId=subnet)
    tenant("DeleteNetworkAcl", NetworkAclId=acl)
