"""Keeps the members of every load balancer equal to the truth: who runs, who leaves, who is gone; and where it is served.

The balancer itself measures health; a member takes traffic only after it answered there. One that is an instance is kept by a
group of one; here its address is led to whichever instance that is now.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import structlog
from msgspec.structs import replace

from alto.control.groups import REFUSED_PAUSE_S, members_of
from alto.model.addresses import Address
from alto.model.balancers import Appliance, AutoScalingGroup, LoadBalancer
from alto.model.errors import AltoError, Conflict
from alto.model.hosts import Host
from alto.model.instances import Instance, Phase
from alto.model.records import Record
from alto.plan.balancing import appliance_of, front_of, keeper_of, targets
from alto.store.claims import release_public
from alto.store.store import Reader, Store, Tx

log = structlog.get_logger()


class Addresses(Protocol):
    """What becomes of the elastic address of a balancer that is an instance. Both are idempotent, and raise AltoError when EC2
    refuses."""

    def lead(self, tx: Tx, balancer: LoadBalancer, appliance: Appliance) -> None:
        """To this instance from wherever it led; not when either is gone."""

    def release(self, tx: Tx, balancer: LoadBalancer) -> None: ...


class Balancers:
    watches: Sequence[type[Record]] = (LoadBalancer, AutoScalingGroup, Instance, Host)
    sweep_s = 30.0

    def __init__(self, store: Store, addresses: Addresses) -> None:
        self._store = store
        self._addresses = addresses

    async def reconcile(self) -> float | None:
        refused = False
        for balancer in self._store.read(lambda reader: reader.where(LoadBalancer)):
            if self._store.read(lambda reader, b=balancer: decide(reader, b)) != Decision(balancer):  # type: ignore[misc]
                try:
                    await self._store.write(lambda tx, id=balancer.id: self._write(tx, id))  # type: ignore[misc]
                except Conflict:
                    raise  # all is read and decided again
                except AltoError as error:
                    # One whose address can not be led there, say: the others do not wait for it.
                    log.warning("balancer refused", balancer=balancer.name, account=balancer.account, reason=str(error))
                    refused = True
        return REFUSED_PAUSE_S if refused else None

    def _write(self, tx: Tx, balancer_id: str) -> None:
        balancer = tx.find(LoadBalancer, balancer_id)
        if balancer is None:
            return
        decision = decide(tx, balancer)
        if decision.over:
            tx.delete(LoadBalancer, balancer.id)
            if balancer.allocation_id is None:
                release_public(tx, balancer.address, balancer.id)
            else:
                self._addresses.release(tx, balancer)
            return
        if decision.balancer != balancer:
            tx.put(decision.balancer)
        if decision.needless is not None:
            tx.put(replace(decision.needless, deleting=True, desired=0))
        if decision.lead is not None:
            self._addresses.lead(tx, balancer, decision.lead)


class Decision(NamedTuple):
    """The balancer as it should be, and what else is to be done: `over`, it goes; `needless`, the group that keeps its
    instance, goes, as the last member has drained behind it; `lead` is where its address should lead and does not."""

    balancer: LoadBalancer
    over: bool = False
    needless: AutoScalingGroup | None = None
    lead: Appliance | None = None


def decide(reader: Reader, balancer: LoadBalancer) -> Decision:
    groups = reader.where(AutoScalingGroup, account=balancer.account, region=balancer.region)
    group = next((one for one in groups if one.load_balancer_id == balancer.id), None)
    keeper = keeper_of(groups, balancer)
    members = reader.where(Instance, group_name=balancer.name, account=balancer.account, region=balancer.region)
    wanted = replace(balancer, targets=targets(balancer, group, members))
    lead: Appliance | None = None
    if balancer.allocation_id is not None:
        front = front_of(members_of(reader, keeper)) if keeper is not None else None
        lead = _to_lead(reader, balancer, front)
        if front is not None and front.phase is Phase.RUNNING:
            wanted = replace(wanted, appliance=appliance_of(front), host_id=front.host_id)
        else:
            wanted = replace(wanted, appliance=None, host_id=None)
    elif balancer.host_id is None:
        ready = [host for host in reader.where(Host) if host.takes_instances]
        # On the server's machine if that is a host: there people call its address.
        host_id = min(ready, key=lambda host: (host.key is not None, host.id)).id if ready else None
        wanted = replace(wanted, host_id=host_id)
    ends = balancer.deleting and group is None  # members drain behind it first
    needless = keeper if ends and keeper is not None and not keeper.deleting else None
    return Decision(wanted, over=ends and keeper is None, needless=needless, lead=lead)


def _to_lead(reader: Reader, balancer: LoadBalancer, front: Instance | None) -> Appliance | None:
    address = reader.find(Address, balancer.allocation_id or "")
    if front is None or address is None or address.interface_id == front.nic.interface_id:
        return None
    return appliance_of(front)
