"""Who is taken as a host, in one transaction: a machine with an invitation joins, a host says hello, one that left is told.

A token lets one key in, once; the key's certificate is only a name tag, the host's row decides at each request whether the
key is still welcome. So removal needs no list of revoked certificates. Not here: TLS and HTTP (`door.py`), and what a
session then says.
"""

import hashlib
import hmac
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from alto.model.errors import Refused
from alto.model.hosts import Capabilities, Host, HostState
from alto.model.instances import Instance, Phase
from alto.model.joining import HOST_NAME, FormerHost, Join, JoinToken
from alto.model.sessions import Hello
from alto.plan.joining import Connected, machine_taken, refusal
from alto.store.store import Reader, Tx

# Processors are given out many times over (most instances idle), memory half as often again (guests share and seldom fill
# theirs); both as Nova does by default, with more processors because small hosts are the rule here.
CPU_OVERCOMMIT = 32.0
MEMORY_OVERCOMMIT = 1.5
# Volumes are seldom full: a volume takes what was written to it. What is really left is the agent's to watch.
DISK_OVERCOMMIT = 4.0


def host_of(reader: Reader, key: str) -> str:
    """The id of the host, or former host, whose key this is. Raises: Refused."""
    found = reader.where(Host, key=key, limit=1)
    if found:
        return found[0].id
    former = reader.find(FormerHost, key)
    if former is None:
        raise unknown_host()
    return former.host_id


def redeem(tx: Tx, join: Join, key: str, host_id: str, connected: Sequence[Connected], now: float) -> Host:
    """Let `key` in with a token: its host's row, made with `host_id` or the one that the token replaces. The same key may ask
    again, since the answer may have been lost. Raises: Refused."""
    token = tx.find(JoinToken, join.token_id)
    if token is None or not hmac.compare_digest(token.digest, hashlib.sha256(join.secret).hexdigest()):
        raise Refused("InvalidToken", "This cloud gave no such token. Make one: alto host token create", status=403)
    if token.revoked:
        raise Refused("InvalidToken", f"Token {token.id} was revoked. Make another: alto host token create", status=403)
    if token.used_by is not None:
        host = tx.find(Host, token.used_by)
        if token.used_key != key or host is None or host.key != key:
            raise Refused(
                "InvalidToken",
                f"Token {token.id} was used already, and each lets in one machine. Make another: alto host token create",
                status=403,
            )
        return host
    if now >= token.expires_at:
        raise Refused("InvalidToken", f"Token {token.id} has expired. Make another: alto host token create", status=403)
    if taken := machine_taken(join.machine, token.replaces, connected):
        raise taken
    if tx.where(Host, key=key, limit=1) or tx.find(FormerHost, key) is not None:
        raise Refused("InvalidToken", "This key is, or was, a host's: a machine that joins makes a new one", status=403)
    if token.replaces is not None:
        before = tx.find(Host, token.replaces)
        # A key there is another machine's, which came first.
        if before is None or before.key is not None:
            raise Refused("InvalidToken", f"Host {token.replaces}, which was to be replaced, is so no more", status=403)
        host = replace(before, key=key, run="", starts=0, state=HostState.UNREACHABLE)
    else:
        if not HOST_NAME.fullmatch(join.name):
            raise Refused("InvalidParameterValue", "A host's name has letters, digits and inner . _ -, at most 64")
        host = Host(
            id=host_id,
            name=free_name(tx, token.name or join.name),
            # What it can hold, its agent says at its first hello.
            capabilities=Capabilities(kind=join.kind, accelerator="none", vcpus=0, memory_mib=0),
            state=HostState.UNREACHABLE,
            vcpus=0,
            memory_mib=0,
            joined_at=now,
            key=key,
        )
    tx.put(host)
    tx.put(replace(token, used_at=now, used_by=host.id, used_key=key))
    return host


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    tombstones: dict[str, int]  # what the host has of instances that ended meanwhile: instance id -> epoch to remove up to
    farewell: bool = False


def welcome(tx: Tx, hello: Hello, connected: Sequence[Connected], now: float) -> Welcome:
    """Write the host's row. Raises: Refused."""
    former = tx.find(FormerHost, hello.key or hello.host_id)
    if former is not None:
        farewell = _farewell(tx, hello, former)
        if farewell is not None:
            return farewell
    vcpus, memory_mib = offered(hello.capabilities)
    disk_gib = hello.capabilities.disk_gib
    if disk_gib is not None:
        disk_gib = int(disk_gib * DISK_OVERCOMMIT)
    underlay = free_underlay(tx, hello)
    host = tx.find(Host, hello.host_id)
    if host is not None and host.key != hello.key:
        raise Refused("UnknownHost", f"Host {host.name} joins with another key than this one", status=403)
    if host is None:
        if hello.key is not None:
            raise unknown_host()
        if taken := machine_taken(hello.origin.machine, hello.host_id, connected):
            raise taken
        host = Host(
            id=hello.host_id,
            name=free_name(tx, hello.name),
            capabilities=hello.capabilities,
            underlay=underlay,
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_gib=disk_gib,
            joined_at=now,
            run=hello.origin.run,
            starts=hello.origin.starts,
        )
        tx.put(host)
    else:
        if refused := refusal(hello, host, connected):
            raise refused
        news = replace(
            host,
            state=HostState.READY,
            capabilities=hello.capabilities,
            underlay=underlay,
            # A host that shrank keeps what runs on it; it takes nothing new until there is room again.
            vcpus=max(vcpus, host.vcpus_used),
            memory_mib=max(memory_mib, host.memory_mib_used),
            disk_gib=max(disk_gib, host.disk_gib_used) if disk_gib is not None else None,
            run=hello.origin.run,
            starts=hello.origin.starts,
        )
        if news != host:
            tx.put(news)
    orphans: dict[str, int] = {}
    for machine in hello.found:
        instance = tx.find(Instance, machine.id)
        # A machine that the store does not know is left alone: absence is no order to destroy.
        if instance is not None and (instance.phase is Phase.TERMINATED or instance.host_id != hello.host_id):
            orphans[machine.id] = instance.epoch
    return Welcome(name=host.name, tombstones=orphans)


def _farewell(tx: Tx, hello: Hello, former: FormerHost) -> Welcome | None:
    """What a host hears that was removed; None when it may come back as a new one."""
    ordered = dict(former.tombstones)
    left = {machine.id: ordered[machine.id] for machine in hello.found if machine.id in ordered}
    if left:
        return Welcome(name=former.name, tombstones=left, farewell=True)
    if hello.key is None:
        # The server's own machine: whoever starts it with a host again wants one again.
        tx.delete(FormerHost, former.id)
        return None
    what = "replaced by another machine" if former.replaced else "removed from this cloud"
    raise Refused(
        "HostRemoved",
        f"Host {former.name} was {what}. To use this machine again: alto host token create (there), "
        "then alto agent --join (here)",
        status=403,
    )


def unknown_host() -> Refused:
    return Refused(
        "UnknownHost",
        "This cloud does not know this host. If its records were lost, join again: alto host token create (there), then alto "
        "agent --join (here)",
        status=403,
    )


def free_name(reader: Reader, wanted: str) -> str:
    """`wanted`, or with a number behind it: machines that were made from one image often have one name."""
    taken = {host.name for host in reader.where(Host)}
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def free_underlay(reader: Reader, hello: Hello) -> str:
    """What the agent says, or with a greater port: several hosts may be on one machine, and each needs a port of its own. The
    hosts' plans tell them which one they have."""
    address, _, port = hello.underlay.rpartition(":")
    if not port.isdigit():
        return ""
    taken = {host.underlay for host in reader.where(Host) if host.id != hello.host_id}
    number = int(port)
    while f"{address}:{number}" in taken:
        number += 1
    return f"{address}:{number}"


def offered(capabilities: Capabilities) -> tuple[int, int]:
    """(vCPUs, MiB) that may be given out on a host."""
    return int(capabilities.vcpus * CPU_OVERCOMMIT), int(capabilities.memory_mib * MEMORY_OVERCOMMIT)
