"""`alto service`: instances behind a load balancer under one name."""

import base64
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from alto.ui.cli import options
from alto.ui.cli.answers import Hosts, Service, Services
from alto.ui.cli.client import ApiFailure, Client
from alto.ui.cli.failures import Exit
from alto.ui.cli.output import say, show
from alto.ui.cli.waiting import wait_until

READY_S = 300.0


@click.group(cls=options.Group)
def service() -> None:
    """Instances behind a load balancer."""


_wait = click.option("--wait/--no-wait", default=False, help="Return when it is so, not when it is asked for.")
_timeout = click.option(
    "--timeout", "timeout_s", type=float, default=READY_S, show_default=True, help="Seconds to wait at most."
)


@service.command()
@click.argument("name")
@click.option("-n", "--desired", type=int, default=2, show_default=True, help="How many members.")
@click.option("--image", metavar="AMI", help="Default: the image that Alto brings.")
@click.option("--type", "instance_type", default="m1.tiny", show_default=True)
@click.option("--port", type=int, default=80, show_default=True, help="Where the balancer listens.")
@click.option("--target-port", type=int, default=80, show_default=True, help="Where members listen.")
@click.option("--key", metavar="NAME", help="Key pair for ssh.")
@click.option("--user-data", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--health-path", default="/", show_default=True)
@click.option(
    "--balancer",
    type=click.Choice(["host", "instance"]),
    default="host",
    show_default=True,
    help="Who balances: a host's HAProxy, or an instance of its own.",
)
@click.option("--balancer-type", metavar="TYPE", help="Of that instance. Default: m1.tiny.")
@click.option("--drain", "drain_s", type=float, default=10.0, show_default=True, help="Seconds a leaving member may finish in.")
@_wait
@_timeout
def create(
    name: str,
    desired: int,
    image: str | None,
    instance_type: str,
    port: int,
    target_port: int,
    key: str | None,
    user_data: Path | None,
    health_path: str,
    balancer: str,
    balancer_type: str | None,
    drain_s: float,
    wait: bool,
    timeout_s: float,
) -> None:
    """Launch members and a balancer in front of them."""
    if balancer_type is not None and balancer != "instance":
        raise click.UsageError("--balancer-type is of --balancer instance")
    wish = {
        "name": name,
        "desired": desired,
        "image_id": image,
        "instance_type": instance_type,
        "port": port,
        "target_port": target_port,
        "key_name": key,
        "user_data": base64.b64encode(user_data.read_bytes()).decode() if user_data else None,
        "health_path": health_path,
        "drain_s": drain_s,
        "balancer": balancer,
        "balancer_type": balancer_type,
    }
    client = options.client()
    made = client.post("services", {field: value for field, value in wish.items() if value is not None}, Service)
    if wait:
        wait_ready(client, name, timeout_s)
    else:
        say(f"service {name} is being made: {made.url}")
    _show(client, name)


@service.command()
@click.argument("name")
@click.argument("desired", type=int)
@_wait
@_timeout
def scale(name: str, desired: int, wait: bool, timeout_s: float) -> None:
    """Change how many members it has."""
    client = options.client()
    client.post(f"services/{name}/scale", {"desired": desired}, Service)
    if wait:
        wait_ready(client, name, timeout_s)
    _show(client, name)


@service.command("show")
@click.argument("name")
def show_(name: str) -> None:
    """One service and its members."""
    _show(options.client(), name)


@service.command("list")
def list_() -> None:
    """Every service."""
    client = options.client()
    raw = client.send("GET", "services")
    services = msgspec.json.decode(raw, type=Services).services
    names = {host.id: host.name for host in client.get("hosts", Hosts).hosts} if services else {}
    rows = [
        [one.name, _state(one), f"{one.healthy}/{one.desired}", one.url, _balancer(one, names), one.waiting_because or ""]
        for one in services
    ]
    show(
        rows,
        ["NAME", "STATE", "HEALTHY", "URL", "BALANCER", "MESSAGE"],
        data=msgspec.json.decode(raw)["services"],
        format=options.output(),
        quiet=options.quiet(),
        empty="no services; alto service create web",
    )


@service.command()
@click.argument("name")
@_wait
@_timeout
def delete(name: str, wait: bool, timeout_s: float) -> None:
    """Drain and terminate its members, then take the balancer away."""
    client = options.client()
    before = client.get(f"services/{name}", Service)
    front = f", its balancer {before.balancer.instance_id}" if before.balancer.instance_id else ""
    say(f"takes away: service {name}, its {len(before.members)} instances{front} and the address {before.address}")
    client.delete(f"services/{name}")
    if wait:

        def still_there() -> str | None:
            try:
                left = client.get(f"services/{name}", Service)
            except ApiFailure as failure:
                if failure.exit is Exit.NOT_FOUND:
                    return None
                raise
            return f"{len(left.members)} members to finish" if left.members else "the balancer to go"

        wait_until(still_there, what=f"deleting {name}", timeout_s=timeout_s, quiet=options.quiet())


def wait_ready(client: Client, name: str, timeout_s: float) -> float:
    """Until the service is ready and has exactly its desired members; returns the seconds."""

    def not_ready() -> str | None:
        return why_not_ready(client.get(f"services/{name}", Service))

    return wait_until(
        not_ready, what=f"service {name}", timeout_s=timeout_s, quiet=options.quiet(), hint=f"alto service show {name}"
    )


def why_not_ready(one: Service) -> str | None:
    """What is missing, or None."""
    if not one.balancer_ready:
        why = one.balancer.unready_because
        return "the balancer to serve" + (f" ({why})" if why else "")
    surplus = len(one.members) - one.desired
    if surplus > 0 and one.healthy >= one.desired:
        return f"{surplus} members to leave"
    if one.ready:
        return None
    reasons = sorted(
        {f"{member.instance_id} {member.reason or member.state}" for member in one.members if member.health != "healthy"}
    )
    detail = one.waiting_because or "; ".join(reasons[:2])
    return f"{one.healthy} of {one.desired} healthy" + (f" ({detail})" if detail else "")


def _balancer(one: Service, host_names: Mapping[str, str]) -> str:
    """Who balances, and which of them when there is one."""
    host = host_names.get(one.balancer.host_id or "", one.balancer.host_id)
    which = one.balancer.instance_id if one.balancer.kind == "instance" else host
    return f"{one.balancer.kind} {which}" if which else one.balancer.kind


def _state(one: Service) -> str:
    return "deleting" if one.deleting else "ready" if one.ready else "waiting"


def _show(client: Client, name: str) -> None:
    raw = client.send("GET", f"services/{name}")
    one = msgspec.json.decode(raw, type=Service)
    kinds = {host.id: host.kind for host in client.get("hosts", Hosts).hosts} if one.members else {}
    rows = [
        [
            member.instance_id,
            member.state,
            member.health,
            kinds.get(member.host_id or "", ""),
            member.private_ip,
            member.public_ip,
            member.reason,
        ]
        for member in one.members
    ]
    if not options.output() and not options.quiet():
        balancer = f", balanced by {one.balancer.instance_id}" if one.balancer.instance_id else ""
        say(f"{one.name}: {_state(one)}, {one.healthy} of {one.desired} healthy, {one.url}{balancer}")
        if one.balancer.unready_because and not one.deleting:
            say(f"its balancer does not serve: {one.balancer.unready_because}")
    show(
        rows,
        ["INSTANCE", "STATE", "HEALTH", "KIND", "PRIVATE-IP", "PUBLIC-IP", "MESSAGE"],
        data=msgspec.json.decode(raw),
        format=options.output(),
        quiet=options.quiet(),
        empty="no members",
    )
