"""The real network driver: each VPC is a network namespace with one routed tap per port and no bridge.

A tap carries the subnet's gateway address and answers ARP for all the subnet, so guests see a flat network while every packet
between them is routed, tracked and filtered by the name of its tap. Beside the namespace itself a VPC has: rules (text from
`alto.plan.firewall`), dnsmasq, an uplink for public addresses (uplink.py), and metadata served by the edge (daemons/edge.py).

All of that works on when this process dies, and the folder of records says what there is; a new driver takes it over without
touching what is already right. Nothing else on the machine is changed: other tables, routes and devices stay as they are.

Invariant: a tap has its rules before its link is up, and for as long as it exists.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import msgspec
import structlog

from alto.drivers.compute.driver import Tap
from alto.drivers.network import arp, conntrack, dnsmasq, families, names, namespaces, plans, publics, rates, uplink
from alto.drivers.network.commands import Commands
from alto.drivers.network.dnsmasq import Dnsmasq
from alto.drivers.network.driver import Routes, Rules
from alto.drivers.network.endpoints import Endpoints
from alto.drivers.network.gateways import NatGateways
from alto.drivers.network.host import HostUplink
from alto.drivers.network.metadata import Metadata
from alto.drivers.network.nft import Nft
from alto.drivers.network.peerings import Peerings
from alto.drivers.network.ports import Ports
from alto.drivers.network.rates import Rates
from alto.drivers.network.records import NetworkRecord, NetworkRecords, PortRecord
from alto.drivers.network.routing import KernelRouting
from alto.drivers.network.tunnel import Tunnels
from alto.drivers.network.uplink import Translations
from alto.kit.world import NETNS_DIR, World
from alto.model.errors import DriverFault
from alto.model.instances import Machine
from alto.model.network_plans import (
    ENDPOINT_DEVICE,
    NAT_DEVICE,
    PEER_DEVICE,
    TUNNEL_DEVICE,
    VXLAN_DEVICE,
    Firewall,
    FirewallPatch,
    NetworkChange,
    NetworkPlan,
    Port,
    Routing,
    RoutingPatch,
)
from alto.model.networks import UPLINK_DEVICE

log = structlog.get_logger()

NO_PATCH = RoutingPatch(was=Routing(), will_be=Routing())
TAP_MAC = "02:a1:70:ff:00:03"  # every tap's own end, so that a guest's ARP cache stays right when its tap is made again
_OWN_DEVICES = ("tap", UPLINK_DEVICE, NAT_DEVICE, PEER_DEVICE, TUNNEL_DEVICE, VXLAN_DEVICE)


@dataclass
class _Vpc:
    """What this process knows of a VPC that it ensured."""

    plan: NetworkPlan
    netns: str
    device: str
    firewall: Firewall
    dns: Dnsmasq
    routing: KernelRouting
    rates: Rates
    ports: Ports = field(default_factory=Ports)
    translations: Translations = uplink.NOTHING


class VpcNetworks:
    """A NetworkDriver. `pool` holds the public addresses of this cloud; `nat` lets guests out where this machine has a way.
    `api`: where the cloud's API listens on this machine, if it does; endpoints lead there."""

    def __init__(
        self,
        world: World,
        state_dir: Path,
        *,
        cloud_id: str,
        host_id: str,
        rules: Rules,
        routes: Routes,
        pool: str = "127.64.0.0/16",
        nat: bool = True,
        veth: bool = False,
        api: tuple[str, int] | None = None,
    ) -> None:
        self._world = world
        self._api = api
        self._veth = veth
        self._state_dir = state_dir
        self._rules = rules
        self._routes = routes
        self._pool = IPv4Network(pool)
        # Names carry the cloud's last digits, as ids begin alike, and the host's: one cloud may have two hosts on one machine.
        cloud = names.letters(cloud_id, 6)
        self._short = f"{cloud}{names.mark(host_id, 4)}"
        self._devices = f"a{cloud}{names.mark(host_id, 2)}"
        self._nft = Nft(world)
        self._records = NetworkRecords(world, state_dir / "vpcs")
        self._host = HostUplink(
            world,
            self._nft,
            short=self._short,
            devices=self._devices,
            pool=self._pool,
            nat=nat,
            published_before=lambda: publics.published_before(self._records, self._pool),
        )
        self._commands = Commands(world)
        self._metadata = Metadata(world, state_dir)
        self._nats = NatGateways(world, self._nft, name_of=self.netns_of)
        self._peerings = Peerings(world, name_of=self.netns_of)
        self._endpoints = Endpoints(world, name_of=self.netns_of, mac=TAP_MAC)
        self._tunnels = Tunnels(world, self._nft, table=f"alto_{self._short}_vx", before=self._plans_before)
        self._vpcs: dict[str, _Vpc] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def netns_of(self, vpc_id: str) -> str:
        """The namespace of a VPC, of a NAT gateway, or of an endpoint by its device, whether it is there or not."""
        return f"alto-{self._short}-{vpc_id}"

    def _device_of(self, vpc_id: str) -> str:
        """This machine's end of a VPC's uplink; the kernel takes 15 characters."""
        return f"{self._devices}{names.mark(vpc_id, 6)}"

    # The interface.

    def has_ipv6(self) -> bool:
        return families.is_supported(self._world.files)

    async def prepare(self) -> None:
        async with self._host_errors():
            await self._metadata.prepare()

    async def ensure_network(self, plan: NetworkPlan, ports: Sequence[Port]) -> None:
        async with self._working_on(plan.vpc_id):
            plans.check(plan)
            plan = self._spoken(plan)
            vpc = self._vpcs.get(plan.vpc_id)
            if vpc is None:
                await self._adopt_or_make(plan, ports)
            else:
                await self._update(vpc, plan, ports)

    async def change_network(self, plan: NetworkPlan, change: NetworkChange) -> None:
        async with self._working_on(plan.vpc_id):
            plans.check_neighbours(change.neighbours)
            plan = self._spoken(plan)
            vpc = self._get(plan.vpc_id)
            recorded = bool(change.gone_groups) or any(one.id not in vpc.firewall.groups for one in change.groups)
            patch = self._rules.amended(vpc.firewall, change)
            if change.neighbours or change.gone_neighbours:
                recorded |= await self._resettle(vpc, plan, change, patch)
            else:
                await self._filter(vpc, patch)
                vpc.plan = plan
                if change.subnets:
                    await self._translate(vpc, routing=vpc.routing.to(self._compiled_routing(vpc)))
            if recorded:
                self._record(plan, vpc.netns, vpc.device)

    async def plug(self, port: Port, machine: Machine) -> Tap:
        async with self._working_on(port.vpc_id), AsyncExitStack() as undo:
            vpc = self._get(port.vpc_id)
            self._check_port(vpc, port)
            # One that a predecessor of ours plugged, and that no container has taken.
            await self._commands.delete_links(None, [names.peer_of(port)])
            if port.device in self._commands.links(vpc.netns):
                # Before the first effect, and before the undo below would take it from the machine that runs on it.
                raise DriverFault(f"The port {port.id} is still held by another process")
            undo.push_async_callback(self._unplug, vpc, port)
            self._put(vpc, port, machine)
            routing = self._routes.with_port(vpc.routing.now, vpc.plan, port)
            await self._filter(vpc, self._rules.plugged(vpc.firewall, port), routing=routing, also=vpc.rates.putting(port))
            vpc.rates.put(port)
            await vpc.dns.put(vpc.plan, port)
            if self._veth:
                fd, peer = -1, names.peer_of(port)
                # Its guest's end waits in this process's namespace, down, until a container takes it. It is made from here: by
                # this process's number it would go wherever our one thread looks just then.
                ends = f"link add name {peer} address {port.mac} type veth peer name {port.device} netns {vpc.netns}"
                await self._commands.ip(None, [ends])
            else:
                fd, peer = self._world.net.open_tap(port.device, netns=vpc.netns), ""
                undo.callback(_close, fd)
            await self._commands.ip(vpc.netns, [*self._link_up(vpc, port), *self._routes.through(routing, port.device)])
            # Else the kernel waits up to 0.8 s before it answers ARP for somebody else.
            self._world.net.sysctl({f"net/ipv4/neigh/{port.device}/proxy_delay": "0"}, netns=vpc.netns)
            await self._translate(vpc)
            undo.pop_all()
            return Tap(interface_id=port.id, name=port.device, mac=port.mac, fd=fd, peer=peer)

    async def describe(self, port: Port, machine: Machine) -> None:
        async with self._working_on(port.vpc_id):
            vpc = self._get(port.vpc_id)
            known = vpc.ports.get(port.id)
            if known is None:
                raise DriverFault(f"The port {port.id} is not plugged into {port.vpc_id}")
            if (known.port.mac, known.port.private_ip) != (port.mac, port.private_ip):
                raise DriverFault(f"The port {port.id} cannot change its address while it is plugged")
            self._check_port(vpc, port)
            self._put(vpc, port, machine)
            kept = {one.private_ip for one in port.secondary}
            left = [one.private_ip for one in known.port.secondary if one.private_ip not in kept]
            ends = [f"route del {address}/32 dev {port.device}" for address in left]
            left_v6 = [address for address in known.port.ipv6 if address not in port.ipv6]
            ends += [f"route del {address}/128 dev {port.device}" for address in left_v6]
            # Rules before the way for what comes, and after the way's end for what goes.
            await self._commands.ip(vpc.netns, ends, tolerant=True)
            routing = self._routes.with_port(vpc.routing.now, vpc.plan, port)
            await self._translate(vpc, self._rules.plugged(vpc.firewall, port), routing=routing, ended=[*left, *left_v6])
            if (port.secondary, port.ipv6) != (known.port.secondary, known.port.ipv6):
                await self._commands.ip(vpc.netns, self._link_up(vpc, port))
            await vpc.dns.put(vpc.plan, port)

    async def reach(self, port: Port) -> bool:
        vpc = self._vpcs.get(port.vpc_id)
        if vpc is None:
            return False
        gateway = str(IPv4Network(port.subnet_cidr)[1])
        try:
            return await arp.answers(self._world, vpc.netns, port.device, gateway, port.private_ip)
        except OSError:
            return False  # no such tap, or its machine went just now

    async def unplug(self, port_id: str, vpc_id: str) -> None:
        async with self._working_on(vpc_id):
            vpc = self._vpcs.get(vpc_id)
            if vpc is None:
                # Not ensured since this process began, so its rules are not known here: only the record goes, and
                # `ensure_network` clears up after it.
                for record in self._records.ports(vpc_id):
                    if record.port.id == port_id:
                        self._records.remove_port(record.port)
                return
            # By its record: one whose removal failed half-way is no longer among the VPC's ports, and there nevertheless.
            known = [vpc.ports[port_id]] if port_id in vpc.ports else self._records.ports(vpc_id)
            for record in known:
                if record.port.id == port_id:
                    await self._unplug(vpc, record.port)

    async def observe(self) -> dict[str, tuple[str, ...]]:
        found = {}
        self._records.forget_halves()
        for vpc_id in self._records.vpc_ids():
            record = self._records.network(vpc_id)
            # One whose removal was cut off is there until it is finished, whatever of it is left.
            if record is not None and (record.leaving or self._world.files.exists(NETNS_DIR / record.netns)):
                found[vpc_id] = tuple(sorted(one.port.id for one in self._records.ports(vpc_id)))
        return found

    async def remove_network(self, vpc_id: str) -> None:
        async with self._working_on(vpc_id):
            await self._remove(vpc_id)

    async def remove_all(self) -> None:
        ours = f"alto-{self._short}-"
        vpc_ids = set(self._world.files.names(self._state_dir / "vpcs"))
        # A namespace whose record was lost is ours by its name.
        vpc_ids |= {name.removeprefix(ours) for name in self._world.files.names(NETNS_DIR) if name.startswith(ours)}
        nat_ids = {id for id in vpc_ids if id.startswith("nat-")}
        for vpc_id in sorted(vpc_ids - nat_ids - {id for id in vpc_ids if id.startswith(ENDPOINT_DEVICE)}):
            await self.remove_network(vpc_id)
        async with self._host_errors():
            for nat_id in sorted(nat_ids):
                await self._nats.remove(nat_id)
            # Of a VPC that another one has a peering with, and that never came, there is a namespace alone.
            for name in sorted(name for name in self._world.files.names(NETNS_DIR) if name.startswith(ours)):
                await self._commands.run(["ip", "netns", "delete", name])
            await self._tunnels.remove()
            await self._host.remove()
            await self._metadata.remove()
            self._world.files.remove_tree(self._state_dir / "vpcs")

    async def hold(self, addresses: Collection[str]) -> None:
        async with self._host_errors():
            await self._host.hold(addresses)

    async def close(self) -> None:
        pass  # nothing is held open: namespaces, processes and records stand by themselves

    # VPCs.

    async def _adopt_or_make(self, plan: NetworkPlan, ports: Sequence[Port]) -> None:
        """The first time in this process: whatever is there is brought to what it should be, and left alone where it is."""
        netns = self.netns_of(plan.vpc_id)
        device = self._device_of(plan.vpc_id)
        await self._host.ensure(v6=bool(plan.ranges_v6))
        self._record(plan, netns, device)
        await namespaces.make(self._world, self._commands, plan, netns)
        await self._host.connect(netns, device, v6=bool(plan.ranges_v6))
        dns = Dnsmasq(self._world, folder=self._records.vpc_folder(plan.vpc_id), netns=netns)
        vpc = _Vpc(
            plan=plan,
            netns=netns,
            device=device,
            firewall=self._rules.compiled(plan, ports),
            dns=dns,
            routing=KernelRouting(self._world, self._nft, self._routes, netns),
            rates=Rates(ports),
        )
        before = {record.port.id: record for record in self._records.ports(plan.vpc_id)}
        self._take_ports(vpc, before, ports)
        await self._nft.apply(netns, self._rules.ruleset(vpc.firewall) + rates.ruleset(ports))
        self._complain(vpc, vpc.firewall.refused)
        vpc.translations = publics.translations(vpc.plan, _ports_of(vpc), self._pool)
        await self._nft.apply(netns, uplink.vpc_ruleset(vpc.translations))
        await self._make_devices(vpc)
        links, listed = self._commands.links(netns), [*ports, *plan.endpoint_ports]
        known = {port.device for port in listed}
        commands = [line for port in listed if port.device in links for line in self._link_up(vpc, port)]
        # A tap without a port belongs to a machine that goes; it has no rules, so nothing passes it.
        commands += [f"link set {name} down" for name in sorted(links) if name.startswith("tap") and name not in known]
        await self._commands.ip(netns, commands)
        await vpc.routing.adopt(self._compiled_routing(vpc))
        await self._publish(vpc)
        gone = [address for id, one in before.items() if id not in vpc.ports for address in one.port.all_addresses]
        await conntrack.forget(self._world, netns, gone)
        await dns.ensure(plan, ports, names_outside=self._host.has_way_out)
        await self._metadata.serve(netns)
        self._vpcs[plan.vpc_id] = vpc

    async def _update(self, vpc: _Vpc, plan: NetworkPlan, ports: Sequence[Port]) -> None:
        kept = {port.id for port in ports}
        gone = [record.port for id, record in vpc.ports.items() if id not in kept]
        for port in gone:
            await self._unplug(vpc, port)
        await self._host.ensure(v6=bool(plan.ranges_v6))
        if bool(plan.ranges_v6) != bool(vpc.plan.ranges_v6):
            await self._change_families(vpc, plan)
        self._record(plan, vpc.netns, vpc.device)
        parted = {peer.vpc_id for peer in vpc.plan.peers} - {peer.vpc_id for peer in plan.peers}
        ends = {one.private_ip for one in vpc.plan.endpoints} - {one.private_ip for one in plan.endpoints}
        vpc.plan = plan
        self._take_ports(vpc, dict(vpc.ports), ports)
        if await self._host.connect(vpc.netns, vpc.device, v6=bool(plan.ranges_v6)):
            vpc.routing.forget(UPLINK_DEVICE)
        await self._make_devices(vpc)
        patch = self._rules.replanned(vpc.firewall, plan, ports)
        routing = vpc.routing.to(self._compiled_routing(vpc))
        await self._translate(vpc, patch, routing=routing, ended=sorted(ends))
        await self._commands.ip(vpc.netns, [line for port in plan.endpoint_ports for line in self._link_up(vpc, port)])
        await vpc.dns.ensure(plan, ports, names_outside=self._host.has_way_out)
        await self._metadata.serve(vpc.netns)
        for vpc_id in sorted(parted):
            await self._drop_shell(vpc_id)

    async def _resettle(self, vpc: _Vpc, plan: NetworkPlan, change: NetworkChange, patch: FirewallPatch) -> bool:
        """Ways and names of instances on other hosts. Whether a public address among them is different."""
        before = vpc.plan.find_neighbours({*change.gone_neighbours, *(one.interface_id for one in change.neighbours)})
        patch_of_routes = self._routes.resettled(vpc.routing.now, vpc.plan, plan, change)
        kept = {address for one in change.neighbours for address in one.addresses}
        kept |= {address for record in vpc.ports.values() for address in record.port.all_addresses}
        vpc.plan = plan
        left = [address for one in before for address in one.addresses if address not in kept]
        if patch_of_routes is None:
            patch_of_routes = vpc.routing.to(self._compiled_routing(vpc))
        await self._translate(vpc, patch, routing=patch_of_routes, ended=left)
        own = {record.port.private_ip for record in vpc.ports.values()}
        await vpc.dns.resettle(
            plan, {one.addresses[0] for one in before} - own, [one for one in change.neighbours if one.addresses[0] not in own]
        )
        return {one.interface_id: one.public for one in before if one.public} != {
            one.interface_id: one.public for one in change.neighbours if one.public
        }

    async def _change_families(self, vpc: _Vpc, plan: NetworkPlan) -> None:
        """IPv6 comes to a VPC, or leaves it. The ports are as they were."""
        ports = [record.port for record in vpc.ports.values()]
        firewall = self._rules.compiled(plan, ports)
        await self._nft.apply(vpc.netns, self._rules.ruleset(firewall) + rates.ruleset(ports))
        vpc.firewall = firewall
        await families.settle(self._world, self._commands, plan, vpc.netns)

    async def _make_devices(self, vpc: _Vpc) -> None:
        """Ways to peers, NAT gateways and other hosts, as the plan has them."""
        before = {name for name in self._commands.links(vpc.netns) if name.startswith(NAT_DEVICE)}
        here = [nat for nat in vpc.plan.nats if nat.underlay in ("", vpc.plan.underlay)]
        await self._commands.delete_links(vpc.netns, before - {nat.device for nat in here})
        made = await self._peerings.ensure(vpc.netns, vpc.plan.peers, v6=bool(vpc.plan.ranges_v6))
        made += await self._nats.ensure(vpc.netns, here)
        ends = await self._endpoints.ensure(vpc.netns, vpc.plan.endpoint_ports)
        if ends:
            self._metadata.look_again()  # before, there was no place to listen
        made += ends
        made += await self._tunnels.ensure(vpc.netns, vpc.plan)
        for device in made:
            vpc.routing.forget(device)

    def _compiled_routing(self, vpc: _Vpc) -> Routing:
        links = self._commands.links(vpc.netns)
        here = [record.port for record in vpc.ports.values() if record.port.device in links]
        return self._routes.compiled(
            vpc.plan,
            here,
            way_out=self._host.leads_on,
            way_out_v6=self._host.has_way_out_v6,
            direct=self._host.is_routed,
        )

    def _record(self, plan: NetworkPlan, netns: str, device: str) -> None:
        record = NetworkRecord(
            netns=netns,
            device=device,
            plan=plans.recorded(plan),
            names_outside=self._host.has_way_out,
            api=self._api,
            relays={self.netns_of(port.device): port.private_ip for port in plan.endpoint_ports},
        )
        if self._records.network(plan.vpc_id) != record:
            self._records.put_network(record)
            self._metadata.look_again()

    def _take_ports(self, vpc: _Vpc, before: dict[str, PortRecord], ports: Sequence[Port]) -> None:
        vpc.ports = Ports()
        for port in ports:
            self._check_port(vpc, port)
            old = before.get(port.id)
            record = PortRecord(port=port, machine=old.machine if old else None)
            if record != old:
                self._records.put_port(record)
            vpc.ports[port.id] = record
        kept = {port.private_ip for port in ports}
        for id, record in before.items():
            if id not in vpc.ports and record.port.private_ip not in kept:
                self._records.remove_port(record.port)

    async def _remove(self, vpc_id: str) -> None:
        """Names follow from ids, so that this needs no record to be left of what it removes."""
        self._vpcs.pop(vpc_id, None)
        netns, folder = self.netns_of(vpc_id), self._records.vpc_folder(vpc_id)
        record = self._records.network(vpc_id)
        if record is not None:
            self._records.put_network(msgspec.structs.replace(record, leaving=True))
        await self._host.withdraw(vpc_id, self._device_of(vpc_id))
        await Dnsmasq(self._world, folder=folder, netns=netns).stop()
        if self._world.files.exists(NETNS_DIR / netns):
            await self._metadata.release(netns)
            await self._endpoints.remove(netns)
            own = [name for name in self._commands.links(netns) if name.startswith(_OWN_DEVICES)]
            await self._commands.delete_links(netns, own)
            await namespaces.end_strays(self._world, netns)
            await self._commands.run(["ip", "netns", "delete", netns])
        for nat in record.plan.nats if record is not None else ():
            await self._nats.remove(nat.id)
        await self._tunnels.forget(vpc_id)
        # Last, so that a removal which was cut off can be asked for again.
        self._records.remove_network(vpc_id)
        for peer in record.plan.peers if record is not None else ():
            await self._drop_shell(peer.vpc_id)

    async def _drop_shell(self, vpc_id: str) -> None:
        """The namespace of a VPC that never came, made for the far end of a peering, when no peering needs it any more."""
        lock = self._locks.setdefault(vpc_id, asyncio.Lock())
        if lock.locked():
            return  # it comes or goes just now
        async with lock:
            needed = any(peer.vpc_id == vpc_id for plan in self._plans_before() for peer in plan.peers)
            netns = self.netns_of(vpc_id)
            if not needed and self._records.network(vpc_id) is None and self._world.files.exists(NETNS_DIR / netns):
                await self._commands.run(["ip", "netns", "delete", netns])

    # Ports.

    def _link_up(self, vpc: _Vpc, port: Port) -> list[str]:
        subnet = IPv4Network(port.subnet_cidr)
        gateway, tap = subnet[1], port.device
        return [
            f"link set {tap} address {TAP_MAC}",
            f"address replace {gateway}/{subnet.prefixlen} dev {tap} noprefixroute",
            f"link set {tap} up",
            *(f"neigh replace {one.private_ip} lladdr {port.mac} dev {tap} nud permanent" for one in port.addresses),
            *(f"route replace {one.private_ip}/32 dev {tap} src {vpc.plan.host_address}" for one in port.addresses),
            *families.link_up_v6(port),
        ]

    def _put(self, vpc: _Vpc, port: Port, machine: Machine) -> None:
        record = PortRecord(port=port, machine=machine)
        if vpc.ports.get(port.id) != record:
            self._records.put_port(record)
            vpc.ports[port.id] = record

    async def _unplug(self, vpc: _Vpc, port: Port) -> None:
        vpc.ports.pop(port.id, None)
        await vpc.dns.forget(vpc.plan, port, moved=any(port.private_ip == one.addresses[0] for one in vpc.plan.neighbours))
        await self._commands.delete_links(vpc.netns, [port.device])
        routing = self._routes.without_port(vpc.routing.now, vpc.plan, port.device)
        vpc.routing.forget(port.device)
        ended = list(port.all_addresses)
        slow, patch = vpc.rates.dropping(port.id), self._rules.unplugged(vpc.firewall, port.id)
        await self._translate(vpc, patch, routing=routing, ended=ended, also=slow)
        vpc.rates.dropped(port.id)
        self._records.remove_port(port)

    async def _filter(self, vpc: _Vpc, patch: FirewallPatch, *, routing: RoutingPatch | None = None, also: str = "") -> None:
        """`routing`: of which nothing but marks is new; its routes come with the tap."""
        marks = self._routes.change(routing) if routing is not None else ""
        await self._nft.apply(vpc.netns, self._rules.statements(vpc.firewall, patch) + marks + also)
        self._filtered(vpc, patch)
        if routing is not None:
            vpc.routing.take(routing)

    def _filtered(self, vpc: _Vpc, patch: FirewallPatch) -> None:
        self._complain(vpc, {id: why for id, why in patch.refused.items() if vpc.firewall.refused.get(id) != why})
        self._rules.take(vpc.firewall, patch)

    def _complain(self, vpc: _Vpc, refused: Mapping[str, tuple[str, ...] | None]) -> None:
        for sentences in refused.values():
            if sentences:
                log.warning("rules refused", vpc=vpc.plan.vpc_id, why=sentences)

    async def _translate(
        self,
        vpc: _Vpc,
        patch: FirewallPatch | None = None,
        *,
        routing: RoutingPatch | None = None,
        ended: Sequence[str] = (),
        also: str = "",
    ) -> None:
        """Public addresses as the ports have them now, new rules and marks in the same transaction if there are any: the
        kernel takes 10 ms for each that removes something. What an address carried for its last owner is cut, and all that the
        addresses `ended` had: each look at the kernel's table of connections takes 9 ms."""
        new, old = publics.translations(vpc.plan, _ports_of(vpc), self._pool), vpc.translations
        rules = self._rules.statements(vpc.firewall, patch) if patch is not None else ""
        await vpc.routing.move(routing or NO_PATCH, rules=rules + uplink.vpc_change(old, new) + also)
        if patch is not None:
            self._filtered(vpc, patch)
        cut = [outside for outside, private in old.inward.items() if new.inward.get(outside) != private]
        cut += [outside for private, outside in old.outward.items() if new.outward.get(private) != outside]
        vpc.translations = new
        await self._publish(vpc)
        await conntrack.forget(self._world, vpc.netns, sorted({*cut, *ended}))

    async def _publish(self, vpc: _Vpc) -> None:
        published = publics.published(vpc.plan, vpc.device, _ports_of(vpc), self._pool)
        await self._host.publish(vpc.plan.vpc_id, vpc.device, published, vpc.routing.now.led)

    def _spoken(self, plan: NetworkPlan) -> NetworkPlan:
        """Without IPv6 where this machine's kernel has none."""
        return plan if self.has_ipv6() or not plan.ranges_v6 else msgspec.structs.replace(plan, ranges_v6=())

    def _plans_before(self) -> list[NetworkPlan]:
        records = (self._records.network(vpc_id) for vpc_id in self._records.vpc_ids())
        return [record.plan for record in records if record is not None and not record.leaving]

    def _get(self, vpc_id: str) -> _Vpc:
        vpc = self._vpcs.get(vpc_id)
        if vpc is None:
            raise DriverFault(f"There is no network {vpc_id} on this host yet")
        return vpc

    def _check_port(self, vpc: _Vpc, port: Port) -> None:
        dnsmasq.check(port)
        if port.ipv6 and not self.has_ipv6():
            raise DriverFault(f"{port.id} has {port.ipv6[0]}, and this machine's kernel has no IPv6")
        for address in port.public:
            uplink.alias(address, self._pool)
        vpc.ports.check(port)

    # Commands.

    @asynccontextmanager
    async def _working_on(self, vpc_id: str) -> AsyncIterator[None]:
        """One change of a VPC after another, and no error but DriverFault."""
        async with self._locks.setdefault(vpc_id, asyncio.Lock()), self._host_errors():
            yield

    @asynccontextmanager
    async def _host_errors(self) -> AsyncIterator[None]:
        try:
            yield
        except (OSError, TimeoutError) as error:
            raise DriverFault("The host did not do what its network needs") from error


def _ports_of(vpc: _Vpc) -> list[Port]:
    return [record.port for record in vpc.ports.values()]


def _close(fd: int) -> None:
    socket.close(fd)
