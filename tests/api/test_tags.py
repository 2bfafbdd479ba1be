"""Goal: tags follow "Tag your Amazon EC2 resources". Method: whole operations over a store in memory; limits from that page."""

import pytest

from tests.api.cloud import Cloud, Tenant


def tags_of(tenant: Tenant, id: str) -> dict[str, str]:
    rows = tenant("DescribeTags", Filters=[{"Name": "resource-id", "Values": [id]}])["Tags"]
    assert {row["ResourceId"] for row in rows} <= {id}
    return {row["Key"]: row["Value"] for row in rows}


@pytest.fixture
def vpc(tenant: Tenant) -> str:
    id: str = tenant("DescribeVpcs")["Vpcs"][0]["VpcId"]
    return id


def test_tags_are_set_changed_and_shown_on_the_resource(tenant: Tenant, vpc: str) -> None:
    tenant("CreateTags", Resources=[vpc], Tags=[{"Key": "Name", "Value": "one"}, {"Key": "empty", "Value": ""}])
    tenant("CreateTags", Resources=[vpc], Tags=[{"Key": "Name", "Value": "two"}])
    assert tags_of(tenant, vpc) == {"Name": "two", "empty": ""}
    assert {"Key": "Name", "Value": "two"} in tenant("DescribeVpcs")["Vpcs"][0]["Tags"]
    by_tag = tenant("DescribeVpcs", Filters=[{"Name": "tag:Name", "Values": ["t*"]}])["Vpcs"]
    assert [each["VpcId"] for each in by_tag] == [vpc]


@pytest.mark.parametrize(
    ("deleted", "left"),
    [
        ([{"Key": "a"}], {"b": "", "c": "3"}),  # without a value: whatever it is
        ([{"Key": "c", "Value": "2"}], {"a": "1", "b": "", "c": "3"}),  # another value: nothing happens
        ([{"Key": "c", "Value": "3"}], {"a": "1", "b": ""}),
        ([{"Key": "a", "Value": ""}, {"Key": "b", "Value": ""}], {"a": "1", "c": "3"}),  # empty: only empty ones
        ([{"Key": "unknown"}], {"a": "1", "b": "", "c": "3"}),
    ],
)
def test_which_tags_a_deletion_takes(tenant: Tenant, vpc: str, deleted: list[dict[str, str]], left: dict[str, str]) -> None:
    tenant("CreateTags", Resources=[vpc], Tags=[{"Key": k, "Value": v} for k, v in {"a": "1", "b": "", "c": "3"}.items()])
    tenant("DeleteTags", Resources=[vpc], Tags=deleted)
    assert tags_of(tenant, vpc) == left


def test_a_deletion_without_tags_takes_all(tenant: Tenant, vpc: str) -> None:
    tenant("CreateTags", Resources=[vpc], Tags=[{"Key": "a", "Value": "1"}])
    tenant("DeleteTags", Resources=[vpc])
    assert tags_of(tenant, vpc) == {}


def test_limits(tenant: Tenant, vpc: str) -> None:
    def refusal(key: str, value: str = "") -> str:
        return tenant.refused("CreateTags", Resources=[vpc], Tags=[{"Key": key, "Value": value}])

    assert refusal("aws:mine") == "InvalidParameterValue"
    assert refusal("") == "InvalidParameterValue"
    assert refusal("k" * 129) == "InvalidParameterValue"
    assert refusal("k", "v" * 257) == "InvalidParameterValue"
    assert tenant.refused("CreateTags", Resources=[vpc], Tags=[{"Key": "no value"}]) == "InvalidParameterValue"
    longest = [{"Key": "k" * 128, "Value": "v" * 256}]
    tenant("CreateTags", Resources=[vpc], Tags=longest)
    tenant("CreateTags", Resources=[vpc], Tags=[{"Key": f"k{n}", "Value": ""} for n in range(49)])
    assert len(tags_of(tenant, vpc)) == 50
    assert refusal("one-more") == "TagLimitExceeded"
    assert len(tags_of(tenant, vpc)) == 50
    twice = [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]
    assert tenant.refused("CreateTags", Resources=[vpc], Tags=twice) == "InvalidParameterValue"


def test_several_resources_are_tagged_together_or_not_at_all(tenant: Tenant, vpc: str) -> None:
    subnet = tenant("DescribeSubnets")["Subnets"][0]["SubnetId"]
    tags = [{"Key": "a", "Value": "1"}]
    absent = "subnet-00000000000000000"
    assert tenant.refused("CreateTags", Resources=[vpc, subnet, absent], Tags=tags) == "InvalidSubnetID.NotFound"
    assert tags_of(tenant, vpc) == {}
    tenant("CreateTags", Resources=[vpc, subnet], Tags=tags)
    assert tags_of(tenant, subnet) == tags_of(tenant, vpc) == {"a": "1"}


@pytest.mark.parametrize(
    ("id", "code"),
    [
        ("i-00000000000000000", "InvalidInstanceID.NotFound"),
        ("i-nonsense", "InvalidID"),
        ("ami-blah", "InvalidID"),
        ("ami-00000000000000000", "InvalidAMIID.NotFound"),
        ("vol-00000000000000000", "InvalidVolume.NotFound"),
        ("sg-00000000000000000", "InvalidGroup.NotFound"),
        ("sgr-00000000000000000", "InvalidSecurityGroupRuleId.NotFound"),
        ("eni-00000000000000000", "InvalidNetworkInterfaceID.NotFound"),
        ("eipalloc-00000000000000000", "InvalidElasticIpID.NotFound"),
        ("dopt-00000000000000000", "InvalidDhcpOptionsID.NotFound"),
        ("key-00000000000000000", "InvalidKeyPair.NotFound"),
        ("igw-00000000000000000", "InvalidInternetGatewayID.NotFound"),
        ("nonsense", "InvalidID"),
    ],
)
def test_absent_resources_answer_their_own_code(tenant: Tenant, id: str, code: str) -> None:
    assert tenant.refused("CreateTags", Resources=[id], Tags=[{"Key": "a", "Value": "1"}]) == code
    assert tenant.refused("DeleteTags", Resources=[id], Tags=[{"Key": "a"}]) == code


def test_filters_and_pages_of_the_listing(tenant: Tenant, vpc: str) -> None:
    subnet = tenant("DescribeSubnets")["Subnets"][0]["SubnetId"]
    tenant("CreateTags", Resources=[vpc, subnet], Tags=[{"Key": f"k{n}", "Value": str(n % 2)} for n in range(6)])

    def count(name: str, *values: str) -> int:
        return len(tenant("DescribeTags", Filters=[{"Name": name, "Values": list(values)}])["Tags"])

    assert count("resource-type", "subnet") == 6
    assert count("resource-type", "sub*") == 6
    assert count("key", "k1", "k2") == 4
    assert count("value", "0") == 6
    assert count("tag:k1", "1") == 2
    assert count("tag:k1", "0") == 0
    seen: list[tuple[str, str]] = []
    token: dict[str, str] = {}
    for _ in range(4):
        page = tenant("DescribeTags", MaxResults=5, **token)
        assert len(page["Tags"]) <= 5
        seen += [(tag["ResourceId"], tag["Key"]) for tag in page["Tags"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert sorted(seen) == seen
    assert len(seen) == len(set(seen)) == 12
    assert tenant.refused("DescribeTags", MaxResults=4) == "InvalidParameterValue"


def test_tags_with_a_new_key_pair(cloud: Cloud, tenant: Tenant) -> None:
    def specification(type: str) -> list[dict[str, object]]:
        return [{"ResourceType": type, "Tags": [{"Key": "a", "Value": "1"}]}]

    made = tenant("CreateKeyPair", KeyName="k", KeyType="ed25519", TagSpecifications=specification("key-pair"))
    assert tags_of(tenant, made["KeyPairId"]) == {"a": "1"}
    refused = tenant.refused("CreateKeyPair", KeyName="other", TagSpecifications=specification("instance"))
    assert refused == "InvalidParameterValue"


def test_a_list_that_is_missing_has_the_name_that_ec2_gives_it(tenant: Tenant, vpc: str) -> None:
    tag = [{"Key": "a", "Value": "b"}]
    for operation in ("CreateTags", "DeleteTags"):
        refusal = tenant.refusal(operation, Resources=[], Tags=tag)
        assert refusal == "MissingParameter: The request must contain the parameter resourceIdSet"
    refusal = tenant.refusal("CreateTags", Resources=[vpc], Tags=[])
    assert refusal == "MissingParameter: The request must contain the parameter tagSet"
