"""Goal: security groups behave as the EC2 API reference says. Method: whole operations over a store in memory; expected
values are from the reference (canonical CIDRs, codes of refusals) and from what boto3 and Terraform read."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.api.cloud import Cloud, Tenant
from tests.api.rows import interface_in

WEB = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "web"}]}


@pytest.fixture
def group(tenant: Tenant) -> str:
    id: str = tenant("CreateSecurityGroup", GroupName="web", Description="for the web")["GroupId"]
    return id


def shown(tenant: Tenant, id: str) -> dict[str, Any]:
    (found,) = tenant("DescribeSecurityGroups", GroupIds=[id])["SecurityGroups"]
    return dict(found)


def rules(tenant: Tenant, id: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = tenant("DescribeSecurityGroupRules", Filters=[{"Name": "group-id", "Values": [id]}])[
        "SecurityGroupRules"
    ]
    return listed


def test_the_default_group_lets_its_members_in_and_everything_out(tenant: Tenant) -> None:
    (default,) = tenant("DescribeSecurityGroups")["SecurityGroups"]
    assert default["GroupName"] == "default"
    (inward,), (outward,) = default["IpPermissions"], default["IpPermissionsEgress"]
    assert inward["IpProtocol"] == outward["IpProtocol"] == "-1"
    assert "FromPort" not in inward
    assert [pair["GroupId"] for pair in inward["UserIdGroupPairs"]] == [default["GroupId"]]
    assert [pair["UserId"] for pair in inward["UserIdGroupPairs"]] == [tenant.account.id]
    assert [each["CidrIp"] for each in outward["IpRanges"]] == ["0.0.0.0/0"]


def test_a_new_group_lets_everything_out_and_nothing_in(tenant: Tenant, group: str) -> None:
    found = shown(tenant, group)
    assert found["VpcId"] == tenant("DescribeVpcs")["Vpcs"][0]["VpcId"]
    assert found["IpPermissions"] == []
    assert found["IpPermissionsEgress"][0]["IpRanges"][0]["CidrIp"] == "0.0.0.0/0"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"GroupName": "web"}, "InvalidGroup.Duplicate"),
        ({"GroupName": "WEB"}, "InvalidGroup.Duplicate"),
        ({"GroupName": "web  "}, "InvalidGroup.Duplicate"),
        ({"GroupName": "  "}, "MissingParameter"),
        ({"GroupName": "default"}, "InvalidParameterValue"),
        ({"GroupName": "Default"}, "InvalidParameterValue"),
        ({"GroupName": "sg-web"}, "InvalidParameterValue"),
        ({"GroupName": "w" * 256}, "InvalidParameterValue"),
        ({"GroupName": "w\u00e9b"}, "InvalidParameterValue"),
        ({"Description": "naughty\nlines"}, "InvalidParameterValue"),
        ({"VpcId": "vpc-00000000000000000"}, "InvalidVpcID.NotFound"),
        ({"VpcId": "vpc"}, "InvalidVpcId.Malformed"),
        ({"VpcId": "vpc-x0000000"}, "InvalidVpcId.Malformed"),
    ],
)
def test_what_a_new_group_may_not_be(tenant: Tenant, group: str, changes: dict[str, str], code: str) -> None:
    assert tenant.refused("CreateSecurityGroup", **{"GroupName": "new", "Description": "d", **changes}) == code
    assert len(tenant("DescribeSecurityGroups")["SecurityGroups"]) == 2


def test_a_rule_is_answered_listed_and_shown(tenant: Tenant, group: str) -> None:
    (answered,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])["SecurityGroupRules"]
    listed = [rule for rule in rules(tenant, group) if not rule["IsEgress"]]
    assert listed == [answered]
    by_id = tenant("DescribeSecurityGroupRules", SecurityGroupRuleIds=[answered["SecurityGroupRuleId"]])
    assert by_id["SecurityGroupRules"] == [answered]
    assert answered["SecurityGroupRuleId"].startswith("sgr-")
    assert answered["GroupId"] == group  # LocalStack left it out, and Terraform saw a difference for ever
    assert answered["GroupOwnerId"] == tenant.account.id
    assert (answered["IpProtocol"], answered["FromPort"], answered["ToPort"]) == ("tcp", 80, 80)
    assert (answered["CidrIpv4"], answered["Description"]) == ("0.0.0.0/0", "web")
    (permission,) = shown(tenant, group)["IpPermissions"]
    assert permission["IpRanges"] == [{"CidrIp": "0.0.0.0/0", "Description": "web"}]


def test_rules_stand_together_only_when_protocol_and_ports_are_the_same(tenant: Tenant, group: str) -> None:
    sources = [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "192.168.0.0/16"}]
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[{**WEB, "IpRanges": sources}])
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[{**WEB, "ToPort": 81}])
    permissions = shown(tenant, group)["IpPermissions"]
    assert [(each["ToPort"], [source["CidrIp"] for source in each["IpRanges"]]) for each in permissions] == [
        (80, ["10.0.0.0/8", "192.168.0.0/16"]),
        (81, ["0.0.0.0/0"]),
    ]


def test_networks_are_made_canonical(tenant: Tenant, group: str) -> None:
    rule = {**WEB, "IpRanges": [{"CidrIp": "100.68.0.18/18"}]}  # the API reference's own example
    (made,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[rule])["SecurityGroupRules"]
    assert made["CidrIpv4"] == "100.68.0.0/18"
    again = {**WEB, "IpRanges": [{"CidrIp": "100.68.0.0/18"}]}
    refused = tenant.refused("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[again])
    assert refused == "InvalidPermission.Duplicate"
    version_6 = {**WEB, "IpRanges": [], "Ipv6Ranges": [{"CidrIpv6": "2001:DB8:0:0::1/32"}]}
    (made,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[version_6])["SecurityGroupRules"]
    assert made["CidrIpv6"] == "2001:db8::/32"


@pytest.mark.parametrize(
    ("protocol", "known_as"),
    [("6", "tcp"), ("TCP", "tcp"), ("17", "udp"), ("1", "icmp"), ("58", "icmpv6"), ("-1", "-1"), ("50", "50")],
)
def test_protocols_have_one_name(tenant: Tenant, group: str, protocol: str, known_as: str) -> None:
    (made,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[{**WEB, "IpProtocol": protocol}])[
        "SecurityGroupRules"
    ]
    assert made["IpProtocol"] == known_as
    if known_as in ("-1", "50"):  # ports mean nothing there
        assert (made["FromPort"], made["ToPort"]) == (-1, -1)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"IpProtocol": "carrier-pigeon"}, "InvalidParameterValue"),
        ({"IpProtocol": "256"}, "InvalidParameterValue"),
        ({"FromPort": 81}, "InvalidParameterValue"),
        ({"FromPort": -1, "ToPort": -1}, "InvalidParameterValue"),
        ({"ToPort": 65536}, "InvalidParameterValue"),
        ({"IpRanges": [{"CidrIp": "10.0.0.0"}]}, "InvalidParameterValue"),
        ({"IpRanges": [{"CidrIp": "10.0.0.0/33"}]}, "InvalidParameterValue"),
        ({"IpRanges": [{"CidrIp": "10.0.0.0/255.0.0.0"}]}, "InvalidParameterValue"),
        ({"IpRanges": [{"CidrIp": "300.0.0.0/8"}]}, "InvalidParameterValue"),
        ({"IpRanges": [{"CidrIp": "fe80::/10"}]}, "InvalidParameterValue"),
        ({"IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "<b>"}]}, "InvalidParameterValue"),
        ({"IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "d" * 256}]}, "InvalidParameterValue"),
        ({"IpRanges": []}, "MissingParameter"),
        ({"IpRanges": [{"CidrIp": "1.0.0.0/8"}, {"CidrIp": "1.0.0.0/8"}]}, "InvalidParameterValue"),
        ({"UserIdGroupPairs": [{"GroupId": "sg-00000000000000000"}]}, "InvalidGroup.NotFound"),
        ({"UserIdGroupPairs": [{"GroupId": "web"}]}, "InvalidGroupId.Malformed"),
        ({"UserIdGroupPairs": [{"GroupName": "nobody"}]}, "InvalidGroup.NotFound"),
        ({"IpProtocol": "icmp", "FromPort": -1, "ToPort": 3}, "InvalidParameterValue"),
        ({"IpProtocol": "icmp", "FromPort": 300, "ToPort": 0}, "InvalidParameterValue"),
        ({"IpProtocol": "icmp", "FromPort": None, "ToPort": None}, "InvalidParameterValue"),
        ({"IpProtocol": "1", "FromPort": 8, "ToPort": None}, "InvalidParameterValue"),
    ],
)
def test_what_a_rule_may_not_be(tenant: Tenant, group: str, changes: dict[str, Any], code: str) -> None:
    good = {**WEB, "FromPort": 22, "ToPort": 22}
    wrong = {name: value for name, value in {**WEB, **changes}.items() if value is not None}
    refused = tenant.refused("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[good, wrong])
    assert refused == code
    assert shown(tenant, group)["IpPermissions"] == []  # nothing of it, the good one neither


def test_of_icmp_only_version_6_needs_no_type(tenant: Tenant, group: str) -> None:
    everywhere = {"IpProtocol": "icmpv6", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    (rule,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[everywhere])["SecurityGroupRules"]
    assert (rule["FromPort"], rule["ToPort"]) == (-1, -1)


def test_a_name_is_kept_without_trailing_spaces_and_in_its_own_letters(tenant: Tenant) -> None:
    id = tenant("CreateSecurityGroup", GroupName="Test Group   ", Description="d")["GroupId"]
    assert shown(tenant, id)["GroupName"] == "Test Group"


def test_without_a_default_vpc_no_name_means_a_group(tenant: Tenant) -> None:
    (vpc,) = tenant("DescribeVpcs")["Vpcs"]
    for gateway in tenant("DescribeInternetGateways")["InternetGateways"]:
        tenant("DetachInternetGateway", InternetGatewayId=gateway["InternetGatewayId"], VpcId=vpc["VpcId"])
    for subnet in tenant("DescribeSubnets")["Subnets"]:
        tenant("DeleteSubnet", SubnetId=subnet["SubnetId"])
    tenant("DeleteVpc", VpcId=vpc["VpcId"])
    assert tenant.refused("DescribeSecurityGroups", GroupNames=["web"]) == "VPCIdNotSpecified"
    assert tenant.refused("DeleteSecurityGroup", GroupName="web") == "VPCIdNotSpecified"
    assert tenant.refused("AuthorizeSecurityGroupIngress", GroupName="web", IpPermissions=[WEB]) == "VPCIdNotSpecified"


def test_a_rule_exists_once(tenant: Tenant, group: str) -> None:
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])
    undescribed = {**WEB, "IpProtocol": "6", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    refused = tenant.refused("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[undescribed])
    assert refused == "InvalidPermission.Duplicate"
    tenant("AuthorizeSecurityGroupEgress", GroupId=group, IpPermissions=[WEB])  # the other direction is another rule


def test_groups_are_sources_by_id_and_by_name(tenant: Tenant, group: str) -> None:
    other = tenant("CreateSecurityGroup", GroupName="lb", Description="balancer")["GroupId"]
    pairs = [{"GroupId": group}, {"GroupName": "lb"}]
    tenant(
        "AuthorizeSecurityGroupIngress",
        GroupId=group,
        IpPermissions=[{"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "UserIdGroupPairs": pairs}],
    )
    (permission,) = shown(tenant, group)["IpPermissions"]
    assert [pair["GroupId"] for pair in permission["UserIdGroupPairs"]] == [group, other]
    listed = [rule["ReferencedGroupInfo"]["GroupId"] for rule in rules(tenant, group) if not rule["IsEgress"]]
    assert sorted(listed) == sorted([group, other])
    found = tenant("DescribeSecurityGroups", Filters=[{"Name": "ip-permission.group-name", "Values": ["lb"]}])["SecurityGroups"]
    assert [each["GroupId"] for each in found] == [group]


def test_the_flat_parameters_of_ec2s_first_years(tenant: Tenant, group: str) -> None:
    flat = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "10.0.0.0/8"}
    tenant("AuthorizeSecurityGroupIngress", GroupName="web", **flat)
    assert shown(tenant, group)["IpPermissions"][0]["IpRanges"][0]["CidrIp"] == "10.0.0.0/8"
    tenant("RevokeSecurityGroupIngress", GroupName="web", **flat)
    assert shown(tenant, group)["IpPermissions"] == []
    tenant("AuthorizeSecurityGroupIngress", GroupName="web", SourceSecurityGroupName="default")
    assert {each["IpProtocol"] for each in shown(tenant, group)["IpPermissions"]} == {"tcp", "udp", "icmp"}
    both = tenant.refused("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB], **flat)
    assert both == "InvalidParameterCombination"
    # A source group means all of three protocols, and an owner is that of a source group.
    for more in ({"FromPort": 22}, {"ToPort": 22}, {"IpProtocol": "tcp"}, {"CidrIp": "10.0.0.0/8"}):
        wrong = {"GroupName": "web", "SourceSecurityGroupName": "default", **more}
        assert tenant.refused("AuthorizeSecurityGroupIngress", **wrong) == "InvalidParameterCombination"
    for rest in (flat, {"IpPermissions": [WEB]}):
        owned = {"GroupName": "web", "SourceSecurityGroupOwnerId": tenant.account.id, **rest}
        assert tenant.refused("AuthorizeSecurityGroupIngress", **owned) == "InvalidParameterCombination"


def test_revoking_by_what_describe_showed(tenant: Tenant, group: str) -> None:
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])
    found = shown(tenant, group)
    tenant("RevokeSecurityGroupIngress", GroupId=group, IpPermissions=found["IpPermissions"])
    # Terraform takes the rule that lets everything out away in this way.
    tenant("RevokeSecurityGroupEgress", GroupId=group, IpPermissions=found["IpPermissionsEgress"])
    assert rules(tenant, group) == []


def test_revoking_by_id(tenant: Tenant, group: str) -> None:
    (rule,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])["SecurityGroupRules"]
    id = rule["SecurityGroupRuleId"]
    assert tenant.refused("RevokeSecurityGroupEgress", GroupId=group, SecurityGroupRuleIds=[id]) == (
        "InvalidSecurityGroupRuleId.NotFound"
    )
    revoked = tenant("RevokeSecurityGroupIngress", GroupId=group, SecurityGroupRuleIds=[id])["RevokedSecurityGroupRules"]
    assert [each["SecurityGroupRuleId"] for each in revoked] == [id]
    again = tenant.refused("RevokeSecurityGroupIngress", GroupId=group, SecurityGroupRuleIds=[id])
    assert again == "InvalidSecurityGroupRuleId.NotFound"
    assert tenant.refused("DescribeSecurityGroupRules", SecurityGroupRuleIds=[id]) == "InvalidSecurityGroupRuleId.NotFound"
    assert tenant.refused("DescribeSecurityGroupRules", SecurityGroupRuleIds=["x"]) == "InvalidSecurityGroupRuleId.Malformed"


def test_revoking_what_is_not_there(tenant: Tenant, group: str) -> None:
    # RevokeSecurityGroupIngress in the API reference: "For a default VPC ... no error is returned, and the output describes
    # the security group rules that were not revoked."
    answer = tenant("RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])
    assert answer["Return"] is True
    assert answer["UnknownIpPermissions"][0]["FromPort"] == 80
    assert answer["UnknownIpPermissions"][0]["IpRanges"][0]["CidrIp"] == "0.0.0.0/0"


def test_modifying_a_rule_keeps_its_id(tenant: Tenant, group: str) -> None:
    (rule,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])["SecurityGroupRules"]
    id = rule["SecurityGroupRuleId"]
    new = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIpv4": "10.0.0.0/8", "Description": "tls"}
    update = [{"SecurityGroupRuleId": id, "SecurityGroupRule": new}]
    tenant("ModifySecurityGroupRules", GroupId=group, SecurityGroupRules=update)
    (rule,) = (each for each in rules(tenant, group) if not each["IsEgress"])
    assert rule["SecurityGroupRuleId"] == id
    assert (rule["FromPort"], rule["CidrIpv4"], rule["Description"]) == (443, "10.0.0.0/8", "tls")
    tenant("ModifySecurityGroupRules", GroupId=group, SecurityGroupRules=update)  # to what it is already
    for peers, code in (({"CidrIpv6": "::/0"}, "InvalidParameterCombination"), ({"CidrIpv4": None}, "MissingParameter")):
        rule = {name: value for name, value in {**new, **peers}.items() if value is not None}
        changes = [{"SecurityGroupRuleId": id, "SecurityGroupRule": rule}]
        assert tenant.refused("ModifySecurityGroupRules", GroupId=group, SecurityGroupRules=changes) == code
    everything = {**new, "IpProtocol": "-1", "FromPort": 0, "ToPort": 0}
    changes = [{"SecurityGroupRuleId": id, "SecurityGroupRule": everything}]
    refusal = tenant.refusal("ModifySecurityGroupRules", GroupId=group, SecurityGroupRules=changes)
    assert refusal.startswith("InvalidParameterValue: You may not specify all protocols and specific ports.")
    changes = [{"SecurityGroupRuleId": id, "SecurityGroupRule": {**everything, "FromPort": -1, "ToPort": -1}}]
    tenant("ModifySecurityGroupRules", GroupId=group, SecurityGroupRules=changes)


def test_a_rule_keeps_the_kind_of_its_peer(tenant: Tenant, group: str) -> None:
    (rule,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])["SecurityGroupRules"]
    id = rule["SecurityGroupRuleId"]
    for peer in ({"CidrIpv6": "::/0"}, {"ReferencedGroupId": group}):
        update = [{"SecurityGroupRuleId": id, "SecurityGroupRule": {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, **peer}}]
        refusal = tenant.refusal("ModifySecurityGroupRules", GroupId=group, SecurityGroupRules=update)
        assert refusal.startswith("InvalidParameterValue: You may not specify a")
        assert refusal.endswith("for an existing rule that has an IPv4 CIDR.")
    assert [one["FromPort"] for one in rules(tenant, group) if not one["IsEgress"]] == [80]


def test_descriptions_change_by_rule_and_by_id(tenant: Tenant, group: str) -> None:
    (rule,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])["SecurityGroupRules"]
    id = rule["SecurityGroupRuleId"]
    renamed = {**WEB, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "two"}]}
    tenant("UpdateSecurityGroupRuleDescriptionsIngress", GroupId=group, IpPermissions=[renamed])
    assert [each["Description"] for each in rules(tenant, group) if not each["IsEgress"]] == ["two"]
    by_id = [{"SecurityGroupRuleId": id, "Description": "three"}]
    tenant("UpdateSecurityGroupRuleDescriptionsIngress", GroupId=group, SecurityGroupRuleDescriptions=by_id)
    assert [each["Description"] for each in rules(tenant, group) if not each["IsEgress"]] == ["three"]
    assert (
        tenant.refused("UpdateSecurityGroupRuleDescriptionsEgress", GroupId=group, SecurityGroupRuleDescriptions=by_id)
        == "InvalidSecurityGroupRuleId.NotFound"
    )


def test_deleting(cloud: Cloud, tenant: Tenant, group: str) -> None:
    (default,) = tenant("DescribeSecurityGroups", GroupNames=["default"])["SecurityGroups"]
    assert tenant.refused("DeleteSecurityGroup", GroupId=default["GroupId"]) == "CannotDelete"
    pairs = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
    tenant("AuthorizeSecurityGroupIngress", GroupId=default["GroupId"], IpPermissions=pairs)
    assert tenant.refused("DeleteSecurityGroup", GroupId=group) == "DependencyViolation"
    tenant("RevokeSecurityGroupIngress", GroupId=default["GroupId"], IpPermissions=pairs)
    subnet = tenant("DescribeSubnets")["Subnets"][0]
    cloud.put(replace(interface_in(tenant, subnet), group_ids=(group,)))
    assert tenant.refused("DeleteSecurityGroup", GroupName="web") == "DependencyViolation"
    free = tenant("CreateSecurityGroup", GroupName="free", Description="d")["GroupId"]
    assert tenant("DeleteSecurityGroup", GroupName="free") == {"Return": True, "GroupId": free}
    assert tenant.refused("DeleteSecurityGroup", GroupId=free) == "InvalidGroup.NotFound"
    assert tenant.refused("DeleteSecurityGroup", GroupName="free") == "InvalidGroup.NotFound"


def test_a_group_has_at_most_sixty_rules_of_a_direction(tenant: Tenant, group: str) -> None:
    ranges = [{"CidrIp": f"10.{number}.0.0/16"} for number in range(60)]
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[{**WEB, "IpRanges": ranges}])
    more = tenant.refusal("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])
    assert more == ("RulesPerSecurityGroupLimitExceeded: The maximum number of rules per security group has been reached.")
    version_6 = {**WEB, "IpRanges": [], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[version_6])  # counted apart


def test_rules_carry_tags(tenant: Tenant, group: str) -> None:
    specification = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "a", "Value": "1"}]}]
    (rule,) = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB], TagSpecifications=specification)[
        "SecurityGroupRules"
    ]
    assert rule["Tags"] == [{"Key": "a", "Value": "1"}]
    tenant("CreateTags", Resources=[rule["SecurityGroupRuleId"]], Tags=[{"Key": "b", "Value": "2"}])
    found = tenant("DescribeSecurityGroupRules", Filters=[{"Name": "tag:b", "Values": ["2"]}])["SecurityGroupRules"]
    assert [each["SecurityGroupRuleId"] for each in found] == [rule["SecurityGroupRuleId"]]
    rows = tenant("DescribeTags", Filters=[{"Name": "resource-type", "Values": ["security-group-rule"]}])["Tags"]
    assert {(row["ResourceId"], row["Key"]) for row in rows} == {(rule["SecurityGroupRuleId"], key) for key in "ab"}


def test_choosing_groups(tenant: Tenant, group: str) -> None:
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[WEB])

    def names(*filters: tuple[str, str]) -> list[str]:
        wanted = [{"Name": name, "Values": [value]} for name, value in filters]
        return sorted(each["GroupName"] for each in tenant("DescribeSecurityGroups", Filters=wanted)["SecurityGroups"])

    assert names(("group-name", "we*")) == ["web"]
    assert names(("ip-permission.from-port", "80"), ("ip-permission.cidr", "0.0.0.0/0")) == ["web"]
    assert names(("ip-permission.protocol", "-1")) == ["default"]
    assert names(("egress.ip-permission.cidr", "0.0.0.0/0")) == ["default", "web"]
    assert names(("description", "for the web")) == ["web"]
    assert tenant.refused("DescribeSecurityGroups", GroupIds=["sg-00000000"]) == "InvalidGroup.NotFound"
    assert tenant.refused("DescribeSecurityGroups", GroupIds=["web"]) == "InvalidGroupId.Malformed"
    assert tenant.refused("DescribeSecurityGroups", GroupNames=["nobody"]) == "InvalidGroup.NotFound"
    assert rules(tenant, "sg-00000000") == rules(tenant, "sg-0000000?") == []
    refused = tenant.refusal("DescribeSecurityGroupRules", Filters=[{"Name": "group-id", "Values": [group, "web"]}])
    assert refused == "InvalidGroupId.Malformed: The security group ID 'web' is malformed"


def test_in_a_vpc_with_ipv6_everything_goes_out_by_that_too(tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]
    tenant("CreateSecurityGroup", GroupName="web", Description="for the web", VpcId=vpc)
    both = tenant("DescribeSecurityGroups", Filters=[{"Name": "vpc-id", "Values": [vpc]}])["SecurityGroups"]
    for found in both:
        (outward,) = found["IpPermissionsEgress"]
        assert outward["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}]
        assert outward["Ipv6Ranges"] == [{"CidrIpv6": "::/0"}]
    assert len(both) == 2


def test_rules_are_listed_as_they_stand_in_their_group(tenant: Tenant, group: str) -> None:
    for port in (443, 22, 80):
        source = [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
        tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=source)
    assert [rule["FromPort"] for rule in rules(tenant, group)] == [443, 22, 80, -1]
