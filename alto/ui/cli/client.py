"""Talk to a cloud's `/alto/v1`: signed JSON over HTTP, nothing else, with what Python brings (a command must start fast).

EC2's operations go the same way (`ec2("RunInstances", ...)`, parameters named as boto3 names them). The invariant: whatever
goes wrong comes out as Failure, with the API's own words, its code and the request id.
"""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from alto.kit.sigv4 import signed_headers
from alto.ui.cli.context import Cloud
from alto.ui.cli.failures import Exit, Failure, exit_for

T = TypeVar("T")

ANSWER_S = 60.0
SERVICE = "alto"
# Keys in the environment outlive the cloud that they are of.
HINTS = dict.fromkeys(("AuthFailure", "InvalidClientTokenId"), 'eval "$(alto env)"')


class ApiFailure(Failure):
    """The API said no."""

    def __init__(self, code: str, message: str, request_id: str, status: int) -> None:
        super().__init__(message, why=f"{code} (request {request_id})", hint=HINTS.get(code, ""), exit=exit_for(code, status))
        self.code = code
        self.status = status


class Unreachable(Failure):
    def __init__(self, endpoint: str, why: str) -> None:
        super().__init__(
            f"the cloud at {endpoint} does not answer", why=why, hint="alto doctor    or    alto up", exit=Exit.UNREACHABLE
        )


class Client:
    """One connection, kept between calls and made anew when it was closed."""

    def __init__(self, cloud: Cloud, *, timeout_s: float = ANSWER_S) -> None:
        parts = urlsplit(cloud.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(f"'{cloud.endpoint}' is no endpoint", why="it has to be http://HOST:PORT", exit=Exit.USAGE)
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = make(parts.hostname, parts.port, timeout=timeout_s)
        self._cloud = cloud

    def get(self, path: str, type: type[T]) -> T:
        return _decode(self.send("GET", path), type)

    def post(self, path: str, body: Mapping[str, Any], type: type[T]) -> T:
        return _decode(self.send("POST", path, body), type)

    def delete(self, path: str) -> None:
        self.send("DELETE", path)

    def ec2(self, action: str, type: type[T], **parameters: Any) -> T:
        """`None` values are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return _decode(self.send("POST", f"ec2/{quote(action, safe='')}", given), type)

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """The answer's body. Raises: ApiFailure, Unreachable."""
        url = f"{self._cloud.endpoint.rstrip('/')}/alto/v1/{path}"
        payload = json.dumps(body).encode() if body is not None else b""
        status, answer = self._exchange(method, url, payload)
        if status >= 400:
            raise _failure(status, answer)
        return answer

    def _exchange(self, method: str, url: str, payload: bytes) -> tuple[int, bytes]:
        headers = {"content-type": "application/json"} if payload else {}
        signed = signed_headers(
            method,
            url,
            headers,
            payload,
            access_key_id=self._cloud.access_key_id,
            secret=self._cloud.secret_access_key,
            region=self._cloud.region,
            service=SERVICE,
            timestamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        )
        target = urlsplit(url).path
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, target, payload or None, signed)
                response = self._connection.getresponse()
                return response.status, response.read()
            except TimeoutError:
                self._connection.close()
                raise Unreachable(self._cloud.endpoint, "it took the request and gave no answer in time") from None
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                # A kept connection may have been closed in the meantime: that says nothing about the cloud.
                if fresh or attempt == 2:
                    raise Unreachable(self._cloud.endpoint, str(error) or type(error).__name__) from None
        raise AssertionError("two attempts end above")

    def close(self) -> None:
        self._connection.close()


def _decode(answer: bytes, type: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=type)
    except msgspec.MsgspecError as error:
        raise Failure("the cloud's answer is not what this command understands", why=str(error)) from None


def _failure(status: int, answer: bytes) -> Failure:
    try:
        data = json.loads(answer)
        error = data["error"]
        return ApiFailure(error["code"], error["message"], data.get("request_id") or error.get("request_id", "-"), status)
    except (ValueError, KeyError, TypeError):
        return Failure(f"the cloud answered with HTTP {status}", why=answer[:200].decode(errors="replace"))
