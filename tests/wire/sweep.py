"""Requests generated from botocore's service models: some that mean well, most that do not.

A request is a seeded random choice; ids that earlier answers showed are used again, so that the sweep reaches past the
first check.
"""

import random
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from botocore.model import OperationModel, Shape
from botocore.serialize import create_serializer

from alto.api.call import Operations
from alto.api.wire.http import HttpAnswer, HttpRequest
from alto.api.wire.requests import Honoured, honoured
from alto.kit.sigv4 import signed_headers
from tests.wire.cloud import error_of
from tests.wire.generate import service_model

VERSIONS = {"ec2": "2016-11-15", "sts": "2011-06-15"}
_IDS = re.compile(rb"\b(?:[a-z]{1,6}-[0-9a-f]{8,17})\b")
_PREFIXES = {
    "Instance": "i",
    "Image": "ami",
    "Vpc": "vpc",
    "Subnet": "subnet",
    "Group": "sg",
    "Volume": "vol",
    "Interface": "eni",
    "Rule": "sgr",
    "Key": "key",
    "Resource": "i",
    "Snapshot": "snap",
}
_NASTY = (
    "",
    " ",
    "0",
    "-1",
    "true",
    "null",
    "NaN",
    "2147483648",
    "9" * 40,
    "1e309",
    "\x00",
    "\x1b[2J",
    "\ufffe",
    "<a>&amp;]]>",
    "'; DROP TABLE instance; --",
    "../../../etc/passwd",
    "%s%n{0}",
    "é" * 300,
    "🙂",
    "*" * 50 + "?",
    "\\",
    "A" * 20_000,
    "2026-02-30T25:00:00Z",
    "10.0.0.0/33",
    "::1",
    "::/0",
    "0.0.0.0/0",
    "172.31.255.255/16",
)
_LIKELY = {
    "Type": ("t3.micro", "t2.nano", "m5.large", "t9.huge", "rsa", "ed25519"),
    "Zone": ("us-east-1a", "us-east-1z", "use1-az1"),
    "Region": ("us-east-1", "eu-west-1", "mars-1"),
    "Cidr": ("0.0.0.0/0", "10.0.0.0/8", "10.0.0.1/8", "10.0.0.0", "::/0"),
    "Protocol": ("tcp", "udp", "icmp", "-1", "6", "all", "TCP", "300"),
    "Attribute": ("userData", "instanceType", "disableApiTermination", "groupSet", "nothing"),
    "Name": ("default", "instance-state-name", "tag:Name", "tag-key", "vpc-id", "zone-name", "one", "two", "image-id"),
    "ResourceType": ("instance", "volume", "key-pair", "network-interface", "rocket"),
    "Key": ("Name", "aws:mine", "k", ""),
    "Owner": ("self", "amazon", "123456789012"),
    "UserData": ("IyEvYmluL3NoCg==", "not base64!", "QUFB" * 6000),
    "Token": ("t-1", "t-2", "t" * 65, "é"),
    "MaxResults": ("5", "1000", "4", "1001"),
    "Count": ("1", "2", "0", "-1", "2147483647"),
    "Port": ("22", "80", "-1", "65536", "0"),
}


FULL = {"InsufficientInstanceCapacity"}  # true, and worth another try
LONG_BYTES = 50_000
IDS_MAX = 30  # remembered of each kind


class Sweep:
    def __init__(self, seed: int, tables: Mapping[str, Operations], *, access_key_id: str, secret: str, host: str) -> None:
        self._chance = random.Random(seed)
        self._tables = tables
        self._access_key_id = access_key_id
        self._secret = secret
        self._host = host
        self._density = 0.0
        self._ids: dict[str, list[str]] = {}  # by prefix, the latest last
        self._operations: list[tuple[str, OperationModel]] = []
        self._done: list[tuple[str, OperationModel, Honoured]] = []
        self._serializers = {}
        for service, table in tables.items():
            model = service_model(service)
            self._serializers[service] = create_serializer(model.metadata["protocol"], include_validation=False)
            for name in model.operation_names:
                operation = model.operation_model(name)
                self._operations.append((service, operation))
                if name in table:
                    self._done.append((service, operation, honoured(table[name].request)))
        self.answers: Counter[str] = Counter()

    def request(self, timestamp: str) -> tuple[str, HttpRequest]:
        """What it is, in short, and the request."""
        chance = self._chance
        self._density = chance.choice((0.05, 0.15, 0.4))  # few parameters mean well more often
        if chance.random() < 0.35:
            service, operation = chance.choice(self._operations)
            pairs = self._pairs(service, operation, None)
        else:
            service, operation, known = chance.choice(self._done)
            pairs = self._pairs(service, operation, known)
        if chance.random() < 0.25:
            self._spoil(pairs)
        chance.shuffle(pairs)
        action = operation.name if chance.random() < 0.998 else self._word("Action")
        pairs = [("Action", action), ("Version", VERSIONS[service]), *pairs]
        form = "&".join(f"{quote(name, safe='.')}={quote(value, safe='')}" for name, value in pairs)
        method = chance.choice(("POST", "POST", "POST", "GET"))
        body = b"" if method == "GET" else form.encode()
        query = form if method == "GET" else ""
        headers = signed_headers(
            method,
            f"http://{self._host}/" + (f"?{query}" if query else ""),
            {"content-type": "application/x-www-form-urlencoded"} if body else {},
            body,
            access_key_id=self._access_key_id,
            secret=self._secret,
            region="us-east-1",
            service=service,
            timestamp=timestamp,
        )
        request = HttpRequest(method=method, path="/", query=query, headers=tuple(headers.items()), body=body)
        return f"{service} {pairs}", request

    def learn(self, ids: Iterable[str]) -> None:
        for id in sorted(ids):
            known = self._ids.setdefault(id.partition("-")[0], [])
            known.append(id)
            del known[: len(known) - IDS_MAX]

    def check(self, answer: HttpAnswer) -> str:
        """The code answered ("" when it went well); AssertionError when the answer is not one of AWS's kind."""
        self.learn(id.decode() for id in set(_IDS.findall(answer.body[:20_000])))
        if answer.status == 200:
            # Listings grow with the sweep and would soon take most of its time: a tenth of the long ones is read.
            if len(answer.body) < LONG_BYTES or self._chance.random() < 0.1:
                ElementTree.fromstring(answer.body)
            self.answers[""] += 1
            return ""
        status, code = error_of(answer)
        assert 400 <= status < 500 or (status == 503 and code in FULL), f"{status} {code}"
        self.answers[code] += 1
        return code

    def _pairs(self, service: str, operation: OperationModel, known: Honoured | None) -> list[tuple[str, str]]:
        if operation.input_shape is None:
            return []
        parameters = self._structure(operation.input_shape, known, 0)
        body = self._serializers[service].serialize_to_request(parameters, operation)["body"]
        return [(name, str(value)) for name, value in body.items() if name not in ("Action", "Version")]

    def _structure(self, shape: Shape, known: Honoured | None, depth: int) -> dict[str, Any]:
        chance = self._chance
        made = {}
        for name, member in shape.members.items():
            inner = None
            if known is not None:
                # Now and then one that is not honoured: it must be refused by name.
                if name not in known and chance.random() > (0.4 if name == "DryRun" else 0.01):
                    continue
                inner = known.get(name)
            wanted = (
                0.95 if name in shape.required_members or name == "ImageId" else self._density if known is not None else 0.1
            )
            if chance.random() < wanted:
                made[name] = self._value(name, member, inner, depth + 1)
        return made

    def _value(self, name: str, shape: Shape, known: Honoured | None, depth: int) -> Any:
        chance = self._chance
        match shape.type_name:
            case "structure":
                return self._structure(shape, known, depth) if depth < 6 else {}
            case "list":
                count = chance.choice((1, 1, 1, 2, 3, 0))
                return [self._value(name, shape.member, known, depth + 1) for _ in range(count)]
            case "string":
                if shape.enum and chance.random() < 0.7:
                    return chance.choice(shape.enum)
                return self._word(name)
            case "integer" | "long":
                for end in ("MaxResults", "Count", "Port"):
                    if name.endswith(end) and chance.random() < 0.9:
                        return int(chance.choice(_LIKELY[end]))
                return chance.choice((0, 1, -1, 5, 100, 2**31 - 1, -(2**31)))
            case "double" | "float":
                return chance.choice((0.0, 1.5, -1.0))
            case "boolean":
                return chance.random() < (0.1 if name == "DryRun" else 0.5)
            case "blob":
                return chance.randbytes(chance.choice((0, 10, 400)))
            case "timestamp":
                return "2026-01-01T00:00:00Z"
        raise AssertionError(shape.type_name)

    def _word(self, name: str) -> str:
        chance = self._chance
        if chance.random() < 0.05:
            return chance.choice(_NASTY)
        singular = name.rstrip("s")
        if singular.endswith("Id") and chance.random() < 0.95:
            for word, prefix in _PREFIXES.items():
                if word in singular:
                    known = self._ids.get(prefix)
                    if known and chance.random() < 0.85:
                        return chance.choice(known)
                    return chance.choice((f"{prefix}-{chance.getrandbits(68):017x}", f"{prefix}-1", prefix, "x"))
        for word, likely in _LIKELY.items():
            if singular.endswith(word) and chance.random() < 0.9:
                return chance.choice(likely)
        if self._ids and chance.random() < 0.2:
            return chance.choice(self._ids[chance.choice(sorted(self._ids))])
        return "".join(chance.choices(string.ascii_letters + string.digits + "-_. ", k=chance.randint(1, 20)))

    def _spoil(self, pairs: list[tuple[str, str]]) -> None:
        chance = self._chance
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(len(pairs)) if pairs else None
            match chance.randrange(6):
                case 0 if at is not None:
                    pairs[at] = (pairs[at][0], chance.choice(_NASTY))
                case 1 if at is not None:
                    del pairs[at]
                case 2 if at is not None:
                    pairs.append(pairs[at])
                case 3 if at is not None:
                    pairs[at] = (pairs[at][0] + chance.choice((".1", ".", ".Nope", ".0.1")), pairs[at][1])
                case 4 if at is not None:
                    pairs[at] = (re.sub(r"\.\d+", lambda found: chance.choice((".0", ".7", ".-1", ".01")), pairs[at][0]), "x")
                case _:
                    pairs.append((self._word("Any"), self._word("Any")))
