"""`alto host`: where instances run, and of what kind that is."""

import click
import msgspec

from alto.ui.cli import options
from alto.ui.cli.answers import Hosts
from alto.ui.cli.output import show


@click.group(cls=options.Group)
def host() -> None:
    """Where instances run."""


@host.command("list")
def list_() -> None:
    """Every host, with what is given out and what it has."""
    raw = options.client().send("GET", "hosts")
    rows = [
        [
            one.id,
            one.name,
            one.kind,
            one.accelerator,
            one.state,
            one.instances,
            f"{one.vcpus_used}/{one.vcpus}",
            f"{one.memory_mib_used}/{one.memory_mib}",
        ]
        for one in msgspec.json.decode(raw, type=Hosts).hosts
    ]
    show(
        rows,
        ["HOST", "NAME", "KIND", "ACCELERATOR", "STATE", "INSTANCES", "VCPUS", "MEMORY-MIB"],
        data=msgspec.json.decode(raw)["hosts"],
        format=options.output(),
        quiet=options.quiet(),
        empty="no hosts",
    )
