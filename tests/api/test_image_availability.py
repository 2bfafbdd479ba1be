"""Goal: deprecated, disabled and protected images are what EC2's user guide says of them ("Deprecate an AMI", "Disable an AMI",
"Protect an AMI from deregistration"), and what an account forbids to be public is not. Method: whole calls of an owner and of
another account; images and snapshots are put there as rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.images import Image
from alto.model.tags import AddedTags
from alto.model.volumes import Snapshot, SnapshotPhase
from tests.api.cloud import NOW, Cloud, Tenant
from tests.api.test_regions import host

SHARED = "ami-00000000000000001"
LAUNCH = {"ImageId": SHARED, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}


@pytest.fixture(autouse=True)
def shared(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> Image:
    image = Image(
        id=SHARED,
        account=tenant.account.id,
        region="us-east-1",
        name="mine",
        public=True,
        shared_with=(stranger.account.id,),
        source="tiny",
        size_gib=1,
        created_at=NOW,
    )
    cloud.put(image, host(1))
    return image


def listed(tenant: Tenant, **parameters: Any) -> list[dict[str, Any]]:
    return list(tenant("DescribeImages", **parameters)["Images"])


def at(**ahead: float) -> datetime:
    return datetime.fromtimestamp(NOW, UTC) + timedelta(**ahead)


def test_a_deprecated_image_is_launched_and_left_out_of_what_others_list(
    cloud: Cloud, tenant: Tenant, stranger: Tenant
) -> None:
    (before,) = listed(stranger)
    assert "DeprecationTime" not in before
    end = at(minutes=3).replace(second=0, microsecond=0)
    assert tenant("EnableImageDeprecation", ImageId=SHARED, DeprecateAt=end + timedelta(seconds=29))["Return"] is True
    (image,) = listed(stranger)  # not yet
    assert image["DeprecationTime"] == end.strftime("%Y-%m-%dT%H:%M:00.000Z")  # to the minute
    cloud.clock.seconds += 200
    assert listed(stranger) == []
    assert len(listed(stranger, IncludeDeprecated=True)) == len(listed(stranger, ImageIds=[SHARED])) == len(listed(tenant)) == 1
    stranger("RunInstances", **LAUNCH)
    tenant("DisableImageDeprecation", ImageId=SHARED)
    assert "DeprecationTime" not in listed(stranger)[0]


def test_what_is_made_public_is_deprecated_within_two_years(tenant: Tenant) -> None:
    tenant("ResetImageAttribute", ImageId=SHARED, Attribute="launchPermission")
    tenant("EnableImageDeprecation", ImageId=SHARED, DeprecateAt=at(days=3600))
    tenant("ModifyImageAttribute", ImageId=SHARED, LaunchPermission={"Add": [{"Group": "all"}]})
    assert listed(tenant)[0]["DeprecationTime"] < at(days=732).strftime("%Y-%m-%d")


@pytest.mark.parametrize(("public", "days"), [(True, -1), (True, 740), (False, -1), (False, 3700)])
def test_a_date_that_cannot_be_meant_is_refused(tenant: Tenant, public: bool, days: int) -> None:
    if not public:
        tenant("ResetImageAttribute", ImageId=SHARED, Attribute="launchPermission")
        tenant("EnableImageDeprecation", ImageId=SHARED, DeprecateAt=at(days=3600))
    assert tenant.refused("EnableImageDeprecation", ImageId=SHARED, DeprecateAt=at(days=days)) == "InvalidParameterValue"


def test_a_disabled_image_is_its_owners_alone_and_nobody_launches_it(tenant: Tenant, stranger: Tenant) -> None:
    tenant("DisableImage", ImageId=SHARED)
    assert listed(tenant) == listed(stranger, IncludeDisabled=True) == []
    (image,) = listed(tenant, IncludeDisabled=True)
    assert (image["State"], image["Public"]) == ("disabled", False)
    assert tenant.refused("RunInstances", **LAUNCH) == "InvalidAMIID.Unavailable"
    assert stranger.refused("RunInstances", **LAUNCH) == "InvalidAMIID.NotFound"
    share = {"LaunchPermission": {"Add": [{"UserId": stranger.account.id}]}}
    assert tenant.refused("ModifyImageAttribute", ImageId=SHARED, **share) == "InvalidAMIID.Unavailable"
    tenant("EnableImage", ImageId=SHARED)
    tenant("RunInstances", **LAUNCH)
    assert stranger.refused("RunInstances", **LAUNCH) == "InvalidAMIID.NotFound"  # what it lost does not come back


def test_a_protected_image_stays_until_it_is_not(tenant: Tenant) -> None:
    assert tenant("EnableImageDeregistrationProtection", ImageId=SHARED)["Return"] == "enabled-without-cooldown"
    assert listed(tenant)[0]["DeregistrationProtection"] == "enabled-without-cooldown"
    shown = tenant("DescribeImageAttribute", ImageId=SHARED, Attribute="deregistrationProtection")
    assert shown["DeregistrationProtection"] == {"Value": "enabled-without-cooldown"}
    assert tenant.refused("DeregisterImage", ImageId=SHARED) == "OperationNotPermitted"
    assert tenant("DisableImageDeregistrationProtection", ImageId=SHARED)["Return"] == "disabled"
    tenant("DeregisterImage", ImageId=SHARED)


def test_a_protection_with_a_cooldown_lasts_a_day_longer(cloud: Cloud, tenant: Tenant) -> None:
    protect = {"ImageId": SHARED, "WithCooldown": True}
    assert tenant("EnableImageDeregistrationProtection", **protect)["Return"] == "enabled-with-cooldown"
    assert listed(tenant)[0]["DeregistrationProtection"] == "enabled-with-cooldown"
    copy = tenant("CopyImage", SourceRegion="us-east-1", SourceImageId=SHARED, Name="copy")["ImageId"]
    assert listed(tenant, ImageIds=[copy])[0]["DeregistrationProtection"] == "disabled"  # as of every new image
    # Nor does a second word take the cooldown off.
    assert tenant("EnableImageDeregistrationProtection", ImageId=SHARED)["Return"] == "enabled-with-cooldown"
    assert tenant("DisableImageDeregistrationProtection", ImageId=SHARED)["Return"] == "disabled"
    tenant("DisableImageDeregistrationProtection", ImageId=SHARED)
    assert tenant.refused("DeregisterImage", ImageId=SHARED) == "OperationNotPermitted"
    row = cloud.store.read(lambda reader: reader.get(Image, SHARED))
    assert row.protected_until == pytest.approx(NOW + 24 * 3600, abs=60)
    cloud.put(replace(row, protected_until=NOW - 1))
    tenant("DeregisterImage", ImageId=SHARED)


def test_who_may_launch_it_gives_that_back(tenant: Tenant, stranger: Tenant) -> None:
    assert tenant.refused("CancelImageLaunchPermission", ImageId=SHARED) == "AuthFailure"
    assert stranger("CancelImageLaunchPermission", ImageId=SHARED) == {"Return": True}

    # That everybody may is not one's own to give back.
    permissions = tenant("DescribeImageAttribute", ImageId=SHARED, Attribute="launchPermission")["LaunchPermissions"]
    assert permissions == [{"Group": "all"}]
    assert stranger.refused("CancelImageLaunchPermission", ImageId=SHARED) == "AuthFailure"


def test_what_the_owner_wrote_on_it_is_not_shared_with_it(tenant: Tenant, stranger: Tenant) -> None:
    tenant("CreateTags", Resources=[SHARED], Tags=[{"Key": "Name", "Value": "of mine"}])
    named = [{"Name": "tag:Name", "Values": ["of mine"]}]
    (own,) = listed(tenant, Filters=named)
    assert own["Tags"] == [{"Key": "Name", "Value": "of mine"}]
    assert listed(stranger)[0].get("Tags", []) == listed(stranger, Filters=named) == []
    # But for keys that say otherwise, as CopyImage's reference has it.
    told = {"Key": "ec2:SharedTag/for", "Value": "all"}
    tenant("CreateTags", Resources=[SHARED], Tags=[told])
    assert listed(stranger)[0]["Tags"] == [told]
    assert len(listed(stranger, Filters=[{"Name": "tag-key", "Values": ["ec2:SharedTag/*"]}])) == 1
    copied = {"SourceRegion": "us-east-1", "SourceImageId": SHARED, "CopyImageTags": True}
    copy = stranger("CopyImage", **copied, Name="theirs")["ImageId"]
    assert listed(stranger, ImageIds=[copy])[0]["Tags"] == [told]
    mine = tenant("CopyImage", **copied, Name="own")["ImageId"]
    assert len(listed(tenant, ImageIds=[mine])[0]["Tags"]) == 2
    many = [{"ResourceType": "image", "Tags": [{"Key": f"k{n}", "Value": ""} for n in range(49)]}]
    assert tenant.refused("CopyImage", **copied, Name="full", TagSpecifications=many) == "TagLimitExceeded"


def test_what_others_write_on_it_is_theirs_alone(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    tenant("CreateTags", Resources=[SHARED], Tags=[{"Key": "Name", "Value": "of mine"}])
    stranger("CreateTags", Resources=[SHARED], Tags=[{"Key": "Name", "Value": "of theirs"}, {"Key": "env", "Value": "test"}])
    name, env = {"Key": "Name", "Value": "of theirs"}, {"Key": "env", "Value": "test"}
    on_it = {"ResourceId": SHARED, "ResourceType": "image"}
    assert listed(tenant)[0]["Tags"] == [{"Key": "Name", "Value": "of mine"}]
    assert tenant("DescribeTags")["Tags"] == [{**on_it, "Key": "Name", "Value": "of mine"}]
    assert listed(stranger)[0]["Tags"] == [name, env]
    by_id = [{"Name": "resource-id", "Values": [SHARED]}]
    by_type = [{"Name": "resource-type", "Values": ["image"]}]
    for filters in ([], by_id, by_type):
        assert stranger("DescribeTags", Filters=filters)["Tags"] == [{**on_it, **name}, {**on_it, **env}]
    assert stranger("DescribeTags", Filters=[{"Name": "resource-type", "Values": ["volume"]}])["Tags"] == []
    assert len(listed(stranger, Filters=[{"Name": "tag:Name", "Values": ["of theirs"]}])) == 1
    assert listed(tenant, Filters=[{"Name": "tag:Name", "Values": ["of theirs"]}]) == []
    assert stranger.in_region("eu-central-1")("DescribeTags")["Tags"] == []
    copy = stranger("CopyImage", SourceRegion="us-east-1", SourceImageId=SHARED, Name="theirs", CopyImageTags=True)["ImageId"]
    assert listed(stranger, ImageIds=[copy])[0]["Tags"] == [name, env]
    stranger("DeregisterImage", ImageId=copy)
    # They go one by one, all at once, when it is shared no more, and with the image.
    many = [{"Key": f"k{n}", "Value": ""} for n in range(49)]
    assert stranger.refused("CreateTags", Resources=[SHARED], Tags=many) == "TagLimitExceeded"
    stranger("DeleteTags", Resources=[SHARED], Tags=[{"Key": "Name"}])
    assert listed(stranger)[0]["Tags"] == [env]
    everybody = {"ImageId": SHARED, "LaunchPermission": {"Remove": [{"Group": "all"}, {"UserId": stranger.account.id}]}}
    tenant("ModifyImageAttribute", **everybody)
    assert stranger("DescribeTags")["Tags"] == []
    assert stranger.refused("CreateTags", Resources=[SHARED], Tags=[env]) == "InvalidAMIID.NotFound"
    tenant("ModifyImageAttribute", ImageId=SHARED, LaunchPermission={"Add": [{"UserId": stranger.account.id}]})
    assert listed(stranger)[0]["Tags"] == [env]
    stranger("DeleteTags", Resources=[SHARED])
    assert not listed(stranger)[0].get("Tags")
    assert cloud.store.read(lambda reader: list(reader.where(AddedTags))) == []
    stranger("CreateTags", Resources=[SHARED], Tags=[env])
    tenant("DeregisterImage", ImageId=SHARED)
    assert cloud.store.read(lambda reader: list(reader.where(AddedTags))) == []


def test_one_attribute_is_changed_at_a_time(tenant: Tenant, stranger: Tenant) -> None:
    share = {"LaunchPermission": {"Add": [{"UserId": stranger.account.id}]}}
    both = tenant.refusal("ModifyImageAttribute", ImageId=SHARED, Description={"Value": "x"}, **share)
    assert both.startswith("InvalidParameterCombination: Fields for multiple attribute types specified: ")


def test_instances_of_an_image_that_demands_tokens_demand_them(tenant: Tenant) -> None:
    def asked(**options: Any) -> tuple[str, int]:
        (instance,) = tenant("RunInstances", **LAUNCH, **options)["Instances"]
        return instance["MetadataOptions"]["HttpTokens"], instance["MetadataOptions"]["HttpPutResponseHopLimit"]

    assert asked() == ("optional", 1)
    assert tenant.refused("ModifyImageAttribute", ImageId=SHARED, ImdsSupport={"Value": "v1.0"}) == "InvalidParameterValue"
    tenant("ModifyImageAttribute", ImageId=SHARED, Attribute="imdsSupport", Value="v2.0")
    assert listed(tenant)[0]["ImdsSupport"] == "v2.0"
    shown = tenant("DescribeImageAttribute", ImageId=SHARED, Attribute="imdsSupport")
    assert shown["ImdsSupport"] == {"Value": "v2.0"}
    assert asked() == ("required", 2)
    assert asked(MetadataOptions={"HttpTokens": "optional"}) == ("optional", 2)
    tenant("ModifyInstanceMetadataDefaults", HttpTokens="optional", HttpPutResponseHopLimit=5)
    assert asked() == ("optional", 5)  # the account's word goes before the image's


@pytest.mark.parametrize(
    "operation",
    [
        "EnableImageDeprecation",
        "DisableImageDeprecation",
        "EnableImage",
        "DisableImage",
        "EnableImageDeregistrationProtection",
        "DisableImageDeregistrationProtection",
    ],
)
def test_all_this_is_the_owners_to_say(tenant: Tenant, stranger: Tenant, operation: str) -> None:
    parameters = {"ImageId": SHARED} | ({"DeprecateAt": at(days=1)} if operation == "EnableImageDeprecation" else {})
    assert stranger.refused(operation, **parameters) == "AuthFailure"
    assert tenant.refused(operation, **parameters, DryRun=True) == "DryRunOperation"
    assert tenant.refused(operation, **{**parameters, "ImageId": "ami-1234abcd"}) == "InvalidAMIID.NotFound"


def test_images_are_not_made_public_where_the_account_forbids_it(tenant: Tenant, stranger: Tenant) -> None:
    assert tenant("GetImageBlockPublicAccessState")["ImageBlockPublicAccessState"] == "unblocked"
    state = {"ImageBlockPublicAccessState": "block-new-sharing"}
    assert tenant("EnableImageBlockPublicAccess", **state)["ImageBlockPublicAccessState"] == "block-new-sharing"
    assert tenant.refused("EnableImageBlockPublicAccess", ImageBlockPublicAccessState="maybe") == "InvalidParameterValue"
    everybody = {"LaunchPermission": {"Add": [{"Group": "all"}]}}
    assert tenant.refused("ModifyImageAttribute", ImageId=SHARED, **everybody) == "OperationNotPermitted"
    assert listed(tenant)[0]["Public"] is True  # what is public already stays so
    tenant("ModifyImageAttribute", ImageId=SHARED, LaunchPermission={"Add": [{"UserId": stranger.account.id}]})
    other = tenant.in_region("eu-central-1")
    assert other("GetImageBlockPublicAccessState")["ImageBlockPublicAccessState"] == "unblocked"
    assert tenant("DisableImageBlockPublicAccess")["ImageBlockPublicAccessState"] == "unblocked"
    tenant("ModifyImageAttribute", ImageId=SHARED, **everybody)


def test_snapshots_are_not_public_where_the_account_forbids_it(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    snapshot = Snapshot(
        id="snap-00000000000000001",
        account=tenant.account.id,
        region="us-east-1",
        volume_id="vol-ffffffff",
        size_gib=1,
        started_at=NOW,
        phase=SnapshotPhase.COMPLETED,
        host_id="h-1",
        storage="",
    )
    cloud.put(snapshot)
    everybody = {"SnapshotId": snapshot.id, "CreateVolumePermission": {"Add": [{"Group": "all"}]}}
    assert tenant("GetSnapshotBlockPublicAccessState")["State"] == "unblocked"
    assert tenant("EnableSnapshotBlockPublicAccess", State="block-all-sharing")["State"] == "block-all-sharing"
    assert tenant("GetSnapshotBlockPublicAccessState")["State"] == "block-all-sharing"
    assert tenant.refused("ModifySnapshotAttribute", **everybody) == "OperationNotPermitted"
    assert tenant("DisableSnapshotBlockPublicAccess")["State"] == "unblocked"
    tenant("ModifySnapshotAttribute", **everybody)
    assert [one["SnapshotId"] for one in stranger("DescribeSnapshots")["Snapshots"]] == [snapshot.id]
    # One that is public already keeps its permission, and nobody has anything of it.
    assert tenant("EnableSnapshotBlockPublicAccess", State="block-all-sharing")["State"] == "block-all-sharing"
    assert stranger("DescribeSnapshots")["Snapshots"] == []
    assert stranger.refused("DescribeSnapshots", SnapshotIds=[snapshot.id]) == "InvalidSnapshot.NotFound"
    new = {"AvailabilityZone": "us-east-1a", "SnapshotId": snapshot.id}
    assert stranger.refused("CreateVolume", **new) == "InvalidSnapshot.NotFound"
    permission = {"SnapshotId": snapshot.id, "Attribute": "createVolumePermission"}
    assert tenant("DescribeSnapshotAttribute", **permission)["CreateVolumePermissions"] == [{"Group": "all"}]
    assert tenant("EnableSnapshotBlockPublicAccess", State="block-new-sharing")["State"] == "block-new-sharing"
    assert len(stranger("DescribeSnapshots")["Snapshots"]) == 1
    assert tenant.refused("EnableSnapshotBlockPublicAccess", State="block-some") == "InvalidParameterValue"
