"""How fast a port may be, each way: what comes faster is dropped, before the kernel spends more on it. Pure: text for nft.

A bucket per port and way, found by the name of the device, so that a packet costs the same however many ports there are. To
guests this is policing too, not a queue: a queue would cost a process at each start of a machine, and delay what it holds.

Not here: the transaction, which is that of the port's rules. The invariant: a port is in the table as long as it has a tap.
"""

from collections.abc import Iterable

from alto.model.network_plans import Port

TABLE = "alto_rate"
# The kernel's buckets hold what the rate gives in a second, and this: a few of the largest packets that guests hand over whole.
BURST_BYTES = 256 * 1024
MBIT_BYTES = 1_000_000 // 8


def ruleset(ports: Iterable[Port]) -> str:
    """The whole table, for `ports`."""
    lines = [f"table inet {TABLE} {{}}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    lines += ["map from_guest { type ifname : limit; }", "map to_guest { type ifname : limit; }"]
    # First of all, before any connection is looked up; and last, when it is known where a packet goes.
    lines += ["chain c_from { type filter hook prerouting priority -310", "limit name iifname map @from_guest drop", "}"]
    lines += ["chain c_to { type filter hook postrouting priority 310", "limit name oifname map @to_guest drop", "}"]
    return "\n".join([*lines, "}"]) + "\n" + "".join(put(port) for port in ports)


class Rates:
    """What the table of one VPC has. Asked for text first and told afterwards, when the kernel took it."""

    def __init__(self, ports: Iterable[Port]) -> None:
        """As `ruleset` of the same ports was taken."""
        self._ports = {port.id: port for port in ports}

    def putting(self, port: Port) -> str:
        return self.dropping(port.id) + put(port)

    def dropping(self, port_id: str) -> str:
        known = self._ports.get(port_id)
        return drop(known) if known is not None else ""

    def put(self, port: Port) -> None:
        self._ports[port.id] = port

    def dropped(self, port_id: str) -> None:
        self._ports.pop(port_id, None)


def put(port: Port) -> str:
    """For a port that is not in the table."""
    if port.rate_mbps is None:
        return ""
    rate = port.rate_mbps * MBIT_BYTES
    device = port.device
    lines = []
    for map, limit in (("from_guest", f"{device}_from"), ("to_guest", f"{device}_to")):
        lines.append(f"add limit inet {TABLE} {limit} {{ rate over {rate} bytes/second burst {BURST_BYTES} bytes ; }}")
        lines.append(f'add element inet {TABLE} {map} {{ "{device}" : "{limit}" }}')
    return "\n".join(lines) + "\n"


def drop(port: Port) -> str:
    """For a port that is in the table."""
    if port.rate_mbps is None:
        return ""
    device = port.device
    lines = [f'delete element inet {TABLE} {map} {{ "{device}" }}' for map in ("from_guest", "to_guest")]
    lines += [f"delete limit inet {TABLE} {device}_{way}" for way in ("from", "to")]
    return "\n".join(lines) + "\n"
