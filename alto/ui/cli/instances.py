"""`alto instance`: run, look at, enter, stop and terminate machines. What EC2 can say is said in EC2's words.

An instance is named by its id or by its Name tag. Keys that `run --key` makes are kept 0600 beside the cloud's state.
"""

import base64
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from alto.ui.cli import options
from alto.ui.cli.answers import (
    ChecksView,
    ConsoleOutput,
    Hosts,
    Images,
    Instance,
    InstanceView,
    KeyPair,
    Nothing,
    Reservation,
    Reservations,
    SecurityGroups,
    UserData,
)
from alto.ui.cli.client import ApiFailure, Client
from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.output import say, show
from alto.ui.cli.user_data import SIZE_MAX, Here, findings, outcome
from alto.ui.cli.waiting import wait_until

RUNNING_S = 300.0
PAGE = 1000
DEFAULT_TYPE = "m1.tiny"
OWN_IMAGES = ("alto/tiny", "alto/container-tiny")  # the images that Alto brings, by how their names begin: machines, containers
SSH_PORT = 22
CONNECT_S = 10
MACHINE_ADDRESS = "169.254.169.252"  # where connections from this machine come from (docs/adr/0004)
CONSOLE_POLL_S = 1.0
PROBE_BYTES = 64


@click.group(cls=options.Group)
def instance() -> None:
    """Virtual machines."""


_wait = click.option("--wait/--no-wait", default=False, help="Return when it is so, not when it is asked for.")
_timeout = click.option(
    "--timeout", "timeout_s", type=float, default=RUNNING_S, show_default=True, help="Seconds to wait at most."
)
_many = click.argument("names", nargs=-1, required=True, metavar="INSTANCE...")


@instance.command()
@click.option("--image", metavar="AMI", help="Default: the image that Alto brings.")
@click.option("--type", "instance_type", help="Default: the template's, else m1.tiny.")
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--name", help="Its Name tag.")
@click.option("--key", metavar="NAME", help="Key pair for ssh; made, and kept here, when there is none.")
@click.option("--user-data", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--no-check", is_flag=True, help="Say nothing about the user data.")
@click.option("--template", metavar="NAME[:VERSION]", help="Launch template, by name or id; what is said here wins.")
@click.option("--placement", metavar="GROUP", help="Placement group.")
@click.option("--host", "host_ref", metavar="HOST", help="On this host and no other; by id or name.")
@click.option("--profile", metavar="NAME", help="Instance profile.")
@click.option("--group", "groups", multiple=True, metavar="SG", help="Security group id; may be repeated.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@_wait
@_timeout
def run(
    image: str | None,
    instance_type: str | None,
    count: int,
    name: str | None,
    key: str | None,
    user_data: Path | None,
    no_check: bool,
    template: str | None,
    placement: str | None,
    host_ref: str | None,
    profile: str | None,
    groups: tuple[str, ...],
    tags: tuple[str, ...],
    wait: bool,
    timeout_s: float,
) -> None:
    """Launch instances."""
    client = options.client()
    if key is not None:
        ensure_key(client, key, options.state())
    labels = {"Name": name} if name else {}
    for tag in tags:
        field, equals, value = tag.partition("=")
        if not equals:
            raise Failure(f"'{tag}' is no tag", why="a tag is KEY=VALUE", exit=Exit.USAGE)
        labels[field] = value
    specification = (
        [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in labels.items()]}] if labels else None
    )
    own = own_image(client) if image is None and template is None else None
    script = user_data.read_bytes() if user_data else None
    if script is not None and user_data is not None:
        check_user_data(user_data, script, check=not no_check, tiny=own is not None)
    where = {"GroupName": placement, "HostId": find_host(client, host_ref) if host_ref else None}
    made = client.ec2(
        "RunInstances",
        Reservation,
        ImageId=image or own,
        InstanceType=instance_type or (DEFAULT_TYPE if template is None else None),
        LaunchTemplate=template_reference(template) if template else None,
        Placement={field: value for field, value in where.items() if value} or None,
        IamInstanceProfile={"Name": profile} if profile else None,
        MinCount=count,
        MaxCount=count,
        KeyName=key,
        UserData=base64.b64encode(script).decode() if script is not None else None,
        SecurityGroupIds=list(groups) or None,
        TagSpecifications=specification,
    )
    ids = [one.instance_id for one in made.instances]
    if wait:
        seconds = wait_for(client, ids, "running", timeout_s)
        say(f"{len(ids)} running in {seconds:.1f} s")
    _show(client, find(client, ids))


def check_user_data(path: Path, data: bytes, *, check: bool, tiny: bool) -> None:
    """Say what would not run as its writer thinks. Raises: Failure: the cloud would refuse it."""
    if len(data) > SIZE_MAX:
        raise Failure(
            f"{path} is {len(data)} bytes",
            why=f"user data is limited to {SIZE_MAX} bytes",
            hint="put the rest where the instance can fetch it, or gzip it for an image with cloud-init",
            exit=Exit.USAGE,
        )
    if not check:
        return
    for finding in findings(data, Here(hostname=socket.gethostname(), home=str(Path.home())), tiny=tiny):
        for line in finding.lines():
            say(line)


def template_reference(given: str) -> dict[str, str]:
    name, _, version = given.partition(":")
    reference = {"LaunchTemplateId" if name.startswith("lt-") else "LaunchTemplateName": name}
    return {**reference, "Version": version} if version else reference


def find_host(client: Client, given: str) -> str:
    """A host's id, by id or name; what is neither is for the cloud to refuse."""
    hosts = client.get("hosts", Hosts).hosts
    return next((one.id for one in hosts if given in (one.id, one.name)), given)


@instance.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are terminated.")
def list_(everything: bool) -> None:
    """Instances of this account in this region."""
    client = options.client()
    found = find(client, [])
    _show(client, [one for one in found if everything or one.state.name != "terminated"])


@instance.command("show")
@click.argument("name", metavar="INSTANCE")
def show_(name: str) -> None:
    """One instance: where it is, what state it is in, and what it waits for."""
    client = options.client()
    one = resolve(client, [name])[0]
    raw = client.send("GET", f"instances/{one.instance_id}")
    view = msgspec.json.decode(raw, type=InstanceView)
    data = {**msgspec.json.decode(raw), "instance": _described(client, one.instance_id)}
    host = view.host
    rows: list[list[Any]] = [
        ["id", one.instance_id],
        ["name", one.name],
        ["state", view.state],
        ["phase", view.phase],
        ["waiting because", view.waiting_because],
        ["reason", view.reason or one.state_transition_reason],
        ["kind", host.kind if host else None],
        ["host", f"{host.name} ({host.id})" if host else None],
        ["checks", said_checks(view.checks)],
        ["type", one.instance_type],
        ["image", one.image_id],
        ["private address", one.private_ip_address],
        ["public address", one.public_ip_address],
        ["ipv6 address", one.ipv6_address],
        ["key", one.key_name],
        ["profile", one.profile_name],
        ["placement", one.placed],
        ["service", view.group],
        ["launched", one.launched],
        *user_data_rows(client, one),
    ]
    if options.quiet():
        print(one.instance_id)
    else:
        show([row for row in rows if row[1]], ["FIELD", "VALUE"], data=data, format=options.output())


def user_data_rows(client: Client, one: Instance) -> list[list[Any]]:
    """What came of its user data, as its console tells; a failure with its last words."""
    given = client.ec2("DescribeInstanceAttribute", UserData, InstanceId=one.instance_id, Attribute="userData")
    if not given.user_data.value:
        return []
    try:
        console = client.ec2("GetConsoleOutput", ConsoleOutput, InstanceId=one.instance_id, Latest=True)
    except ApiFailure:
        return [["user data", "not known: its host does not answer"]]
    found = outcome(base64.b64decode(console.output))
    if found is None:
        return [["user data", "not reported"]]
    rows = [["user data", found.said]]
    if found.exit:
        rows += [["user data said", line] for line in found.tail]
    return rows


def said_checks(checks: ChecksView | None) -> str | None:
    """Both status checks with their age: what was true a minute ago may not be now."""
    if checks is None or checks.instance == "not-applicable":
        return None
    parts = []
    for name, status, since in (
        ("system", checks.system, checks.system_failed_since),
        ("instance", checks.instance, checks.instance_failed_since),
    ):
        at = f" since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC" if since is not None else ""
        parts.append(f"{name} {status}{at}")
    age = checks.measured_age_s
    parts.append(f"measured {age:.0f} s ago" if age is not None else "not measured yet")
    return ", ".join(parts)


@instance.command()
@_many
@_wait
@_timeout
def stop(names: tuple[str, ...], wait: bool, timeout_s: float) -> None:
    """Power off; disk and addresses stay."""
    _change("StopInstances", names, "stopped" if wait else None, timeout_s)


@instance.command()
@_many
@_wait
@_timeout
def start(names: tuple[str, ...], wait: bool, timeout_s: float) -> None:
    """Power on what was stopped."""
    _change("StartInstances", names, "running" if wait else None, timeout_s)


@instance.command()
@_many
def reboot(names: tuple[str, ...]) -> None:
    """Restart the guest; hard when it does not listen."""
    _change("RebootInstances", names, None, 0)


@instance.command()
@_many
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_wait
@_timeout
def terminate(names: tuple[str, ...], yes: bool, wait: bool, timeout_s: float) -> None:
    """End for good, disks included."""
    client = options.client()
    found = resolve(client, names)
    ids = ", ".join(f"{one.instance_id} {one.name}".strip() for one in found)
    say(f"takes away: {ids}, with their disks")
    if not yes and sys.stdin.isatty() and not click.confirm("go on?", default=True, err=True):
        raise click.Abort
    _change("TerminateInstances", [one.instance_id for one in found], "terminated" if wait else None, timeout_s)


@instance.command()
@click.argument("name", metavar="INSTANCE")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-i", "--interactive", is_flag=True, help="Sit down at it: keys go to the instance. Leave with Ctrl-].")
@click.option("--take", is_flag=True, help="With -i: whoever is at it now loses it.")
def console(name: str, follow: bool, interactive: bool, take: bool) -> None:
    """What its serial console said; or the live console itself."""
    client = options.client()
    id = resolve(client, [name])[0].instance_id
    if interactive:
        from alto.ui.cli.serial_console import sit

        chosen = options.cloud()
        sit(lambda: Client(chosen), id, take=take)
        return
    before = b""
    while True:
        answer = client.ec2("GetConsoleOutput", ConsoleOutput, InstanceId=id, Latest=True)
        now = base64.b64decode(answer.output)
        sys.stdout.buffer.write(unheard(before, now))
        sys.stdout.buffer.flush()
        if not follow:
            return
        before = now
        time.sleep(CONSOLE_POLL_S)


def unheard(before: bytes, now: bytes) -> bytes:
    """What the console said since `before`. Both are the last of one stream: of a long one, old words leave at the front."""
    begin = 0
    while begin < len(before):
        if now.startswith(before[begin:]):
            return now[len(before) - begin :]
        # The next place where what is left of `before` may begin.
        found = before.find(now[:PROBE_BYTES], begin + 1) if len(before) - begin > PROBE_BYTES else begin + 1
        begin = found if found >= 0 else max(begin + 1, len(before) - PROBE_BYTES)
    return now


@instance.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-i", "--identity", metavar="FILE", type=click.Path(path_type=Path), help="Private key.")
@click.option("-l", "--user", default="root", show_default=True)
@click.argument("name", metavar="INSTANCE")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, identity: Path | None, user: str, command: tuple[str, ...]) -> None:
    """Log in with OpenSSH, or run COMMAND there."""
    api = options.client()
    one = resolve(api, [name])[0]
    if one.public_ip_address is None:
        raise Failure(
            f"{one.instance_id} has no public address",
            why=f"it is {one.state.name}",
            hint=f"alto instance show {one.instance_id}",
            exit=Exit.CONFLICT,
        )
    client = shutil.which("ssh")
    if client is None:
        raise Failure("there is no ssh here", why="OpenSSH's client is not installed", hint="apt-get install openssh-client")
    warn_closed(api, one)
    key = identity or find_key(one.key_name, options.state())
    os.execv(client, ssh_command(one.instance_id, one.public_ip_address, user, key, options.state(), command))


def warn_closed(client: Client, one: Instance) -> None:
    """A closed port drops packets, as in EC2: without a word ssh would wait, and its user wonder."""
    ids = [group.group_id for group in one.security_groups]
    groups = client.ec2("DescribeSecurityGroups", SecurityGroups, GroupIds=ids).security_groups if ids else []
    if ids and not any(rule.lets_in(SSH_PORT, MACHINE_ADDRESS) for group in groups for rule in group.ip_permissions):
        say(f"port {SSH_PORT} of {one.instance_id} seems closed to this machine; this opens it:")
        say(f"  aws ec2 authorize-security-group-ingress --group-id {ids[0]} --protocol tcp --port {SSH_PORT} --cidr 0.0.0.0/0")


def ssh_command(
    id: str, address: str, user: str, key: Path | None, state: Path, command: Sequence[str], *, batch: bool = False
) -> list[str]:
    """The host key is kept per instance, so that a re-used address is no alarm."""
    known = state / "known_hosts" if os.access(state, os.W_OK) else Path("/dev/null")
    arguments = [
        "ssh",
        "-o",
        "StrictHostKeyChecking=accept-new",
        "-o",
        f"UserKnownHostsFile={known}",
        "-o",
        f"HostKeyAlias={id}",
    ]
    if key is not None:
        arguments += ["-o", "IdentitiesOnly=yes", "-i", str(key)]
    arguments += ["-o", f"ConnectTimeout={CONNECT_S}"]
    if batch:
        arguments += ["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    return [*arguments, f"{user}@{address}", *command]


def find_key(key_name: str | None, state: Path) -> Path | None:
    """The private half of a key pair, where `alto instance run --key` or people keep it."""
    if key_name is None:
        return None
    home = Path.home() / ".ssh"
    for path in (state / "keys" / f"{key_name}.pem", home / f"{key_name}.pem", home / key_name):
        if path.exists():
            return path
    return None


def ensure_key(client: Client, name: str, state: Path) -> None:
    """A key pair of this name exists; a new one's private half is in the state folder, readable by its owner only."""
    try:
        client.ec2("DescribeKeyPairs", Nothing, KeyNames=[name])
        return
    except ApiFailure as failure:
        if failure.exit is not Exit.NOT_FOUND:
            raise
    made = client.ec2("CreateKeyPair", KeyPair, KeyName=name, KeyType="ed25519")
    folder = state / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.pem"
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(fd, "w") as file:
        file.write(made.key_material.rstrip("\n") + "\n")
    say(f"made key pair {name}; its private half is {path}")


def own_image(client: Client) -> str:
    """The image that Alto brings, for the hosts that there are; or the only one there is."""
    images = client.ec2("DescribeImages", Images).images
    own = [next((image.image_id for image in images if image.name.startswith(name)), "") for name in OWN_IMAGES]
    if all(own):
        only_containers = all(host.kind == "container" for host in client.get("hosts", Hosts).hosts)
        return own[1] if only_containers else own[0]
    if any(own):
        return own[0] or own[1]
    if len(images) == 1:
        return images[0].image_id
    raise Failure("which image?", why=f"there are {len(images)}", hint="alto instance run --image ami-...", exit=Exit.USAGE)


def find(client: Client, ids: Sequence[str], filters: Sequence[dict[str, Any]] = ()) -> list[Instance]:
    """In the order in which they were asked for, else by launch time."""
    found: list[Instance] = []
    token: str | None = None
    while True:
        answer = client.ec2(
            "DescribeInstances",
            Reservations,
            InstanceIds=list(ids) or None,
            Filters=list(filters) or None,
            MaxResults=None if ids else PAGE,
            NextToken=token,
        )
        found += [one for reservation in answer.reservations for one in reservation.instances]
        token = answer.next_token
        if not token:
            break
    if ids:
        return sorted(found, key=lambda one: ids.index(one.instance_id))
    return sorted(found, key=lambda one: (one.launched, one.instance_id))


def resolve(client: Client, names: Sequence[str]) -> list[Instance]:
    """By id or Name tag. Raises: Failure: there is none, or a name that several have."""
    found: list[Instance] = []
    for name in names:
        if name.startswith("i-"):
            found += find(client, [name])
            continue
        filters = [
            {"Name": "tag:Name", "Values": [name]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped", "shutting-down"]},
        ]
        matches = find(client, [], filters)
        if len(matches) != 1:
            ids = ", ".join(one.instance_id for one in matches[:5])
            raise Failure(
                f"{'no' if not matches else len(matches)} instances are named '{name}'",
                why=f"they are {ids}" if matches else "",
                hint="alto instance list",
                exit=Exit.NOT_FOUND if not matches else Exit.USAGE,
            )
        found += matches
    return found


def wait_for(client: Client, ids: Sequence[str], state: str, timeout_s: float) -> float:
    """Until every one is in `state`; says why those that are not, are not. Returns the seconds."""

    def not_yet() -> str | None:
        missing = [one for one in find(client, ids) if one.state.name != state]
        if not missing:
            return None
        first = missing[0]
        if state == "running" and first.state.name in ("terminated", "shutting-down", "stopped"):
            raise Failure(
                f"{first.instance_id} is {first.state.name}",
                why=first.state_transition_reason,
                hint=f"alto instance show {first.instance_id}",
            )
        view = client.get(f"instances/{first.instance_id}", InstanceView)
        why = view.waiting_because or view.phase
        return f"{first.instance_id} {why}" + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")

    what = f"{len(ids)} instances {state}" if len(ids) != 1 else f"{ids[0]} {state}"
    return wait_until(not_yet, what=what, timeout_s=timeout_s, quiet=options.quiet(), hint=f"alto instance show {ids[0]}")


def _change(action: str, names: Sequence[str], wanted: str | None, timeout_s: float) -> None:
    client = options.client()
    ids = [one.instance_id for one in resolve(client, names)]
    client.ec2(action, Nothing, InstanceIds=ids)
    if wanted is not None:
        wait_for(client, ids, wanted, timeout_s)
    _show(client, find(client, ids))


def _described(client: Client, id: str) -> Any:
    raw = client.send("POST", "ec2/DescribeInstances", {"InstanceIds": [id]})
    return msgspec.json.decode(raw)["Reservations"][0]["Instances"][0]


def kinds(client: Client, ids: Sequence[str]) -> Callable[[str], str]:
    """Instance id to the kind of host it is on. One question when all hosts are of one kind; else one for each."""
    hosts = client.get("hosts", Hosts).hosts
    if len({host.kind for host in hosts}) == 1:
        return lambda _: hosts[0].kind
    views = {id: client.get(f"instances/{id}", InstanceView) for id in ids}
    return lambda id: host.kind if (host := views[id].host) is not None else ""


def _show(client: Client, found: Sequence[Instance]) -> None:
    kind = kinds(client, [one.instance_id for one in found]) if not options.quiet() else lambda _: ""
    rows = [
        [
            one.instance_id,
            one.name,
            one.state.name,
            kind(one.instance_id),
            one.instance_type,
            one.private_ip_address,
            one.public_ip_address,
            one.launched,
        ]
        for one in found
    ]
    show(
        rows,
        ["INSTANCE", "NAME", "STATE", "KIND", "TYPE", "PRIVATE-IP", "PUBLIC-IP", "LAUNCHED"],
        data=[{**msgspec.to_builtins(one), "LaunchTime": one.launched, "Kind": kind(one.instance_id)} for one in found],
        format=options.output(),
        quiet=options.quiet(),
        empty="no instances; alto instance run --wait",
    )
