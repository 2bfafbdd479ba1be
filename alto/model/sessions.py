"""What a host's agent and the server say to each other: whole wishes down, observations up.

Each message is complete for the thing that it names, so that a lost, late or doubled one does no harm.
"""

from typing import Protocol

import msgspec

from alto.model.balancers import BalancerPlan, BalancerReport
from alto.model.hosts import Capabilities
from alto.model.instances import Machine, Report
from alto.model.network_plans import NetworkChange, NetworkPlan
from alto.model.pressure import Gauges
from alto.model.volumes import JobReport, StorageJob


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Which process of which machine an agent is, so that nobody is two hosts, and no host two machines."""

    machine: str = ""  # differs between machines, their boots, and kinds of host; "" where nothing is real
    place: str = ""  # differs between copies of a state folder on one machine
    run: str = ""  # this process
    starts: int = 0  # how many processes this host has had, with this one; it is on its disk, so a copy goes on from the same


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's first word. `found` are the manifests on its disk: what runs there, whatever the store remembers."""

    cloud_id: str
    host_id: str
    name: str
    capabilities: Capabilities
    underlay: str = ""  # "IP:PORT" where other hosts reach this one with VXLAN; "" when they cannot
    found: tuple[Machine, ...] = ()
    origin: Origin = Origin()
    key: str | None = None  # whose certificate it came under; the door writes it, whatever the agent said


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "inventory": what is on the host now, found on the host itself, as JSON."""

    machines: tuple[tuple[str, int, bool], ...]  # (instance id, incarnation, on)
    ports: tuple[str, ...]  # network interface ids
    balancers: dict[str, tuple[str, ...]]  # balancer id -> instances that may get traffic
    volumes: tuple[str, ...] = ()  # in its storage
    snapshots: tuple[str, ...] = ()


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "checks", as JSON: what a machine's status checks found last, and when. Null: not measured yet."""

    at: float
    machine_ok: bool
    guest_ok: bool


class LineCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a person at a live serial console wants. `console_id` is theirs alone, so who has another one is told no."""

    console_id: str
    verb: str  # "open", "take" (whoever has it), "type", "hear" or "close"
    typed: bytes = b""
    heard: int = 0  # up to here of what the machine said
    wait_s: float = 0.0  # for something to hear


class LineSaid(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "line", as JSON."""

    state: str  # "open"; or no longer: "busy" (another one has it), "off", "full" (too many on this host), "stuck" (not read)
    said: bytes = b""  # what came after `heard`...
    heard: int = 0  # ...up to here
    skipped: int = 0  # bytes before `said` that are no longer kept


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question to the host about one machine; the answer is bytes, or none when it cannot be had."""

    id: str
    what: str  # "console", "inventory", "checks" or "line"
    instance_id: str = ""
    line: "LineCall | None" = None


class Assignments(msgspec.Struct, frozen=True, kw_only=True):
    """What changed for a host since the last one; `full` when it is everything (at the start, and now and then).

    `tombstones` are instances to remove with all they have on the host, at this epoch or a lower one. An instance that
    is merely not mentioned is never removed.
    """

    full: bool
    machines: tuple[Machine, ...] = ()
    tombstones: tuple[tuple[str, int], ...] = ()
    networks: tuple[NetworkPlan, ...] = ()
    network_changes: tuple[NetworkChange, ...] = ()  # of plans that were said before; after `networks`
    balancers: tuple[BalancerPlan, ...] = ()
    gone_balancers: tuple[str, ...] = ()
    storage: tuple[StorageJob, ...] = ()
    asks: tuple[Ask, ...] = ()


class Reports(msgspec.Struct, frozen=True, kw_only=True):
    """`number` grows with each one that an agent sends in a session: what has no order of its own (a balancer's health)
    is believed only from a later one than before."""

    number: int
    instances: tuple[Report, ...] = ()
    balancers: tuple[BalancerReport, ...] = ()
    storage: tuple[JobReport, ...] = ()
    quarantined: tuple[str, ...] = ()  # machines found here that nobody assigned
    gauges: Gauges | None = None  # how full the machine is, when that changed
    at: float


class AssignmentsCall(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of `ServerLink` that name a session, as they are sent."""

    session: str
    timeout_s: float


class ReportCall(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    reports: Reports


class AnswerCall(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    ask: str
    data: bytes | None


class KeyCall(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    sealed: str


class KeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    key: str


class SessionLost(Exception):
    """The server knows nothing (more) of this session: say hello again."""


class ServerLink(Protocol):
    """The server, as an agent sees it. Any call may fail with SessionLost, OSError or TimeoutError; then begin anew with
    `hello`. Nothing is lost by it: both sides say everything again."""

    async def hello(self, hello: Hello) -> str:
        """Returns the session's id. Raises Refused when this cloud does not take this host."""

    async def assignments(self, session: str, *, timeout_s: float) -> Assignments | None:
        """What changed since the last answer; the first is full. None when nothing did within `timeout_s`."""

    async def report(self, session: str, reports: Reports) -> None: ...

    async def answer(self, session: str, ask: str, data: bytes | None) -> None: ...

    async def open_key(self, session: str, sealed: str) -> str:
        """The key that opens a disk of this host. Raises Refused: nothing that the host was given needs it."""
