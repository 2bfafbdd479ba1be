"""EC2 as a service calls it for its tenants: what `control/groups.py` launches goes through the same door as users' calls."""

from collections.abc import Sequence

from alto.api.call import Call, Settings
from alto.api.ec2.instances import TerminateRequest, terminate_instances
from alto.api.ec2.launches import RunInstancesRequest, launch
from alto.api.ec2.tags import Tag, TagSpecification
from alto.kit.world import World
from alto.model.balancers import AutoScalingGroup, Launching
from alto.store.store import Store


class GroupCalls:
    """Implements `control.groups.Ec2`."""

    def __init__(self, world: World, store: Store, settings: Settings) -> None:
        self._world = world
        self._store = store
        self._settings = settings

    async def launch(self, group: AutoScalingGroup, launching: Launching) -> None:
        tags = tuple(Tag(key=key, value=value) for key, value in sorted(group.launch.tags.items()))
        request = RunInstancesRequest(
            image_id=group.launch.image_id,
            instance_type=group.launch.instance_type,
            key_name=group.launch.key_name,
            user_data=group.launch.user_data,
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

    def _call(self, group: AutoScalingGroup, operation: str, digest: str) -> Call:
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
