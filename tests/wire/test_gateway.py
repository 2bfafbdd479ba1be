"""The door: every request gets one well-formed answer in its service's words, by the facts of EC2 that real clients depend on.

Operations here are small ones of our own; the requests are signed by botocore and go through `Gateway.handle`, or through
the ASGI interface where HTTP itself matters.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from xml.etree import ElementTree

import msgspec
import pytest
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.errors import to_wire
from alto.api.sts.operations import OPERATIONS as STS
from alto.api.wire.gateway import BODY_BYTES_MAX, Gateway, LocalRequest
from alto.api.wire.http import HttpAnswer, HttpRequest
from alto.api.wire.models import Models
from alto.model import errors
from alto.model.errors import AltoError, NotFound, Refused
from tests.wire.cloud import KEYS, call_of, error_of, gateway, sign

T = TypeVar("T")
SPACE = "{http://ec2.amazonaws.com/doc/2016-11-15/}"


class RunRequest(msgspec.Struct, frozen=True, rename="pascal"):
    min_count: int
    max_count: int
    image_id: str
    client_token: str | None = None
    placement: "Placement | None" = None


class Placement(msgspec.Struct, frozen=True, rename="pascal"):
    tenancy: str | None = None


class NoRequest(msgspec.Struct, frozen=True):
    pass


seen: list[Call] = []


async def run(call: Call, request: RunRequest) -> dict[str, Any]:
    seen.append(call)
    if request.image_id == "ami-bug":
        raise ZeroDivisionError
    if request.image_id == "ami-gone":
        raise NotFound("image", "ami-gone")
    if request.image_id == "ami-odd":
        raise Refused("InvalidAMIID.Malformed", 'Invalid id: "ami-odd" <&>')
    return {"ReservationId": "r-1", "OwnerId": call.account}


async def reboot(call: Call, request: NoRequest) -> dict[str, Any]:
    return {}


async def regions(call: Call, request: NoRequest) -> dict[str, Any]:
    return {"Regions": [{"RegionName": call.region, "Endpoint": call.account, "OptInStatus": "opted-in"}]}


EC2 = {
    "RunInstances": Operation(RunRequest, run),
    "DeleteVpc": Operation(NoRequest, reboot),
    "DescribeRegions": Operation(NoRequest, regions),
}
RUN = {"ImageId": "ami-1", "MinCount": "1", "MaxCount": "2"}


def with_gateway(models: Models, scenario: Callable[[Gateway], Awaitable[T]], **options: Any) -> T:
    async def main() -> T:
        async with asyncio.timeout(30):
            return await scenario(await gateway(models, EC2, **options))

    return asyncio.run(main())


def ask(models: Models, request: HttpRequest) -> tuple[int, str]:
    """Status and error code; (200, "") when it went well."""

    async def scenario(door: Gateway) -> tuple[int, str]:
        answer = await door.handle(request)
        assert answer.content_type == "text/xml;charset=UTF-8"
        return (200, "") if answer.status == 200 else error_of(answer)

    return with_gateway(models, scenario)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "undefined-1"])
def test_an_answer(models: Models, region: str) -> None:
    """The region is the scope's; an unknown one (euca2ools signs for "undefined-1") is the default."""
    answer = with_gateway(models, lambda door: door.handle(call_of("DescribeRegions", region=region)))
    root = ElementTree.fromstring(answer.body)
    assert root.tag == f"{SPACE}DescribeRegionsResponse"
    assert root.findtext(f"{SPACE}requestId") == answer.request_id
    expected = region if region != "undefined-1" else "us-east-1"
    assert root.findtext(f"{SPACE}regionInfo/{SPACE}item/{SPACE}regionName") == expected
    assert root.findtext(f"{SPACE}regionInfo/{SPACE}item/{SPACE}regionEndpoint") == "111111111111"


@pytest.mark.parametrize(
    ("version", "opt_in"),
    [("2016-11-15", "opted-in"), ("2030-01-01", "opted-in"), ("2016-09-15", None), ("2014-10-02", None), ("2008-12-01", None)],
)
def test_an_answer_is_of_the_version_that_is_asked(models: Models, version: str, opt_in: str | None) -> None:
    """libcloud of 2014 looks for its elements in the namespace of its own version. boto 2, which names 2014-10-01, takes each
    element of a list that it does not know for one more VPC; seen with the client itself."""
    answer = with_gateway(models, lambda door: door.handle(call_of("DescribeRegions", {"Version": version})))
    root = ElementTree.fromstring(answer.body)
    space = f"{{http://ec2.amazonaws.com/doc/{version}/}}"
    (item,) = root.findall(f"{space}regionInfo/{space}item")
    assert item.findtext(f"{space}regionName") == "us-east-1"
    assert item.findtext(f"{space}optInStatus") == opt_in
    run = with_gateway(models, lambda door: door.handle(call_of("RunInstances", {**RUN, "Version": version})))
    assert b"<reservationId>r-1</reservationId>" in run.body


@pytest.mark.parametrize("service", ["127", "localhost"])
def test_boto_2_signs_for_the_first_label_of_the_host_that_it_asks(models: Models, service: str) -> None:
    assert ask(models, call_of("DescribeRegions", service=service, region="0")) == (200, "")
    assert ask(models, call_of("NoSuchThing", service=service, region="0")) == (400, "InvalidAction")
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    assert ask(models, sign(body, service=service, region="0")) == (200, "")
    wrong = replace(sign(body, service=service), body=body + b"&a=b")
    assert ask(models, wrong) == (403, "SignatureDoesNotMatch")


def test_get_and_presigned_get_are_as_good_as_post(models: Models) -> None:
    query = "Action=DescribeRegions&Version=2016-11-15"
    assert ask(models, sign(query=query, method="GET")) == (200, "")
    assert ask(models, sign(query=query, method="GET", expires_s=60)) == (200, "")
    assert ask(models, sign(b"Version=2016-11-15", query="Action=DescribeRegions")) == (200, "")
    assert ask(models, sign(query=query, method="DELETE")) == (405, "UnsupportedOperation")


@pytest.mark.parametrize("version", ["2010-08-31", "2016-11-15", None])
def test_the_namespace_is_of_the_version_that_was_asked_for(models: Models, version: str | None) -> None:
    """Parsers of old clients (libcloud, JAXB) know their own version's names only."""
    body = "Action=DescribeRegions" + (f"&Version={version}" if version else "")
    answer = with_gateway(models, lambda door: door.handle(sign(body.encode())))
    space = f"{{http://ec2.amazonaws.com/doc/{version or '2016-11-15'}/}}"
    root = ElementTree.fromstring(answer.body)
    assert root.tag == f"{space}DescribeRegionsResponse"
    assert root.findtext(f"{space}regionInfo/{space}item/{space}regionName") == "us-east-1"


def test_sts(models: Models) -> None:
    request = sign(b"Action=GetCallerIdentity&Version=2011-06-15", service="sts", account="222222222222")
    answer = with_gateway(models, lambda door: door.handle(request))
    root = ElementTree.fromstring(answer.body)
    space = "{https://sts.amazonaws.com/doc/2011-06-15/}"
    result = root.find(f"{space}GetCallerIdentityResult")
    assert result is not None
    assert {child.tag: child.text for child in result} == {
        f"{space}UserId": "222222222222",
        f"{space}Account": "222222222222",
        f"{space}Arn": "arn:aws:iam::222222222222:root",
    }
    assert root.findtext(f"{space}ResponseMetadata/{space}RequestId") == answer.request_id


@pytest.mark.parametrize(
    ("query", "body", "root"),
    [
        ("", b"Action=GetCallerIdentity&Version=2011-06-15", "{https://sts.amazonaws.com/doc/2011-06-15/}ErrorResponse"),
        ("Action=GetCallerIdentity&Version=2011-06-15", b"", "{https://sts.amazonaws.com/doc/2011-06-15/}ErrorResponse"),
        ("", b"Action=DescribeRegions&Version=2016-11-15", "Response"),
        ("Action=DescribeRegions&Version=2016-11-15", b"", "Response"),
    ],
)
def test_who_signs_nothing_is_refused_in_the_words_of_the_service_that_it_asks(
    models: Models, query: str, body: bytes, root: str
) -> None:
    """There is no scope to tell the service by: the version does."""
    headers = (("host", "alto.test"), ("content-type", "application/x-www-form-urlencoded"))
    request = HttpRequest(method="POST" if body else "GET", path="/", query=query, headers=headers, body=body)
    answer = with_gateway(models, lambda door: door.handle(request))
    assert error_of(answer) == (403, "MissingAuthenticationToken")
    assert ElementTree.fromstring(answer.body).tag == root


@pytest.mark.parametrize(
    ("action", "parameters", "expected"),
    [
        ("RunInstances", RUN, (200, "")),
        ("RunInstances", {**RUN, "DryRun": "false", "Placement.Tenancy": ""}, (200, "")),
        ("RunInstances", {**RUN, "DryRun": "true"}, (412, "DryRunOperation")),
        ("RunInstances", {**RUN, "DryRun": "true", "Monitoring.Enabled": "true"}, (400, "UnsupportedOperation")),
        ("RunInstances", {**RUN, "Monitoring.Enabled": "true"}, (400, "UnsupportedOperation")),
        ("RunInstances", {**RUN, "Placement.Affinity": "host"}, (400, "UnsupportedOperation")),
        ("RunInstances", {**RUN, "Nonsense": "1"}, (400, "UnknownParameter")),
        ("RunInstances", {"MinCount": "1", "MaxCount": "1"}, (400, "MissingParameter")),
        ("RunInstances", {**RUN, "MinCount": "one"}, (400, "InvalidParameterValue")),
        ("RunInstances", {**RUN, "ImageId": "ami-gone"}, (400, "InvalidAMIID.NotFound")),
        ("RunInstances", {**RUN, "ImageId": "ami-odd"}, (400, "InvalidAMIID.Malformed")),
        ("RunInstances", {**RUN, "ImageId": "ami-bug"}, (500, "InternalError")),
        ("CreateFleet", {}, (400, "UnsupportedOperation")),
        ("NoSuchThing", {}, (400, "InvalidAction")),
        ("", {}, (400, "MissingAction")),
        ("DescribeRegions", {"Version": "2014-06-15"}, (200, "")),
        ("DescribeRegions", {"Version": "latest"}, (400, "NoSuchVersion")),
    ],
)
def test_errors_in_ec2s_words(models: Models, action: str, parameters: dict[str, str], expected: tuple[int, str]) -> None:
    assert ask(models, call_of(action, parameters)) == expected


def test_what_is_not_supported_is_named(models: Models) -> None:
    request = call_of("RunInstances", {**RUN, "Placement.Affinity": "host"})
    answer = with_gateway(models, lambda door: door.handle(request))
    assert b"RunInstances does not support the parameter Placement.Affinity here." in answer.body


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (HttpRequest(method="GET", path="/", query="", headers=(("host", "h"),)), (403, "MissingAuthenticationToken")),
        (
            HttpRequest(method="POST", path="/", query="", headers=(("host", "h"),), body=b"Version=2011-06-15"),
            (403, "MissingAuthenticationToken"),
        ),
        (sign(b"Action=ListBuckets", service="iam"), (400, "UnsupportedOperation")),
        (sign(b"Action=GetSessionToken", service="sts"), (400, "UnsupportedOperation")),
        (sign(b"Action=DescribeRegions", service="sts"), (400, "InvalidAction")),
        (sign(b"Action=DescribeRegions", service="alto"), (400, "UnsupportedOperation")),
        (sign(b"{}", headers={"Content-Type": "application/json"}), (400, "InvalidQueryParameter")),
        (sign(b"Action=DescribeRegions&Action=DescribeVpcs"), (400, "InvalidQueryParameter")),
        (sign(b"\xff\xfe"), (400, "MalformedQueryString")),
        (sign(b"Action=%ff"), (400, "MalformedQueryString")),
        (sign(b"&".join([b"a=1"] * 20_000)), (400, "MalformedQueryString")),
        (sign(b"&&&&"), (400, "MissingAction")),
        (sign(b"Action=Describe\x00Regions"), (400, "InvalidAction")),
        (sign(b"Action=DescribeRegions", path="/any/where"), (200, "")),
    ],
)
def test_odd_requests(models: Models, request_: HttpRequest, expected: tuple[int, str]) -> None:
    assert ask(models, request_) == expected


def test_the_digest_is_of_what_was_asked_and_not_of_how(models: Models) -> None:
    async def scenario(door: Gateway) -> list[str]:
        seen.clear()
        for parameters in (
            {**RUN, "ClientToken": "a"},
            {"ClientToken": "b", **dict(reversed(RUN.items())), "DryRun": "false"},
            {**RUN, "MaxCount": "3", "ClientToken": "a"},
        ):
            assert (await door.handle(call_of("RunInstances", parameters))).status == 200
        return [call.digest for call in seen]

    first, same, other = with_gateway(models, scenario)
    assert first == same
    assert first != other
    assert first


def test_without_http(models: Models) -> None:
    async def scenario(door: Gateway) -> None:
        call = door.call(account="222222222222", region="eu-west-1")
        result = await door.invoke(call, "RunInstances", {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1})
        assert result == {"ReservationId": "r-1", "OwnerId": "222222222222"}
        assert seen[-1].operation == "RunInstances"
        assert seen[-1].region == "eu-west-1"
        with pytest.raises(Refused, match="EbsOptimized"):
            await door.invoke(call, "RunInstances", {**RUN, "EbsOptimized": True})
        assert (await door.invoke(call, "GetCallerIdentity", {}, service="sts"))["Account"] == "222222222222"

    with_gateway(models, scenario)


def test_a_key_that_is_deleted_ends_at_once(models: Models) -> None:
    from alto.model.accounts import AccessKey

    async def scenario(door: Gateway) -> tuple[int, int]:
        before = await door.handle(call_of("DescribeRegions"))
        await door._store.write(lambda tx: tx.delete(AccessKey, KEYS["111111111111"][0]))
        return before.status, (await door.handle(call_of("DescribeRegions"))).status

    assert with_gateway(models, scenario) == (200, 401)


# What AWS has no word for.


async def extra(call: Call, request: LocalRequest) -> tuple[int, Any]:
    if request.path == "hosts/none":
        raise NotFound("host", "none")
    if request.path == "hosts/bug":
        raise ZeroDivisionError
    return 201, {"account": call.account, "operator": call.operator, "query": request.query, "path": request.path}


def local(models: Models, request: HttpRequest) -> tuple[int, Any]:
    answer = with_gateway(models, lambda door: door.handle(request), extra=extra)
    assert answer.content_type == "application/json"
    return answer.status, msgspec.json.decode(answer.body)


def test_local_requests(models: Models) -> None:
    path = "/alto/v1/hosts/a%2Fb"
    expected = {"account": "111111111111", "operator": True, "query": {"a": "b c"}, "path": "hosts/a%2Fb"}
    assert local(models, sign(path=path, query="a=b%20c", service="alto", method="GET")) == (201, expected)
    presigned = sign(path=path, query="a=b%20c", service="alto", method="GET", expires_s=9)
    assert local(models, presigned) == (201, expected)
    for request, status, code in [
        (sign(path="/alto/v1/hosts/none", service="alto"), 404, "not-found"),
        (sign(path="/alto/v1/hosts/bug", service="alto"), 500, "InternalError"),
        (sign(path="/alto/v1/hosts", service="ec2"), 403, "SignatureDoesNotMatch"),
        (replace(sign(path="/alto/v1/hosts", service="alto"), path="/alto/v1/host"), 403, "SignatureDoesNotMatch"),
        (HttpRequest(method="GET", path="/alto/v1/hosts", query="", headers=()), 403, "MissingAuthenticationToken"),
    ]:
        got, body = local(models, request)
        assert (got, body["error"]["code"]) == (status, code)


# HTTP.


def over_asgi(models: Models, request: HttpRequest, *chunks: bytes, **changes: Any) -> tuple[int, dict[str, str], bytes]:
    """The request as an ASGI server would hand it over; `changes` to the scope."""

    async def scenario(door: Gateway) -> tuple[int, dict[str, str], bytes]:
        messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks or (request.body,)]
        messages[-1]["more_body"] = False
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        if not any(name == "content-length" for name, _ in request.headers) and request.body:
            headers.append((b"content-length", str(len(request.body)).encode()))
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query.encode(),
            "headers": headers,
            **changes,
        }
        await door(scope, receive, send)
        if not sent:
            return 0, {}, b""
        start, body = sent
        return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"]

    return with_gateway(models, scenario)


def test_over_http(models: Models) -> None:
    request = call_of("DescribeRegions")
    status, headers, body = over_asgi(models, request, request.body[:10], request.body[10:])
    assert status == 200
    assert headers["content-length"] == str(len(body))
    assert f"<requestId>{headers['x-amzn-requestid']}</requestId>".encode() in body


def of_a_page(request: HttpRequest) -> HttpRequest:
    """As a browser sends it for a page: the header is not signed."""
    return added(request, ("origin", "https://page.example"))


def allowed(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (call_of("DescribeRegions"), 200),
        (call_of("DescribeRegions", account="222222222222", at=0), 400),
        (sign(service="sts"), 400),
    ],
)
def test_a_page_of_any_origin_is_shown_what_it_asked(models: Models, request_: HttpRequest, status: int) -> None:
    page = of_a_page(request_)
    got, headers, _ = over_asgi(models, page)
    assert (got, allowed(headers)) == (status, {"access-control-allow-origin": "*"})

    def answer(door: Gateway) -> Awaitable[HttpAnswer]:
        raw = [(name.encode(), value.encode()) for name, value in page.headers]
        return door.answer(page.method, page.path.encode(), page.query.encode(), raw, page.body)

    assert with_gateway(models, answer).headers == (("access-control-allow-origin", "*"),)
    assert not allowed(over_asgi(models, request_)[1]), "nobody else is told of it"


def test_a_browser_asks_first(models: Models) -> None:
    wanted = ("access-control-request-headers", "authorization,x-amz-date")
    first = replace(sign(), method="OPTIONS", headers=(("host", "h"),))
    asked = added(of_a_page(first), ("access-control-request-method", "POST"), wanted)
    status, headers, body = over_asgi(models, asked)
    assert (status, body) == (200, b"")
    assert allowed(headers) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET, POST",
        "access-control-max-age": "1800",
        "access-control-allow-headers": "authorization,x-amz-date",
    }
    status, headers, _ = over_asgi(models, replace(asked, path="/alto/v1/hosts"))
    assert (status, allowed(headers)) == (403, {})
    assert over_asgi(models, of_a_page(first))[0] == 403


def added(request: HttpRequest, *headers: tuple[str, str]) -> HttpRequest:
    return replace(request, headers=(*request.headers, *headers))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (added(call_of("DescribeRegions"), ("host", "other")), 400),
        (added(call_of("DescribeRegions"), ("authorization", "other")), 400),
        (added(call_of("DescribeRegions"), ("content-length", "47"), ("content-length", "48")), 400),
        (added(call_of("DescribeRegions"), ("content-length", "47"), ("transfer-encoding", "chunked")), 400),
        (added(call_of("DescribeRegions"), ("content-length", str(BODY_BYTES_MAX + 1))), 413),
        (added(call_of("DescribeRegions"), ("content-length", "-1")), 400),
        (added(call_of("DescribeRegions"), *[(f"x-{n}", "1") for n in range(101)]), 431),
        (replace(call_of("DescribeRegions"), headers=()), 400),
    ],
)
def test_requests_that_no_honest_client_sends(models: Models, request_: HttpRequest, status: int) -> None:
    got, _, body = over_asgi(models, request_)
    assert got == status
    assert ElementTree.fromstring(body).findtext("Errors/Error/Code")


def test_a_body_without_end(models: Models) -> None:
    request = replace(call_of("DescribeRegions"), body=b"")
    request = added(request, ("transfer-encoding", "chunked"))
    status, headers, _ = over_asgi(models, request, *[b"a" * 65536] * 20)
    assert (status, headers["connection"]) == (413, "close")


def test_a_client_that_leaves(models: Models) -> None:
    async def scenario(door: Gateway) -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError("nobody is there")

        headers = [(b"host", b"h"), (b"content-length", b"5")]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        await door(scope, receive, send)

    with_gateway(models, scenario)


def test_life(models: Models) -> None:
    async def scenario(door: Gateway) -> list[str]:
        messages = ["lifespan.startup", "lifespan.shutdown"]
        sent: list[str] = []

        async def receive() -> Any:
            return {"type": messages.pop(0)}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await door({"type": "lifespan"}, receive, send)
        return sent

    assert with_gateway(models, scenario) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# Absence.


def test_every_error_has_a_code_on_the_wire() -> None:
    """A new kind of error must be given its place in the table; falling through is InternalError."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AltoError)]
    assert len(kinds) > 6
    for kind in kinds:
        if kind is AltoError:
            continue
        arguments = {"NotFound": ("instance", "i-1"), "AlreadyExists": ("image", "name"), "Refused": ("A.B", "why")}
        wire = to_wire(kind(*arguments.get(kind.__name__, ("why",))))
        assert wire.code != "InternalError", kind


def test_every_operation_of_sts_is_one_of_amazons(models: Models) -> None:
    assert set(STS) <= set(models.service("sts").operations)
