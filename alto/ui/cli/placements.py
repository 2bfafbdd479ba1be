"""`alto placement`: placement groups, which say who may stand beside whom on hosts. `alto instance run --placement` joins."""

import click

from alto.ui.cli import options
from alto.ui.cli.answers import MadePlacementGroup, Nothing, PlacementGroup, PlacementGroups
from alto.ui.cli.output import show


@click.group(cls=options.Group)
def placement() -> None:
    """Placement groups."""


@placement.command("list")
def list_() -> None:
    """Every placement group, with its strategy."""
    _show(options.client().ec2("DescribePlacementGroups", PlacementGroups).placement_groups)


def _show(found: list[PlacementGroup]) -> None:
    rows = [[one.group_name, one.strategy, one.partition_count, one.group_id] for one in found]
    data = [
        {"name": one.group_name, "strategy": one.strategy, "partitions": one.partition_count, "id": one.group_id}
        for one in found
    ]
    show(
        rows,
        ["NAME", "STRATEGY", "PARTITIONS", "ID"],
        data=data,
        format=options.output(),
        quiet=options.quiet(),
        empty="no placement groups",
    )


@placement.command()
@click.argument("name")
@click.option(
    "--strategy",
    type=click.Choice(["spread", "cluster", "partition"]),
    default="spread",
    show_default=True,
    help="spread: no two on one host; cluster: all on one; partition: no two partitions on one.",
)
@click.option("--partitions", type=click.IntRange(1, 7), help="With --strategy partition; 2 when nothing is said.")
def create(name: str, strategy: str, partitions: int | None) -> None:
    """A group without members."""
    made = options.client().ec2(
        "CreatePlacementGroup", MadePlacementGroup, GroupName=name, Strategy=strategy, PartitionCount=partitions
    )
    _show([made.placement_group])


@placement.command()
@click.argument("name")
def delete(name: str) -> None:
    """A group that has no members any more."""
    options.client().ec2("DeletePlacementGroup", Nothing, GroupName=name)
