"""Goal: calls that come at once end as if they had come one after another. Method: many side by side on one loop, over a store
that lets others in before and after each transaction."""

from collections import Counter
from typing import Any

from tests.api.cloud import Answered, Cloud, Tenant

MANY = 20
RULE = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}


def codes(answers: list[dict[str, Any] | Answered]) -> Counter[str]:
    return Counter(answer.code if isinstance(answer, Answered) else "" for answer in answers)


def test_a_region_begins_once_however_many_ask_first(tenant: Tenant) -> None:
    tenant.at_once(*[("DescribeVpcs", {})] * MANY)
    assert len(tenant("DescribeVpcs")["Vpcs"]) == 1
    assert len(tenant("DescribeSubnets")["Subnets"]) == 6
    assert len(tenant("DescribeSecurityGroups")["SecurityGroups"]) == 1


def test_a_name_is_given_once(tenant: Tenant) -> None:
    groups = tenant.at_once(*[("CreateSecurityGroup", {"GroupName": "g", "Description": "d"})] * MANY)
    assert codes(groups) == {"": 1, "InvalidGroup.Duplicate": MANY - 1}
    keys = tenant.at_once(*[("CreateKeyPair", {"KeyName": "k", "KeyType": "ed25519"})] * MANY)
    assert codes(keys) == {"": 1, "InvalidKeyPair.Duplicate": MANY - 1}
    assert len(tenant("DescribeKeyPairs")["KeyPairs"]) == 1


def test_a_rule_is_added_once_and_none_is_lost(tenant: Tenant) -> None:
    group = tenant("CreateSecurityGroup", GroupName="g", Description="d")["GroupId"]
    same = tenant.at_once(*[("AuthorizeSecurityGroupIngress", {"GroupId": group, "IpPermissions": [RULE]})] * MANY)
    assert codes(same) == {"": 1, "InvalidPermission.Duplicate": MANY - 1}
    others = [
        ("AuthorizeSecurityGroupIngress", {"GroupId": group, "IpPermissions": [{**RULE, "ToPort": 100 + number}]})
        for number in range(MANY)
    ]
    assert codes(tenant.at_once(*others)) == {"": MANY}
    inward = [rule for rule in tenant("DescribeSecurityGroupRules")["SecurityGroupRules"] if rule["GroupId"] == group]
    assert len([rule for rule in inward if not rule["IsEgress"]]) == MANY + 1


def test_no_tag_is_lost(tenant: Tenant) -> None:
    vpc = tenant("DescribeVpcs")["Vpcs"][0]["VpcId"]
    wanted = {f"k{number}": str(number) for number in range(MANY)}
    tenant.at_once(*[("CreateTags", {"Resources": [vpc], "Tags": [{"Key": k, "Value": v}]}) for k, v in wanted.items()])
    assert {tag["Key"]: tag["Value"] for tag in tenant("DescribeVpcs")["Vpcs"][0]["Tags"]} == wanted
    # The fifty-first of those that come at once is refused, whichever it is.
    more = [("CreateTags", {"Resources": [vpc], "Tags": [{"Key": f"more{n}", "Value": ""}]}) for n in range(40)]
    assert codes(tenant.at_once(*more)) == {"": 30, "TagLimitExceeded": 10}


def test_a_group_that_is_being_used_is_not_deleted(cloud: Cloud, tenant: Tenant) -> None:
    first = tenant("CreateSecurityGroup", GroupName="a", Description="d")["GroupId"]
    second = tenant("CreateSecurityGroup", GroupName="b", Description="d")["GroupId"]
    pairs = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": second}]}]
    answers = tenant.at_once(
        ("AuthorizeSecurityGroupIngress", {"GroupId": first, "IpPermissions": pairs}),
        ("DeleteSecurityGroup", {"GroupId": second}),
    )
    left = {group["GroupId"] for group in tenant("DescribeSecurityGroups")["SecurityGroups"]}
    referenced = {
        pair["GroupId"]
        for group in tenant("DescribeSecurityGroups")["SecurityGroups"]
        for permission in group["IpPermissions"]
        for pair in permission["UserIdGroupPairs"]
    }
    assert referenced <= left
    assert sum(isinstance(answer, Answered) for answer in answers) == 1
