"""DHCP, DHCPv6 and DNS of one VPC: one dnsmasq in its namespace, which outlives this process. Without `dns_support` it answers
no questions for names; without `dns_hostnames` it knows none of the VPC's own, and asks the relay for all others.

It is told of ports by files that it reads as they appear; only what it must forget needs a signal. dnsmasq 2.90 uses memory
that it gave back, and dies of that sooner or later (tried, with valgrind), in two cases. When it saw a file of names go or
change: so such a file is never changed, and goes by being moved away, which it does not see. And when it reads anew after it
gave a lease that sets a tag: so it begins anew instead. Everything written here
was parsed first, so that no tenant's text can become a setting (CVE-2021-40085 was a newline).

It answers whatever guests send, so it is a user of its own, who has of root's rights only those over ports below 1024 and over
its namespace's network; its two folders it may read, and every folder above them must let it pass (mode o+x).

Invariant: an address is never offered to a MAC other than its port's, also right after it went from one port to another.
"""

import grp
import hashlib
import pwd
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from alto.drivers.network.detached import Detached
from alto.drivers.network.records import NAME_RELAY
from alto.kit.world import World
from alto.model.errors import DriverFault
from alto.model.network_plans import TUNNEL_MTU, Names, Neighbour, NetworkPlan, Port
from alto.model.networks import internal_domain

LEASE = "1h"
FOLDERS = ("dhcp", "options", "dns")  # what it reads
ENDPOINTS = "endpoints"  # among the files of names, which are else called as the addresses are, and each by its text too
FORGOTTEN = "forgotten"  # where it does not look
SIGHUP = 1
AMAZONS_DNS = "AmazonProvidedDNS"
DOMAIN = re.compile(r"[A-Za-z0-9._ -]{1,255}")
HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9]([a-z0-9-]{0,62}))*")


class Dnsmasq:
    def __init__(self, world: World, *, folder: Path, netns: str) -> None:
        self._world = world
        self._folder = folder
        self._netns = netns
        self._names_outside = False
        self._process = Detached(
            world,
            name="dnsmasq",
            pid_file=folder / "dnsmasq.pid",
            marker=f"--pid-file={folder / 'dnsmasq.pid'}",
            log=folder / "dnsmasq.log",
        )

    async def ensure(self, plan: NetworkPlan, ports: Iterable[Port], *, names_outside: bool) -> None:
        """It runs, with this plan's subnets, and knows exactly `ports`; and asks the relay for what it does not know."""
        self._names_outside = names_outside
        files, tagged = self._world.files, self._tagged()
        argv = self._argv(plan)
        settings = "\n".join(argv).encode()
        path = self._folder / "dnsmasq.args"
        other = not files.exists(path) or files.read(path) != settings
        if other:
            await self._process.stop()
            for name in FOLDERS:
                files.remove_tree(self._folder / name)  # a predecessor's may be root's alone
        for name in FOLDERS:
            files.make_dirs(self._folder / name, mode=0o755)
        listed = list(ports)
        wanted = {
            "dhcp": {port.private_ip: _lease(plan, port) for port in listed}
            | {_name_v6(port): _lease_v6(port) for port in listed if port.ipv6},
            "options": {port.private_ip: text for port in listed if (text := _told_alone(plan, port))},
        }
        # Of those on other hosts too.
        names = {one.addresses[0]: _names(plan, one) for one in plan.neighbours}
        names |= {port.private_ip: _names(plan, port) for port in (*listed, *plan.endpoint_ports)}
        names[ENDPOINTS] = "".join(f"{address} {name}\n" for name, its in sorted(plan.names.items()) for address in its)
        wanted["dns"] = {_called(whose, text): text for whose, text in names.items()}
        forgotten = False
        for kind, texts in wanted.items():
            for name in files.names(self._folder / kind):
                if name not in texts:
                    self._remove(kind, name)
                    forgotten = True
            for name, text in texts.items():
                forgotten |= self._write(kind, name, text)
        if other:
            if not plan.dns_hostnames:
                files.remove(self._folder / "leases")  # they remember names
            files.write(path, settings)
        elif forgotten:
            await self._read_anew(plan, tagged)
        await self._run(argv)

    async def put(self, plan: NetworkPlan, port: Port) -> None:
        tagged = self._tagged()
        if self._leased_to_another(port):
            # dnsmasq would keep the address for its old owner until that lease ends.
            await self._process.stop()
            self._world.files.remove(self._folder / "leases")
        self._write("dhcp", port.private_ip, _lease(plan, port))
        told = _told_alone(plan, port)
        other = self._write("options", port.private_ip, told) if told else self._take_away("options", port.private_ip)
        other |= self._put_v6(port)
        if self._call({port.private_ip: _names(plan, port)}) or other:
            await self._read_anew(plan, tagged)
        await self._run(self._argv(plan))

    async def _run(self, argv: Sequence[str]) -> None:
        if self._process.find() is None:
            user = _user()
            look = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "ls", "--"]
            seen = await self._world.processes.run(["setpriv", *look, *(str(self._folder / name) for name in FOLDERS)])
            if seen.returncode != 0:
                # It would start nevertheless, and know nobody.
                raise DriverFault(f"The user {user.pw_name} may not enter this host's folder of networks") from ValueError(
                    f"every folder above needs mode o+x: {seen.complaint()}"
                )
        await self._process.ensure(argv, netns=self._netns)

    def _put_v6(self, port: Port) -> bool:
        """Whether there was something else."""
        if port.ipv6:
            return self._write("dhcp", _name_v6(port), _lease_v6(port))
        return self._take_away("dhcp", _name_v6(port))

    def _take_away(self, kind: str, name: str) -> bool:
        """Whether there was something."""
        path = self._folder / kind / name
        there = self._world.files.exists(path)
        self._world.files.remove(path)
        return there

    def _told_v6(self, port: Port) -> bytes | None:
        path = self._folder / "dhcp" / _name_v6(port)
        return self._world.files.read(path) if self._world.files.exists(path) else None

    async def forget(self, plan: NetworkPlan, port: Port, *, moved: bool) -> None:
        """`moved`: its address is one's on another host now, who keeps the name."""
        tagged = self._tagged()
        for kind in ("dhcp", "options"):
            self._world.files.remove(self._folder / kind / port.private_ip)
        if not moved:
            self._call({port.private_ip: ""})
        self._world.files.remove(self._folder / "dhcp" / _name_v6(port))
        await self._read_anew(plan, tagged)

    async def resettle(self, plan: NetworkPlan, gone: Collection[str], neighbours: Iterable[Neighbour]) -> None:
        """Names of those on other hosts: addresses that may be nobody's now, and who came or is different."""
        texts = {one.addresses[0]: _names(plan, one) for one in neighbours}
        if self._call(dict.fromkeys(gone, "") | texts):
            await self._read_anew(plan, self._tagged())

    async def stop(self) -> None:
        await self._process.stop()

    def _tagged(self) -> bool:
        """Whether a lease may have set a tag: only who is told something alone has one."""
        return bool(self._world.files.names(self._folder / "options"))

    async def _read_anew(self, plan: NetworkPlan, tagged: bool) -> None:
        """It forgets what is gone. `tagged`: it was, before that went."""
        if tagged:
            await self._process.stop()
            await self._run(self._argv(plan))
        else:
            self._process.signal(SIGHUP)

    def _call(self, names: Mapping[str, str]) -> bool:
        """Exactly these are the names of these addresses; "": none. Whether any had others."""
        there = defaultdict(list)
        for name in self._world.files.names(self._folder / "dns"):
            there[name.rpartition("-")[0]].append(name)
        had_others = False
        for whose, text in names.items():
            wanted = _called(whose, text)
            for name in there[whose]:
                if not text or name != wanted:
                    self._remove("dns", name)
                    had_others = True
            if text:
                self._write("dns", wanted, text)
        return had_others

    def _remove(self, kind: str, name: str) -> None:
        path = self._folder / kind / name
        if kind == "dns":
            self._world.files.move(path, self._folder / FORGOTTEN)
            path = self._folder / FORGOTTEN
        self._world.files.remove(path)

    def _write(self, kind: str, name: str, text: str) -> bool:
        """Whether there was another text."""
        path = self._folder / kind / name
        before = self._world.files.read(path) if self._world.files.exists(path) else b""
        if before != text.encode():
            # Not for keeps: `ensure` writes it again. So it need not wait for the disk.
            self._world.files.remove(path)
            self._world.files.append(path, text.encode())
        return before not in (b"", text.encode())

    def _leased_to_another(self, port: Port) -> bool:
        leases = {lease[2]: lease[1] for lease in self._leases() if len(lease) >= 3}
        # Who leased an address of IPv6 gave a number of its own: it may have been another, if the address is new to the port.
        another_v6 = bool(port.ipv6) and port.ipv6[0] in leases and self._told_v6(port) != _lease_v6(port).encode()
        return another_v6 or leases.get(port.private_ip, port.mac) != port.mac

    def _leases(self) -> list[list[str]]:
        """ "expiry mac address name client-id"; of IPv6, the client's own number stands for its MAC."""
        try:
            text = self._world.files.read(self._folder / "leases").decode(errors="replace")
        except FileNotFoundError:
            return []
        return [line.split() for line in text.splitlines()]

    def _argv(self, plan: NetworkPlan) -> list[str]:
        region = plan.region
        domain = internal_domain(region)
        if not HOSTNAME.fullmatch(domain):
            raise DriverFault(f"{region!r} is no name of a region")
        ranges = sorted({IPv4Network(subnet.cidr) for subnet in plan.subnets})
        ranges_v6 = sorted({IPv6Network(subnet.cidr_v6) for subnet in plan.subnets if subnet.cidr_v6})
        return [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            # Taps come and go; its own address on lo answers DNS. No router option: the interface's own address is it.
            "--bind-dynamic",
            "--interface=tap*",
            "--interface=lo",
            "--no-dhcp-interface=lo",
            "--no-resolv",
            "--no-hosts",
            "--no-ping",
            "--dhcp-authoritative",
            *(f"--dhcp-range={subnet.network_address},static,{subnet.netmask},{LEASE}" for subnet in ranges),
            # The router says where it is, and to ask DHCPv6; no address is on the link but its own, so all goes by way of it.
            *(["--enable-ra"] if ranges_v6 else []),
            *(f"--dhcp-range={subnet.network_address},static,off-link,{subnet.prefixlen},{LEASE}" for subnet in ranges_v6),
            *_told(plan),
            *([] if plan.dns_support else ["--port=0"]),
            # Guests' own names are no names in the VPC. Said so that going without them is another command line.
            *([] if plan.dns_hostnames else ["--dhcp-ignore-names"]),
            f"--dhcp-hostsdir={self._folder / 'dhcp'}",
            f"--dhcp-optsdir={self._folder / 'options'}",
            f"--hostsdir={self._folder / 'dns'}",
            f"--dhcp-leasefile={self._folder / 'leases'}",
            f"--domain={domain}",
            # Without it a question for AAAA is refused, and busybox gives up on the name.
            "--local=/internal/",
            # Nor does anybody outside know of these.
            *(f"--local=/{name}/" for name in sorted(plan.names)),
            "--dhcp-fqdn",
            f"--user={_user().pw_name}",
            f"--group={grp.getgrgid(_user().pw_gid).gr_name}",
            "--log-facility=-",
            "--quiet-dhcp",
            *([f"--server={NAME_RELAY[0]}#{NAME_RELAY[1]}"] if self._names_outside else []),
            f"--pid-file={self._folder / 'dnsmasq.pid'}",
        ]


def _user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("dnsmasq")  # Debian's package makes it
    except KeyError:
        return pwd.getpwnam("nobody")


def _lease(plan: NetworkPlan, port: Port) -> str:
    # A name in a lease is answered by DNS as well. Without one a guest has its name from its metadata.
    name = f",{port.hostname.partition('.')[0]}" if plan.dns_hostnames and _is_known(port) else ""
    tag = f",set:{port.id}" if _told_alone(plan, port) else ""
    return f"{port.mac}{tag},{port.private_ip}{name}\n"


def _is_known(port: Port) -> bool:
    """Whether DNS is to know its host name."""
    return port.names is None or port.hostname in port.names.v4


def _told_alone(plan: NetworkPlan, port: Port) -> str:
    """The host name that its guest is told and DNS is not."""
    if _is_known(port) or not plan.dns_hostnames:
        return ""
    # By its number: dnsmasq keeps the name of this option to itself.
    return f"tag:{port.id},12,{port.hostname.partition('.')[0]}\n"


def _name_v6(port: Port) -> str:
    return f"{port.private_ip}-v6"


def _lease_v6(port: Port) -> str:
    """The first alone: a lease is of one address. Without a name: EC2 gives those of this kind no AAAA record."""
    return f"{port.mac},[{port.ipv6[0]}]\n"


def _called(whose: str, text: str) -> str:
    """The file of these names. Another text is another file."""
    return f"{whose}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _names(plan: NetworkPlan, one: Port | Neighbour) -> str:
    if not plan.dns_hostnames:
        return "# no names in this VPC\n"
    # A public name there is none: the API says the public address in its place, and that leads to the guest by itself.
    names = one.names or Names(v4=(one.hostname,))
    found = _line(one.private_ip if isinstance(one, Port) else one.addresses[0], names.v4)
    first_v6 = _first_v6(one)
    return found + _line(first_v6, names.v6) if first_v6 is not None and names.v6 else found


def _first_v6(one: Port | Neighbour) -> str | None:
    addresses = one.ipv6 if isinstance(one, Port) else one.addresses
    return next((address for address in addresses if ":" in address), None)


def _line(address: str, names: Iterable[str]) -> str:
    """Whole names and their first labels, whole ones first: the first of all is what the address leads back to."""
    whole = list(names)
    short = [name for name, _, domain in (one.partition(".") for one in whole) if domain]
    return " ".join((address, *whole, *short)) + "\n"


def _told(plan: NetworkPlan) -> Iterator[str]:
    """What else a lease says: the VPC's set of DHCP options, of which nothing is said that it does not name; else Amazon's."""
    settings = plan.dhcp or {"domain-name": (internal_domain(plan.region),), "domain-name-servers": (AMAZONS_DNS,)}
    servers = settings.get("domain-name-servers", ())
    own = (plan.resolver_address,) if plan.dns_support else ()
    yield _option("dns-server", [one for each in servers for one in (own if each == AMAZONS_DNS else _v4([each]))])
    if plan.ranges_v6:
        # "[::]" is whoever answers.
        here = ("[::]",) if plan.dns_support else ()
        listed = [one for each in servers for one in (here if each == AMAZONS_DNS else _v6([each]))]
        yield ",".join(("--dhcp-option=option6:dns-server", *listed))
    domain = settings.get("domain-name", ())
    if not all(DOMAIN.fullmatch(one) for one in domain):
        raise DriverFault(f"{domain!r} is no name of a domain")
    yield _option("domain-name", domain)
    for name, key in (("ntp-server", "ntp-servers"), ("netbios-ns", "netbios-name-servers")):
        if key in settings:
            yield _option(name, _v4(settings[key]))
    kind = settings.get("netbios-node-type", ())
    if kind:
        yield _option("netbios-nodetype", [str(int(one)) for one in kind])
    if plan.vni:
        yield _option("mtu", [str(TUNNEL_MTU)])


def _v4(addresses: Iterable[str]) -> list[str]:
    """Those that DHCP can say: IPv6 ones are for IPv6."""
    found = []
    for address in addresses:
        try:
            found.append(str(IPv4Address(address)))
        except ValueError:
            continue
    return found


def _v6(addresses: Iterable[str]) -> list[str]:
    found = []
    for address in addresses:
        try:
            found.append(f"[{IPv6Address(address.partition('%')[0])}]")
        except ValueError:
            continue
    return found


def _option(name: str, values: Iterable[str]) -> str:
    """Without a value: dnsmasq is not to make one up."""
    return ",".join((f"--dhcp-option=option:{name}", *values))


def check_name(hostname: str) -> None:
    """Raises: DriverFault."""
    if not HOSTNAME.fullmatch(hostname) or len(hostname) > 253:
        raise DriverFault(f"{hostname!r} is no name of a host")


def check_names(one: Port | Neighbour) -> None:
    """Raises: DriverFault."""
    check_name(one.hostname)
    for name in (*one.names.v4, *one.names.v6) if one.names is not None else ():
        check_name(name)


def check_address(address: str) -> None:
    """Raises: DriverFault."""
    try:
        right = str(IPv6Address(address) if ":" in address else IPv4Address(address)) == address and "%" not in address
    except ValueError:
        right = False
    if not right:
        raise DriverFault(f"{address!r} is no IP address")


def check(port: Port) -> None:
    """Raises: DriverFault when a port has what must not get into a file. Before the first effect."""
    check_names(port)
    if not re.fullmatch(r"[a-z0-9-]+", port.id):
        raise DriverFault(f"{port.id!r} is no id of a port")
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", port.mac):
        raise DriverFault(f"{port.mac!r} is no MAC address")
    for one in port.addresses:
        try:
            inside = IPv4Address(one.private_ip) in IPv4Network(port.subnet_cidr)
        except ValueError as error:
            raise DriverFault(f"{one.private_ip!r} in {port.subnet_cidr!r} is no address of a port") from error
        if not inside or str(IPv4Address(one.private_ip)) != one.private_ip:
            raise DriverFault(f"{one.private_ip!r} is no address of {port.subnet_cidr}")
    for text in port.ipv6:
        check_address(text)
        if ":" not in text or port.subnet_cidr_v6 is None or IPv6Address(text) not in _network_v6(port.subnet_cidr_v6):
            raise DriverFault(f"{text!r} is no address of {port.subnet_cidr_v6}")


def _network_v6(text: str) -> IPv6Network:
    try:
        return IPv6Network(text)
    except ValueError as error:
        raise DriverFault(f"{text!r} is no range of IPv6") from error
