"""Goal: managed prefix lists have versions that can be read and restored, and stay while something names them. Method: whole
operations over a store in memory; codes and sentences are those that clients of EC2 were seen to get."""

from typing import Any

import pytest

from tests.api.cloud import Tenant


def made(tenant: Tenant, *cidrs: str, maximum: int = 5, **more: Any) -> str:
    answer = tenant(
        "CreateManagedPrefixList",
        PrefixListName="offices",
        MaxEntries=maximum,
        AddressFamily="IPv4",
        Entries=[{"Cidr": cidr, "Description": f"in {cidr}"} for cidr in cidrs],
        **more,
    )
    id: str = answer["PrefixList"]["PrefixListId"]
    return id


def entries(tenant: Tenant, id: str, **more: Any) -> list[str]:
    return [one["Cidr"] for one in tenant("GetManagedPrefixListEntries", PrefixListId=id, **more)["Entries"]]


def own(tenant: Tenant) -> list[str]:
    """Amazon's are listed beside them."""
    mine = [{"Name": "owner-id", "Values": [tenant.account.id]}]
    return [one["PrefixListId"] for one in tenant("DescribeManagedPrefixLists", Filters=mine)["PrefixLists"]]


def shown(tenant: Tenant, id: str) -> dict[str, Any]:
    (found,) = tenant("DescribeManagedPrefixLists", PrefixListIds=[id])["PrefixLists"]
    return dict(found)


def modified(tenant: Tenant, id: str, **changes: Any) -> dict[str, Any]:
    return dict(tenant("ModifyManagedPrefixList", PrefixListId=id, **changes)["PrefixList"])


def test_what_a_new_one_is(tenant: Tenant) -> None:
    tags = [{"ResourceType": "prefix-list", "Tags": [{"Key": "a", "Value": "b"}]}]
    id = made(tenant, "10.0.0.0/8", "192.0.2.0/24", TagSpecifications=tags)
    assert shown(tenant, id) == {
        "PrefixListId": id,
        "AddressFamily": "IPv4",
        "State": "create-complete",
        "PrefixListArn": f"arn:aws:ec2:{tenant.region}:{tenant.account.id}:prefix-list/{id}",
        "PrefixListName": "offices",
        "MaxEntries": 5,
        "Version": 1,
        "Tags": [{"Key": "a", "Value": "b"}],
        "OwnerId": tenant.account.id,
    }
    answer = tenant("GetManagedPrefixListEntries", PrefixListId=id)["Entries"]
    assert answer == [
        {"Cidr": "10.0.0.0/8", "Description": "in 10.0.0.0/8"},
        {"Cidr": "192.0.2.0/24", "Description": "in 192.0.2.0/24"},
    ]
    assert id not in [one["PrefixListId"] for one in tenant("DescribePrefixLists")["PrefixLists"]]  # Amazon's own
    assert tenant.refused("DescribePrefixLists", PrefixListIds=[id]) == "InvalidPrefixListId.NotFound"


def test_asking_again_with_the_token_makes_no_second_one(tenant: Tenant) -> None:
    wish = {"PrefixListName": "offices", "MaxEntries": 5, "AddressFamily": "IPv4", "ClientToken": "once"}
    first, second = (tenant("CreateManagedPrefixList", **wish)["PrefixList"] for _ in range(2))
    assert first["State"] == "create-in-progress"
    assert second == {**first, "State": "create-complete"}
    assert len(own(tenant)) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"AddressFamily": "IPv5"}, "InvalidParameterValue"),
        ({"MaxEntries": 0}, "InvalidParameterValue"),
        ({"MaxEntries": 1001}, "InvalidParameterValue"),
        ({"PrefixListName": "com.amazonaws.mine"}, "InvalidParameterValue"),
        ({"Entries": [{"Cidr": "10.0.0.1"}]}, "InvalidParameterValue"),
        ({"Entries": [{"Cidr": "fd00::/64"}]}, "InvalidParameterValue"),
        ({"Entries": [{"Cidr": "10.1.0.0/8"}]}, "InvalidParameterValue"),
        ({"Entries": [{"Cidr": "fd00::1/64"}], "AddressFamily": "IPv6"}, "InvalidParameterValue"),
        ({"Entries": [{"Cidr": "10.0.0.0/8"}, {"Cidr": "10.0.0.0/8"}]}, "InvalidParameterValue"),
        ({"Entries": [{"Cidr": f"10.0.0.{n}/32"} for n in range(3)], "MaxEntries": 2}, "PrefixListMaxEntriesExceeded"),
        ({"Entries": [{"Cidr": f"10.0.0.{n}/32"} for n in range(101)], "MaxEntries": 200}, "InvalidParameterValue"),
    ],
)
def test_what_none_may_be(tenant: Tenant, changes: dict[str, Any], code: str) -> None:
    request = {"PrefixListName": "offices", "MaxEntries": 5, "AddressFamily": "IPv4"} | changes
    assert tenant.refused("CreateManagedPrefixList", **request) == code
    assert own(tenant) == []


def test_versions(tenant: Tenant) -> None:
    id = made(tenant, "10.0.0.0/8", "10.0.0.0/9")
    second = modified(
        tenant, id, CurrentVersion=1, AddEntries=[{"Cidr": "192.0.2.0/24"}], RemoveEntries=[{"Cidr": "10.0.0.0/9"}]
    )
    # The answer comes before its version is there.
    assert (second["Version"], second["State"]) == (1, "modify-in-progress")
    assert shown(tenant, id) == {**second, "Version": 2, "State": "modify-complete"}
    stale = tenant.refusal("ModifyManagedPrefixList", PrefixListId=id, CurrentVersion=1, RemoveEntries=[{"Cidr": "10.0.0.0/8"}])
    assert stale == "PrefixListVersionMismatch: The prefix list has the incorrect version number"
    # A name and a maximum make no version.
    assert modified(tenant, id, PrefixListName="homes")["PrefixListName"] == "homes"
    assert modified(tenant, id, MaxEntries=2)["MaxEntries"] == 2
    assert shown(tenant, id)["Version"] == 2
    assert tenant.refused("ModifyManagedPrefixList", PrefixListId=id, MaxEntries=1) == "PrefixListMaxEntriesExceeded"
    assert entries(tenant, id) == ["10.0.0.0/8", "192.0.2.0/24"]
    assert entries(tenant, id, TargetVersion=1) == ["10.0.0.0/8", "10.0.0.0/9"]
    for absent in (0, 3):
        refused = tenant.refused("GetManagedPrefixListEntries", PrefixListId=id, TargetVersion=absent)
        assert refused == "InvalidParameterValue"
    restored = tenant("RestoreManagedPrefixListVersion", PrefixListId=id, PreviousVersion=1, CurrentVersion=2)["PrefixList"]
    assert (restored["Version"], restored["State"]) == (2, "restore-in-progress")
    assert shown(tenant, id) == {**restored, "Version": 3, "State": "restore-complete"}
    assert entries(tenant, id) == entries(tenant, id, TargetVersion=1)
    assert entries(tenant, id, TargetVersion=2) == ["10.0.0.0/8", "192.0.2.0/24"]


def test_what_one_change_may_not_be(tenant: Tenant) -> None:
    id = made(tenant, "10.0.0.0/8")
    both = {"AddEntries": [{"Cidr": "192.0.2.0/24"}], "MaxEntries": 9}
    assert tenant.refusal("ModifyManagedPrefixList", PrefixListId=id, **both) == (
        "InvalidParameterCombination: You cannot modify the entries and the maximum entries for the prefix list in the same "
        "request."
    )
    twice = {"AddEntries": [{"Cidr": "10.0.0.0/8"}], "RemoveEntries": [{"Cidr": "10.0.0.0/8"}]}
    assert tenant.refusal("ModifyManagedPrefixList", PrefixListId=id, **twice) == (
        "InvalidParameterValue: Request cannot contain Cidr 10.0.0.0/8 in both AddPrefixListEntries and RemovePrefixListEntries"
    )
    absent = [{"Cidr": "10.0.0.0/8"}, {"Cidr": "192.0.2.0/24"}]
    assert tenant.refusal("ModifyManagedPrefixList", PrefixListId=id, RemoveEntries=absent) == (
        f"InvalidPrefixListModification: The entry 192.0.2.0/24 of the prefix list {id} does not exist."
    )
    assert shown(tenant, id)["Version"] == 1


def test_what_names_a_list_keeps_it(tenant: Tenant) -> None:
    id = made(tenant, "10.0.0.0/8")
    group = tenant("CreateSecurityGroup", GroupName="web", Description="for the web")["GroupId"]
    listed = [
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "PrefixListIds": [{"PrefixListId": id, "Description": "all"}]}
    ]
    (rule,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=listed)["SecurityGroupRules"]
    assert rule["PrefixListId"] == id
    assert tenant.refused("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=listed) == "InvalidPermission.Duplicate"
    (found,) = tenant("DescribeSecurityGroups", Filters=[{"Name": "ip-permission.prefix-list-id", "Values": [id]}])[
        "SecurityGroups"
    ]
    (permission,) = found["IpPermissions"]
    assert permission["PrefixListIds"] == [{"PrefixListId": id, "Description": "all"}]
    assert permission["IpRanges"] == permission["UserIdGroupPairs"] == []
    (table,) = tenant("DescribeRouteTables")["RouteTables"]
    (gateway,) = tenant("DescribeInternetGateways")["InternetGateways"]
    route = {"RouteTableId": table["RouteTableId"], "DestinationPrefixListId": id}
    tenant("CreateRoute", GatewayId=gateway["InternetGatewayId"], **route)
    users = tenant("GetManagedPrefixListAssociations", PrefixListId=id)["PrefixListAssociations"]
    assert users == [
        {"ResourceId": used_by, "ResourceOwner": tenant.account.id} for used_by in sorted([table["RouteTableId"], group])
    ]
    assert tenant.refused("DeleteManagedPrefixList", PrefixListId=id) == "DependencyViolation"
    tenant("DeleteRoute", **route)
    tenant("RevokeSecurityGroupIngress", GroupId=group, IpPermissions=listed)
    gone = tenant("DeleteManagedPrefixList", PrefixListId=id)["PrefixList"]
    assert gone["State"] == "delete-in-progress"
    assert tenant.refused("DescribeManagedPrefixLists", PrefixListIds=[id]) == "InvalidPrefixListID.NotFound"


def test_a_list_counts_for_its_maximum(tenant: Tenant) -> None:
    id = made(tenant, "10.0.0.0/8", maximum=60)
    group = tenant("CreateSecurityGroup", GroupName="web", Description="for the web")["GroupId"]
    listed = [{"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": id}]}]
    one_more = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}]
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=listed)
    refused = tenant.refused("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=one_more)
    assert refused == "RulesPerSecurityGroupLimitExceeded"
    larger = tenant.refused("ModifyManagedPrefixList", PrefixListId=id, MaxEntries=61)
    assert larger == "RulesPerSecurityGroupLimitExceeded"
    modified(tenant, id, MaxEntries=59)
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=one_more)


def test_entries_come_in_pages(tenant: Tenant) -> None:
    cidrs = [f"10.0.{number}.0/24" for number in range(7)]
    id = made(tenant, *cidrs, maximum=7)
    seen: list[str] = []
    token: dict[str, str] = {}
    for size in (3, 3, 1):
        page = tenant("GetManagedPrefixListEntries", PrefixListId=id, MaxResults=3, **token)
        assert len(page["Entries"]) == size
        seen += [one["Cidr"] for one in page["Entries"]]
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else {}
    assert token == {}
    assert seen == cidrs
