"""`alto agent`: this machine as a host of a cloud that runs on another one."""

import os
import sys
from typing import Any

import click

from alto.ui.cli import daemon, options
from alto.ui.cli.context import default_state
from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.output import say, show


@click.command(cls=options.Command)
@click.option("--join", metavar="URL", help="The cloud's door; needed once, with --token.")
@click.option(
    "--token",
    metavar="TOKEN",
    multiple=True,
    help="What `alto host token create` printed on the cloud's machine; one for each kind of --hosts.",
)
@click.option(
    "--hosts",
    metavar="KIND[,KIND]",
    help="What runs instances, each kind a host of its own: qemu (virtual machines), container, or both.",
)
@click.option("--name", metavar="NAME", help="What the host is called at first (default: as this machine).")
@click.option("--underlay", metavar="IP:PORT", help="Where other hosts reach this one with VXLAN (default: found by itself).")
@click.option("--no-nat", is_flag=True, help="Instances reach nothing outside this machine.")
@click.option("--foreground", is_flag=True, help="Stay in this terminal; Ctrl-C ends the agent, instances run on.")
@click.option("--down", is_flag=True, help="Take everything of the host away from this machine.")
@click.option("--keep-data", is_flag=True, help="With --down: keep disks and identity.")
@click.option("-y", "--yes", is_flag=True, help="With --down: do not ask.")
def agent(
    join: str | None,
    token: tuple[str, ...],
    hosts: str | None,
    name: str | None,
    underlay: str | None,
    no_nat: bool,
    foreground: bool,
    down: bool,
    keep_data: bool,
    yes: bool,
) -> None:
    """Make this machine a host of a cloud elsewhere, or start its agent again. Idempotent."""
    state = options.own_state(default_state(os.environ).with_name("alto-agent"))
    if os.geteuid() != 0:
        raise Failure(
            "real instances need root",
            why="network namespaces, taps and packet rules are root's to make",
            hint="sudo alto agent ...",
            exit=Exit.DENIED,
        )
    if down:
        if not state.exists():
            say(f"nothing is here: there is no {state}")
            return
        say(
            "takes away: this host's instances, their networks and its agent"
            + ("; keeps disks and identity" if keep_data else "")
        )
        if not yes and sys.stdin.isatty() and not click.confirm("go on?", default=True, err=True):
            raise click.Abort
        daemon.stop(state, keep_data=keep_data, say=say, module=daemon.AGENT)
        say("down; the cloud still has the host in its records: alto host remove (there)")
        return
    running = daemon.ready_agent(state)
    if running is not None and not token:
        say(f"already up: {_named(running)} (state in {state})")
        return
    arguments: list[str] = []
    given = (("--join", join), ("--hosts", hosts), ("--name", name), ("--underlay", underlay))
    for option, value in (*given, *(("--token", one) for one in token)):
        if value is not None:
            arguments += [option, value]
    if no_nat:
        arguments.append("--no-nat")
    if foreground:
        state.mkdir(mode=0o711, parents=True, exist_ok=True)
        os.execv(sys.executable, daemon.command(state, *arguments, module=daemon.AGENT))
    ready, seconds = daemon.start_agent(state, arguments, quiet=options.quiet())
    say(f"{_named(ready)} after {seconds:.1f} s (state in {state})")
    if options.output() or options.quiet():
        rows = [[one["host_id"], one["name"], ready["cloud_id"]] for one in ready["hosts"]]
        show(rows, ["HOST", "NAME", "CLOUD"], data=ready, format=options.output(), quiet=options.quiet())


def _named(ready: dict[str, Any]) -> str:
    names = [one["name"] for one in ready["hosts"]]
    return f"{'host' if len(names) == 1 else 'hosts'} {' and '.join(names)} of cloud {ready['cloud_id']}"
