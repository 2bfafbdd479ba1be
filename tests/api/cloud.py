"""A cloud of operations for tests: a store in memory, accounts, a clock that stands still, and calls as boto3 makes them.

What goes in must be what boto3 would let through, and what comes out must have the shape that botocore's model of the
service says: names, kinds of values, nothing else. So each test also tests the shape of the answers it looks at.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import botocore.session
import msgspec
import pytest
from botocore.model import ListShape, Shape, StructureShape
from botocore.validate import ParamValidator

from alto.api.accounts import create_account, draw_account, draw_region, ensure_region
from alto.api.call import Call, Settings
from alto.api.ec2.errors import to_wire
from alto.api.ec2.operations import OPERATIONS
from alto.kit.world import World, real_world
from alto.model.accounts import AccessKey, Account
from alto.model.errors import AltoError
from alto.model.records import Record
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.sim.world import SimChance

NOW = 1_790_000_000.0
REGIONS = ("us-east-1", "eu-central-1")

MODEL = botocore.session.get_session().get_service_model("ec2")


class StandingClock:
    def __init__(self) -> None:
        self.seconds = NOW

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class Answered(Exception):
    """A refusal as it would go over the wire."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class Cloud:
    def __init__(self, seed: str = "tests") -> None:
        self.runner = asyncio.Runner()
        self.clock = StandingClock()
        self.world: World = replace(real_world(), clock=self.clock, chance=SimChance(seed))
        self.settings = Settings(cloud_id="cloud-test", regions=REGIONS)
        self.store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
        self.calls = 0

    def close(self) -> None:
        self.runner.close()

    def account(self, name: str, *, operator: bool = False) -> "Tenant":
        ids = draw_account(self.world.chance)
        regions = {region: draw_region(self.world.chance) for region in REGIONS}

        def body(tx: Any) -> tuple[Account, AccessKey]:
            made = create_account(tx, ids, name, NOW, operator=operator)
            for region, region_ids in regions.items():
                zones = self.settings.zones(region)
                ensure_region(tx, region_ids, ids.account, region, zones, self.settings.public_pool)
            return made

        account, key = self.runner.run(self.store.write(body))
        return Tenant(self, account, key, REGIONS[0])

    def put(self, *records: Record) -> None:
        """Rows that other parts of the product write: hosts, instances, volumes."""

        def body(tx: Any) -> None:
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
        """Raises: Answered."""
        shapes = MODEL.operation_model(operation)
        if shapes.input_shape is not None:
            report = ParamValidator().validate(parameters, shapes.input_shape)
            assert not report.has_errors(), report.generate_report()
        request, run = OPERATIONS[operation]
        known = {field.encode_name for field in msgspec.structs.fields(request)}
        assert parameters.keys() <= known, f"{operation} does not honour {parameters.keys() - known}"
        self.cloud.calls += 1
        call = Call(
            account=self.account.id,
            operator=self.account.operator,
            access_key_id=self.key.id,
            region=self.region,
            request_id=f"request-{self.cloud.calls}",
            operation=operation,
            digest="",
            world=self.cloud.world,
            store=self.cloud.store,
            settings=self.cloud.settings,
        )
        try:
            answer = self.cloud.runner.run(run(call, msgspec.convert(parameters, request)))
        except AltoError as error:
            raise Answered(*to_wire(error)) from error
        if shapes.output_shape is None:
            assert answer == {}, f"{operation} has no output"
        else:
            check_shape(answer, shapes.output_shape, operation)
        return dict(without_none(answer))

    def refused(self, operation: str, **parameters: Any) -> str:
        """The code of the refusal that must come."""
        with pytest.raises(Answered) as refusal:
            self(operation, **parameters)
        assert refusal.value.status < 500, refusal.value
        return refusal.value.code


def without_none(value: Any) -> Any:
    """As a client sees an answer: None is never written."""
    if isinstance(value, dict):
        return {name: without_none(member) for name, member in value.items() if member is not None}
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value


_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "float": (int, float),
    "timestamp": (int, float),
    "blob": (bytes,),
}


def check_shape(value: object, shape: Shape, path: str) -> None:
    if value is None:
        return
    if isinstance(shape, StructureShape):
        assert isinstance(value, dict), f"{path}: {value!r}"
        for name, member in value.items():
            assert name in shape.members, f"{path} has no member {name}"
            check_shape(member, shape.members[name], f"{path}.{name}")
    elif isinstance(shape, ListShape):
        assert isinstance(value, list | tuple), f"{path}: {value!r}"
        for item in value:
            check_shape(item, shape.member, f"{path}[]")
    else:
        assert isinstance(value, _KINDS[shape.type_name]), f"{path}: {value!r} is no {shape.type_name}"
        if shape.type_name in ("integer", "long", "double", "float"):
            assert not isinstance(value, bool), path
