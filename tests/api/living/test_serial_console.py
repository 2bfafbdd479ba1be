"""Live serial consoles at the door. Goal: an account's switch decides, at each request, and only over its own instances; what
the service of EC2 refuses is refused in its words. Method: the wire for the switch, our own API for consoles of machines on
simulated hosts, whose lines give back what is typed."""

import asyncio
import base64
from typing import Any

import pytest

from tests.api.cloud import Tenant
from tests.api.living.things import instance_of, launched, until


class Guest:
    """A tenant's instance, and what our API says of its console."""

    def __init__(self, tenant: Tenant, id: str) -> None:
        self.tenant, self.id = tenant, id

    def __call__(self, path: str = "", body: dict[str, Any] | None = None, *, method: str = "POST") -> tuple[int, Any]:
        status, answer = self.tenant.local(method, f"instances/{self.id}/console{path}", body if body is not None else b"")
        return status, answer["error"]["code"] if status >= 400 else answer


@pytest.fixture
def guest(tenant: Tenant) -> Guest:
    return Guest(tenant, launched(tenant))


def text(data: str) -> dict[str, str]:
    return {"data": base64.b64encode(data.encode()).decode()}


def test_a_console_from_open_to_close(guest: Guest) -> None:
    assert guest() == (403, "SerialConsoleAccessDisabledException")
    guest.tenant("EnableSerialConsoleAccess")
    status, opened = guest()
    assert (status, opened["instance_id"]) == (201, guest.id)
    mine = "/" + opened["console_id"]
    assert guest() == (409, "SerialConsoleSessionLimitExceededException")
    assert guest(mine + "/type", text("hello")) == (200, {})
    status, said = guest(mine + "/hear", {"heard": 0, "wait_s": 5})
    assert base64.b64decode(said["said"]) == b"hello"
    assert (status, said["heard"], said["skipped"], said["ended"]) == (200, 5, 0, False)
    status, taken = guest("", {"take": True})
    assert status == 201
    assert guest(mine + "/hear", {}) == (409, "SerialConsoleSessionUnavailableException")
    assert guest(mine + "/type", text("x")) == (409, "SerialConsoleSessionUnavailableException")
    yours = "/" + taken["console_id"]
    assert guest(yours, method="DELETE") == (200, {})
    assert guest(yours + "/type", text("x")) == (409, "SerialConsoleSessionUnavailableException")
    assert guest()[0] == 201


def test_the_switch_ends_what_is_open(guest: Guest) -> None:
    guest.tenant("EnableSerialConsoleAccess")
    mine = "/" + guest()[1]["console_id"]

    async def both() -> tuple[int, bytes]:
        """Asked while it was allowed; answered after it was not."""
        asked = asyncio.ensure_future(
            guest.tenant.ask_local("POST", f"instances/{guest.id}/console{mine}/hear", {"wait_s": 20})
        )
        await asyncio.sleep(0.1)
        await guest.tenant.ask("DisableSerialConsoleAccess")
        await guest.tenant.ask("RebootInstances", InstanceIds=[guest.id])  # which it says on its console
        status, answer = await asked
        return status, answer["error"]["code"]

    assert guest.tenant.cloud.runner.run(both()) == (403, "SerialConsoleAccessDisabledException")
    assert guest(mine + "/type", text("x")) == (403, "SerialConsoleAccessDisabledException")


def test_it_is_the_owners_and_of_a_running_machine(guest: Guest, stranger: Tenant) -> None:
    for tenant in (stranger, guest.tenant):
        tenant("EnableSerialConsoleAccess")
    mine = "/" + guest()[1]["console_id"]
    theirs = Guest(stranger, guest.id)
    for answer in (theirs(), theirs("", {"take": True}), theirs(mine + "/hear", {}), theirs(mine, method="DELETE")):
        assert answer == (404, "not-found")
    guest.tenant("StopInstances", InstanceIds=[guest.id])
    until(guest.tenant, lambda: instance_of(guest.tenant, guest.id)["State"]["Name"] == "stopped")
    assert guest() == (409, "EC2InstanceStateInvalidException")
    assert guest(mine + "/hear", {})[1]["ended"] is True


@pytest.mark.parametrize(
    ("path", "body"),
    [("", {"takes": True}), ("/c/type", {"data": "%"}), ("/c/type", text("x" * 4097)), ("/c/hear", {"heard": "much"})],
)
def test_nonsense_is_refused(guest: Guest, path: str, body: dict[str, Any]) -> None:
    guest.tenant("EnableSerialConsoleAccess")
    assert guest(path, body) == (400, "InvalidParameterValue")


def test_there_are_no_other_ways(guest: Guest) -> None:
    assert guest("/c/listen", {}) == (404, "InvalidAction")
    assert guest("", method="GET") == (404, "InvalidAction")


def test_the_switch_is_off_at_first_and_of_one_region(tenant: Tenant, stranger: Tenant) -> None:
    assert tenant("GetSerialConsoleAccessStatus") == {"SerialConsoleAccessEnabled": False, "ManagedBy": "account"}
    assert tenant("EnableSerialConsoleAccess") == {"SerialConsoleAccessEnabled": True}
    assert tenant("EnableSerialConsoleAccess") == {"SerialConsoleAccessEnabled": True}
    assert tenant("GetSerialConsoleAccessStatus")["SerialConsoleAccessEnabled"] is True
    for elsewhere in (tenant.in_region("eu-central-1"), stranger):
        assert elsewhere("GetSerialConsoleAccessStatus")["SerialConsoleAccessEnabled"] is False
    assert tenant("DisableSerialConsoleAccess") == {"SerialConsoleAccessEnabled": False}
    assert tenant("GetSerialConsoleAccessStatus")["SerialConsoleAccessEnabled"] is False


@pytest.mark.parametrize("action", ["GetSerialConsoleAccessStatus", "EnableSerialConsoleAccess", "DisableSerialConsoleAccess"])
def test_dry_runs_change_nothing(tenant: Tenant, action: str) -> None:
    assert tenant.refused(action, DryRun=True) == "DryRunOperation"
    assert tenant("GetSerialConsoleAccessStatus")["SerialConsoleAccessEnabled"] is False
