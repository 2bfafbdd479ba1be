"""A gateway in this process over a real store in memory, with two accounts, a clock that stands still, and requests signed by
botocore."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import botocore.auth
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from alto.api.call import Call, Operation, Operations, Settings
from alto.api.sts.operations import OPERATIONS as STS
from alto.api.wire.gateway import Extra, Gateway
from alto.api.wire.http import HttpAnswer, HttpRequest
from alto.api.wire.models import Models
from alto.kit.world import World, real_world
from alto.model.accounts import AccessKey, Account
from alto.store.sqlite import MemoryDisk, SqliteStore
from alto.store.store import Store, Tx

NOW = 1_800_000_000.0
ENDPOINT = "http://ec2.alto.test:8080"
KEYS = {"111111111111": ("AKIAONE", "secret+one/1"), "222222222222": ("AKIATWO", "secret+two/2")}
SETTINGS = Settings(cloud_id="test", regions=("us-east-1", "eu-west-1"))


class StillClock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def still_world() -> World:
    return replace(real_world(), clock=StillClock())


async def store_with_accounts() -> Store:
    store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))

    def body(tx: Tx) -> None:
        for number, (access_key, secret) in KEYS.items():
            tx.put(Account(id=number, name=f"a{number}", operator=number[0] == "1", created_at=NOW))
            tx.put(AccessKey(id=access_key, account=number, secret=secret, created_at=NOW))

    await store.write(body)
    return store


async def gateway(models: Models, ec2: Operations, extra: Extra | None = None, world: World | None = None) -> Gateway:
    services = {"ec2": ec2, "sts": STS}
    return Gateway(world or still_world(), await store_with_accounts(), SETTINGS, models, services, extra)


class _Presigning(SigV4QueryAuth):
    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        super()._modify_request_before_signing(request)
        request.url = request.url.replace("&X-Amz-Expires=&", "&")


def sign(
    body: bytes = b"",
    *,
    query: str = "",
    path: str = "/",
    method: str = "POST",
    service: str = "ec2",
    region: str = "us-east-1",
    account: str = "111111111111",
    at: float = NOW,
    headers: Mapping[str, str] | None = None,
    expires_s: int | str | None = None,
) -> HttpRequest:
    """As botocore signs it: in the header, or in the query when `expires_s` is given; "" as one who says nothing of it."""
    access_key, secret = KEYS[account]
    credentials = Credentials(access_key, secret)
    url = f"{ENDPOINT}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=dict(headers or {}), data=body)
    if body and "Content-Type" not in request.headers:
        request.headers["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8"
    moment = datetime.fromtimestamp(at, UTC)
    original = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *_, **__: moment.replace(tzinfo=None)  # botocore has no other way in
    try:
        if expires_s is None:
            SigV4Auth(credentials, service, region).add_auth(request)
        else:
            _Presigning(credentials, service, region, expires_s).add_auth(request)
    finally:
        botocore.auth.get_current_datetime = original
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    sent = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in prepared.headers.items()}
    sent.setdefault("host", parts.netloc)
    sent.pop("content-length", None)  # as every server has it, apart
    data = prepared.body or b""
    return HttpRequest(
        method=method,
        path=parts.path,
        query=parts.query,
        headers=tuple(sent.items()),
        body=data.encode() if isinstance(data, str) else data,
    )


def call_of(action: str, parameters: Mapping[str, str] | None = None, **options: Any) -> HttpRequest:
    return sign(urlencode({"Action": action, "Version": "2016-11-15", **(parameters or {})}).encode(), **options)


def error_of(answer: HttpAnswer) -> tuple[int, str]:
    """Status and code of a well-formed error of EC2 or of a query service."""
    root = ElementTree.fromstring(answer.body)
    if root.tag == "Response":
        assert [child.tag for child in root] == ["Errors", "RequestID"]
        code = root.findtext("Errors/Error/Code")
        request_id, message = root.findtext("RequestID"), root.findtext("Errors/Error/Message")
    else:
        space = root.tag.removesuffix("ErrorResponse")
        assert root.tag == f"{space}ErrorResponse"
        code = root.findtext(f"{space}Error/{space}Code")
        request_id, message = root.findtext(f"{space}RequestId"), root.findtext(f"{space}Error/{space}Message")
    assert code
    assert message
    assert request_id == answer.request_id
    return answer.status, code


def operation(request: type, run: Callable[[Call, Any], Awaitable[dict[str, Any]]]) -> Operation:
    return Operation(request, run)
