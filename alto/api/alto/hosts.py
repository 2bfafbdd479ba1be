"""`/alto/v1/hosts`, `/alto/v1/host-tokens`: what operators see of hosts and order of them.

GET hosts, hosts/HOST, host-tokens; POST hosts/HOST/{rename, drain, undrain, remove, replace}, host-tokens; DELETE
host-tokens/ID. HOST is an id or a name. Removal and replacement are careful: what runs is never lost by a slip, and what is
lost is named in the answer.
"""

import hashlib
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from alto.api.call import Call
from alto.api.hosts.session import HostSessions
from alto.model.errors import Refused
from alto.model.hosts import Host, HostState
from alto.model.instances import Instance, Phase
from alto.model.joining import HOST_NAME, SECRET_BYTES, Invitation, JoinToken, invitation_text
from alto.plan.instances import state_name
from alto.store.departures import vacate_host
from alto.store.store import Reader, Tx

TOKEN_S = 3600.0
TOKEN_MAX_S = 30 * 86400.0
# A used or expired token is listed for so long after its end.
TOKEN_DIGITS = 12
NAMED_MAX = 5  # instances named in a refusal

ADD_ONE = "Add this machine: alto up without --no-host. Another: alto host token create"

S = TypeVar("S", bound=msgspec.Struct)


class Way(NamedTuple):
    """How other machines come in: the door's address, and what proves it."""

    url: str
    fingerprint: bytes


class CreateToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str | None = None
    expires_s: float = TOKEN_S


class Rename(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class Remove(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    force: bool = False


class Replace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    fenced: bool = False
    expires_s: float = TOKEN_S


class HostOperations:
    def __init__(self, sessions: HostSessions, way: Way | None) -> None:
        self._sessions = sessions
        self._way = way

    def list(self, call: Call) -> dict[str, Any]:
        hosts = call.store.read(lambda reader: reader.where(Host))
        return {"hosts": [show_host(host, call) for host in hosts], "advice": advice(hosts)}

    def get(self, call: Call, ref: str) -> dict[str, Any]:
        def read(reader: Reader) -> dict[str, Any]:
            host = _resolve(reader, ref)
            return {
                **show_host(host, call),
                "underlay": host.underlay,
                "key": host.key,
                "starts": host.starts,
                "heard_s_ago": self._sessions.silence(host.id),
                "gauges": self._sessions.gauges(host.id),
                "runs": [
                    {"instance_id": one.id, "state": state_name(one)}
                    for one in reader.where(Instance, host_id=host.id)
                    if one.phase is not Phase.TERMINATED
                ],
            }

        return call.store.read(read)

    async def rename(self, call: Call, ref: str, request: Rename) -> dict[str, Any]:
        _check_name(request.name)

        def body(tx: Tx) -> Host:
            host = _resolve(tx, ref)
            return tx.put(replace(host, name=request.name)) if host.name != request.name else host

        return show_host(await call.store.write(body), call)

    async def drain(self, call: Call, ref: str, *, draining: bool) -> dict[str, Any]:
        def body(tx: Tx) -> Host:
            host = _resolve(tx, ref)
            if host.leaving and not draining:
                raise Refused("HostLeaving", f"Host {host.name} is being removed, and that is not taken back", status=409)
            return tx.put(replace(host, draining=draining)) if host.draining != draining else host

        return show_host(await call.store.write(body), call)

    async def remove(self, call: Call, ref: str, request: Remove) -> dict[str, Any]:
        """The order; the loop of hosts carries it out."""

        def body(tx: Tx) -> dict[str, Any]:
            host = _resolve(tx, ref)
            silent_s = self._sessions.silence(host.id)
            if host.key is None and silent_s is not None and host.state is HostState.READY:
                raise Refused(
                    "HostInUse",
                    f"Host {host.name} is this cloud's own process, and would be back at once. Restart the cloud "
                    "with --no-host first",
                    status=409,
                )
            living = _living(tx, host)
            if living and not request.force:
                raise Refused(
                    "HostInUse",
                    f"Host {host.name} has {_named(living)}. Terminate them first (alto host drain keeps others away), or take "
                    f"them away with it: alto host remove {host.name} --force",
                    status=409,
                )
            tx.put(replace(host, draining=True, leaving=True))
            return {"host_id": host.id, "name": host.name, "takes_away": [one.id for one in living]}

        return await call.store.write(body)

    async def replace(self, call: Call, ref: str, request: Replace) -> dict[str, Any]:
        way = self._open()
        expires_s = _lifetime(request.expires_s)
        id, secret = _draw(call)
        now = call.world.clock.now()

        def body(tx: Tx) -> tuple[Host, list[str]]:
            host = _resolve(tx, ref)
            if host.leaving:
                raise Refused("HostLeaving", f"Host {host.name} is being removed, and that is not taken back", status=409)
            silent_s = self._sessions.silence(host.id)
            if host.state is not HostState.UNREACHABLE:
                heard = "just started to be silent" if silent_s is None else f"was heard {silent_s:.0f} s ago"
                raise Refused(
                    "HostInUse",
                    f"Host {host.name} {heard}, so it is not gone. Switch its machine off, or stop its agent for good, "
                    "and wait until it is shown as unreachable",
                    status=409,
                )
            living = _living(tx, host)
            if not request.fenced:
                raise Refused(
                    "HostNotFenced",
                    f"Host {host.name} has {_named(living)}. It may run on where nobody hears it, and two machines must not be "
                    f"one host. Make sure that it is off, then: alto host replace {host.name} --fenced; what was on it is lost",
                    status=409,
                )
            lost = vacate_host(tx, host, now=now)
            tx.put(
                JoinToken(
                    id=id,
                    digest=hashlib.sha256(secret).hexdigest(),
                    name=host.name,
                    replaces=host.id,
                    created_at=now,
                    expires_at=now + expires_s,
                )
            )
            return host, lost

        host, lost = await call.store.write(body)
        made = self._shown(call, way, id, secret, now + expires_s)
        return {**made, "host_id": host.id, "name": host.name, "lost": lost}

    # Tokens.

    async def create_token(self, call: Call, request: CreateToken) -> dict[str, Any]:
        way = self._open()
        expires_s = _lifetime(request.expires_s)
        if request.name is not None:
            _check_name(request.name)
        id, secret = _draw(call)
        now = call.world.clock.now()
        token = JoinToken(
            id=id,
            digest=hashlib.sha256(secret).hexdigest(),
            name=request.name,
            created_at=now,
            expires_at=now + expires_s,
        )
        await call.store.write(lambda tx: tx.put(token))
        return self._shown(call, way, id, secret, token.expires_at)

    def list_tokens(self, call: Call) -> dict[str, Any]:
        now = call.world.clock.now()
        tokens = call.store.read(lambda reader: reader.where(JoinToken))
        return {
            "tokens": [
                {
                    "id": one.id,
                    "state": _state(one, now),
                    "name": one.name,
                    "replaces": one.replaces,
                    "created_at": one.created_at,
                    "expires_at": one.expires_at,
                    "used_by": one.used_by,
                }
                for one in tokens
            ]
        }

    async def revoke_token(self, call: Call, id: str) -> dict[str, Any]:
        def body(tx: Tx) -> dict[str, Any]:
            token = tx.find(JoinToken, id)
            if token is None:
                raise Refused("InvalidToken.NotFound", f"There is no token '{id[:80]}'. See: alto host token list", status=404)
            if token.used_by is not None:
                raise Refused(
                    "TokenUsed",
                    f"Token {token.id} let host {token.used_by} in already. To take that back: "
                    f"alto host remove {token.used_by}",
                    status=409,
                )
            if not token.revoked:
                tx.put(replace(token, revoked=True))
            return {"id": token.id, "state": "revoked"}

        return await call.store.write(body)

    def _open(self) -> Way:
        if self._way is None:
            raise Refused(
                "NoHostsDoor",
                "This cloud lets no other machines in: it was started without --listen-hosts. Stop its process (instances run "
                "on), and start it again: alto up --listen-hosts 0.0.0.0:8774",
                status=409,
            )
        return self._way

    def _shown(self, call: Call, way: Way, id: str, secret: bytes, expires_at: float) -> dict[str, Any]:
        invitation = Invitation(call.settings.cloud_id, way.fingerprint, id, secret)
        token = invitation_text(invitation)
        return {
            "id": id,
            "token": token,
            "url": way.url,
            "expires_at": expires_at,
            "command": f"alto agent --join {way.url} --token {token}",
        }


def advice(hosts: list[Host]) -> str | None:
    """What to do where nothing can run."""
    if not hosts:
        return f"This cloud has no host: instances wait until it has one. {ADD_ONE}"
    if not any(host.takes_instances for host in hosts):
        return "No host takes new instances: all are unreachable, draining or full. See: alto host list"
    return None


def show_host(host: Host, call: Call) -> dict[str, Any]:
    """Everybody may know of what kind a host is, so that nothing simulated passes for real. How the machine is called, and
    how much of it others use, is the operator's to know."""
    shown = {
        "id": host.id,
        "name": host.id,
        "kind": "simulated" if host.capabilities.simulated else host.capabilities.kind,
        "accelerator": host.capabilities.accelerator,
        "state": _word(host),
    }
    if not call.operator:
        return shown
    return {
        **shown,
        "name": host.name,
        "instances": host.instances,
        "dedicated": msgspec.to_builtins(host.dedicated),
        "vcpus": host.vcpus,
        "vcpus_used": host.vcpus_used,
        "memory_mib": host.memory_mib,
        "memory_mib_used": host.memory_mib_used,
        "pressure": list(host.pressure),
        "joined_at": host.joined_at,
    }


def _word(host: Host) -> str:
    if host.leaving:
        return "leaving"
    if host.state is HostState.READY and host.draining:
        return "draining"
    return host.state


def _state(token: JoinToken, now: float) -> str:
    if token.used_by is not None:
        return "used"
    if token.revoked:
        return "revoked"
    return "expired" if now >= token.expires_at else "open"


def _resolve(reader: Reader, ref: str) -> Host:
    """By id or name. Raises: Refused."""
    found = reader.find(Host, ref)
    if found is None:
        by_name = reader.where(Host, name=ref, limit=1)
        found = by_name[0] if by_name else None
    if found is None:
        raise Refused("InvalidHost.NotFound", f"There is no host '{ref[:80]}'. See: alto host list", status=404)
    return found


def _living(reader: Reader, host: Host) -> list[Instance]:
    return [one for one in reader.where(Instance, host_id=host.id) if one.phase is not Phase.TERMINATED]


def _named(living: list[Instance]) -> str:
    ids = ", ".join(one.id for one in living[:NAMED_MAX])
    more = f" and {len(living) - NAMED_MAX} more" if len(living) > NAMED_MAX else ""
    return f"{len(living)} instance{'' if len(living) == 1 else 's'}" + (f" ({ids}{more})" if living else "")


def _check_name(name: str) -> None:
    if not HOST_NAME.fullmatch(name):
        raise Refused(
            "InvalidParameterValue", f"'{name[:80]}' is no name for a host: letters, digits and inner . _ -, at most 64"
        )


def _lifetime(expires_s: float) -> float:
    if not 1.0 <= expires_s <= TOKEN_MAX_S:
        raise Refused("InvalidParameterValue", f"A token lives from 1 to {TOKEN_MAX_S:.0f} seconds")
    return expires_s


def _draw(call: Call) -> tuple[str, bytes]:
    return "tok-" + call.world.chance.hex(TOKEN_DIGITS), call.world.chance.bytes(SECRET_BYTES)
