"""`alto image`: what instances are launched from."""

import click

from alto.ui.cli import options
from alto.ui.cli.answers import Image, Images, MadeImage, Nothing
from alto.ui.cli.output import say, show
from alto.ui.cli.waiting import wait_until

DONE_S = 3600.0


@click.group(cls=options.Group)
def image() -> None:
    """Images."""


@image.command("list")
def list_() -> None:
    """Every image that can be launched."""
    _show(options.client().ec2("DescribeImages", Images).images)


def _show(found: list[Image]) -> None:
    rows = [[one.image_id, one.name, one.state, "public" if one.public else "own", one.source_instance_id] for one in found]
    data = [
        {
            "id": one.image_id,
            "name": one.name,
            "state": one.state,
            "public": one.public,
            "instance": one.source_instance_id or None,
        }
        for one in found
    ]
    show(
        rows,
        ["IMAGE", "NAME", "STATE", "WHOSE", "MADE FROM"],
        data=data,
        format=options.output(),
        quiet=options.quiet(),
        empty="no images",
    )


@image.command()
@click.argument("instance")
@click.argument("name")
@click.option("--reboot/--no-reboot", default=True, show_default=True, help="Power the guest off meanwhile.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Return when it can be launched.")
def create(instance: str, name: str, reboot: bool, wait: bool) -> None:
    """An image of an instance with all its volumes."""
    client = options.client()
    made = client.ec2("CreateImage", MadeImage, InstanceId=instance, Name=name, NoReboot=not reboot).image_id

    def missing() -> str | None:
        (one,) = client.ec2("DescribeImages", Images, ImageIds=[made]).images
        return one.state if one.state == "pending" else None

    if wait:
        wait_until(missing, what=f"{made} available", timeout_s=DONE_S)
    _show(client.ec2("DescribeImages", Images, ImageIds=[made]).images)


@image.command()
@click.argument("image")
@click.option("--snapshots/--no-snapshots", default=True, show_default=True, help="Delete its snapshots too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(image: str, snapshots: bool, yes: bool) -> None:
    """Deregister an image; instances that run from it stay."""
    if not yes:
        click.confirm(f"Delete {image}{' and its snapshots' if snapshots else ''}?", abort=True, err=True)
    options.client().ec2("DeregisterImage", Nothing, ImageId=image, DeleteAssociatedSnapshots=snapshots)
    say(f"{image} is deleted")
