"""May this agent be that host? Pure: who is connected and what was said before come in, a refusal or None goes out.

The invariant: of one host at most one agent is connected, on one machine; and of one machine (of one kind) at most one host.
A copy of a disk that is started beside the original, or after it went on, is refused: what it would start runs elsewhere.
"""

from collections.abc import Iterable

import msgspec

from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.sessions import Hello, Origin


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that was heard of just now."""

    host_id: str
    name: str
    origin: Origin


def machine_taken(machine: str, host_id: str | None, connected: Iterable[Connected]) -> Refused | None:
    """Why no host `host_id` (None: a new one) may begin on `machine`."""
    for one in connected:
        if machine and one.origin.machine == machine and one.host_id != host_id:
            return Refused(
                "MachineIsHost",
                f"This machine is a host of this cloud already: {one.name} ({one.host_id}). Start that one's agent, with its "
                "--state, or take it away first: alto agent --down",
                status=403,
            )
    return None


def refusal(hello: Hello, host: Host, connected: Iterable[Connected]) -> Refused | None:
    """Why the agent that says `hello` is not `host` now."""
    connected = list(connected)
    if taken := machine_taken(hello.origin.machine, host.id, connected):
        return taken
    origin = hello.origin
    if not origin.run or origin.run == host.run:
        return None
    if origin.starts < host.starts:
        return Refused(
            "StaleHost",
            f"This agent's state is older than what host {host.name} joined with last (start {origin.starts} after "
            f"{host.starts}): it is a copy, or was restored from one. When the original is gone for good: "
            f"alto host replace {host.name}",
            status=403,
        )
    if origin.starts == host.starts:
        return Refused(
            "HostTwice",
            f"Another agent has joined as {host.name} with the same state: one of the two is a copy. Take the copy away, and "
            f"make it a host of its own: alto host token create",
            status=403,
        )
    for one in connected:
        if one.host_id == host.id and (one.origin.machine, one.origin.place) != (origin.machine, origin.place):
            return Refused(
                "HostTwice",
                f"Host {host.name} is connected from another machine, another boot or another copy of its folder. Stop one of "
                "the two; a machine that restarted is taken as soon as its old connection is silent",
                status=403,
            )
    return None
