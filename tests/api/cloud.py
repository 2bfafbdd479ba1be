"""A whole API for tests, without sockets: botocore writes and signs each request, the gateway answers it, botocore reads it.

So a test sees what a client sees, and each test also tests names, shapes and signatures on its way.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from alto.api.accounts import RegionKeeper, create_account, draw_account
from alto.api.alto.hosts import HostOperations, Way
from alto.api.alto.routes import AltoApi
from alto.api.call import Call, Settings
from alto.api.ec2.operations import OPERATIONS
from alto.api.hosts.session import HostSessions
from alto.api.sts.operations import OPERATIONS as STS
from alto.api.vault import Vault
from alto.api.wire.gateway import Gateway
from alto.api.wire.http import HttpRequest
from alto.api.wire.models import Models
from alto.kit.world import World, real_world
from alto.model.accounts import AccessKey, Account
from alto.model.errors import DriverFault
from alto.model.records import Record
from alto.model.sessions import Inventory, LineCall, LineSaid, Measured
from alto.store.sqlite import MemoryDisk, SqliteStore
from alto.store.store import Tx
from tests.clocks import CountedClock
from tests.sim.world import SimChance

NOW = float(int(time.time()))  # botocore signs with the true time, and what is older than minutes is refused
REGIONS = ("us-east-1", "eu-central-1")
ENDPOINT = "http://alto.test:8080/"

MODEL: ServiceModel = botocore.session.get_session().get_service_model("ec2")
# Describe operations that answer nothing unless they are told which.
NEEDED: Mapping[str, dict[str, Any]] = {"DescribeLaunchTemplateVersions": {"Versions": ["$Latest"]}}

_SERIALIZER = create_serializer("ec2", include_validation=False)
_PARSER = create_parser("ec2")


class NoHosts:
    """No host is connected."""

    async def inventory(self, host_id: str, *, timeout_s: float) -> Inventory:
        raise DriverFault(f"Host {host_id} is not connected")

    async def measured(self, host_id: str, instance_id: str, *, timeout_s: float) -> Measured | None:
        raise DriverFault(f"Host {host_id} is not connected")

    async def line(self, host_id: str, instance_id: str, call: LineCall, *, timeout_s: float) -> LineSaid | None:
        raise DriverFault(f"Host {host_id} is not connected")


class Answered(Exception):
    """A refusal as a client reads it."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class Cloud:
    def __init__(self, models: Models, seed: str = "tests", *, patience_s: float = 0.0, any_image: bool = False) -> None:
        self.runner = asyncio.Runner()
        self.clock = CountedClock(NOW)
        self.world: World = replace(real_world(), clock=self.clock, chance=SimChance(seed, self.clock.now))
        self.settings = Settings(
            cloud_id="cloud-test",
            regions=REGIONS,
            patience_s=patience_s,
            any_image=any_image,
            vault=Vault(b"the only key of clouds in tests "),
        )
        self.store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
        services = {"ec2": OPERATIONS, "sts": STS}
        self.sessions = HostSessions(self.world, self.store, self.settings.cloud_id, self.settings.vault)
        self.local = AltoApi(
            NoHosts(),
            self._invoke,
            lambda: [{"name": "Scheduler", "last_error": "about i-1 of somebody"}],
            HostOperations(self.sessions, Way("https://door.test:8774", bytes(32))),
        )
        self.gateway = Gateway(
            self.world, self.store, self.settings, models, services, extra=self.local, prepare=RegionKeeper().ready
        )

    async def _invoke(self, call: Call, action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return await self.gateway.invoke(call, action, parameters)

    def close(self) -> None:
        self.runner.close()

    def account(self, name: str, *, operator: bool = False) -> "Tenant":
        ids = draw_account(self.world.chance)
        account, key = self.runner.run(self.store.write(lambda tx: create_account(tx, ids, name, NOW, operator=operator)))
        return Tenant(self, account, key, REGIONS[0])

    def put(self, *records: Record) -> None:
        """Rows that other parts of the product write: hosts, what an agent reports."""

        def body(tx: Tx) -> None:
            for record in records:
                tx.put(record)

        self.runner.run(self.store.write(body))


class Tenant:
    """An account in a region, with its keys in hand."""

    def __init__(self, cloud: Cloud, account: Account, key: AccessKey, region: str) -> None:
        self.cloud, self.account, self.key, self.region = cloud, account, key, region

    def in_region(self, region: str) -> "Tenant":
        return Tenant(self.cloud, self.account, self.key, region)

    def __call__(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """What a boto3 client's method would return. Raises: Answered."""
        return self.cloud.runner.run(self.ask(operation, **parameters))

    def at_once(self, *requests: tuple[str, dict[str, Any]]) -> list[dict[str, Any] | Answered]:
        """Many calls side by side, each with its answer or refusal."""

        async def one(operation: str, parameters: dict[str, Any]) -> dict[str, Any] | Answered:
            try:
                return await self.ask(operation, **parameters)
            except Answered as refusal:
                return refusal

        async def all_of_them() -> list[dict[str, Any] | Answered]:
            return await asyncio.gather(*(one(operation, parameters) for operation, parameters in requests))

        return self.cloud.runner.run(all_of_them())

    async def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        shapes = MODEL.operation_model(operation)
        if shapes.input_shape is not None:
            report = ParamValidator().validate(parameters, shapes.input_shape)
            assert not report.has_errors(), report.generate_report()
        form = urlencode(_SERIALIZER.serialize_to_request(parameters, shapes)["body"])
        request = AWSRequest("POST", ENDPOINT, headers={"Content-Type": "application/x-www-form-urlencoded"}, data=form)
        SigV4Auth(Credentials(self.key.id, self.key.secret), "ec2", self.region).add_auth(request)
        headers = [(name.lower(), value) for name, value in request.headers.items()]
        headers.append(("host", "alto.test:8080"))
        answer = await self.cloud.gateway.handle(
            HttpRequest(method="POST", path="/", query="", headers=tuple(headers), body=form.encode())
        )
        response = {"status_code": answer.status, "headers": {}, "body": answer.body}
        read: dict[str, Any] = _PARSER.parse(response, shapes.output_shape)
        if answer.status >= 300:
            assert answer.status != 500, answer.body
            raise Answered(read["Error"]["Code"], read["Error"]["Message"], answer.status)
        del read["ResponseMetadata"]
        return read

    def local(self, method: str, path: str, body: dict[str, Any] | bytes = b"") -> tuple[int, Any]:
        """Status and answer of our own API, /alto/v1/`path`."""
        return self.cloud.runner.run(self.ask_local(method, path, body))

    async def ask_local(self, method: str, path: str, body: dict[str, Any] | bytes = b"") -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = AWSRequest(method, f"{ENDPOINT}alto/v1/{path}", data=data)
        SigV4Auth(Credentials(self.key.id, self.key.secret), "alto", self.region).add_auth(request)
        headers = [(name.lower(), value) for name, value in request.headers.items()]
        headers.append(("host", "alto.test:8080"))
        asked = HttpRequest(method=method, path=f"/alto/v1/{path}", query="", headers=tuple(headers), body=data)
        answer = await self.cloud.gateway.handle(asked)
        return answer.status, json.loads(answer.body)

    def refused(self, operation: str, **parameters: Any) -> str:
        """The code of the refusal that must come."""
        with pytest.raises(Answered) as refusal:
            self(operation, **parameters)
        return refusal.value.code

    def refusal(self, operation: str, **parameters: Any) -> str:
        """The refusal that must come, as "CODE: sentence"."""
        with pytest.raises(Answered) as refusal:
            self(operation, **parameters)
        return str(refusal.value)
