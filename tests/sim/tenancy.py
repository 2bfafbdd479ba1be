"""Two accounts on the same hosts, each with instances of dedicated tenancy beside ordinary ones; in seeds whose name begins
with "tenancy", so that the histories of all others stay what they are.

That no account's instances stand beside another's dedicated ones is asked after every step, by the product's own audit.
"""

import asyncio
import random
from typing import Any

from alto.api.accounts import create_account, draw_account, draw_region, ensure_region
from alto.store.store import Tx
from tests.sim.api import IMAGE, REGION, SETTINGS
from tests.sim.cloud import SimCloud
from tests.sim.workload import Client
from tests.sim.world import SimDisk, sim_world

PREFIX = "tenancy"
ACTIONS = 40


def has_tenancy(seed: str) -> bool:
    return seed.startswith(PREFIX)


class TenantClient(Client):
    """Launches, stops, starts and ends, and changes the tenancy of what is stopped."""

    def __init__(self, cloud: SimCloud, number: int, account: str, *, pace_s: float) -> None:
        super().__init__(cloud, number, actions=ACTIONS, pace_s=pace_s, account=account)
        self._tenancy = random.Random(f"{self._name} tenancy {cloud.seed}")

    async def run(self) -> None:
        wishes = (self._launch_some, self.terminate, self.stop, self.start, self._change)
        for _ in range(self._actions):
            await asyncio.sleep(self._tenancy.uniform(0, self._pace_s))
            await self._tenancy.choices(wishes, (5, 5, 3, 4, 3))[0]()

    async def _launch_some(self) -> None:
        self._tokens += 1
        most = self._tenancy.randint(1, 3)
        parameters: dict[str, Any] = {
            "ImageId": IMAGE,
            "InstanceType": "m1.tiny",
            "MinCount": 1,
            "MaxCount": most,
            "ClientToken": f"{self._name}-{self._tokens}",
        }
        if self._tenancy.random() < 0.5:
            parameters["Placement"] = {"Tenancy": "dedicated"}
        self._remember(await self._ask("RunInstances", parameters), IMAGE)

    async def _change(self) -> None:
        living = self._living()
        if living:
            wanted = {"InstanceId": self._tenancy.choice(living), "Tenancy": self._tenancy.choice(("default", "dedicated"))}
            await self._ask("ModifyInstancePlacement", wanted)


async def make_tenants(cloud: SimCloud, pace_s: float) -> list[Client]:
    """Two users of each of two accounts."""
    world = sim_world(cloud.loop, f"{cloud.seed} other founder", SimDisk())
    ids, region, now = draw_account(world.chance), draw_region(world.chance, SETTINGS.zones(REGION)), world.clock.now()

    def body(tx: Tx) -> str:
        account, _ = create_account(tx, ids, "other", now)
        ensure_region(tx, region, account.id, REGION, SETTINGS.zones(REGION), SETTINGS.public_pool)
        return account.id

    other = await cloud.store.write(body)
    accounts = (cloud.account, other, cloud.account, other)
    return [TenantClient(cloud, number, account, pace_s=pace_s) for number, account in enumerate(accounts, 1)]
