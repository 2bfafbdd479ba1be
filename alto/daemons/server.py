"""The server: store, sessions, loops and the HTTP door, wired together; no decisions."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import structlog
import uvicorn
from msgspec.structs import replace

from alto.api.accounts import RegionKeeper, create_account, draw_account, draw_region, ensure_region
from alto.api.alto.hosts import HostOperations, Way
from alto.api.alto.routes import AltoApi
from alto.api.call import Call, Settings
from alto.api.ec2.instances import console_operations
from alto.api.ec2.operations import OPERATIONS as EC2
from alto.api.ec2.service_calls import ServiceCalls
from alto.api.hosts.door import App, CertifiedHttp
from alto.api.hosts.session import HostSessions
from alto.api.master_key import MasterKey
from alto.api.sts.operations import OPERATIONS as STS
from alto.api.wire.direct import DirectHttp
from alto.api.wire.gateway import Gateway
from alto.api.wire.models import Models
from alto.control.balancers import Balancers
from alto.control.groups import Groups
from alto.control.hosts import Hosts
from alto.control.keeper import Keeper
from alto.control.loop import LoopStatus, Reconciler, keep_reconciling
from alto.control.scheduler import Scheduler
from alto.drivers.balancer.haproxy.appliance import user_data_of
from alto.kit.world import World
from alto.model.accounts import AccessKey, Account
from alto.model.images import BALANCER, CONTAINER_SOURCE, TINY, Image
from alto.store.store import Store, Tx

log = structlog.get_logger()

OPERATOR_NAME = "admin"
# The images that Alto brings have one id everywhere, so that a README's command works when it is copied.
TINY_IMAGE_ID = "ami-0a170000000000001"
CONTAINER_IMAGE_ID = "ami-0a170000000000002"
BALANCER_IMAGE_ID = "ami-0a170000000000003"
_TINY = Image(
    id=TINY_IMAGE_ID,
    account="",
    region=None,
    name="alto/tiny-x86_64",
    description="Alto's tiny Linux: busybox, dropbear, a web server; boots in seconds",
    public=True,
    source=TINY,
    size_gib=1,
    created_at=0.0,
)
_CONTAINER_TINY = replace(
    _TINY,
    id=CONTAINER_IMAGE_ID,
    name="alto/container-tiny-x86_64",
    description="Alto's tiny Linux as a system container: shares its host's kernel, starts in a moment",
    source=CONTAINER_SOURCE,
)


_BALANCER = replace(
    _TINY,
    id=BALANCER_IMAGE_ID,
    name="alto/balancer-x86_64",
    description="Alto's tiny Linux with HAProxy: for services whose balancer is an instance",
    source=BALANCER,
)


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    access_key_id: str
    secret_access_key: str


class Server:
    """Everything of the control plane but the process. `sessions` is what agents talk to."""

    def __init__(
        self,
        world: World,
        store: Store,
        settings: Settings,
        models: Models,
        way: Way | None = None,
        master_key: MasterKey | None = None,
    ) -> None:
        """`way`: how other machines come in as hosts; None when they cannot. `master_key`: of the settings' vault."""
        self._world = world
        self._store = store
        self.sessions = HostSessions(world, store, settings.cloud_id, settings.vault)
        calls = ServiceCalls(world, store, settings, user_data_of)
        self._reconcilers: list[Reconciler] = [
            Scheduler(store),
            Groups(store, world.clock, calls),
            Balancers(store, calls),
            Hosts(store, world.clock),
            Keeper(store, world.clock),
        ]
        self._statuses = [LoopStatus(name=type(one).__name__) for one in self._reconcilers]
        api = AltoApi(
            self.sessions,
            self._invoke,
            lambda: [msgspec.to_builtins(one) for one in self._statuses],
            HostOperations(self.sessions, way),
            master_key,
        )
        self.gateway = Gateway(
            world,
            store,
            settings,
            models,
            {"ec2": {**EC2, **console_operations(self.sessions)}, "sts": STS},
            extra=api,
            prepare=RegionKeeper().ready,
        )

    async def _invoke(self, call: Call, action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return await self.gateway.invoke(call, action, parameters)

    async def run(self) -> None:
        """Sessions and loops, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sessions.run(), name="sessions")
            for reconciler, status in zip(self._reconcilers, self._statuses, strict=True):
                tasks.create_task(keep_reconciling(reconciler, self._store, self._world.clock, status), name=status.name)


async def first_start(world: World, store: Store, settings: Settings, *, containers: bool = False) -> Operator:
    """What a new cloud begins with: the operator's account, the pool of addresses, the image, and one for containers where
    hosts run those. Idempotent."""
    region = settings.regions[0]
    zones = settings.zones(region)
    ids, region_ids, now = draw_account(world.chance), draw_region(world.chance, zones), world.clock.now()

    def body(tx: Tx) -> Operator:
        account = next((one for one in tx.where(Account) if one.name == OPERATOR_NAME and one.operator), None)
        if account is None:
            account, _ = create_account(tx, ids, OPERATOR_NAME, now, operator=True)
        ensure_region(tx, region_ids, account.id, region, zones, settings.public_pool)
        for image in (_TINY, _BALANCER, _CONTAINER_TINY) if containers else (_TINY, _BALANCER):
            if tx.find(Image, image.id) is None:
                tx.put(replace(image, account=account.id, created_at=now))
        key = tx.where(AccessKey, account=account.id, limit=1)[0]
        return Operator(account=account.id, access_key_id=key.id, secret_access_key=key.secret)

    return await store.write(body)


class _Http(uvicorn.Server):
    """Signals are the daemon's, not the HTTP server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Config(uvicorn.Config):
    """With a TLS context of our own making."""

    tls: ssl.SSLContext | None = None

    def load(self) -> None:
        super().load()
        self.ssl = self.tls


async def serve_http(
    world: World,
    app: App,
    sock: socket.socket,
    started: Callable[[], None],
    *,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Answer HTTP on `sock` until cancelled, over TLS with `tls`; `started` is called when it does."""
    config = _Config(
        app,
        http=CertifiedHttp if tls is not None else DirectHttp,
        ws="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        h11_max_incomplete_event_size=64 * 1024,
    )
    config.tls = tls
    server = _Http(config)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[sock]), name="http")
        try:
            while not server.started:
                # uvicorn tells nobody when it is ready; binding is done, so this is a matter of one turn of the loop.
                await world.clock.sleep(0.005)
            started()
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
