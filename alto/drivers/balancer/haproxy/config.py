"""Write HAProxy's configuration from a layout. Pure text; everything a tenant may have had a hand in is checked first.

What the seeds' nginx front end had is here: unprivileged user (the driver starts it so), one thread, 1,024 connections
per balancer, keep-alive for 65 s, gzip, port and upstreams, access and error log. The invariant: a layout that passes
`complaint` gives a file that HAProxy loads.
"""

import re
from ipaddress import ip_address
from pathlib import Path

from alto.drivers.balancer.haproxy.layout import Balancer, Layout, Slot, Use
from alto.model.balancers import URL_PATH, BalancerPlan, HealthCheck, LoadBalancer

CONNECTIONS_PER_BALANCER = 1024
CONNECTIONS_MAX = 9000  # of the whole process: two descriptors each must fit into the 20,000 that small hosts allow
NOWHERE = "127.0.0.1", 1  # the address of a slot that nobody has

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


def complaint(plan: BalancerPlan) -> str | None:
    """Why this plan can not be served, or None. Keeps one bad plan from taking down all balancers of the host."""
    if not _NAME.fullmatch(plan.id):
        return f"'{plan.id}' is no name for a balancer"
    if not URL_PATH.fullmatch(plan.check.path):
        return "the health check's path has characters that no URL has"
    if not all(0 < port < 65536 for port in (plan.port, *(target.port for target in plan.targets))):
        return "a port is outside 1-65535"
    if plan.check.interval_s <= 0 or plan.check.timeout_s <= 0:
        return "the health check's times must be above 0"
    if plan.check.healthy_threshold < 1 or plan.check.unhealthy_threshold < 1:
        return "the health check's thresholds must be at least 1"
    for address in (plan.address, *(target.private_ip for target in plan.targets)):
        try:
            ip_address(address)
        except ValueError:
            return f"'{address}' is no address"
    return None


def render(layout: Layout, *, socket: Path, server_state: Path) -> str:
    """The whole file."""
    connections = min(CONNECTIONS_MAX, CONNECTIONS_PER_BALANCER * max(1, len(layout.balancers)))
    lines = [
        "# Written by Alto from members.json beside it; what is changed here is lost.",
        "global",
        "  nbthread 1",
        f"  maxconn {connections}",
        f"  stats socket '{socket}' mode 600 level admin expose-fd listeners",
        "  stats timeout 1m",
        f"  server-state-file '{server_state}'",
        # After a reload the old process serves what it has; nobody holds a connection open longer than this.
        "  hard-stop-after 5m",
        "  log stdout format raw local0 info",
        *_DEFAULTS,
        "  load-server-state-from-file global",
    ]
    for balancer in layout.balancers:
        lines += _frontend(balancer.id, _endpoint(balancer.address, balancer.port))
        lines += [*_backend(balancer.id, balancer.check), *_servers(balancer)]
    return "\n".join(lines) + "\n"


def render_appliance(plan: LoadBalancer, *, runtime: str, user: int) -> str:
    """The file of a HAProxy that has an instance to itself. It is told of its members at the TCP address `runtime`, and listens
    as numeric `user`."""
    lines = [
        "global",
        "  nbthread 1",
        f"  maxconn {CONNECTIONS_PER_BALANCER}",
        f"  uid {user}",
        f"  gid {user}",
        f"  stats socket {runtime} level admin",
        "  stats timeout 1m",
        "  log /dev/log local0 info",
        *_DEFAULTS,
        *_frontend(plan.id, f"*:{plan.port} tcp-ut 65s"),
        *_backend(plan.id, plan.check),
    ]
    return "\n".join(lines) + "\n"


_DEFAULTS = (
    "defaults",
    "  mode http",
    "  log global",
    "  option httplog",
    "  option dontlognull",
    # A load balancer appends, as ELB does; who wants to trust the first word must trust whoever can reach us.
    "  option forwardfor",
    "  balance roundrobin",
    # A member that dies costs a retry, not a request: at once to another one (redispatch 1), also when the request
    # was already sent but may be sent twice without harm. Answers of members, 5xx too, are theirs and pass.
    "  retries 3",
    "  option redispatch 1",
    "  retry-on conn-failure empty-response junk-response 0rtt-rejected",
    # A machine that vanishes without a word: no ACK for 2 s to what was sent, or to 2 keep-alive probes in silence.
    "  option srvtcpka",
    "  srvtcpka-idle 2s",
    "  srvtcpka-intvl 1s",
    "  srvtcpka-cnt 2",
    # No idle-close-on-response: after a reload the old process reaches no member any more (ADR 0021).
    "  compression algo gzip",
    "  compression type text/html text/plain text/css text/xml application/javascript application/json image/svg+xml",
    "  timeout connect 1s",
    "  timeout client 65s",
    "  timeout http-keep-alive 65s",
    "  timeout http-request 10s",
    "  timeout queue 5s",
    "  timeout server 60s",
    "  timeout tunnel 1h",
)


def server_name(balancer_id: str, slot: Slot) -> str:
    """As the runtime commands name it."""
    return f"{balancer_id}/{slot.name}"


def _frontend(id: str, endpoint: str) -> list[str]:
    return [f"frontend {id}", f"  bind {endpoint}", f"  maxconn {CONNECTIONS_PER_BALANCER}", f"  default_backend {id}"]


def _backend(id: str, check: HealthCheck) -> list[str]:
    return [
        f"backend {id}",
        "  http-request disable-l7-retry if !METH_GET !{ method OPTIONS }",
        "  option httpchk",
        f"  http-check send meth GET uri '{check.path}' ver HTTP/1.1 hdr Host '{id}' hdr User-Agent Alto-HealthCheck",
        "  http-check expect status 200-399",
        f"  timeout check {_ms(check.timeout_s)}",
        f"  default-server {checked(check)}",
    ]


def checked(check: HealthCheck) -> str:
    """What a server line says of it."""
    return f"check inter {_ms(check.interval_s)} rise {check.healthy_threshold} fall {check.unhealthy_threshold}"


def _servers(balancer: Balancer) -> list[str]:
    lines = []
    for slot in balancer.slots:
        address, port = (slot.target.private_ip, slot.target.port) if slot.target is not None else NOWHERE
        # Only a member that is known to answer begins enabled; the rest is enabled at run time, after a check.
        ready = slot.use is not Use.FREE and slot.answered
        # tcp-ut here, on each line: from default-server HAProxy 2.6 does not take it (tried).
        lines.append(
            f"  server {slot.name} {_endpoint(address, port)} tcp-ut 2s"
            + (f" namespace {slot.netns}" if slot.netns is not None else "")
            + ("" if ready else " disabled")
        )
    return lines


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
