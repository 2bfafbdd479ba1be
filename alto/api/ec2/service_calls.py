"""EC2 as services call it for their tenants: what `control/` launches goes through the same door as users' calls.

Not by that door goes what users are refused: a service's address is led to its balancer, and given back, by the service alone.
"""

from collections.abc import Callable, Sequence

from alto.api.accounts import draw_id
from alto.api.call import Call, Settings
from alto.api.ec2.address_targets import lead_to, leave
from alto.api.ec2.instances import TerminateRequest, terminate_instances
from alto.api.ec2.launches import RunInstancesRequest, launch
from alto.api.ec2.tags import Tag, TagSpecification
from alto.kit.world import World
from alto.model.addresses import Address
from alto.model.balancers import Appliance, AutoScalingGroup, Launching, LoadBalancer
from alto.model.errors import Refused
from alto.model.networks import NetworkInterface
from alto.store.claims import release_public
from alto.store.store import Store, Tx


class ServiceCalls:
    """Implements `control.groups.Ec2` and `control.balancers.Addresses`."""

    def __init__(self, world: World, store: Store, settings: Settings, appliance_data: Callable[[LoadBalancer], str]) -> None:
        """`appliance_data`: the user data (base64) of an instance that is this balancer."""
        self._world = world
        self._store = store
        self._settings = settings
        self._appliance_data = appliance_data

    async def launch(self, group: AutoScalingGroup, launching: Launching) -> None:
        tags = tuple(Tag(key=key, value=value) for key, value in sorted(group.launch.tags.items()))
        request = RunInstancesRequest(
            image_id=group.launch.image_id,
            instance_type=group.launch.instance_type,
            key_name=group.launch.key_name,
            user_data=self._user_data(group),
            security_group_ids=group.launch.group_ids,
            # As many as fit now: the rest is tried again, and the group says why.
            min_count=1,
            max_count=launching.count,
            client_token=launching.token,
            tag_specifications=(TagSpecification(resource_type="instance", tags=tags),) if tags else (),
        )
        await launch(self._call(group, "RunInstances", launching.token), request, group_name=group.name)

    async def terminate(self, group: AutoScalingGroup, instance_ids: Sequence[str]) -> None:
        request = TerminateRequest(instance_ids=tuple(instance_ids))
        await terminate_instances(self._call(group, "TerminateInstances", ""), request, protection_holds=False)

    def _user_data(self, group: AutoScalingGroup) -> str | None:
        if group.appliance_of is None:
            return group.launch.user_data
        balancer = self._store.read(lambda reader: reader.find(LoadBalancer, group.appliance_of or ""))
        if balancer is None:
            raise Refused("IncorrectState", f"The load balancer of {group.name} is gone")
        return self._appliance_data(balancer)

    def lead(self, tx: Tx, balancer: LoadBalancer, appliance: Appliance) -> None:
        address = tx.find(Address, balancer.allocation_id or "")
        interface = tx.find(NetworkInterface, appliance.interface_id)
        if address is None or interface is None or address.interface_id == interface.id:
            return
        association_id = draw_id(self._world.chance, "eipassoc")
        call = self._call(balancer, "AssociateAddress", "")
        lead_to(tx, call, address, interface.id, interface.private_ip, association_id)

    def release(self, tx: Tx, balancer: LoadBalancer) -> None:
        address = tx.find(Address, balancer.allocation_id or "")
        if address is not None:
            leave(tx, self._call(balancer, "ReleaseAddress", ""), address)
            tx.delete(Address, address.id)
            release_public(tx, address.public_ip, address.id)

    def _call(self, group: AutoScalingGroup | LoadBalancer, operation: str, digest: str) -> Call:
        return Call(
            account=group.account,
            operator=False,
            access_key_id="",
            region=group.region,
            request_id="autoscaling-" + self._world.chance.hex(16),
            operation=operation,
            digest=digest,
            world=self._world,
            store=self._store,
            settings=self._settings,
        )
