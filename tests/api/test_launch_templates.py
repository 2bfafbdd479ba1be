"""Goal: launch templates are remembered word for word, versions never change, and a launch from one is what EC2 would launch:
the request wins, named elements are merged. Method: whole calls through the gateway, as botocore writes and reads them."""

from functools import partial
from typing import Any

import pytest

from tests.api.cloud import Answered, Cloud, Tenant
from tests.api.rows import IMAGE, host, tiny
from tests.api.test_launches import state

DATA: dict[str, Any] = {"ImageId": IMAGE, "InstanceType": "t3.nano"}
EVERYTHING: dict[str, Any] = {
    "ImageId": "ami-abc123",
    "KernelId": "aki-1",
    "RamDiskId": "ari-1",
    "EbsOptimized": False,
    "IamInstanceProfile": {"Name": "web"},
    "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "Encrypted": True, "Iops": 100}}],
    "NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": False, "Ipv6AddressCount": 1, "Groups": ["sg-1"]}],
    "InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"MaxPrice": "1"}},
    "InstanceRequirements": {"VCpuCount": {"Min": 1, "Max": 4}, "MemoryMiB": {"Min": 512}},
    "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": ""}]}],
    "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 2},
    "Monitoring": {"Enabled": True},
    "UserData": "IyEvYmluL3NoCg==",
}


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(
        host(1, vcpus=64, memory_mib=65536),
        tiny(),
    )


def make(tenant: Tenant, name: str = "web", **data: Any) -> str:
    made = tenant("CreateLaunchTemplate", LaunchTemplateName=name, LaunchTemplateData=data or DATA)
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def add(tenant: Tenant, id: str, **data: Any) -> int:
    made = tenant("CreateLaunchTemplateVersion", LaunchTemplateId=id, LaunchTemplateData=data)
    return int(made["LaunchTemplateVersion"]["VersionNumber"])


def numbers(answer: dict[str, Any]) -> list[int]:
    return [version["VersionNumber"] for version in answer["LaunchTemplateVersions"]]


def words(tenant: Tenant, operation: str, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(Answered) as refusal:
        tenant(operation, **parameters)
    return refusal.value.code, refusal.value.message


def test_what_was_given_comes_back_word_for_word(tenant: Tenant) -> None:
    make(tenant, **EVERYTHING)
    (version,) = tenant("DescribeLaunchTemplateVersions", LaunchTemplateName="web")["LaunchTemplateVersions"]
    assert version["LaunchTemplateData"] == EVERYTHING
    assert version["DefaultVersion"] is True
    assert version["CreatedBy"] == f"arn:aws:iam::{tenant.account.id}:root"


def test_a_name_is_given_once_and_again_after_deletion(tenant: Tenant) -> None:
    id = make(tenant)
    assert words(tenant, "CreateLaunchTemplate", LaunchTemplateName="web", LaunchTemplateData=DATA) == (
        "InvalidLaunchTemplateName.AlreadyExistsException",
        "Launch template name already in use.",
    )
    add(tenant, id, ImageId=IMAGE)
    gone = tenant("DeleteLaunchTemplate", LaunchTemplateName="web")["LaunchTemplate"]
    assert (gone["LaunchTemplateId"], gone["LatestVersionNumber"]) == (id, 2)
    assert tenant("DescribeLaunchTemplates")["LaunchTemplates"] == []
    assert make(tenant) != id
    assert numbers(tenant("DescribeLaunchTemplateVersions", LaunchTemplateName="web")) == [1]


@pytest.mark.parametrize("name", ["ab", "a b c", "x" * 129, "umläut"])
def test_names_are_checked(tenant: Tenant, name: str) -> None:
    refused = tenant.refused("CreateLaunchTemplate", LaunchTemplateName=name, LaunchTemplateData=DATA)
    assert refused == "InvalidLaunchTemplateName.MalformedException"


def test_a_template_says_something_and_its_user_data_is_base64(tenant: Tenant) -> None:
    assert tenant.refused("CreateLaunchTemplate", LaunchTemplateName="web", LaunchTemplateData={}) == "MissingParameter"
    data = {"UserData": "not base64 encoded"}
    assert words(tenant, "CreateLaunchTemplate", LaunchTemplateName="web", LaunchTemplateData=data) == (
        "InvalidUserData.Malformed",
        "Invalid BASE64 encoding of user data.",
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"InstanceRequirements": {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 512}}}, "InvalidParameterCombination"),
        ({"TagSpecifications": [{"ResourceType": "vpc", "Tags": [{"Key": "a", "Value": ""}]}]}, "InvalidParameterValue"),
        ({"TagSpecifications": [{"Tags": [{"Key": "a", "Value": ""}]}]}, "InvalidTagSpecification.Malformed"),
        ({"TagSpecifications": [{"ResourceType": "volume"}]}, "InvalidTagSpecification.Malformed"),
    ],
)
def test_what_no_template_may_say(tenant: Tenant, data: dict[str, Any], code: str) -> None:
    said = {**DATA, **data}
    assert tenant.refused("CreateLaunchTemplate", LaunchTemplateName="web", LaunchTemplateData=said) == code
    id = make(tenant)
    assert tenant.refused("CreateLaunchTemplateVersion", LaunchTemplateId=id, LaunchTemplateData=said) == code
    assert numbers(tenant("DescribeLaunchTemplateVersions", LaunchTemplateId=id)) == [1]


def test_a_template_is_named_by_one_of_id_and_name(tenant: Tenant) -> None:
    id = make(tenant)
    assert words(tenant, "DeleteLaunchTemplate") == (
        "MissingParameter",
        "The request must contain the parameter launch template ID or launch template name",
    )
    both = words(tenant, "ModifyLaunchTemplate", LaunchTemplateId="template_n", LaunchTemplateName="web", DefaultVersion="2")
    assert both == (
        "InvalidParameterCombination",
        "Either provide launch template ID or launch template name to modify the template.",
    )
    absent = "lt-07ff4bb0369cd679c"
    assert words(tenant, "DescribeLaunchTemplateVersions", LaunchTemplateId=absent) == (
        "InvalidLaunchTemplateId.NotFound",
        f"The specified launch template, with template ID {absent}, does not exist.",
    )
    assert words(tenant, "DescribeLaunchTemplateVersions", LaunchTemplateName="nobody") == (
        "InvalidLaunchTemplateName.NotFoundException",
        "The specified launch template, with template name nobody, does not exist.",
    )
    assert words(tenant, "DescribeLaunchTemplates", LaunchTemplateNames=["web", "nobody"]) == (
        "InvalidLaunchTemplateName.NotFoundException",
        "At least one of the launch templates specified in the request does not exist.",
    )
    assert tenant.refused("DeleteLaunchTemplate", LaunchTemplateId="i-1") == "InvalidLaunchTemplateId.Malformed"
    assert tenant.in_region("eu-central-1").refused("DeleteLaunchTemplate", LaunchTemplateId=id) == (
        "InvalidLaunchTemplateId.NotFound"
    )


def test_the_same_token_makes_one_template_and_one_version(tenant: Tenant) -> None:
    again = {"ClientToken": "t", "LaunchTemplateName": "web", "LaunchTemplateData": DATA}
    first = tenant("CreateLaunchTemplate", **again)
    assert tenant("CreateLaunchTemplate", **again) == first
    id = first["LaunchTemplate"]["LaunchTemplateId"]
    version = {"ClientToken": "v", "LaunchTemplateId": id, "LaunchTemplateData": DATA}
    assert tenant("CreateLaunchTemplateVersion", **version) == tenant("CreateLaunchTemplateVersion", **version)
    assert tenant("DescribeLaunchTemplates")["LaunchTemplates"][0]["LatestVersionNumber"] == 2
    assert tenant.refused("CreateLaunchTemplate", **{**again, "LaunchTemplateName": "other"}) == "IdempotentParameterMismatch"
    tenant("CreateLaunchTemplateVersion", **{**version, "ClientToken": "v" * 128})
    for token in ("v" * 129, "\u00e9"):
        assert tenant.refused("CreateLaunchTemplateVersion", **{**version, "ClientToken": token}) == "InvalidParameterValue"


def test_versions_are_found_by_number_word_and_range(tenant: Tenant) -> None:
    id = make(tenant)
    assert [add(tenant, id, ImageId=f"ami-{n}") for n in (2, 3, 4)] == [2, 3, 4]
    tenant("ModifyLaunchTemplate", LaunchTemplateId=id, DefaultVersion="3")
    ask = "DescribeLaunchTemplateVersions"
    assert numbers(tenant(ask, LaunchTemplateId=id)) == [4, 3, 2, 1], "the newest first"
    assert numbers(tenant(ask, LaunchTemplateId=id, Versions=["2", "$Latest", "$Default", "4"])) == [4, 3, 2]
    assert numbers(tenant(ask, LaunchTemplateId=id, MinVersion="2", MaxVersion="3")) == [3, 2]
    assert numbers(tenant(ask, LaunchTemplateId=id, MinVersion="$Default")) == [4, 3]
    assert numbers(tenant(ask, Versions=["$Latest", "$Default"])) == [4, 3]
    found = tenant(ask, LaunchTemplateId=id)["LaunchTemplateVersions"]
    assert [version["DefaultVersion"] for version in found] == [False, True, False, False]
    first = tenant(ask, LaunchTemplateId=id, MaxResults=3)
    rest = tenant(ask, LaunchTemplateId=id, MaxResults=3, NextToken=first["NextToken"])
    assert (numbers(first), numbers(rest), rest.get("NextToken")) == ([4, 3, 2], [1], None)
    assert words(tenant, ask, LaunchTemplateId=id, Versions=["9"]) == (
        "InvalidLaunchTemplateId.VersionNotFound",
        f"Could not find the specified version 9 for the launch template with ID {id}.",
    )
    assert words(tenant, "ModifyLaunchTemplate", LaunchTemplateId=id, DefaultVersion="9") == (
        "InvalidLaunchTemplateId.VersionNotFound",
        "The launch template version 9 is not found for the specified launch template.",
    )


def test_versions_of_all_templates_are_asked_for_by_word_only(tenant: Tenant) -> None:
    assert tenant("DescribeLaunchTemplateVersions", Versions=["$Latest"])["LaunchTemplateVersions"] == []
    code, message = words(tenant, "DescribeLaunchTemplateVersions")
    assert code == "MissingParameter"
    assert message.startswith(
        "To describe the launch template data for all your launch templates, for \u2018--versions\u2019 specify"
    )
    assert words(tenant, "DescribeLaunchTemplateVersions", Versions=["1"]) == ("InvalidParameterValue", message)


def test_pages_and_filters(tenant: Tenant) -> None:
    names = [f"web-{n}" for n in range(7)]
    for name in names:
        tenant.cloud.clock.seconds += 1
        make(tenant, name)
    first = tenant("DescribeLaunchTemplates", MaxResults=5)
    rest = tenant("DescribeLaunchTemplates", MaxResults=5, NextToken=first["NextToken"])
    assert "NextToken" not in rest
    assert [one["LaunchTemplateName"] for page in (first, rest) for one in page["LaunchTemplates"]] == names
    tagged = first["LaunchTemplates"][2]["LaunchTemplateId"]
    tenant("CreateTags", Resources=[tagged], Tags=[{"Key": "stage", "Value": "test"}])

    def found(name: str, value: str) -> list[str]:
        answer = tenant("DescribeLaunchTemplates", Filters=[{"Name": name, "Values": [value]}])
        return [one["LaunchTemplateName"] for one in answer["LaunchTemplates"]]

    assert found("tag:stage", "t*") == ["web-2"]
    assert found("launch-template-name", "web-6") == ["web-6"]
    assert tenant("DescribeTags")["Tags"][0]["ResourceType"] == "launch-template"
    named = tenant("DescribeLaunchTemplates", LaunchTemplateNames=["web-3", "web-1"])["LaunchTemplates"]
    assert [one["LaunchTemplateName"] for one in named] == ["web-3", "web-1"]


def test_filters_of_versions(tenant: Tenant) -> None:
    id = make(tenant, **EVERYTHING)
    add(tenant, id, InstanceType="t2.nano", MetadataOptions={"HttpTokens": "required"})

    def found(name: str, value: str) -> list[int]:
        filters = [{"Name": name, "Values": [value]}]
        return numbers(tenant("DescribeLaunchTemplateVersions", LaunchTemplateId=id, Filters=filters))

    assert found("image-id", "ami-abc*") == [1]
    assert found("instance-type", "t2.nano") == [2]
    assert found("http-tokens", "required") == [2]
    assert found("ebs-optimized", "false") == [1]
    assert found("is-default-version", "true") == [1]


def test_a_version_may_begin_with_another(tenant: Tenant) -> None:
    id = make(tenant, ImageId=IMAGE, InstanceType="t3.nano", KeyName="k")
    made = tenant(
        "CreateLaunchTemplateVersion", LaunchTemplateId=id, SourceVersion="1", LaunchTemplateData={"InstanceType": "t2.nano"}
    )
    assert made["LaunchTemplateVersion"]["LaunchTemplateData"] == {
        "ImageId": IMAGE,
        "InstanceType": "t2.nano",
        "KeyName": "k",
    }


def test_snapshots_are_not_inherited(tenant: Tenant) -> None:
    disk = {"SnapshotId": "snap-0123456789abcdef0", "VolumeSize": 8}
    id = make(tenant, BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": disk}, {"DeviceName": "/dev/sdg", "NoDevice": ""}])
    add = partial(tenant, "CreateLaunchTemplateVersion", LaunchTemplateId=id, SourceVersion="1")
    inherited = add(LaunchTemplateData={"InstanceType": "t3.nano"})["LaunchTemplateVersion"]["LaunchTemplateData"]
    assert inherited["BlockDeviceMappings"] == [
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 8}},
        {"DeviceName": "/dev/sdg", "NoDevice": ""},
    ]
    named = {"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": disk}]}
    assert add(LaunchTemplateData=named)["LaunchTemplateVersion"]["LaunchTemplateData"] == named


def test_versions_are_deleted_but_the_default_one(tenant: Tenant) -> None:
    id = make(tenant)
    add(tenant, id, ImageId="ami-2")
    add(tenant, id, ImageId="ami-3")
    answer = tenant("DeleteLaunchTemplateVersions", LaunchTemplateId=id, Versions=["1", "3", "9"])
    assert [one["VersionNumber"] for one in answer["SuccessfullyDeletedLaunchTemplateVersions"]] == [3]
    undone = {
        one["VersionNumber"]: one["ResponseError"]["Code"] for one in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]
    }
    assert undone == {1: "unexpectedError", 9: "launchTemplateVersionDoesNotExist"}
    assert numbers(tenant("DescribeLaunchTemplateVersions", LaunchTemplateId=id, Versions=["$Latest"])) == [2]
    assert add(tenant, id, ImageId="ami-4") == 4, "a number is never given twice"


def run(tenant: Tenant, id: str, **more: Any) -> dict[str, Any]:
    answer = tenant("RunInstances", LaunchTemplate={"LaunchTemplateId": id}, MinCount=1, MaxCount=1, **more)
    return dict(answer["Instances"][0])


def tags(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


def test_a_launch_takes_what_the_template_says(tenant: Tenant) -> None:
    specification = {"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "1"}]}
    id = make(
        tenant,
        **DATA,
        DisableApiTermination=True,
        Monitoring={"Enabled": True},
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 9, "VolumeType": "gp2"}}],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3},
        InstanceInitiatedShutdownBehavior="terminate",
        TagSpecifications=[specification],
    )
    one = run(tenant, id)
    assert one["InstanceType"] == "t3.nano"
    assert one["Monitoring"] == {"State": "enabled"}
    assert one["MetadataOptions"]["HttpTokens"] == "required"
    assert tags(one) == {"a": "1", "b": "1", "aws:ec2launchtemplate:id": id, "aws:ec2launchtemplate:version": "1"}
    assert tenant.refused("TerminateInstances", InstanceIds=[one["InstanceId"]]) == "OperationNotPermitted"
    (volume,) = tenant("DescribeVolumes")["Volumes"]
    assert (volume["Size"], volume["VolumeType"]) == (9, "gp2")


def test_the_request_wins_and_names_what_it_changes(tenant: Tenant) -> None:
    groups = [tenant("CreateSecurityGroup", GroupName=name, Description="d")["GroupId"] for name in ("x", "y")]
    id = make(
        tenant,
        **DATA,
        DisableApiTermination=True,
        SecurityGroupIds=[groups[0]],
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 9}}],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3},
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "1"}]},
            {"ResourceType": "volume", "Tags": [{"Key": "v", "Value": "1"}]},
        ],
    )
    one = run(
        tenant,
        id,
        InstanceType="t2.nano",
        DisableApiTermination=False,
        SecurityGroups=["y"],
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 11}}],
        MetadataOptions={"HttpPutResponseHopLimit": 5},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "b", "Value": "2"}, {"Key": "c", "Value": "2"}]}],
    )
    assert one["InstanceType"] == "t2.nano"
    assert [group["GroupId"] for group in one["SecurityGroups"]] == [groups[1]]
    assert (one["MetadataOptions"]["HttpTokens"], one["MetadataOptions"]["HttpPutResponseHopLimit"]) == ("required", 5)
    own = {key: value for key, value in tags(one).items() if not key.startswith("aws:")}
    assert own == {"a": "1", "b": "2", "c": "2"}
    (volume,) = tenant("DescribeVolumes")["Volumes"]
    assert volume["Size"] == 11
    assert volume["Tags"] == [{"Key": "v", "Value": "1"}]
    tenant("TerminateInstances", InstanceIds=[one["InstanceId"]])


def test_a_launch_takes_the_version_that_it_names(tenant: Tenant) -> None:
    id = make(tenant)
    add(tenant, id, ImageId=IMAGE, InstanceType="t2.nano")
    types = {}
    for version in ("$Default", "$Latest", "2", "1"):
        wanted = {"LaunchTemplateName": "web", "Version": version}
        (one,) = tenant("RunInstances", LaunchTemplate=wanted, MinCount=1, MaxCount=1)["Instances"]
        types[version] = one["InstanceType"]
    assert types == {"$Default": "t3.nano", "$Latest": "t2.nano", "2": "t2.nano", "1": "t3.nano"}
    wanted = {"LaunchTemplateName": "web", "Version": "7"}
    assert tenant.refused("RunInstances", LaunchTemplate=wanted, MinCount=1, MaxCount=1) == (
        "InvalidLaunchTemplateId.VersionNotFound"
    )


def test_what_no_launch_offers_is_refused_when_it_is_launched(tenant: Tenant) -> None:
    id = make(tenant, **DATA, ElasticGpuSpecifications=[{"Type": "eg1.medium"}])
    code, message = words(tenant, "RunInstances", LaunchTemplate={"LaunchTemplateId": id}, MinCount=1, MaxCount=1)
    assert code == "UnsupportedOperation"
    assert "ElasticGpuSpecifications" in message
    assert id in message
    assert tenant("DescribeInstances")["Reservations"] == []


def test_an_instance_says_how_to_launch_another_like_it(tenant: Tenant) -> None:
    specification = {"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "1"}]}
    interface = {"DeviceIndex": 0, "Description": "front", "SecondaryPrivateIpAddressCount": 1}
    disks = [
        {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 9, "VolumeType": "io1", "Iops": 200, "DeleteOnTermination": True}},
    ]
    tenant("CreatePlacementGroup", GroupName="rows", Strategy="partition", PartitionCount=2)
    where = {"AvailabilityZone": "us-east-1b", "Tenancy": "default", "GroupName": "rows", "PartitionNumber": 2}
    beside = {"NetworkInterfaces": [interface], "BlockDeviceMappings": disks, "Placement": where}
    first = run(tenant, make(tenant), TagSpecifications=[specification], **beside)
    data = tenant("GetLaunchTemplateData", InstanceId=first["InstanceId"])["LaunchTemplateData"]
    assert (data["ImageId"], data["InstanceType"]) == (IMAGE, "t3.nano")
    assert data["TagSpecifications"] == [specification]
    assert data["BlockDeviceMappings"] == disks
    assert data["Placement"] == where
    assert data["CapacityReservationSpecification"] == {"CapacityReservationPreference": "open"}
    second = run(tenant, make(tenant, "like-it", **data))
    assert state(tenant, second["InstanceId"]) == "pending"
    (shown,) = second["NetworkInterfaces"]
    assert (shown["Description"], len(shown["PrivateIpAddresses"])) == ("front", 2)
    for same in ("ImageId", "InstanceType", "SubnetId", "SecurityGroups", "MetadataOptions"):
        assert second[same] == first[same]
