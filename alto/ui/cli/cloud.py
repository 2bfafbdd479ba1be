"""`alto up`, `down`, `status`, `audit`: the cloud as a whole."""

import os
import sys

import click
import msgspec

from alto.ui.cli import daemon, options
from alto.ui.cli.answers import Audit, Status
from alto.ui.cli.client import Client
from alto.ui.cli.context import Cloud, read_cloud
from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.output import say, show

DEFAULT_LISTEN = "127.0.0.1:8773"


@click.command(cls=options.Command)
@click.option("--simulate", metavar="N", type=click.IntRange(1, 1000), help="N simulated hosts: no root, no QEMU, same API.")
@click.option("--any-image", is_flag=True, help="With --simulate: images that nobody registered can be launched, too.")
@click.option("--hosts", metavar="KIND[,KIND]", help="What runs instances: qemu (virtual machines), container, or both.")
@click.option("--listen", metavar="ADDRESS:PORT", default=DEFAULT_LISTEN, show_default=True, help="Where the API listens.")
@click.option("--listen-hosts", metavar="ADDRESS:PORT", help="Where other machines join as hosts, over TLS (see `alto host`).")
@click.option("--no-host", is_flag=True, help="This machine runs no instances itself.")
@click.option(
    "--master-key",
    metavar="FILE",
    type=click.Path(dir_okay=False, resolve_path=True),  # the daemon is in another folder
    help="What opens encrypted volumes; best on another disk (default: in the state's folder).",
)
@click.option("--pool", metavar="CIDR", help="Public addresses: of this machine alone, or of its LAN (default: 127.64.0.0/16).")
@click.option("--no-nat", is_flag=True, help="Instances reach nothing outside this machine.")
@click.option("--region", metavar="NAME", help="The region this cloud calls itself (default: us-east-1).")
@click.option(
    "--old-signatures/--no-old-signatures",
    default=None,
    help="Take signature version 2, as old clients sign (default: when listening on loopback).",
)
@click.option("--foreground", is_flag=True, help="Stay in this terminal; Ctrl-C ends the control plane, instances run on.")
def up(
    simulate: int | None,
    any_image: bool,
    hosts: str | None,
    listen: str,
    listen_hosts: str | None,
    no_host: bool,
    master_key: str | None,
    pool: str | None,
    no_nat: bool,
    region: str | None,
    old_signatures: bool | None,
    foreground: bool,
) -> None:
    """Start the cloud on this machine; idempotent."""
    state = options.state()
    running = read_cloud(state)
    if running is not None and daemon.answers(running):
        if listen_hosts and not running.hosts_door:
            raise Failure(
                "the cloud is up, and without a door for hosts",
                why="it opens one only when it starts",
                hint=f"kill {running.pid} (instances run on), then the same command again",
                exit=Exit.CONFLICT,
            )
        say(f"already up: {running.endpoint} (state in {state})")
        _show_cloud(running)
        return
    if simulate is None and not no_host and os.geteuid() != 0:
        raise Failure(
            "real instances need root",
            why="network namespaces, taps and packet rules are root's to make",
            hint="sudo alto up    or    alto up --simulate 3",
            exit=Exit.DENIED,
        )
    if any_image and simulate is None:
        raise Failure(
            "--any-image is for simulated hosts",
            why="a real host runs an image's bytes, and nobody has those of one that was not registered",
            hint="alto up --simulate 3 --any-image",
            exit=Exit.USAGE,
        )
    arguments = ["--listen", listen]
    for name, value in (
        ("--simulate", simulate),
        ("--hosts", hosts),
        ("--listen-hosts", listen_hosts),
        ("--master-key", master_key),
        ("--pool", pool),
        ("--region", region),
    ):
        if value is not None:
            arguments += [name, str(value)]
    if any_image:
        arguments.append("--any-image")
    if no_host:
        arguments.append("--no-host")
    if no_nat:
        arguments.append("--no-nat")
    if old_signatures is not None:
        arguments.append("--old-signatures" if old_signatures else "--no-old-signatures")
    if foreground:
        os.execv(sys.executable, daemon.command(state, *arguments))
    cloud, seconds = daemon.start(state, arguments, quiet=options.quiet())
    say(f"up in {seconds:.1f} s: {cloud.endpoint} (state in {state})")
    _show_cloud(cloud)
    if cloud.hosts_door:
        say(f"other machines may join at {cloud.hosts_door}: alto host token create")
    elif no_host:
        say("it has no host, and no door for one: start it with --listen-hosts too")
    say('next: eval "$(alto env)" && aws ec2 describe-images    or    alto instance run --wait')


def _show_cloud(cloud: Cloud) -> None:
    rows = [[cloud.endpoint, cloud.region, cloud.account, cloud.pid, cloud.state]]
    data = {"endpoint": cloud.endpoint, "region": cloud.region, "account": cloud.account, "pid": cloud.pid}
    if options.output() or options.quiet():
        show(rows, ["ENDPOINT", "REGION", "ACCOUNT", "PID", "STATE"], data=data, format=options.output(), quiet=options.quiet())


@click.command(cls=options.Command)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-data", is_flag=True, help="Stop everything, and keep disks and records for the next `alto up`.")
def down(yes: bool, keep_data: bool) -> None:
    """Stop the cloud, and take away all it made on this machine."""
    state = options.state()
    cloud = read_cloud(state)
    if cloud is None and not state.exists():
        say(f"nothing is up: there is no {state}")
        return
    loses = _what_is_lost(cloud)
    say(f"takes away: {loses}" + ("; keeps disks and records" if keep_data else f"; and all in {state}"))
    if not yes and sys.stdin.isatty() and not click.confirm("go on?", default=True, err=True):
        raise click.Abort
    daemon.stop(state, keep_data=keep_data, say=say)
    say("down")


def _what_is_lost(cloud: Cloud | None) -> str:
    if cloud is None:
        return "whatever an earlier cloud left"
    client = Client(cloud, timeout_s=10.0)
    try:
        status = client.get("status", Status)
    except Failure:
        return "the cloud that does not answer, with its instances and networks"
    finally:
        client.close()
    living = sum(count for state, count in status.instances.items() if state != "terminated")
    return f"{_count(living, 'instance')}, {_count(len(status.services), 'service')}, their networks and the control plane"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@click.command(cls=options.Command)
def status() -> None:
    """What there is, and what is being waited for."""
    raw = options.client().send("GET", "status")
    data = msgspec.json.decode(raw)
    seen = msgspec.json.decode(raw, type=Status)
    rows: list[list[object]] = []
    for host in seen.hosts:
        load = f"{host.instances} instances, {host.vcpus_used}/{host.vcpus} vCPU, {host.memory_mib_used}/{host.memory_mib} MiB"
        if not host.vcpus:
            load = ""  # only operators are told
        rows.append(["host", host.name, host.state, host.kind, load])
    kinds = sorted({host.kind for host in seen.hosts})
    for service in seen.services:
        state = "deleting" if service.deleting else "ready" if service.ready else "waiting"
        note = service.waiting_because or f"{service.healthy} of {service.desired} healthy, {service.url}"
        rows.append(["service", service.name, state, "+".join(kinds), note])
    for name, count in sorted(seen.instances.items()):
        rows.append(["instances", count, name, "+".join(kinds), ""])
    for one in seen.waiting:
        rows.append(["instance", one.instance_id, "pending", "", one.because])
    if not options.output():
        say(f"cloud {seen.cloud_id}, account {seen.account}, region {seen.region}")
    if seen.advice:
        say(seen.advice)
    show(
        rows,
        ["WHAT", "NAME", "STATE", "KIND", "MESSAGE"],
        data=data,
        format=options.output(),
        quiet=options.quiet(),
        name_column=1,
        empty="an empty cloud without hosts",
    )


@click.command(cls=options.Command)
def audit() -> int:
    """Check everything that must always be true; exit code 1 when something is not."""
    raw = options.client().send("GET", "audit")
    found = msgspec.json.decode(raw, type=Audit)
    rows = [[one.rule, one.subject, one.sentence] for one in found.violations]
    rows += [
        ["host-silent", host, "Its agent did not answer, so nothing on it could be checked"] for host in found.silent_hosts
    ]
    show(
        rows,
        ["RULE", "SUBJECT", "WHAT IS WRONG"],
        data=msgspec.json.decode(raw),
        format=options.output(),
        quiet=options.quiet(),
        name_column=1,
        empty="nothing is wrong",
    )
    checked = ", ".join(f"{number} {what}" for what, number in found.checked.items())
    say(f"checked {checked or 'everything'}: {_count(len(rows), 'violation')}, {len(found.unsettled)} things under way")
    return Exit.FAILED if rows else Exit.DONE
