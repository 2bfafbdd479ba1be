"""Signatures: what botocore signs is believed, whatever is in it; anything changed afterwards is refused.

botocore's signers are the oracle in both directions; mutations are made here, one at a time, on requests that were good.
"""

import random
import string
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from alto.api.auth import sigv4
from alto.api.auth.sigv4 import Key, Principal, read_claim, verify
from alto.api.wire.http import HttpRequest
from alto.kit.sigv4 import Scope, signed_headers, signing_key
from alto.model.errors import Refused
from tests.wire.cloud import ENDPOINT, KEYS, NOW, sign

SECRETS = {access_key: Key(secret, account, False) for account, (access_key, secret) in KEYS.items()}


def authenticate(request: HttpRequest, now: float = NOW) -> Principal:
    return verify(read_claim(request), request, now=now, key_of=SECRETS.get)


def refusal(request: HttpRequest, now: float = NOW) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        authenticate(request, now)
    return refused.value.status, refused.value.aws_code


def with_header(request: HttpRequest, name: str, value: str | None) -> HttpRequest:
    kept = tuple((key, old) for key, old in request.headers if key != name)
    return replace(request, headers=kept if value is None else (*kept, (name, value)))


def edited(request: HttpRequest, old: str, new: str) -> HttpRequest:
    header = request.header("authorization")
    assert header is not None
    assert old in header
    return with_header(request, "authorization", header.replace(old, new))


def test_nothing_long_is_kept_of_who_is_not_known() -> None:
    good = sign()
    header = good.header("authorization")
    assert header is not None
    kept = sigv4._remembered.cache_info().currsize
    for number in range(3):
        many = ";".join(sorted({"host", *(f"x{number}-{name}" for name in range(1000))}))
        claim = f"AWS4-HMAC-SHA256 Credential={'A' * 5000}{number}/20260101/us-east-1/ec2/aws4_request, SignedHeaders={many}"
        assert refusal(with_header(good, "authorization", f"{claim}, Signature={'0' * 64}"))[0] in (400, 401)
    assert sigv4._remembered.cache_info().currsize == kept
    # Who knows the id of a key, and not its secret, says for which region: as long as it likes.
    keys = sigv4._signing_key.cache_info().currsize
    for region in ("a" * 20_000, "b" * 20_000):
        assert authenticate(sign(region=region)).scope.region == region
    assert sigv4._signing_key.cache_info().currsize == keys


def test_signing_key_as_amazon_documents_it() -> None:
    # The worked example of "Signature Version 4 signing process", step 3.
    key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Scope("20150830", "us-east-1", "iam"))
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


names = st.text(string.ascii_letters + string.digits + "-_.~ +/%é*'", min_size=1, max_size=8)
queries = st.lists(st.tuples(names, names | st.just("")), max_size=5)
paths = st.lists(st.text(string.ascii_letters + "-_.~ é%+:@", max_size=6), max_size=4)


@settings(max_examples=300)
@given(
    query=queries,
    path=paths,
    body=st.binary(max_size=50),
    method=st.sampled_from(["GET", "POST", "PUT"]),
    region=st.sampled_from(["us-east-1", "undefined-1", "eu-west-1", "x"]),
    extra=st.dictionaries(st.sampled_from(["X-Amz-Target", "X-Custom", "Accept"]), st.text(" abc,;", max_size=9)),
    account=st.sampled_from(sorted(KEYS)),
    expires=st.none() | st.integers(1, 604800),
)
def test_what_botocore_signs_is_believed(
    query: list[tuple[str, str]],
    path: list[str],
    body: bytes,
    method: str,
    region: str,
    extra: dict[str, str],
    account: str,
    expires: int | None,
) -> None:
    if expires is not None:
        # botocore moves a form body into a presigned query and signs no headers but the host.
        body, extra = b"", {}
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    request = sign(
        body,
        query=text,
        path="/" + "/".join(quote(part) for part in path),
        method=method,
        region=region,
        account=account,
        headers={name: value.strip() or "x" for name, value in extra.items()},
        expires_s=expires,
    )
    principal = authenticate(request)
    assert principal.account == account
    assert principal.scope == Scope("20270115", region, "ec2")


@settings(max_examples=100)
@given(query=queries, body=st.binary(max_size=50), method=st.sampled_from(["GET", "POST"]))
def test_what_our_client_signs_is_what_botocore_signs(query: list[tuple[str, str]], body: bytes, method: str) -> None:
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    theirs = sign(body, query=text, method=method, service="alto")
    ours = signed_headers(
        method,
        f"{ENDPOINT}/" + (f"?{text}" if text else ""),
        {name: value for name, value in theirs.headers if name == "content-type"},
        body,
        access_key_id=KEYS["111111111111"][0],
        secret=KEYS["111111111111"][1],
        region="us-east-1",
        service="alto",
        timestamp="20270115T080000Z",
    )
    assert ours["authorization"] == theirs.header("authorization")


BODY = urlencode({"Action": "DescribeInstances", "Version": "2016-11-15", "InstanceId.1": "i-1"}).encode()
MUTATIONS: dict[str, Callable[[HttpRequest], HttpRequest]] = {
    "body": lambda r: replace(r, body=r.body + b"&DryRun=true"),
    "no body": lambda r: replace(r, body=b""),
    "query": lambda r: replace(r, query="InstanceId.2=i-2"),
    "method": lambda r: replace(r, method="GET"),
    "path": lambda r: replace(r, path="/other"),
    "host": lambda r: with_header(r, "host", "other.test"),
    "content type": lambda r: with_header(r, "content-type", "text/plain"),
    "another date": lambda r: with_header(r, "x-amz-date", "20270115T080001Z"),
    "another key": lambda r: edited(r, "AKIAONE", "AKIATWO"),
    "another region": lambda r: edited(r, "us-east-1", "us-east-2"),
    "another service": lambda r: edited(r, "/ec2/", "/sts/"),
    "fewer headers": lambda r: edited(r, "SignedHeaders=content-type;host;", "SignedHeaders=host;"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_what_was_changed_is_refused(mutation: str) -> None:
    good = sign(BODY)
    assert authenticate(good).account == "111111111111"
    status, code = refusal(MUTATIONS[mutation](good))
    assert (status, code) in {(401, "AuthFailure"), (403, "SignatureDoesNotMatch")}


def test_mutated_requests_are_never_believed() -> None:
    """10,000 single changes of a character in the header, the body or the query."""
    chance = random.Random(7)
    good = sign(BODY)
    presigned = sign(query=BODY.decode(), method="GET", expires_s=60)
    header = good.header("authorization")
    assert header is not None
    for _ in range(5000):
        at = chance.randrange(len(header))
        letter = chance.choice(string.printable)
        if letter == header[at]:
            continue
        changed = header[:at] + letter + header[at + 1 :]
        if changed.split() == header.split() or changed.replace(" ", "") == header.replace(" ", ""):
            continue
        refusal(with_header(good, "authorization", changed))
    for _ in range(5000):
        at = chance.randrange(len(presigned.query))
        letter = chance.choice(string.ascii_letters + string.digits)
        changed = presigned.query[:at] + letter + presigned.query[at + 1 :]
        # "%2F" and "%2f" are the same text.
        if changed.lower() == presigned.query.lower():
            continue
        refusal(replace(presigned, query=changed))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (sign(BODY, account="111111111111", service="ec2", at=NOW - 16 * 60), (400, "RequestExpired")),
        (sign(BODY, at=NOW + 16 * 60), (400, "RequestExpired")),
        (sign(BODY, service="sts", at=NOW - 16 * 60), (403, "SignatureDoesNotMatch")),
        (sign(query="Action=X", method="GET", expires_s=60, at=NOW - 61), (400, "RequestExpired")),
        (sign(query="Action=X", method="GET", expires_s="", at=NOW - 16 * 60), (400, "RequestExpired")),
        (sign(query="Action=X", method="GET", expires_s=604801), (400, "IncompleteSignature")),
        (sign(query="Action=X", method="GET", expires_s=0), (400, "IncompleteSignature")),
    ],
)
def test_time(request_: HttpRequest, expected: tuple[int, str]) -> None:
    assert refusal(request_) == expected


@pytest.mark.parametrize(
    "request_",
    [
        sign(BODY, at=NOW - 14 * 60),
        sign(BODY, at=NOW + 14 * 60),
        sign(query="Action=X", method="GET", expires_s=3600, at=NOW - 3599),
        sign(query="Action=X", method="GET", expires_s="", at=NOW - 14 * 60),  # npm's aws4 and aws4fetch
    ],
)
def test_time_that_is_borne(request_: HttpRequest) -> None:
    assert authenticate(request_).account == "111111111111"


def test_incomplete() -> None:
    good = sign(BODY)
    presigned = sign(query="Action=X", method="GET", expires_s=60)
    missing = (403, "MissingAuthenticationToken")
    incomplete = (400, "IncompleteSignature")
    assert refusal(with_header(good, "authorization", None)) == missing
    assert refusal(with_header(good, "x-amz-date", None)) == incomplete
    assert refusal(with_header(good, "x-amz-target", "Unsigned")) == incomplete
    assert refusal(with_header(presigned, "x-amz-anything", "Unsigned")) == incomplete
    assert refusal(with_header(good, "host", None)) == incomplete
    assert refusal(with_header(presigned, "authorization", good.header("authorization"))) == incomplete
    assert refusal(edited(good, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")) == incomplete
    assert refusal(edited(good, "host;", "")) == incomplete
    assert refusal(edited(good, ", Signature=", ", Signatures=")) == incomplete
    assert refusal(edited(good, "Credential=", "Credential=A, Credential=")) == incomplete
    assert refusal(edited(good, "/20270115/", "/20270114/")) == incomplete
    assert refusal(edited(good, "/aws4_request", "")) == incomplete
    assert refusal(edited(good, "/aws4_request", "/aws4_request/more")) == incomplete
    for name in ("Algorithm", "Credential", "Date", "SignedHeaders"):
        text = "&".join(piece for piece in presigned.query.split("&") if not piece.startswith(f"X-Amz-{name}="))
        assert refusal(replace(presigned, query=text)) == incomplete
    assert refusal(replace(presigned, query=presigned.query + "&X-Amz-Expires=604800")) == incomplete
    unlimited = presigned.query.replace("&X-Amz-Expires=60", "")
    assert refusal(replace(presigned, query=unlimited)) == (401, "AuthFailure")
    twice = "X-Amz-Date=20270115T080000Z"
    assert refusal(replace(presigned, query=f"{twice}&{presigned.query}")) == incomplete
    # Only over TLS, and not here.
    assert refusal(sign(BODY, headers={"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"})) == (401, "AuthFailure")


def test_keys_that_do_not_exist_and_tokens_that_belong_to_none() -> None:
    good = edited(sign(BODY), "AKIAONE", "AKIANOBODY")
    assert refusal(good) == (401, "AuthFailure")
    assert refusal(edited(sign(BODY, service="sts"), "AKIAONE", "AKIANOBODY")) == (403, "InvalidClientTokenId")
    assert refusal(sign(BODY, headers={"X-Amz-Security-Token": "left over"})) == (401, "AuthFailure")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h:8773/", "h:8773"),
        ("http://h:80/", "h"),
        ("https://H:443/", "h"),
        ("http://[::1]:8773/", "[::1]:8773"),
        ("https://u:p@h:80/", "h:80"),
    ],
)
def test_the_host_is_signed_as_clients_send_it(url: str, host: str) -> None:
    given_ = {"access_key_id": "A", "secret": "s", "region": "r", "service": "alto", "timestamp": "20270115T080000Z"}
    assert signed_headers("GET", url, {}, b"", **given_)["host"] == host
