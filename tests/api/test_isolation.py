"""Goal: nobody learns whether another account has a thing, nor touches it. Method: every place of every request that takes an
id is asked once with another account's id and once with one that never was; the answers must be the same but for the id, and
the owner must still have everything as it was. Places are found in the operations' own request structs, so that a new
operation fails here until it has a row.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import inspect

from alto.api.ec2.absent_kinds import KINDS
from alto.api.ec2.operations import OPERATIONS
from alto.api.wire.models import Models
from alto.daemons.server import TINY_IMAGE_ID
from alto.model.images import Image
from tests.api import isolation_addresses, isolation_instances, isolation_networks, isolation_volumes
from tests.api.cloud import NEEDED, NOW, Answered, Cloud, Tenant
from tests.api.living.cloud import LivingCloud
from tests.api.rows import host

Parameters = dict[str, Any]

RULE = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
TAGS = [{"Key": "a", "Value": "b"}]
IMAGE = TINY_IMAGE_ID

# The kinds of ids, and of each the place in which an absent one stands.
ABSENT = {
    "instance": "i-00000000000000000",
    "image": "ami-00000000000000000",
    "vpc": "vpc-00000000000000000",
    "subnet": "subnet-00000000000000000",
    "group": "sg-00000000000000000",
    "rule": "sgr-00000000000000000",
    "egress rule": "sgr-00000000000000000",
    "interface": "eni-00000000000000000",
    "volume": "vol-00000000000000000",
    "key": "key-00000000000000000",
    "template": "lt-00000000000000000",
    "placement group": "pg-00000000000000000",
    **isolation_addresses.ABSENT,
    **isolation_volumes.ABSENT,
    **isolation_networks.ABSENT,
}
ABSENT_WITHOUT_TAGS = {
    **isolation_instances.ABSENT_WITHOUT_TAGS,
    **isolation_addresses.ABSENT_WITHOUT_TAGS,
    **isolation_networks.ABSENT_WITHOUT_TAGS,
}


def sourced(id: str) -> list[Parameters]:
    return [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": id}]}]


def new_rule(id: str) -> list[Parameters]:
    return [{"SecurityGroupRuleId": id, "SecurityGroupRule": {"IpProtocol": "-1", "CidrIpv4": "10.0.0.0/8"}}]


def described(id: str) -> list[Parameters]:
    return [{"SecurityGroupRuleId": id, "Description": "mine now"}]


# (operation, place): (kind of id, the request with an id in that place; `own` is the asking account's group).
Row = tuple[str, Callable[[str, str], Parameters]]
ROWS: dict[tuple[str, str], Row] = {
    ("AuthorizeSecurityGroupEgress", "GroupId"): ("group", lambda id, own: {"GroupId": id, "IpPermissions": [RULE]}),
    ("AuthorizeSecurityGroupEgress", "IpPermissions.UserIdGroupPairs.GroupId"): (
        "group",
        lambda id, own: {"GroupId": own, "IpPermissions": sourced(id)},
    ),
    ("AuthorizeSecurityGroupIngress", "GroupId"): ("group", lambda id, own: {"GroupId": id, "IpPermissions": [RULE]}),
    ("AuthorizeSecurityGroupIngress", "IpPermissions.UserIdGroupPairs.GroupId"): (
        "group",
        lambda id, own: {"GroupId": own, "IpPermissions": sourced(id)},
    ),
    ("CreateLaunchTemplateVersion", "LaunchTemplateId"): (
        "template",
        lambda id, own: {"LaunchTemplateId": id, "LaunchTemplateData": {"ImageId": IMAGE}},
    ),
    ("CreateSecurityGroup", "VpcId"): ("vpc", lambda id, own: {"GroupName": "g", "Description": "d", "VpcId": id}),
    ("CreateTags", "Resources"): ("instance", lambda id, own: {"Resources": [id], "Tags": TAGS}),
    ("DeleteKeyPair", "KeyPairId"): ("key", lambda id, own: {"KeyPairId": id}),
    ("DeleteLaunchTemplate", "LaunchTemplateId"): ("template", lambda id, own: {"LaunchTemplateId": id}),
    ("DeleteLaunchTemplateVersions", "LaunchTemplateId"): (
        "template",
        lambda id, own: {"LaunchTemplateId": id, "Versions": ["1"]},
    ),
    ("DeleteSecurityGroup", "GroupId"): ("group", lambda id, own: {"GroupId": id}),
    ("DeleteTags", "Resources"): ("instance", lambda id, own: {"Resources": [id]}),
    ("DeregisterImage", "ImageId"): ("image", lambda id, own: {"ImageId": id}),
    ("DescribeAddresses", "AllocationIds"): ("instance", lambda id, own: {"AllocationIds": [id]}),
    ("DescribeAddressesAttribute", "AllocationIds"): ("instance", lambda id, own: {"AllocationIds": [id]}),
    ("DescribeIamInstanceProfileAssociations", "AssociationIds"): ("instance", lambda id, own: {"AssociationIds": [id]}),
    ("DescribeImageAttribute", "ImageId"): ("image", lambda id, own: {"ImageId": id, "Attribute": "description"}),
    ("DescribeImages", "ImageIds"): ("image", lambda id, own: {"ImageIds": [id]}),
    ("DescribeInstanceAttribute", "InstanceId"): (
        "instance",
        lambda id, own: {"InstanceId": id, "Attribute": "userData"},
    ),
    ("DescribeInstanceCreditSpecifications", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("DescribeInstanceStatus", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("DescribeInstances", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("DescribeKeyPairs", "KeyPairIds"): ("key", lambda id, own: {"KeyPairIds": [id]}),
    ("DescribeLaunchTemplateVersions", "LaunchTemplateId"): ("template", lambda id, own: {"LaunchTemplateId": id}),
    ("DescribeLaunchTemplates", "LaunchTemplateIds"): ("template", lambda id, own: {"LaunchTemplateIds": [id]}),
    ("DescribeNetworkInterfaceAttribute", "NetworkInterfaceId"): (
        "interface",
        lambda id, own: {"NetworkInterfaceId": id, "Attribute": "description"},
    ),
    ("DescribeNetworkInterfaces", "NetworkInterfaceIds"): ("interface", lambda id, own: {"NetworkInterfaceIds": [id]}),
    ("DescribePlacementGroups", "GroupIds"): ("placement group", lambda id, own: {"GroupIds": [id]}),
    ("DescribeSecurityGroupRules", "SecurityGroupRuleIds"): ("rule", lambda id, own: {"SecurityGroupRuleIds": [id]}),
    ("DescribeSecurityGroups", "GroupIds"): ("group", lambda id, own: {"GroupIds": [id]}),
    ("DescribeSubnets", "SubnetIds"): ("subnet", lambda id, own: {"SubnetIds": [id]}),
    ("DescribeVolumes", "VolumeIds"): ("volume", lambda id, own: {"VolumeIds": [id]}),
    ("DescribeVpcAttribute", "VpcId"): ("vpc", lambda id, own: {"VpcId": id, "Attribute": "enableDnsSupport"}),
    ("DescribeVpcs", "VpcIds"): ("vpc", lambda id, own: {"VpcIds": [id]}),
    ("ModifyImageAttribute", "ImageId"): ("image", lambda id, own: {"ImageId": id, "Description": {"Value": "mine now"}}),
    ("ModifyInstanceAttribute", "Groups"): ("group", lambda id, own: {"InstanceId": "OWN", "Groups": [id]}),
    ("ModifyInstanceAttribute", "InstanceId"): (
        "instance",
        lambda id, own: {"InstanceId": id, "DisableApiTermination": {"Value": True}},
    ),
    ("GetLaunchTemplateData", "InstanceId"): ("instance", lambda id, own: {"InstanceId": id}),
    ("GetPasswordData", "InstanceId"): ("instance", lambda id, own: {"InstanceId": id}),
    ("ModifyInstanceCreditSpecification", "InstanceCreditSpecifications.InstanceId"): (
        "instance",
        lambda id, own: {"InstanceCreditSpecifications": [{"InstanceId": id, "CpuCredits": "unlimited"}]},
    ),
    ("MonitorInstances", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("UnmonitorInstances", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("ModifyInstanceMetadataOptions", "InstanceId"): (
        "instance",
        lambda id, own: {"InstanceId": id, "HttpTokens": "required"},
    ),
    ("ModifyLaunchTemplate", "LaunchTemplateId"): (
        "template",
        lambda id, own: {"LaunchTemplateId": id, "DefaultVersion": "1"},
    ),
    ("ModifySecurityGroupRules", "GroupId"): (
        "group",
        lambda id, own: {"GroupId": id, "SecurityGroupRules": new_rule(ABSENT["rule"])},
    ),
    ("ModifySecurityGroupRules", "SecurityGroupRules.SecurityGroupRuleId"): (
        "rule",
        lambda id, own: {"GroupId": own, "SecurityGroupRules": new_rule(id)},
    ),
    ("ModifySecurityGroupRules", "SecurityGroupRules.SecurityGroupRule.PrefixListId"): (
        "prefix list",
        lambda id, own: {
            "GroupId": own,
            "SecurityGroupRules": [
                {"SecurityGroupRuleId": "OWN", "SecurityGroupRule": {"IpProtocol": "-1", "PrefixListId": id}}
            ],
        },
    ),
    ("ModifySecurityGroupRules", "SecurityGroupRules.SecurityGroupRule.ReferencedGroupId"): (
        "group",
        lambda id, own: {
            "GroupId": own,
            "SecurityGroupRules": [
                {
                    "SecurityGroupRuleId": "OWN",
                    "SecurityGroupRule": {"IpProtocol": "-1", "ReferencedGroupId": id},
                }
            ],
        },
    ),
    ("RebootInstances", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("RevokeSecurityGroupEgress", "GroupId"): ("group", lambda id, own: {"GroupId": id, "IpPermissions": [RULE]}),
    ("RevokeSecurityGroupEgress", "IpPermissions.UserIdGroupPairs.GroupId"): (
        "group",
        lambda id, own: {"GroupId": own, "IpPermissions": sourced(id)},
    ),
    ("RevokeSecurityGroupEgress", "SecurityGroupRuleIds"): (
        "egress rule",
        lambda id, own: {"GroupId": own, "SecurityGroupRuleIds": [id]},
    ),
    ("RevokeSecurityGroupIngress", "GroupId"): ("group", lambda id, own: {"GroupId": id, "IpPermissions": [RULE]}),
    ("RevokeSecurityGroupIngress", "IpPermissions.UserIdGroupPairs.GroupId"): (
        "group",
        lambda id, own: {"GroupId": own, "IpPermissions": sourced(id)},
    ),
    ("RevokeSecurityGroupIngress", "SecurityGroupRuleIds"): (
        "rule",
        lambda id, own: {"GroupId": own, "SecurityGroupRuleIds": [id]},
    ),
    ("RunInstances", "ImageId"): ("image", lambda id, own: {"ImageId": id, "MinCount": 1, "MaxCount": 1}),
    ("RunInstances", "LaunchTemplate.LaunchTemplateId"): (
        "template",
        lambda id, own: {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "LaunchTemplate": {"LaunchTemplateId": id}},
    ),
    ("RunInstances", "NetworkInterfaces.Groups"): (
        "group",
        lambda id, own: {
            "ImageId": IMAGE,
            "MinCount": 1,
            "MaxCount": 1,
            "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [id]}],
        },
    ),
    ("RunInstances", "NetworkInterfaces.NetworkInterfaceId"): (
        "interface",
        lambda id, own: {
            "ImageId": IMAGE,
            "MinCount": 1,
            "MaxCount": 1,
            "NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": id}],
        },
    ),
    ("RunInstances", "NetworkInterfaces.SubnetId"): (
        "subnet",
        lambda id, own: {
            "ImageId": IMAGE,
            "MinCount": 1,
            "MaxCount": 1,
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": id}],
        },
    ),
    ("RunInstances", "Placement.GroupId"): (
        "placement group",
        lambda id, own: {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "Placement": {"GroupId": id}},
    ),
    ("RunInstances", "SecurityGroupIds"): (
        "group",
        lambda id, own: {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "SecurityGroupIds": [id]},
    ),
    ("RunInstances", "SubnetId"): (
        "subnet",
        lambda id, own: {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "SubnetId": id},
    ),
    ("StartInstances", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("StopInstances", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("TerminateInstances", "InstanceIds"): ("instance", lambda id, own: {"InstanceIds": [id]}),
    ("UpdateSecurityGroupRuleDescriptionsEgress", "GroupId"): (
        "group",
        lambda id, own: {"GroupId": id, "IpPermissions": [RULE]},
    ),
    ("UpdateSecurityGroupRuleDescriptionsEgress", "IpPermissions.UserIdGroupPairs.GroupId"): (
        "group",
        lambda id, own: {"GroupId": own, "IpPermissions": sourced(id)},
    ),
    ("UpdateSecurityGroupRuleDescriptionsEgress", "SecurityGroupRuleDescriptions.SecurityGroupRuleId"): (
        "egress rule",
        lambda id, own: {"GroupId": own, "SecurityGroupRuleDescriptions": described(id)},
    ),
    ("UpdateSecurityGroupRuleDescriptionsIngress", "GroupId"): (
        "group",
        lambda id, own: {"GroupId": id, "IpPermissions": [RULE]},
    ),
    ("UpdateSecurityGroupRuleDescriptionsIngress", "IpPermissions.UserIdGroupPairs.GroupId"): (
        "group",
        lambda id, own: {"GroupId": own, "IpPermissions": sourced(id)},
    ),
    ("UpdateSecurityGroupRuleDescriptionsIngress", "SecurityGroupRuleDescriptions.SecurityGroupRuleId"): (
        "rule",
        lambda id, own: {"GroupId": own, "SecurityGroupRuleDescriptions": described(id)},
    ),
    **isolation_addresses.ROWS,
    **isolation_volumes.ROWS,
    **isolation_instances.ROWS,
    **isolation_networks.ROWS,
}

# Ids of nothing that an account owns.
NOT_OWNED = {
    "PeerOwnerId",
    "HostId",
    "Placement.HostId",
    # There are none of these, whoever asks.
    "SpotInstanceRequestIds",
    "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId",
    "AvailabilityZoneId",
    "Placement.AvailabilityZoneId",
    "ZoneIds",
    "SourceSecurityGroupOwnerId",
    "UserIds",
    "OwnerIds",
    "RestorableByUserIds",
    "CreateVolumePermission.Add.UserId",
    "CreateVolumePermission.Remove.UserId",
    "KmsKeyId",
    "BlockDeviceMappings.Ebs.KmsKeyId",
    "LaunchPermission.Add.UserId",
    "LaunchPermission.Remove.UserId",
    "IpPermissions.UserIdGroupPairs.UserId",
    "IpPermissions.UserIdGroupPairs.VpcId",
    # Beside a group, which is not found when this is not the connection that leads to it.
    "IpPermissions.UserIdGroupPairs.VpcPeeringConnectionId",
    # One of those in SubnetIds, said again.
    "SubnetConfigurations.SubnetId",
}


def places(info: inspect.Type, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Where in a request an id can stand."""
    match info:
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from places(field.type, (*path, field.encode_name))
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            yield from places(item, path)
        case inspect.UnionType(types=types):
            for type in types:
                yield from places(type, path)
        case inspect.StrType():
            if path[-1].endswith(("Id", "Ids")) or path[-1] in ("Resources", "Groups"):
                yield ".".join(path)


def test_every_place_of_an_id_has_a_row() -> None:
    """But for the listings of kinds of which nobody has any."""
    found = {
        (operation, place)
        for operation, (request, _) in OPERATIONS.items()
        if operation not in KINDS
        for place in places(inspect.type_info(request))
        if place not in NOT_OWNED
    }
    assert found == set(ROWS)


class Owner:
    """An account that has one of everything, in running order."""

    def __init__(self, cloud: Cloud, tenant: Tenant) -> None:
        self.tenant = tenant
        cloud.put(host(1, vcpus=100, memory_mib=100_000))
        image = Image(id=IMAGE, account="0", region=None, name="tiny", public=True, source="tiny", size_gib=1, created_at=NOW)
        private = Image(
            id="ami-11111111111111111",
            account=tenant.account.id,
            region=tenant.region,
            name="private",
            source="tiny",
            size_gib=1,
            created_at=NOW,
        )
        cloud.put(image, private)
        key = tenant("CreateKeyPair", KeyName="k", KeyType="ed25519")["KeyPairId"]
        group = tenant("CreateSecurityGroup", GroupName="g", Description="d")["GroupId"]
        rule = tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[RULE])["SecurityGroupRules"][0]
        egress = tenant("AuthorizeSecurityGroupEgress", GroupId=group, IpPermissions=[RULE])["SecurityGroupRules"][0]
        (instance,) = tenant(
            "RunInstances",
            ImageId=IMAGE,
            MinCount=1,
            MaxCount=1,
            KeyName="k",
            UserData="c2VjcmV0",
            InstanceType="t2.micro",
            SecurityGroupIds=[group],
        )["Instances"]
        template = tenant("CreateLaunchTemplate", LaunchTemplateName="mine", LaunchTemplateData={"ImageId": private.id})
        self.ids = {
            "instance": instance["InstanceId"],
            "image": private.id,
            "vpc": instance["VpcId"],
            "subnet": instance["SubnetId"],
            "group": group,
            "rule": rule["SecurityGroupRuleId"],
            "egress rule": egress["SecurityGroupRuleId"],
            "interface": instance["NetworkInterfaces"][0]["NetworkInterfaceId"],
            "volume": instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"],
            "key": key,
            "placement group": tenant("CreatePlacementGroup", GroupName="p")["PlacementGroup"]["GroupId"],
            "template": template["LaunchTemplate"]["LaunchTemplateId"],
            **isolation_networks.made_by(tenant),
            **isolation_addresses.made_by(tenant),
            **isolation_volumes.made_by(tenant),
        }
        self.untagged = {
            **isolation_networks.untagged_by(tenant),
            **isolation_addresses.untagged_by(tenant),
            **isolation_instances.untagged_by(tenant, instance["InstanceId"]),
        }


ABOUT_ONE = {"DescribeSecurityGroupReferences", "DescribeStaleSecurityGroups"}
LISTINGS = [
    operation
    for operation in OPERATIONS
    # Types are long to read and nobody's.
    if operation.startswith("Describe")
    and "Attribute" not in operation
    and "InstanceType" not in operation
    and operation not in ABOUT_ONE
]


def everything(tenant: Tenant) -> dict[str, Any]:
    """All that an account sees in its region."""
    return {operation: tenant(operation, **NEEDED.get(operation, {})) for operation in LISTINGS}


def answer(tenant: Tenant, operation: str, parameters: Parameters, id: str) -> str:
    try:
        said = str(tenant(operation, **parameters))
    except Answered as refusal:
        said = f"{refusal.status} {refusal.code}: {refusal.message}"
    return said.replace(id, "<the id>")


def filled(tenant: Tenant, operation: str, place: str, id: str) -> Parameters:
    """The request of a row, with what the asking account must have of its own."""
    _, make = ROWS[operation, place]
    (default,) = tenant("DescribeSecurityGroups", GroupNames=["default"])["SecurityGroups"]
    parameters = make(id, default["GroupId"])
    if parameters.get("InstanceId") == "OWN":
        reservations = tenant("DescribeInstances")["Reservations"]
        parameters["InstanceId"] = reservations[0]["Instances"][0]["InstanceId"]
    if isolation_networks.OWN in str(parameters):
        own_ids = (
            isolation_networks.owned_by(tenant) | isolation_addresses.owned_by(tenant) | isolation_volumes.owned_by(tenant)
        )
        known = {isolation_networks.OWN + kind: own_id for kind, own_id in own_ids.items()}
        parameters = isolation_networks.substituted(parameters, known)
    if place.startswith("SecurityGroupRules.SecurityGroupRule."):
        (own,) = (
            rule["SecurityGroupRuleId"]
            for rule in tenant("DescribeSecurityGroupRules")["SecurityGroupRules"]
            if not rule["IsEgress"]
        )
        parameters["SecurityGroupRules"][0]["SecurityGroupRuleId"] = own
    return parameters


class World:
    """One owner, and two who ask; made once, because nothing that they ask may change it."""

    def __init__(self, cloud: Cloud) -> None:
        self.owner = Owner(cloud, cloud.account("alice"))
        self.asking = {
            "another account": cloud.account("mallory"),
            "another region": self.owner.tenant.in_region("eu-central-1"),
        }
        for tenant in self.asking.values():
            tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType="t2.micro")
            isolation_networks.prepare(tenant)
            isolation_addresses.prepare(tenant)
            isolation_volumes.prepare(tenant)


@pytest.fixture(scope="module")
def world(models: Models) -> Iterator[World]:
    cloud = Cloud(models)
    yield World(cloud)
    cloud.close()


@pytest.mark.parametrize("where", ["another account", "another region"])
@pytest.mark.parametrize(("operation", "place"), sorted(ROWS))
def test_anothers_id_is_answered_like_an_absent_one(world: World, operation: str, place: str, where: str) -> None:
    owner, asking = world.owner, world.asking[where]
    before = everything(owner.tenant)
    kinds = [kind for kind in ABSENT if kind != "egress rule"] if place == "Resources" else [ROWS[operation, place][0]]
    for kind in kinds:
        absent = ABSENT.get(kind) or ABSENT_WITHOUT_TAGS[kind]
        foreign = (owner.ids | owner.untagged)[kind]
        of_absent = answer(asking, operation, filled(asking, operation, place, absent), absent)
        of_foreign = answer(asking, operation, filled(asking, operation, place, foreign), foreign)
        assert of_foreign == of_absent
    assert everything(owner.tenant) == before


def test_listings_are_apart(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    owner = Owner(cloud, tenant)  # a cloud of its own: this one is changed
    tenant("CreateTags", Resources=list(owner.ids.values()), Tags=TAGS)
    seen = str(everything(tenant))
    ids = owner.ids | owner.untagged
    for kind, id in ids.items():
        assert id in seen, kind
    for asking in (stranger, tenant.in_region("eu-central-1")):
        seen = str(everything(asking))
        for kind, id in ids.items():
            assert id not in seen, kind


def test_anothers_console_is_answered_like_an_absent_one(models: Models) -> None:
    cloud = LivingCloud(models)
    try:
        owner, asking = cloud.operator, cloud.account("mallory")
        made = owner("RunInstances", ImageId=TINY_IMAGE_ID, MinCount=1, MaxCount=1, InstanceType="m1.tiny")
        id, absent = made["Instances"][0]["InstanceId"], ABSENT["instance"]
        assert owner("GetConsoleOutput", InstanceId=id)["InstanceId"] == id
        of_absent = answer(asking, "GetConsoleOutput", {"InstanceId": absent}, absent)
        assert answer(asking, "GetConsoleOutput", {"InstanceId": id}, id) == of_absent
    finally:
        cloud.close()
