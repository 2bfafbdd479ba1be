"""Who lives on which host, as the sessions of hosts need it to tell each what the others have: an index in memory of the rows
of hosts, instances, peerings and load balancers, kept by their changes. Only hosts that others can reach are in it. And whose
the rows are that networks are made of, as one that is gone cannot say it.

Invariant: nothing is decided here but by alto.plan.overlays, and nothing is here that is not in a row.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address
from typing import TypeVar

from alto.api.hosts.networks import KINDS, vpcs_of
from alto.model.balancers import LoadBalancer
from alto.model.hosts import Host, HostState
from alto.model.instances import Attach, Instance, Phase
from alto.model.network_plans import NetworkChange, NetworkPlan
from alto.model.records import Record
from alto.model.routing import PeeringState, VpcPeering
from alto.plan.addresses import names_of
from alto.plan.overlays import Place, Resident, places, resettled, spread, underlays
from alto.store.store import Reader

T = TypeVar("T")


class Whereabouts:
    def __init__(self, reader: Reader) -> None:
        self._places: dict[str, Place] = {}
        self._residents: dict[str, Resident] = {}
        self._by_vpc: dict[str, dict[str, Resident]] = {}
        self._inhabited: dict[str, dict[str, int]] = {}  # VPC -> host -> how many of its residents
        self._owners: dict[str, str] = {}  # interface -> the resident that has it
        self._peerings: dict[str, tuple[str, str]] = {}
        self._peers: dict[str, dict[str, str]] = {}  # VPC -> peering -> the other VPC
        self._balancers: dict[str, tuple[str, frozenset[str]]] = {}  # id -> its host, VPCs of its targets
        for host in reader.where(Host):
            self.put_host(host.id, host)
            for instance in reader.where(Instance, host_id=host.id) if host.id in self._places else ():
                self.put_instance(instance.id, instance)
        self._rows = {row.id: vpcs_of(row) for kind in KINDS.values() for row in reader.where(kind)}
        if self._places:
            for peering in reader.where(VpcPeering):
                self.put_peering(peering.id, peering)
            for balancer in reader.where(LoadBalancer):
                self.put_balancer(balancer.id, balancer)

    # Changes. Each says whether, or of which VPCs, anything is different.

    def put_host(self, id: str, host: Host | None) -> bool:
        before = self._places.pop(id, None)
        if host is not None and _is_reachable(host.underlay):
            self._places[id] = Place(
                host_id=id, underlay=host.underlay, ready=host.state is HostState.READY, at_server=host.key is None
            )
        return self._places.get(id) != before

    def put_instance(self, id: str, instance: Instance | None) -> dict[str, set[str]]:
        """VPC -> those of its interfaces that came, went or are different."""
        before = self._residents.get(id)
        after = _resident(instance) if instance is not None and instance.host_id in self._places else None
        if before == after:
            return {}
        moved: dict[str, set[str]] = {}
        if before is not None:
            del self._residents[id]
            for nic in before.nics:
                moved.setdefault(nic.vpc_id, set()).add(nic.interface_id)
                if self._owners.get(nic.interface_id) == id:
                    del self._owners[nic.interface_id]
            for vpc_id in moved:
                _take(self._by_vpc, vpc_id, id)
                self._inhabited[vpc_id][before.host_id] -= 1
                if not self._inhabited[vpc_id][before.host_id]:
                    _take(self._inhabited, vpc_id, before.host_id)
        if after is not None:
            self._residents[id] = after
            for nic in after.nics:
                moved.setdefault(nic.vpc_id, set()).add(nic.interface_id)
                self._owners[nic.interface_id] = id
                self._by_vpc.setdefault(nic.vpc_id, {})[id] = after
            for vpc_id in {nic.vpc_id for nic in after.nics}:
                there = self._inhabited.setdefault(vpc_id, {})
                there[after.host_id] = there.get(after.host_id, 0) + 1
        return moved

    def put_peering(self, id: str, peering: VpcPeering | None) -> None:
        for vpc_id in self._peerings.pop(id, ()):
            self._peers.get(vpc_id, {}).pop(id, None)
        if peering is not None and peering.state is PeeringState.ACTIVE:
            both = self._peerings[id] = peering.vpc_id, peering.accepter_vpc_id
            self._peers.setdefault(both[0], {})[id] = both[1]
            self._peers.setdefault(both[1], {})[id] = both[0]

    def put_row(self, id: str, row: Record | None) -> frozenset[str]:
        """VPCs in whose plans it was or is."""
        before, after = self._rows.pop(id, frozenset()), vpcs_of(row)
        if row is not None:
            self._rows[id] = after
        return before | after

    def put_balancer(self, id: str, balancer: LoadBalancer | None) -> frozenset[str]:
        before = self._balancers.pop(id, ("", frozenset()))
        after: tuple[str, frozenset[str]] = ("", frozenset())
        if balancer is not None and balancer.host_id is not None:
            after = self._balancers[id] = balancer.host_id, frozenset(one.vpc_id for one in balancer.targets)
        return before[1] | after[1] if before != after else frozenset()

    # Questions.

    def host_of(self, instance_id: str) -> str | None:
        resident = self._residents.get(instance_id)
        return resident.host_id if resident is not None else None

    def is_known(self, host_id: str) -> bool:
        return host_id in self._places

    def concerned(self, vpc_id: str) -> Iterator[str]:
        """VPCs whose plans may say something of an instance in `vpc_id`."""
        yield vpc_id
        yield from self._peers.get(vpc_id, {}).values()

    def hosts_of(self, vpc_id: str) -> frozenset[str]:
        """Hosts that have the VPC."""
        peers = [self._inhabited.get(one, {}) for one in self._peers.get(vpc_id, {}).values()]
        balancers = [host_id for host_id, vpc_ids in self._balancers.values() if vpc_id in vpc_ids]
        return places(self._places, self._inhabited.get(vpc_id, {}), peers, balancers)

    def lives_in(self, vpc_id: str, host_id: str) -> bool:
        """Whether the host has an instance in the VPC."""
        return host_id in self._inhabited.get(vpc_id, {})

    def vpcs_of(self, host_id: str, among: AbstractSet[str] | None = None) -> set[str]:
        """VPCs that the host has, by an instance or without."""
        found = self._by_vpc.keys() & among if among is not None else self._by_vpc
        return {vpc_id for vpc_id in found if host_id in self.hosts_of(vpc_id)}

    def told(self, plan: NetworkPlan, host_id: str, *, standing: bool) -> NetworkPlan:
        """The plan as this host, which is known, is told it."""
        around = self._around(plan.vpc_id, host_id)
        residents = [one for _, one in sorted(self._by_vpc.get(plan.vpc_id, {}).items())]
        return spread(plan, self._places[host_id], around, residents, standing=standing)

    def is_told_of(self, told: NetworkPlan, host_id: str) -> bool:
        """Whether the plan says which hosts have the VPC now, this one among them."""
        return host_id in self.hosts_of(told.vpc_id) and told.hosts == underlays(
            self._places[host_id], self._around(told.vpc_id, host_id)
        )

    def resettled(self, told: NetworkPlan, host_id: str, interface_ids: AbstractSet[str]) -> NetworkChange:
        """What becomes different in the plan that this host was told, and that says which hosts have the VPC, when these
        interfaces are where they are now."""
        owners = {self._owners[id] for id in interface_ids if id in self._owners}
        residents = [self._residents[id] for id in sorted(owners)]
        return resettled(told, self._places[host_id], self._around(told.vpc_id, host_id), residents, interface_ids)

    def _around(self, vpc_id: str, host_id: str) -> list[Place]:
        return [self._places[id] for id in sorted(self.hosts_of(vpc_id) | {host_id})]


def _take(index: dict[str, dict[str, T]], key: str, id: str) -> None:
    index[key].pop(id, None)
    if not index[key]:
        del index[key]


def _resident(instance: Instance) -> Resident | None:
    if instance.host_id is None or instance.phase is Phase.TERMINATED:
        return None
    return Resident(
        instance_id=instance.id,
        host_id=instance.host_id,
        region=instance.region,
        hostname=instance.hostname,
        names=names_of(instance.id, instance.nic.private_ip, instance.region, instance.naming),
        nics=tuple(nic for nic in instance.nics if nic.attach is not Attach.DETACHING),
    )


def _is_reachable(underlay: str) -> bool:
    try:
        return bool(IPv4Address(underlay.rpartition(":")[0]))
    except ValueError:
        return False  # none, or one of IPv6, which the tunnels here do not speak
