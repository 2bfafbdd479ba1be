"""`alto host`: where instances run, of what kind that is, and how machines come and go."""

import time

import click
import msgspec

from alto.ui.cli import options
from alto.ui.cli.answers import Gauges, HostDetails, Hosts, HostView, Removal, Token, Tokens
from alto.ui.cli.failures import Failure
from alto.ui.cli.output import say, show

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group(cls=options.Group)
def host() -> None:
    """Where instances run."""


@host.command("list")
def list_() -> None:
    """Every host, with what is given out and what it has."""
    raw = options.client().send("GET", "hosts")
    found = msgspec.json.decode(raw, type=Hosts)
    _show(found.hosts, msgspec.json.decode(raw)["hosts"])
    if found.advice:
        say(found.advice)


def _show(hosts: list[HostView], data: object) -> None:
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
            ",".join(one.pressure),
            one.dedicated.account if one.dedicated is not None else "",
        ]
        for one in hosts
    ]
    show(
        rows,
        ["HOST", "NAME", "KIND", "ACCELERATOR", "STATE", "INSTANCES", "VCPUS", "MEMORY-MIB", "SHORT-OF", "KEPT-FOR"],
        data=data,
        format=options.output(),
        quiet=options.quiet(),
        empty="no hosts",
    )


@host.command("show")
@click.argument("which", metavar="HOST")
def show_(which: str) -> None:
    """One host: what runs there, when it was heard, and how others reach it."""
    raw = options.client().send("GET", f"hosts/{which}")
    one = msgspec.json.decode(raw, type=HostDetails)
    heard = "not since the server began" if one.heard_s_ago is None else f"{one.heard_s_ago:.0f} s ago"
    rows: list[list[object]] = [
        ["id", one.id],
        ["name", one.name],
        ["kind", one.kind],
        ["accelerator", one.accelerator],
        ["state", one.state],
        ["heard", heard],
        ["vcpus", f"{one.vcpus_used} of {one.vcpus} given out"],
        ["memory", f"{one.memory_mib_used} of {one.memory_mib} MiB given out"],
        ["underlay", one.underlay or "none"],
        ["key", one.key or "none: it is the cloud's own process"],
    ]
    if one.dedicated is not None:
        rows.append(["dedicated", f"to account {one.dedicated.account}, by {one.dedicated.instances} dedicated instances"])
    if one.gauges is not None:
        rows += _gauges(one.gauges)
    if one.pressure:
        rows.append(["short of", f"{', '.join(one.pressure)}: it keeps what it has, and takes nothing new"])
    rows += [["instance", f"{each.instance_id} {each.state}"] for each in one.runs]
    show(rows, ["WHAT", "VALUE"], data=msgspec.json.decode(raw), format=options.output(), quiet=options.quiet(), name_column=1)


def _gauges(now: Gauges) -> list[list[object]]:
    """How full the machine itself is, whoever fills it."""
    rows: list[list[object]] = [
        ["free memory", f"{now.memory_free_mib} of {now.memory_mib} MiB"],
        ["free disk", f"{now.disk_free_mib} of {now.disk_mib} MiB"],
        ["processes", f"{now.processes} of {now.processes_max}"],
    ]
    if now.stalled is not None:
        rows.append(["stalled", f"{now.stalled:.0%} of the last minute for want of memory"])
    return rows


@host.command()
@click.argument("which", metavar="HOST")
@click.argument("name")
def rename(which: str, name: str) -> None:
    """Call a host otherwise; nothing else changes."""
    options.client().post(f"hosts/{which}/rename", {"name": name}, HostView)
    say(f"{which} is called {name} now")


@host.command()
@click.argument("which", metavar="HOST")
def drain(which: str) -> None:
    """Give a host nothing new; it keeps what it has."""
    one = options.client().post(f"hosts/{which}/drain", {}, HostView)
    say(f"{one.name} takes nothing new; {one.instances} instances stay. Back: alto host undrain {one.name}")


@host.command()
@click.argument("which", metavar="HOST")
def undrain(which: str) -> None:
    """Give a host new instances again."""
    one = options.client().post(f"hosts/{which}/undrain", {}, HostView)
    say(f"{one.name} takes new instances")


@host.command()
@click.argument("which", metavar="HOST")
@click.option("--force", is_flag=True, help="Take away what it runs; of a host that is silent: it is gone, count that as lost.")
def remove(which: str, force: bool) -> None:
    """Remove a host. Refused while it has instances, unless by --force."""
    gone = options.client().post(f"hosts/{which}/remove", {"force": force}, Removal)
    for id in gone.takes_away:
        say(f"terminates {id}")
    say(f"{gone.name} leaves; it is gone when `alto host list` does not show it any more")


@host.command("replace")
@click.argument("which", metavar="HOST")
@click.option("--fenced", is_flag=True, help="The old machine is off, for certain. What was on it is lost.")
@click.option("--expires", metavar="TIME", default="1h", show_default=True, help="How long the token is good.")
def replace_(which: str, fenced: bool, expires: str) -> None:
    """Give a lost host's name and id to another machine: prints what to run there."""
    body = {"fenced": fenced, "expires_s": _seconds(expires)}
    made = options.client().post(f"hosts/{which}/replace", body, Token)
    for id in made.lost:
        say(f"lost {id}")
    _show_token(made)


@host.group(cls=options.Group)
def token() -> None:
    """Invitations for machines that become hosts."""


@token.command()
@click.option("--name", help="What the host will be called (default: as its machine).")
@click.option("--expires", metavar="TIME", default="1h", show_default=True, help="How long the token is good: 30m, 12h, 7d.")
def create(name: str | None, expires: str) -> None:
    """Make a token for one machine, once: prints what to run there."""
    _show_token(options.client().post("host-tokens", {"name": name, "expires_s": _seconds(expires)}, Token))


def _show_token(made: Token) -> None:
    if options.output() in ("json", "yaml"):
        show([], [], data=msgspec.to_builtins(made), format=options.output())
    elif options.quiet() or options.output() == "name":
        print(made.token)
    else:
        say(f"on the other machine, as root, until {_when(made.expires_at)}:")
        print(made.command)


@token.command("list")
def list_tokens() -> None:
    """Every token, open or not; never its secret."""
    raw = options.client().send("GET", "host-tokens")
    rows = [
        [one.id, one.state, one.name or one.replaces, _when(one.expires_at), one.used_by]
        for one in msgspec.json.decode(raw, type=Tokens).tokens
    ]
    show(
        rows,
        ["TOKEN", "STATE", "FOR", "EXPIRES", "USED-BY"],
        data=msgspec.json.decode(raw)["tokens"],
        format=options.output(),
        quiet=options.quiet(),
        empty="no tokens",
    )


@token.command()
@click.argument("which", metavar="TOKEN")
def revoke(which: str) -> None:
    """Let nobody in by a token any more."""
    options.client().delete(f"host-tokens/{which}")
    say(f"{which} lets nobody in any more")


def _seconds(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_S or not number.isdigit():
        raise Failure(f"'{text}' is no time", hint="30m, 12h or 7d")
    return float(number) * _UNITS_S[unit]


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
