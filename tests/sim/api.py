"""The API without its wire: operations called in the server's process, as the gateway calls them after parsing and signing.

Services (a LoadBalancer and an AutoScalingGroup of one name) have no AWS operation yet; here they are made as the JSON API
makes them.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Network
from typing import Any

import msgspec
from msgspec.structs import replace

from alto.api.accounts import create_account, draw_account, draw_region, ensure_region
from alto.api.call import Call, Operations, Settings
from alto.api.ec2.instances import OPERATIONS as INSTANCES
from alto.api.ec2.launches import OPERATIONS as LAUNCHES
from alto.api.ec2.tags import OPERATIONS as TAGS
from alto.api.wire.xml import plain
from alto.kit.world import World
from alto.model.balancers import AutoScalingGroup, LaunchSpec, LoadBalancer
from alto.model.images import Image
from alto.model.networks import AddressPool, PublicAddress
from alto.plan.addresses import address_at, next_offset
from alto.store.claims import PUBLIC_POOL
from alto.store.store import Store, Tx
from tests.sim.hosts import MISSING_IMAGE

REGION = "us-east-1"
SETTINGS = Settings(cloud_id="cloud-sim", regions=(REGION,), simulated=True)
IMAGE = "ami-00000000000000001"
BROKEN_IMAGE = "ami-00000000000000002"

EC2: Operations = {**INSTANCES, **LAUNCHES, **TAGS}


def found(world: World) -> Callable[[Tx], str]:
    """A body that makes one account with its default VPC and two images, one of which can never boot; returns its id."""
    ids, region = draw_account(world.chance), draw_region(world.chance)
    now = world.clock.now()

    def body(tx: Tx) -> str:
        account, _ = create_account(tx, ids, "sim", now)
        ensure_region(tx, region, account.id, REGION, SETTINGS.zones(REGION), SETTINGS.public_pool)
        for id, source in ((IMAGE, "tiny"), (BROKEN_IMAGE, MISSING_IMAGE)):
            tx.put(Image(id=id, account=account.id, region=None, name=source, source=source, size_gib=1, created_at=now))
        return account.id

    return body


class SimApi:
    """One server's front door."""

    def __init__(self, world: World, store: Store) -> None:
        self._world = world
        self._store = store
        self._services: Mapping[str, Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
            "CreateService": self._create,
            "ScaleService": self._scale,
            "DeleteService": self._delete,
        }

    async def answer(self, account: str, action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Raises: AltoError, as the gateway would turn into an EC2 error."""
        if action in self._services:
            return await self._services[action](account, parameters)
        operation = EC2[action]
        content = {key: value for key, value in parameters.items() if key != "ClientToken"}
        call = Call(
            account=account,
            operator=False,
            access_key_id="AKIASIM",
            region=REGION,
            request_id=self._world.chance.hex(32),
            operation=action,
            digest=hashlib.sha256(json.dumps([action, content], sort_keys=True).encode()).hexdigest(),
            world=self._world,
            store=self._store,
            settings=SETTINGS,
        )
        answer: dict[str, Any] = plain(await operation.run(call, msgspec.convert(parameters, operation.request)))
        return answer

    async def _create(self, account: str, p: Mapping[str, Any]) -> dict[str, Any]:
        now, name = self._world.clock.now(), p["Name"]
        balancer_id, group_id = "lb-" + self._world.chance.hex(17), "asg-" + self._world.chance.hex(17)

        def body(tx: Tx) -> None:
            if tx.where(AutoScalingGroup, account=account, region=REGION, name=name):
                return
            pool = tx.get(AddressPool, PUBLIC_POOL)
            network = IPv4Network(pool.cidr)
            cursor = next_offset(network, pool.cursor, lambda ip: tx.find(PublicAddress, ip) is not None)
            address = address_at(network, cursor)
            tx.put(replace(pool, cursor=cursor, used=pool.used + 1))
            tx.put(PublicAddress(id=address, account=account, region=REGION, owner_id=balancer_id))
            tx.put(
                LoadBalancer(
                    id=balancer_id, account=account, region=REGION, name=name, address=address, created_at=now, drain_s=3
                )
            )
            tx.put(
                AutoScalingGroup(
                    id=group_id,
                    account=account,
                    region=REGION,
                    name=name,
                    desired=p["Desired"],
                    launch=LaunchSpec(image_id=IMAGE, instance_type=p["InstanceType"]),
                    load_balancer_id=balancer_id,
                    created_at=now,
                )
            )

        await self._store.write(body)
        return {}

    async def _scale(self, account: str, p: Mapping[str, Any]) -> dict[str, Any]:
        def body(tx: Tx) -> None:
            for group in tx.where(AutoScalingGroup, account=account, region=REGION, name=p["Name"]):
                if not group.deleting:
                    tx.put(replace(group, desired=p["Desired"]))

        await self._store.write(body)
        return {}

    async def _delete(self, account: str, p: Mapping[str, Any]) -> dict[str, Any]:
        def body(tx: Tx) -> None:
            for group in tx.where(AutoScalingGroup, account=account, region=REGION, name=p["Name"]):
                tx.put(replace(group, deleting=True))
            for balancer in tx.where(LoadBalancer, account=account, region=REGION, name=p["Name"]):
                tx.put(replace(balancer, deleting=True))

        await self._store.write(body)
        return {}
