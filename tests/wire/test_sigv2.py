"""EC2's older signatures: what botocore's signer of version 2 makes is believed, anything changed is refused, and nothing
that it does not cover may come along."""

import random
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from botocore.auth import SigV2Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alto.api.auth.proof import claim_of, prove
from alto.api.auth.sigv4 import Key, Principal
from alto.api.wire.http import HttpRequest
from alto.api.wire.models import Models
from alto.model.errors import Refused
from tests.wire.cloud import ENDPOINT, KEYS, NOW, sign
from tests.wire.test_gateway import ask

SECRETS = {access_key: Key(secret, account, False) for account, (access_key, secret) in KEYS.items()}


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def old(parameters: Mapping[str, str], *, method: str = "GET", at: float = NOW, **changes: str) -> HttpRequest:
    access_key, secret = KEYS["111111111111"]
    whole = {
        **parameters,
        "AWSAccessKeyId": access_key,
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256",
        "Timestamp": stamp(at),
        **changes,
    }
    whole = {name: value for name, value in whole.items() if value != "absent"}
    signer = SigV2Auth(Credentials(access_key, secret))
    _, whole["Signature"] = signer.calc_signature(AWSRequest(method, f"{ENDPOINT}/"), whole)
    form = urlencode(whole)
    headers = (("host", ENDPOINT.removeprefix("http://")),)
    if method == "GET":
        return HttpRequest(method=method, path="/", query=form, headers=headers)
    return HttpRequest(method=method, path="/", query="", headers=headers, body=form.encode())


def authenticate(request: HttpRequest) -> Principal:
    return prove(claim_of(request, old=True), request, now=NOW, key_of=SECRETS.get)


def refusal(request: HttpRequest) -> str:
    with pytest.raises(Refused) as refused:
        authenticate(request)
    return refused.value.aws_code


ACTION = {"Action": "DescribeRegions", "Version": "2016-11-15"}
# "Expires" is a part of the signature, and what the hypothesis finds in this file it tries as a name too.
names = st.text(string.ascii_letters + string.digits + "._-~ é", min_size=1, max_size=8).filter(lambda name: name != "Expires")


@given(st.dictionaries(names, st.text(max_size=8)), st.sampled_from(["GET", "POST"]))
def test_what_botocore_signs_is_believed(parameters: dict[str, str], method: str) -> None:
    principal = authenticate(old({**parameters, **ACTION}, method=method))
    assert principal.account == "111111111111"
    assert principal.scope.service == "ec2"


def test_mutated_requests_are_never_believed() -> None:
    chance = random.Random(2)
    good = old(ACTION)
    for _ in range(3000):
        at = chance.randrange(len(good.query))
        changed = good.query[:at] + chance.choice(string.ascii_letters + string.digits) + good.query[at + 1 :]
        if changed.lower() != good.query.lower():
            refusal(replace(good, query=changed))
    for request in (
        replace(good, path="/alto/v1/hosts"),
        replace(good, method="POST"),
        replace(good, headers=(("host", "other"),)),
        replace(good, query=good.query + "&DryRun=true"),
        replace(good, body=b"DryRun=true"),
        replace(old(ACTION, method="POST"), query="DryRun=true"),
    ):
        assert refusal(request) in ("AuthFailure", "IncompleteSignature")


def test_refused() -> None:
    assert refusal(old(ACTION, at=NOW - 16 * 60)) == "RequestExpired"
    assert refusal(old(ACTION, at=NOW + 16 * 60)) == "RequestExpired"
    assert refusal(old(ACTION, Timestamp="absent", Expires=stamp(NOW - 1))) == "RequestExpired"
    assert refusal(old(ACTION, Timestamp="absent", Expires=stamp(NOW + 8 * 86400))) == "RequestExpired"
    assert authenticate(old(ACTION, Timestamp="absent", Expires=stamp(NOW + 60))).account == "111111111111"
    assert refusal(old(ACTION, SignatureMethod="HmacSHA1")) == "IncompleteSignature"
    assert refusal(old(ACTION, Timestamp="yesterday")) == "IncompleteSignature"
    assert refusal(old(ACTION, Timestamp="absent")) == "IncompleteSignature"
    assert refusal(old(ACTION, Expires=stamp(NOW + 60))) == "IncompleteSignature"
    assert refusal(old(ACTION, AWSAccessKeyId="AKIANOBODY")) == "AuthFailure"
    assert refusal(old(ACTION, SecurityToken="x")) == "AuthFailure"
    assert refusal(old({**ACTION, "UserData": "A" * 300_000}, method="POST")) == "IncompleteSignature"
    twice = old(ACTION)
    assert refusal(replace(twice, query=twice.query + "&Action=TerminateInstances")) == "IncompleteSignature"


def test_a_cloud_that_takes_no_old_signatures_says_how_to_be_believed() -> None:
    with pytest.raises(Refused, match="sign with version 4, or start Alto with --old-signatures") as refused:
        claim_of(old(ACTION), old=False)
    assert refused.value.aws_code == "IncompleteSignature"
    assert claim_of(old(ACTION), old=True).scope.service == "ec2"


def test_over_the_gateway(models: Models) -> None:
    """As libcloud asks in us-east-1; and beside a signature of version 4 the old parameters are only unknown ones."""
    request = old(ACTION)
    request = replace(request, headers=(*request.headers, ("user-agent", "libcloud")))
    assert ask(models, request) == (200, "")
    assert ask(models, old(ACTION, method="POST")) == (200, "")
    assert ask(models, replace(request, path="/any")) == (401, "AuthFailure")
    assert ask(models, sign(query=request.query, method="GET")) == (400, "UnknownParameter")
