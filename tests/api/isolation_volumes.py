"""The places of ids in the operations on volumes and snapshots, for `test_isolation.py`."""

from alto.model.volumes import Snapshot, SnapshotPhase, Volume
from tests.api.cloud import NOW, Tenant
from tests.api.isolation_networks import ID, OWN, Row, row

ABSENT = {"snapshot": "snap-00000000000000000"}

_VOLUME, _INSTANCE = OWN + "volume", OWN + "instance"
_PERMISSION = "createVolumePermission"

ROWS: dict[tuple[str, str], Row] = {
    ("AttachVolume", "InstanceId"): row("instance", VolumeId=_VOLUME, InstanceId=ID, Device="/dev/sdh"),
    ("AttachVolume", "VolumeId"): row("volume", VolumeId=ID, InstanceId=_INSTANCE, Device="/dev/sdh"),
    ("CopySnapshot", "SourceSnapshotId"): row("snapshot", SourceRegion="eu-central-1", SourceSnapshotId=ID),
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
    ("DescribeVolumesModifications", "VolumeIds"): row("volume", VolumeIds=[ID]),
    ("DetachVolume", "InstanceId"): row("instance", VolumeId=_VOLUME, InstanceId=ID),
    ("DetachVolume", "VolumeId"): row("volume", VolumeId=ID),
    ("ModifySnapshotAttribute", "SnapshotId"): row(
        "snapshot", SnapshotId=ID, CreateVolumePermission={"Add": [{"Group": "all"}]}
    ),
    ("ModifyVolume", "VolumeId"): row("volume", VolumeId=ID, Size=9),
    ("ResetSnapshotAttribute", "SnapshotId"): row("snapshot", SnapshotId=ID, Attribute=_PERMISSION),
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
