"""The API without its wire: operations called in the server's process, as the gateway calls them after parsing and signing.

Services come from the JSON API of our own, everything else from EC2's.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from alto.api.accounts import create_account, default_vpc, draw_account, draw_region, ensure_region
from alto.api.alto.services import CreateService, Scale, create_service, delete_service, scale_service
from alto.api.call import Call, Operations, Settings
from alto.api.ec2.address_associations import OPERATIONS as ASSOCIATIONS
from alto.api.ec2.addresses import OPERATIONS as ADDRESSES
from alto.api.ec2.encryption import OPERATIONS as ENCRYPTION
from alto.api.ec2.instance_placement import OPERATIONS as PLACEMENT
from alto.api.ec2.instances import OPERATIONS as INSTANCES
from alto.api.ec2.interface_attachments import OPERATIONS as ATTACHMENTS
from alto.api.ec2.interface_attributes import OPERATIONS as INTERFACE_ATTRIBUTES
from alto.api.ec2.interfaces import OPERATIONS as INTERFACES
from alto.api.ec2.ipv6_addresses import OPERATIONS as IPV6_ADDRESSES
from alto.api.ec2.launches import OPERATIONS as LAUNCHES
from alto.api.ec2.network_acls import OPERATIONS as ACLS
from alto.api.ec2.private_addresses import OPERATIONS as PRIVATE_ADDRESSES
from alto.api.ec2.security_group_rules import OPERATIONS as RULES
from alto.api.ec2.snapshots import OPERATIONS as SNAPSHOTS
from alto.api.ec2.tags import OPERATIONS as TAGS
from alto.api.ec2.volume_attachments import OPERATIONS as VOLUME_ATTACHMENTS
from alto.api.ec2.volume_modifications import OPERATIONS as MODIFICATIONS
from alto.api.ec2.volumes import OPERATIONS as VOLUMES
from alto.api.vault import Vault
from alto.api.wire.xml import plain
from alto.kit.world import World
from alto.model.images import BALANCER, TINY, Image
from alto.model.networks import CidrAssociation, SecurityGroup, Subnet
from alto.model.placement_groups import PlacementGroup, Strategy
from alto.store.store import Store, Tx
from tests.sim.hosts import MISSING_IMAGE

REGION = "eu-west-1"
VAULT = Vault(b"the only key of simulated clouds")
SETTINGS = Settings(cloud_id="cloud-sim", regions=(REGION,), simulated=True, vault=VAULT)
IMAGE = "ami-00000000000000001"
OTHER_GROUP = "sg-00000000000000002"  # beside the default one
BROKEN_IMAGE = "ami-00000000000000002"
BALANCER_IMAGE = "ami-00000000000000003"

EC2: Operations = {
    **INSTANCES,
    **LAUNCHES,
    **PLACEMENT,
    **TAGS,
    **ADDRESSES,
    **ASSOCIATIONS,
    **INTERFACES,
    **INTERFACE_ATTRIBUTES,
    **ATTACHMENTS,
    **ENCRYPTION,
    **PRIVATE_ADDRESSES,
    **IPV6_ADDRESSES,
    **RULES,
    **ACLS,
    **VOLUMES,
    **VOLUME_ATTACHMENTS,
    **MODIFICATIONS,
    **SNAPSHOTS,
}


def found(world: World) -> Callable[[Tx], str]:
    """A body that makes one account with its default VPC and two images, one of which can never boot; returns its id."""
    ids, region = draw_account(world.chance), draw_region(world.chance, SETTINGS.zones(REGION))
    now = world.clock.now()

    def body(tx: Tx) -> str:
        account, _ = create_account(tx, ids, "sim", now)
        ensure_region(tx, region, account.id, REGION, SETTINGS.zones(REGION), SETTINGS.public_pool)
        for name, strategy in (("apart", Strategy.SPREAD), ("together", Strategy.CLUSTER), ("parts", Strategy.PARTITION)):
            tx.put(
                PlacementGroup(
                    id=f"pg-{name}",
                    account=account.id,
                    region=REGION,
                    name=name,
                    strategy=strategy,
                    partitions=2 if strategy is Strategy.PARTITION else 0,
                    created_at=now,
                )
            )
        vpc = default_vpc(tx, account.id, REGION)
        assert vpc is not None
        block = CidrAssociation(id="vpc-cidr-assoc-1", cidr="fd00:a::/56")
        vpc = tx.put(replace(vpc, ipv6=(block,)))
        for number, subnet in enumerate(tx.where(Subnet, vpc_id=vpc.id)):
            of_subnet = CidrAssociation(id=f"subnet-cidr-assoc-{number}", cidr=f"fd00:a:0:{number}::/64")
            tx.put(replace(subnet, ipv6=(of_subnet,)))
        tx.put(
            SecurityGroup(
                id=OTHER_GROUP, account=account.id, region=REGION, vpc_id=vpc.id, name=OTHER_GROUP, description="other"
            )
        )
        for id, source in ((IMAGE, TINY), (BROKEN_IMAGE, MISSING_IMAGE), (BALANCER_IMAGE, BALANCER)):
            tx.put(
                Image(
                    id=id, account=account.id, region=None, name=source, source=source, size_gib=1, public=True, created_at=now
                )
            )
        return account.id

    return body


class SimApi:
    """One server's front door."""

    def __init__(self, world: World, store: Store) -> None:
        self._world = world
        self._store = store

    async def answer(self, account: str, action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Raises: AltoError, as the gateway would turn into an EC2 error."""
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
        if action == "CreateService":
            return await create_service(call, msgspec.convert(parameters, CreateService))
        if action == "ScaleService":
            return await scale_service(call, parameters["name"], Scale(desired=parameters["desired"]))
        if action == "DeleteService":
            return await delete_service(call, parameters["name"])
        operation = EC2[action]
        answer: dict[str, Any] = plain(await operation.run(call, msgspec.convert(parameters, operation.request)))
        return answer
