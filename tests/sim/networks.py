"""What a client does with elastic addresses and interfaces, and what it was promised about them.

Not every operation of EC2's has a token: one whose answer was lost may have been done, so that the client looks before it goes
on, and gives back at the end whatever it finds.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alto.model.addresses import Address
from alto.model.errors import AltoError
from alto.model.instances import Attach, Instance, Phase, Wish
from alto.model.networks import NetworkInterface
from alto.store.store import Reader
from tests.sim.api import OTHER_GROUP
from tests.sim.check import Violated
from tests.sim.hosts import SimHost

Ask = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any] | AltoError]]
ADDRESSES_MAX, INTERFACES_MAX = 3, 3


class NetworkUser:
    """The part of a client that plays with networks; `instances()` are those that it may use."""

    def __init__(self, name: str, chance: random.Random, ask: Ask, instances: Callable[[], list[str]]) -> None:
        self._name = name
        self._chance = chance
        self._ask = ask
        self._instances = instances
        self._tokens = 0
        self.addresses: list[str] = []  # allocations, acknowledged
        self.interfaces: list[str] = []
        self.led: dict[str, tuple[str, str]] = {}  # allocation -> (kind of id, id), acknowledged last
        self.subnet = ""

    async def act(self) -> None:
        if not self.addresses:
            await self.allocate()
            return await self.associate()
        await self._chance.choice((self.allocate, self.associate, self.associate, self.disassociate, self.release))()

    async def interface_act(self) -> None:
        if not self.interfaces:
            await self.create()
            return await self.attach()
        acts = (self.create, self.attach, self.attach, self.detach, self.assign, self.change, self.delete)
        await self._chance.choice(acts)()

    # -- elastic addresses

    async def allocate(self) -> None:
        if len(self.addresses) < ADDRESSES_MAX:
            answer = await self._ask("AllocateAddress", {})
            if isinstance(answer, dict):
                self.addresses.append(answer["AllocationId"])

    async def associate(self, target: tuple[str, str] | None = None) -> None:
        targets = [("InstanceId", id) for id in self._instances()] + [("NetworkInterfaceId", id) for id in self.interfaces]
        if not self.addresses or not targets:
            return
        allocation = self._chance.choice(self.addresses)
        kind, id = target or self._chance.choice(targets)
        answer = await self._ask("AssociateAddress", {"AllocationId": allocation, kind: id})
        self.led = {one: where for one, where in self.led.items() if one != allocation and where != (kind, id)}
        if isinstance(answer, dict):
            self.led[allocation] = (kind, id)

    async def disassociate(self) -> None:
        if not self.addresses:
            return
        allocation = self._chance.choice(self.addresses)
        answer = await self._ask("DescribeAddresses", {"AllocationIds": [allocation]})
        if isinstance(answer, dict) and (association := answer["Addresses"][0].get("AssociationId")):
            self.led.pop(allocation, None)
            await self._ask("DisassociateAddress", {"AssociationId": association})

    async def release(self) -> None:
        if self.addresses:
            allocation = self.addresses.pop()
            self.led.pop(allocation, None)
            if not isinstance(await self._ask("ReleaseAddress", {"AllocationId": allocation}), dict):
                self.addresses.append(allocation)

    # -- interfaces

    async def create(self) -> None:
        if len(self.interfaces) >= INTERFACES_MAX:
            return
        if not self.subnet:
            found = await self._ask("DescribeInstances", {})
            if isinstance(found, dict):
                subnets = [one.get("SubnetId") for all in found["Reservations"] for one in all["Instances"]]
                self.subnet = next((one for one in subnets if one), "")
        if self.subnet:
            self._tokens += 1
            parameters: dict[str, Any] = {
                "SubnetId": self.subnet,
                "Ipv6AddressCount": 1,
                "ClientToken": f"{self._name}-eni-{self._tokens}",
            }
            answer = await self._ask("CreateNetworkInterface", parameters)
            if isinstance(answer, dict):
                self.interfaces.append(answer["NetworkInterface"]["NetworkInterfaceId"])

    async def attach(self, instance: str | None = None) -> None:
        instances = self._instances()
        if self.interfaces and instances:
            parameters = {
                "NetworkInterfaceId": self._chance.choice(self.interfaces),
                "InstanceId": instance or self._chance.choice(instances),
                "DeviceIndex": 1,
            }
            await self._ask("AttachNetworkInterface", parameters)

    async def detach(self) -> None:
        if self.interfaces:
            interface = self._chance.choice(self.interfaces)
            answer = await self._ask("DescribeNetworkInterfaces", {"NetworkInterfaceIds": [interface]})
            found = answer["NetworkInterfaces"][0] if isinstance(answer, dict) else {}
            if attachment := (found.get("Attachment") or {}).get("AttachmentId"):
                await self._ask("DetachNetworkInterface", {"AttachmentId": attachment})

    async def assign(self) -> None:
        if self.interfaces:
            interface = self._chance.choice(self.interfaces)
            self._tokens += 1
            if self._tokens % 2:
                await self._ask("AssignIpv6Addresses", {"NetworkInterfaceId": interface, "Ipv6AddressCount": 1})
            else:
                asked = {"NetworkInterfaceId": interface, "SecondaryPrivateIpAddressCount": 1}
                await self._ask("AssignPrivateIpAddresses", asked)

    async def change(self, *, groups: bool | None = None) -> None:
        """Its groups, or its check of source and destination."""
        if self.interfaces:
            parameters: dict[str, Any] = {"NetworkInterfaceId": self._chance.choice(self.interfaces)}
            if self._chance.random() < 0.5 if groups is None else groups:
                parameters["Groups"] = [OTHER_GROUP]
            else:
                parameters["SourceDestCheck"] = {"Value": self._chance.random() < 0.5}
            await self._ask("ModifyNetworkInterfaceAttribute", parameters)

    async def delete(self) -> None:
        if self.interfaces:
            interface = self.interfaces.pop()
            self.led = {one: where for one, where in self.led.items() if where[1] != interface}
            if not isinstance(await self._ask("DeleteNetworkInterface", {"NetworkInterfaceId": interface}), dict):
                self.interfaces.append(interface)

    # -- the end

    async def give_back(self) -> None:
        """After all instances: whatever is found, also that of which nobody told us."""
        found = await self._ask("DescribeAddresses", {})
        for one in found["Addresses"] if isinstance(found, dict) else ():
            if one.get("AssociationId"):
                await self._ask("DisassociateAddress", {"AssociationId": one["AssociationId"]})
            await self._ask("ReleaseAddress", {"AllocationId": one["AllocationId"]})
        answer = await self._ask("DescribeNetworkInterfaces", {})
        for one in answer["NetworkInterfaces"] if isinstance(answer, dict) else ():
            if one["Status"] == "available":
                await self._ask("DeleteNetworkInterface", {"NetworkInterfaceId": one["NetworkInterfaceId"]})
        self.addresses, self.interfaces, self.led = [], [], {}

    def check_promises(self, reader: Reader) -> None:
        """Raises: Violated, when an acknowledged association is not so. For clients whose requests arrive once and in order."""
        for allocation, (kind, id) in sorted(self.led.items()):
            address = reader.find(Address, allocation)
            if address is None:
                raise Violated(f"{allocation} was acknowledged and is forgotten")
            if kind == "InstanceId":
                instance = reader.find(Instance, id)
                lost = instance is None or instance.wish is Wish.TERMINATED
                if not lost and address.instance_id != id:
                    raise Violated(f"{allocation} was acknowledged to lead to {id}, and leads to {address.instance_id}")
            elif reader.find(NetworkInterface, id) is not None and address.interface_id != id:
                raise Violated(f"{allocation} was acknowledged to lead to {id}, and leads to {address.interface_id}")


def hosts_differ(instances: Mapping[str, Instance], hosts: list[SimHost]) -> list[str]:
    """What of interfaces and addresses is on a host otherwise than the records of running instances say."""
    wrong = []
    for host in hosts:
        ports = {id: found.port for vpc in host.networks.vpcs.values() for id, found in vpc.ports.items()}
        for instance in instances.values():
            machine = host.machines.machines.get(instance.id)
            if instance.host_id != host.id or instance.phase is not Phase.RUNNING or machine is None:
                continue
            wanted = {nic.interface_id for nic in instance.nics}
            if set(machine.interfaces) != wanted:
                wrong.append(f"{instance.id} has the interfaces {sorted(machine.interfaces)}; it should have {sorted(wanted)}")
            for nic in instance.nics:
                port = ports.get(nic.interface_id)
                said = (nic.public_ip, nic.secondary, nic.group_ids, nic.source_dest_check)
                if port is None or (port.public_ip, port.secondary, port.group_ids, port.source_dest_check) != said:
                    wrong.append(f"The port of {nic.interface_id} on {host.id} is {port}; it should have {said}")
                if nic.attach is not Attach.ATTACHED:
                    wrong.append(f"{nic.interface_id} of {instance.id} is still {nic.attach.value}")
    return wrong
