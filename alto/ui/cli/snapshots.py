"""`alto snapshot`: copies of volumes as they were at one moment."""

import click

from alto.ui.cli import options
from alto.ui.cli.answers import Nothing, Snapshot, Snapshots
from alto.ui.cli.output import say, show
from alto.ui.cli.waiting import wait_until

DONE_S = 3600.0


@click.group(cls=options.Group)
def snapshot() -> None:
    """Snapshots of volumes."""


@snapshot.command("list")
def list_() -> None:
    """Every snapshot of this account."""
    _show(options.client().ec2("DescribeSnapshots", Snapshots, OwnerIds=["self"]).snapshots)


def _show(found: list[Snapshot]) -> None:
    rows = [[one.snapshot_id, one.volume_size, one.state, one.volume_id, one.description] for one in found]
    data = [
        {
            "id": one.snapshot_id,
            "size_gib": one.volume_size,
            "state": one.state,
            "volume": one.volume_id,
            "description": one.description,
        }
        for one in found
    ]
    show(
        rows,
        ["SNAPSHOT", "GIB", "STATE", "VOLUME", "DESCRIPTION"],
        data=data,
        format=options.output(),
        quiet=options.quiet(),
        empty="no snapshots; alto snapshot create VOLUME",
    )


@snapshot.command()
@click.argument("volume")
@click.option("--description", default="", help="What it is for.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Return when the copy is complete.")
def create(volume: str, description: str, wait: bool) -> None:
    """Copy a volume as it is now, whether it is attached or not."""
    client = options.client()
    made = client.ec2("CreateSnapshot", Snapshot, VolumeId=volume, Description=description)

    def missing() -> str | None:
        (one,) = client.ec2("DescribeSnapshots", Snapshots, SnapshotIds=[made.snapshot_id]).snapshots
        return one.state if one.state == "pending" else None

    if wait:
        wait_until(missing, what=f"{made.snapshot_id} completed", timeout_s=DONE_S)
    _show(client.ec2("DescribeSnapshots", Snapshots, SnapshotIds=[made.snapshot_id]).snapshots)


@snapshot.command()
@click.argument("snapshot")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(snapshot: str, yes: bool) -> None:
    """Delete a snapshot; volumes that were made from it stay."""
    if not yes:
        click.confirm(f"Delete {snapshot}?", abort=True, err=True)
    options.client().ec2("DeleteSnapshot", Nothing, SnapshotId=snapshot)
    say(f"{snapshot} is deleted")
