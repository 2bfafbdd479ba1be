"""`/alto/v1/instances/ID/console`: a live serial console, two ways, as EC2 has it by ssh.

POST console opens it (`take`: whoever has it loses it) and answers its id; POST console/CID/type types, console/CID/hear waits
for what the machine says next, DELETE console/CID lets go. Each is a signed request of the account that the instance belongs
to, and obeys that account's switch (EnableSerialConsoleAccess; off at first, as in EC2) at that moment: throwing it ends
open consoles too. The server keeps nothing of them: who has a console is the agent's to say (`agent/consoles.py`).

Invariant: what an instance says reaches only who may hear it when it is answered, not when it was asked.
"""

from typing import Any, Protocol

import msgspec
import structlog

from alto.api.accounts import region_key
from alto.api.call import Call
from alto.api.ec2.ids import owned
from alto.model.accounts import AccountRegion
from alto.model.errors import DriverFault, Refused
from alto.model.instances import Instance
from alto.model.sessions import LineCall, LineSaid
from alto.plan.instances import state_name
from alto.store.store import Reader

log = structlog.get_logger()

HOST_S = 10.0  # beyond what the host was asked to wait; a guest may take seconds to read what is typed
HEAR_S = 20.0
TYPED_BYTES_MAX = 4096
ID_DIGITS = 32  # nobody guesses it


class Lines(Protocol):
    async def line(self, host_id: str, instance_id: str, call: LineCall, *, timeout_s: float) -> LineSaid | None:
        """None when the machine has no console now. Raises: DriverFault when the host does not answer."""


class Open(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    take: bool = False


class Type(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: bytes  # base64


class Hear(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    heard: int = 0
    wait_s: float = 0.0


class ConsoleOperations:
    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def open(self, call: Call, id: str, request: Open) -> dict[str, Any]:
        console_id = "console-" + call.world.chance.hex(ID_DIGITS)
        verb = "take" if request.take else "open"
        await self._ask(call, id, LineCall(console_id=console_id, verb=verb))
        _record("serial console opened", call, id, verb=verb)
        return {"console_id": console_id, "instance_id": id}

    async def type(self, call: Call, id: str, console_id: str, request: Type) -> dict[str, Any]:
        if len(request.data) > TYPED_BYTES_MAX:
            raise Refused("InvalidParameterValue", f"At most {TYPED_BYTES_MAX} bytes are typed at once")
        await self._ask(call, id, LineCall(console_id=console_id, verb="type", typed=request.data))
        return {}

    async def hear(self, call: Call, id: str, console_id: str, request: Hear) -> dict[str, Any]:
        wait_s = min(max(request.wait_s, 0.0), HEAR_S)
        said = await self._ask(call, id, LineCall(console_id=console_id, verb="hear", heard=request.heard, wait_s=wait_s))
        _allowed(call, id)
        return {"said": said.said, "heard": said.heard, "skipped": said.skipped, "ended": said.state == "off"}

    async def close(self, call: Call, id: str, console_id: str) -> dict[str, Any]:
        await self._ask(call, id, LineCall(console_id=console_id, verb="close"))
        _record("serial console closed", call, id)
        return {}

    async def _ask(self, call: Call, id: str, line: LineCall) -> LineSaid:
        """Raises: Refused, as the service of EC2 for this does (API reference of EC2 Instance Connect)."""
        instance = _allowed(call, id)
        if instance.host_id is None or (state_name(instance) != "running" and line.verb in ("open", "take")):
            raise Refused(
                "EC2InstanceStateInvalidException",
                f"{id} is {state_name(instance)}: only a running instance has a serial console",
                status=409,
            )
        try:
            said = await self._lines.line(instance.host_id, id, line, timeout_s=line.wait_s + HOST_S)
        except DriverFault as fault:
            raise Refused("EC2InstanceUnavailableException", f"The host of {id} does not answer now.", status=503) from fault
        if said is None:
            raise _unavailable(f"Unable to start a serial console session with {id}. Please try again.")
        match said.state:
            case "busy" if line.verb == "open":
                raise Refused(
                    "SerialConsoleSessionLimitExceededException",
                    f"{id} currently has 1 active serial console session. Only 1 session is supported at a time.",
                    status=409,
                )
            case "busy":
                raise _unavailable(f"Another one has taken over the serial console of {id}")
            case "full":
                raise Refused(
                    "SerialConsoleSessionLimitExceededException",
                    f"The host of {id} has as many serial consoles open as it can. Close another one.",
                    status=409,
                )
            case "stuck":
                raise _unavailable(f"{id} does not read its serial console now, so what was typed did not arrive")
            case "off" if line.verb == "type":
                raise _unavailable(f"The serial console of {id} has ended")
        return said


def _allowed(call: Call, id: str) -> Instance:
    """The caller's own, whose account wants serial consoles. Raises: Refused, NotFound."""

    def read(reader: Reader) -> tuple[Instance, AccountRegion | None]:
        return owned(reader, call, Instance, id), reader.find(AccountRegion, region_key(call.account, call.region))

    instance, region = call.store.read(read)
    if region is None or not region.serial_console:
        raise Refused(
            "SerialConsoleAccessDisabledException",
            "Your account is not authorized to use the EC2 Serial Console. To authorize your account, "
            "run the EnableSerialConsoleAccess API.",
            status=403,
        )
    return instance


def _unavailable(why: str) -> Refused:
    return Refused("SerialConsoleSessionUnavailableException", why, status=409)


def _record(what: str, call: Call, id: str, **more: str) -> None:
    """Who was at the console of what, for whoever must know later."""
    log.info(what, account=call.account, key=call.access_key_id, instance=id, request_id=call.request_id, **more)
