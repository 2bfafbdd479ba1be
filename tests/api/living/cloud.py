"""A cloud for tests as `cloud.py`'s, with all its loops and simulated hosts, on true time."""

import asyncio

from alto.api.call import Settings
from alto.api.vault import Vault
from alto.api.wire.models import Models
from alto.daemons.hosts import simulated_agents
from alto.daemons.server import Server, first_start
from alto.kit.world import real_world
from alto.model.accounts import AccessKey, Account
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.api.cloud import REGIONS, Cloud, Tenant


class LivingCloud(Cloud):
    """Its loops run while a call is answered and while something is waited for."""

    def __init__(self, models: Models, *, patience_s: float = 0.0) -> None:
        self.runner = asyncio.Runner()
        self.world = real_world()
        self.store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
        vault = Vault(b"the only key of clouds in tests ")
        self.settings = Settings(cloud_id="c-terraform", regions=REGIONS, simulated=True, patience_s=patience_s, vault=vault)
        self.runner.run(self._begin(models))

    async def _begin(self, models: Models) -> None:
        operator = await first_start(self.world, self.store, self.settings)
        server = Server(self.world, self.store, self.settings, models)
        self.gateway = server.gateway
        agents = simulated_agents(self.world, server.sessions, 2, cloud_id=self.settings.cloud_id)
        self._running = [asyncio.ensure_future(one.run()) for one in (server, *agents)]
        self.operator = Tenant(
            self,
            self.store.read(lambda reader: reader.get(Account, operator.account)),
            self.store.read(lambda reader: reader.get(AccessKey, operator.access_key_id)),
            REGIONS[0],
        )

    def close(self) -> None:
        async def end() -> None:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

        self.runner.run(end())
        super().close()
