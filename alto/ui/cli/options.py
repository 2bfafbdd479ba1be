"""What every command has in common: `--state`, `-o`, `-q`, and the client made from them.

Given before or after the command's name alike: `alto --state X status` and `alto status --state X`.
"""

import os
from pathlib import Path
from typing import Any

import click

from alto.ui.cli.client import Client
from alto.ui.cli.context import Cloud, find_cloud, state_folder
from alto.ui.cli.main import unknown_command
from alto.ui.cli.output import FORMATS


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and value is not False:
        ctx.meta[f"alto.{parameter.name}"] = value


class Command(click.Command):
    """A command with the common options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["-o", "--output", "output"], type=click.Choice(FORMATS), expose_value=False, callback=_remember,
                         help="How to show the answer."),
            click.Option(["-q", "--quiet", "quiet"], is_flag=True, expose_value=False, callback=_remember, help="Ids only."),
            click.Option(["--state", "state"], metavar="FOLDER", expose_value=False, callback=_remember, hidden=True),
        ]  # fmt: skip


class Group(click.Group):
    """Commands of one noun."""

    command_class = Command
    group_class = type  # a group within is one like this

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            raise unknown_command(args[0], self.commands, ctx)
        return super().resolve_command(ctx, args)


def _meta(name: str) -> Any:
    return click.get_current_context().meta.get(f"alto.{name}")


def state() -> Path:
    return state_folder(_meta("state"), os.environ)


def own_state(default: Path) -> Path:
    """`--state`, or `default`: for what is apart from this machine's cloud."""
    chosen = _meta("state")
    return Path(chosen).absolute() if chosen else default


def cloud() -> Cloud:
    return find_cloud(_meta("state"), os.environ)


def client() -> Client:
    made = Client(cloud())
    click.get_current_context().call_on_close(made.close)
    return made


def output() -> str | None:
    chosen: str | None = _meta("output")
    return chosen


def quiet() -> bool:
    return bool(_meta("quiet"))
