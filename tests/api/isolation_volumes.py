"""The places of ids in the operations on volumes and snapshots, for `test_isolation.py`."""

from typing import Any

from alto.daemons.server import TINY_IMAGE_ID
from alto.model.volumes import Snapshot, SnapshotPhase, Volume
from tests.api.cloud import NOW, Tenant
from tests.api.isolation_networks import ID, OWN, Row, row

ABSENT = {"snapshot": "snap-00000000000000000"}

_VOLUME, _INSTANCE = OWN + "volume", OWN + "instance"
_PERMISSION = "createVolumePermission"


def _mapping(device: str) -> dict[str, Any]:
    return {"DeviceName": device, "Ebs": {"SnapshotId": ID}}


ROWS: dict[tuple[str, str], Row] = {
    ("AttachVolume", "InstanceId"): row("instance", VolumeId=_VOLUME, InstanceId=ID, Device="/dev/sdh"),
    ("AttachVolume", "VolumeId"): row("volume", VolumeId=ID, InstanceId=_INSTANCE, Device="/dev/sdh"),
    ("CopyImage", "SourceImageId"): row("image", SourceRegion="eu-central-1", SourceImageId=ID, Name="copy"),
    ("CopySnapshot", "SourceSnapshotId"): row("snapshot", SourceRegion="eu-central-1", SourceSnapshotId=ID),
    ("CreateImage", "BlockDeviceMappings.Ebs.SnapshotId"): row(
        "snapshot", InstanceId=_INSTANCE, Name="image", BlockDeviceMappings=[_mapping("/dev/sdh")]
    ),
    ("CreateImage", "InstanceId"): row("instance", InstanceId=ID, Name="image"),
    ("CreateSnapshot", "VolumeId"): row("volume", VolumeId=ID),
    ("CreateSnapshots", "InstanceSpecification.ExcludeDataVolumeIds"): row(
        "volume", InstanceSpecification={"InstanceId": _INSTANCE, "ExcludeDataVolumeIds": [ID]}
    ),
    ("CreateSnapshots", "InstanceSpecification.InstanceId"): row("instance", InstanceSpecification={"InstanceId": ID}),
    ("CreateVolume", "SnapshotId"): row("snapshot", AvailabilityZoneId="use1-az1", SnapshotId=ID),
    ("DeleteSnapshot", "SnapshotId"): row("snapshot", SnapshotId=ID),
    ("DeleteVolume", "VolumeId"): row("volume", VolumeId=ID),
    ("DescribeSnapshotAttribute", "SnapshotId"): row("snapshot", SnapshotId=ID, Attribute=_PERMISSION),
    ("DescribeSnapshots", "SnapshotIds"): row("snapshot", SnapshotIds=[ID]),
    ("DescribeVolumeAttribute", "VolumeId"): row("volume", VolumeId=ID, Attribute="autoEnableIO"),
    ("DescribeVolumeStatus", "VolumeIds"): row("volume", VolumeIds=[ID]),
    ("DescribeVolumesModifications", "VolumeIds"): row("volume", VolumeIds=[ID]),
    ("DetachVolume", "InstanceId"): row("instance", VolumeId=_VOLUME, InstanceId=ID),
    ("DetachVolume", "VolumeId"): row("volume", VolumeId=ID),
    ("EnableVolumeIO", "VolumeId"): row("volume", VolumeId=ID),
    ("ModifyInstanceAttribute", "BlockDeviceMappings.Ebs.VolumeId"): row(
        "volume",
        InstanceId=_INSTANCE,
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeId": ID, "DeleteOnTermination": True}}],
    ),
    ("ModifySnapshotAttribute", "SnapshotId"): row(
        "snapshot", SnapshotId=ID, CreateVolumePermission={"Add": [{"Group": "all"}]}
    ),
    ("ModifyVolumeAttribute", "VolumeId"): row("volume", VolumeId=ID, AutoEnableIO={"Value": True}),
    ("ModifyVolume", "VolumeId"): row("volume", VolumeId=ID, Size=9),
    ("RegisterImage", "BlockDeviceMappings.Ebs.SnapshotId"): row(
        "snapshot", Name="image", RootDeviceName="/dev/sda1", BlockDeviceMappings=[_mapping("/dev/sda1")]
    ),
    **{
        (operation, "ImageId"): row("image", ImageId=ID)
        for operation in (
            "DisableImage",
            "DisableImageDeprecation",
            "DisableImageDeregistrationProtection",
            "EnableImage",
            "EnableImageDeregistrationProtection",
        )
    },
    ("EnableImageDeprecation", "ImageId"): row("image", ImageId=ID, DeprecateAt="2030-01-01T00:00:00Z"),
    ("CancelImageLaunchPermission", "ImageId"): row("image", ImageId=ID),
    ("ResetImageAttribute", "ImageId"): row("image", ImageId=ID, Attribute="launchPermission"),
    ("ResetSnapshotAttribute", "SnapshotId"): row("snapshot", SnapshotId=ID, Attribute=_PERMISSION),
    ("RunInstances", "BlockDeviceMappings.Ebs.SnapshotId"): row(
        "snapshot", ImageId=TINY_IMAGE_ID, MinCount=1, MaxCount=1, BlockDeviceMappings=[_mapping("/dev/sdh")]
    ),
}


def made_by(tenant: Tenant) -> dict[str, str]:
    """As a host would have reported it."""
    id = "snap-" + tenant.account.id.rjust(17, "0")
    tenant.cloud.put(
        Snapshot(
            id=id,
            account=tenant.account.id,
            region=tenant.region,
            volume_id="vol-ffffffff",
            size_gib=1,
            started_at=NOW,
            phase=SnapshotPhase.COMPLETED,
            host_id="h-1",
            storage="st-1",
        )
    )
    return {"snapshot": id}


def prepare(tenant: Tenant) -> None:
    digits = (tenant.account.id + tenant.region.encode().hex()[:4]).rjust(17, "0")
    volume = Volume(
        id=f"vol-{digits}",
        account=tenant.account.id,
        region=tenant.region,
        zone=tenant.region + "a",
        size_gib=1,
        created_at=NOW,
        host_id="h-1",
        storage="st-1",
    )
    tenant.cloud.put(volume)


def owned_by(tenant: Tenant) -> dict[str, str]:
    (free,) = tenant("DescribeVolumes", Filters=[{"Name": "status", "Values": ["available"]}])["Volumes"]
    return {"volume": free["VolumeId"]}
