"""The account's switch for live serial consoles, off at first: who is at one is at the machine itself.

A switch is of one region, as all that an account has. Not here: the consoles (`api/alto/consoles.py` obeys it).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from alto.api.accounts import region_key
from alto.api.call import Call, Operation
from alto.model.accounts import AccountRegion
from alto.store.store import Tx


class NoParameters(msgspec.Struct, frozen=True, rename="pascal"):
    pass


async def get_serial_console_access_status(call: Call, request: NoParameters) -> dict[str, Any]:
    region = call.store.read(lambda reader: reader.get(AccountRegion, region_key(call.account, call.region)))
    return {"SerialConsoleAccessEnabled": region.serial_console, "ManagedBy": "account"}


async def _set(enabled: bool, call: Call, request: NoParameters) -> dict[str, Any]:
    def body(tx: Tx) -> None:
        region = tx.get(AccountRegion, region_key(call.account, call.region))
        if region.serial_console != enabled:
            tx.put(replace(region, serial_console=enabled))

    await call.store.write(body)
    return {"SerialConsoleAccessEnabled": enabled}


OPERATIONS: Mapping[str, Operation] = {
    "GetSerialConsoleAccessStatus": Operation(NoParameters, get_serial_console_access_status),
    "EnableSerialConsoleAccess": Operation(NoParameters, partial(_set, True)),
    "DisableSerialConsoleAccess": Operation(NoParameters, partial(_set, False)),
}
