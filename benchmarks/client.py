"""A client that costs little and keeps its connection, so that what is measured is the server. Not boto3: building one
request there takes longer than Alto takes to answer it."""

import http.client
import re
import time
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from alto.kit.sigv4 import signed_headers

VERSION = "2016-11-15"


class Answered(Exception):
    """The server said no; `code` is AWS's."""

    def __init__(self, status: int, body: bytes) -> None:
        found = re.search(rb"<Code>([^<]*)", body)
        self.code = found[1].decode() if found else ""
        super().__init__(f"{status} {self.code}: {body[:300]!r}")


class Ec2:
    """EC2's query protocol, signed. One connection; not for use by several threads."""

    def __init__(self, endpoint: str, access_key_id: str, secret: str, region: str) -> None:
        self._endpoint = endpoint
        self._key = (access_key_id, secret, region)
        self._connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=120)

    def call(self, action: str, parameters: Mapping[str, str | int] | None = None) -> bytes:
        """Raises: Answered."""
        body = urlencode({"Action": action, "Version": VERSION, **(parameters or {})}).encode()
        access_key_id, secret, region = self._key
        headers = signed_headers(
            "POST",
            self._endpoint + "/",
            {"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
            body,
            access_key_id=access_key_id,
            secret=secret,
            region=region,
            service="ec2",
            timestamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        )
        self._connection.request("POST", "/", body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise Answered(response.status, answer)
        return answer

    def close(self) -> None:
        self._connection.close()


def values(answer: bytes, element: str) -> list[str]:
    """The texts of all elements of this name, wherever they are; enough for ids and states."""
    return [found.decode() for found in re.findall(rb"<%s>([^<]*)</%s>" % (element.encode(), element.encode()), answer)]
