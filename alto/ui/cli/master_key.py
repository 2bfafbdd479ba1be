"""`alto master-key`: what opens encrypted volumes, changed."""

import click

from alto.ui.cli import options
from alto.ui.cli.answers import Rotated
from alto.ui.cli.output import say, show


@click.group("master-key", cls=options.Group)
def master_key() -> None:
    """What opens encrypted volumes."""


@master_key.command()
def rotate() -> None:
    """Exchange the master key for a new one, in the same file, while everything runs on.

    What is made from then on has keys that nobody saw before. Keep a copy of the file, apart from copies of the state's folder.
    """
    done = options.client().post("master-key/rotate", {}, Rotated)
    show(
        [[done.master_key]],
        ["MASTER-KEY"],
        data={"master_key": done.master_key},
        format=options.output(),
        quiet=options.quiet(),
    )
    say("it is a new one: copies of the one before open nothing of this state any more, only of copies of it")
