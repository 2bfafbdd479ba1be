"""Goal: a client of a service that this cloud has not got reads that it is not here, whatever protocol it speaks, and at once.
Services are told apart by the scope of the signature. Method: boto3's own clients, whose requests go to the gateway in this
process, and one request as Smithy's other SDKs send it (CBOR), read back by botocore.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from msgspec.structs import replace
from urllib3.response import HTTPResponse

from alto.api.wire.gateway import Gateway
from alto.api.wire.http import HttpAnswer, HttpRequest
from alto.api.wire.models import Models
from alto.kit.world import real_world
from tests.wire.cloud import KEYS, gateway, sign

CALLS: list[tuple[str, Callable[[Any], object]]] = [
    ("cloudwatch", lambda c: c.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}])),
    ("cloudwatch", lambda c: c.list_metrics()),
    ("s3", lambda c: c.list_buckets()),
    ("s3", lambda c: c.put_object(Bucket="b", Key="k", Body=b"x" * 70_000)),
    ("s3", lambda c: c.delete_objects(Bucket="b", Delete={"Objects": [{"Key": "k"}]})),
    ("s3", lambda c: c.list_objects_v2(Bucket="b")),
    ("iam", lambda c: c.list_users()),
    ("elbv2", lambda c: c.describe_load_balancers()),
    ("autoscaling", lambda c: c.describe_auto_scaling_groups()),
    ("ssm", lambda c: c.get_parameter(Name="/aws/service/ami-amazon-linux-latest")),
    ("dynamodb", lambda c: c.list_tables()),
    ("sqs", lambda c: c.list_queues()),
    ("lambda", lambda c: c.list_functions()),
    ("route53", lambda c: c.list_hosted_zones()),
    ("kms", lambda c: c.list_keys()),
]


class Raw(HTTPResponse):
    def __init__(self, body: bytes) -> None:
        super().__init__(body=None, preload_content=False)
        self._whole = body

    def stream(self, *args: Any, **more: Any) -> Any:
        yield self._whole

    def read(self, *args: Any, **more: Any) -> bytes:
        return self._whole


def client(door: Gateway, service: str) -> Any:
    (key, secret) = next(iter(KEYS.values()))
    made = boto3.client(
        service,
        endpoint_url="http://alto.test:8080",
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )

    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        path, _, query = request.url.removeprefix("http://alto.test:8080").partition("?")
        named = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
        named.setdefault("host", "alto.test:8080")
        named.pop("content-length", None)
        body = request.body.read() if hasattr(request.body, "read") else request.body or b""
        came = HttpRequest(
            method=request.method,
            path=path,
            query=query,
            headers=tuple(named.items()),
            body=body.encode() if isinstance(body, str) else body,
        )
        answer = asyncio.run(door.handle(came))
        headers = {"content-type": answer.content_type, **dict(answer.headers)}
        return AWSResponse(request.url, answer.status, headers, Raw(answer.body))

    made.meta.events.register("before-send", send)
    return made


@pytest.fixture
def door(models: Models) -> Gateway:
    return asyncio.run(gateway(models, {}, world=real_world()))


@pytest.mark.parametrize(("service", "call"), CALLS, ids=[f"{number} {name}" for number, (name, _) in enumerate(CALLS)])
def test_a_client_reads_that_its_service_is_not_here(door: Gateway, service: str, call: Callable[[Any], object]) -> None:
    with pytest.raises(ClientError) as refused:
        call(client(door, service))
    error = refused.value.response["Error"]
    assert error["Code"] == "UnsupportedOperation"
    assert error["Message"].startswith("This cloud has no service '")
    assert error["Message"].endswith("' yet; it has ec2, sts.")


def test_so_does_one_that_speaks_cbor(models: Models) -> None:
    async def ask() -> HttpAnswer:
        door = await gateway(models, {})
        headers = {"Smithy-Protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
        path = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
        return await door.handle(sign(b"\xa0", path=path, service="monitoring", headers=headers))

    answer = asyncio.run(ask())
    assert (answer.content_type, dict(answer.headers)["smithy-protocol"]) == ("application/cbor", "rpc-v2-cbor")
    came = {"body": answer.body, "headers": dict(answer.headers), "status_code": answer.status}
    said = create_parser("smithy-rpc-v2-cbor").parse(came, None)
    assert said["Error"] == {
        "Code": "UnsupportedOperation",
        "Message": "This cloud has no service 'monitoring' yet; it has ec2, sts.",
    }


def test_what_is_said_in_cbor_may_be_long(models: Models) -> None:
    """The message repeats what the client sent, which no one has bounded yet."""
    name = "x-amz-" + "a" * 70_000

    async def ask() -> HttpAnswer:
        door = await gateway(models, {})
        asked = sign(
            b"\xa0", service="monitoring", headers={"Smithy-Protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
        )
        return await door.handle(replace(asked, headers=(*asked.headers, (name, ""))))

    answer = asyncio.run(ask())
    said = create_parser("smithy-rpc-v2-cbor").parse(
        {"body": answer.body, "headers": dict(answer.headers), "status_code": answer.status}, None
    )
    assert said["Error"]["Code"] == "IncompleteSignature"
    assert name in said["Error"]["Message"]
