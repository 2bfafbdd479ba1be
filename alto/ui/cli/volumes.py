"""`alto volume`: disks that come and go, beside the root volumes of instances."""

import click

from alto.ui.cli import options
from alto.ui.cli.answers import Attached, Nothing, Volume, Volumes, Zones
from alto.ui.cli.client import Client
from alto.ui.cli.output import say, show
from alto.ui.cli.waiting import wait_until

DONE_S = 120.0
DEFAULT_DEVICE = "/dev/sdf"


@click.group(cls=options.Group)
def volume() -> None:
    """Volumes."""


@volume.command("list")
def list_() -> None:
    """Every volume, and what it is attached to."""
    _show(options.client().ec2("DescribeVolumes", Volumes).volumes)


def _show(found: list[Volume]) -> None:
    rows = [[one.volume_id, one.size, one.state, _instance(one), _device(one), one.snapshot_id] for one in found]
    data = [
        {
            "id": one.volume_id,
            "size_gib": one.size,
            "state": one.state,
            "instance": _instance(one) or None,
            "device": _device(one) or None,
            "snapshot": one.snapshot_id or None,
            "zone": one.availability_zone,
        }
        for one in found
    ]
    show(
        rows,
        ["VOLUME", "GIB", "STATE", "INSTANCE", "DEVICE", "SNAPSHOT"],
        data=data,
        format=options.output(),
        quiet=options.quiet(),
        empty="no volumes; alto volume create 8",
    )


def _instance(one: Volume) -> str:
    return one.attachments[0].instance_id if one.attachments else ""


def _device(one: Volume) -> str:
    return one.attachments[0].device if one.attachments else ""


@volume.command()
@click.argument("size_gib", type=int, required=False)
@click.option("--snapshot", metavar="SNAPSHOT", help="Begin as a copy of this snapshot.")
@click.option("--zone", help="Default: the first of the region.")
def create(size_gib: int | None, snapshot: str | None, zone: str | None) -> None:
    """A volume of SIZE_GIB, empty or from a snapshot."""
    if size_gib is None and snapshot is None:
        raise click.UsageError("Say how many GiB, or from which --snapshot.")
    client = options.client()
    if zone is None:
        zone = client.ec2("DescribeAvailabilityZones", Zones).availability_zones[0].zone_name
    wish = {"AvailabilityZone": zone, "Size": size_gib, "SnapshotId": snapshot}
    made = client.ec2("CreateVolume", Volume, **{name: value for name, value in wish.items() if value is not None})
    _wait(client, made.volume_id, "available")


@volume.command()
@click.argument("volume")
@click.argument("instance")
@click.option("--device", default=DEFAULT_DEVICE, show_default=True, help="The guest finds it by its serial number.")
def attach(volume: str, instance: str, device: str) -> None:
    """Plug a volume into an instance, running or stopped."""
    client = options.client()
    client.ec2("AttachVolume", Attached, VolumeId=volume, InstanceId=instance, Device=device)
    _wait(client, volume, "attached")


@volume.command()
@click.argument("volume")
def detach(volume: str) -> None:
    """Take a volume out of its instance; unmount it first."""
    client = options.client()
    client.ec2("DetachVolume", Attached, VolumeId=volume)
    _wait(client, volume, "available")


@volume.command()
@click.argument("volume")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(volume: str, yes: bool) -> None:
    """Delete a volume and what is on it."""
    if not yes:
        click.confirm(f"Delete {volume} and all that is on it?", abort=True, err=True)
    options.client().ec2("DeleteVolume", Nothing, VolumeId=volume)
    say(f"{volume} is deleted")


def _wait(client: Client, id: str, wanted: str) -> None:
    def missing() -> str | None:
        (one,) = client.ec2("DescribeVolumes", Volumes, VolumeIds=[id]).volumes
        state = one.attachments[0].state if one.attachments else one.state
        return None if state in (wanted, "error") else state

    wait_until(missing, what=f"{id} {wanted}", timeout_s=DONE_S)
    _show(client.ec2("DescribeVolumes", Volumes, VolumeIds=[id]).volumes)
