"""Talk to a running HAProxy over its stats socket ("Runtime API" in HAProxy's management guide, chapter 9.3).

Here: one command per connection, a conversation with one that hands over, and what we need of its tables as small records.
Not here: what to change and when.
The invariant: every wait has an end, and whatever goes wrong comes out as DriverFault.
"""

import asyncio
import csv
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from alto.model.errors import DriverFault

ANSWER_S = 5.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024  # `show stat` says about 600 bytes for each server

# Bits of srv_admin_state (include/haproxy/server-t.h, SRV_ADMF_*). The config's own "disabled" (0x04) is only a memory.
_MAINT_BITS = 0x01 | 0x02 | 0x20
_DRAIN_BITS = 0x08 | 0x10
_SAID_ON_SUCCESS = ("changed from", "no need to change", "New server registered", "Server deleted")  # all others are silent
_STOPPED = 0  # srv_op_state: does not answer its checks


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What HAProxy says of one server line."""

    backend: str
    name: str
    address: str
    port: int
    maintenance: bool
    draining: bool
    up: bool
    sessions: int = 0
    served: bool = False  # it had a session at some time
    check: str = ""  # the last check's outcome in HAProxy's words, "Layer4 timeout" for one


class Conversation:
    """Several commands to the same HAProxy, whoever takes its socket over meanwhile."""

    PROMPT = b"\n> "

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, command: str) -> str:
        """Raises: DriverFault."""
        try:
            async with asyncio.timeout(ANSWER_S):
                self._writer.write(command.encode() + b"\n")
                await self._writer.drain()
                answer = await self._reader.readuntil(self.PROMPT)
        except (OSError, EOFError, asyncio.LimitOverrunError) as cause:  # a timeout is an OSError
            raise DriverFault("the balancer does not answer") from cause
        return answer.removesuffix(self.PROMPT).decode(errors="replace").strip("\n")

    async def info(self, key: str) -> int:
        return info_of(await self.ask("show info"), key)

    async def frontends(self) -> list[str]:
        """The names of those that are not shut."""
        stat = await self.ask("show stat -1 1 -1")
        return [row["pxname"] for row in csv.DictReader(stat.removeprefix("# ").splitlines()) if row["status"] != "STOP"]


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Runtime:
    def __init__(self, reach: Callable[[], Awaitable[Streams]], *, answer_s: float = ANSWER_S) -> None:
        """`reach` connects to HAProxy's socket, and may raise OSError. Who is beyond it may be anybody's: `answer_s` and
        `bytes_max` bound what an answer may cost."""
        self._reach = reach
        self._answer_s = answer_s
        self.bytes_max = ANSWER_BYTES_MAX

    async def ask(self, command: str) -> str:
        """The answer to one command, without the empty line that ends it. Raises: DriverFault."""
        try:
            async with asyncio.timeout(self._answer_s):
                reader, writer = await self._reach()
                try:
                    writer.write(command.encode() + b"\n")
                    await writer.drain()
                    chunks: list[bytes] = []
                    size = 0
                    while chunk := await reader.read(65536):
                        chunks.append(chunk)
                        size += len(chunk)
                        if size > self.bytes_max:
                            raise DriverFault("the balancer's answer has no end")
                finally:
                    writer.close()
        except (OSError, TimeoutError) as cause:
            raise DriverFault("the balancer does not answer") from cause
        return b"".join(chunks).decode(errors="replace").strip("\n")

    async def tell(self, command: str) -> None:
        """A command that says nothing, or what it changed, when it worked. Raises: DriverFault."""
        answer = await self.ask(command)
        for line in filter(None, answer.splitlines()):
            if not any(words in line for words in _SAID_ON_SUCCESS):
                raise DriverFault("the balancer refused a change") from RuntimeError(f"{command}: {line}")

    @asynccontextmanager
    async def conversation(self) -> AsyncIterator[Conversation]:
        """With the HAProxy that answers now. Raises: DriverFault."""
        try:
            reader, writer = await self._reach()
        except OSError as cause:
            raise DriverFault("the balancer does not answer") from cause
        try:
            made = Conversation(reader, writer)
            await made.ask("prompt")
            yield made
        finally:
            writer.close()

    async def pid(self) -> int:
        return info_of(await self.ask("show info"), "Pid")

    async def server_state(self) -> str:
        """As the server state file wants it."""
        return await self.ask("show servers state") + "\n"

    async def servers(self) -> dict[tuple[str, str], Server]:
        """(backend, server) to what is true of it now. Raises: DriverFault."""
        state, stat = await self.server_state(), await self.ask("show stat -1 4 -1")
        try:
            return parse_servers(state, stat)
        except (ValueError, KeyError, csv.Error) as cause:
            raise DriverFault("the balancer does not speak as HAProxy does") from cause


def info_of(info: str, key: str) -> int:
    """A number of `show info`."""
    for line in info.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value)
    raise DriverFault(f"the balancer did not say its {key}")


def parse_servers(state: str, stat: str) -> dict[tuple[str, str], Server]:
    """Join `show servers state` (version 1) and the server rows of `show stat`, each by the names in its header line."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row in csv.DictReader(stat.removeprefix("# ").splitlines()):
        rows[row["pxname"], row["svname"]] = row
    lines = [line for line in state.splitlines() if line]
    if len(lines) < 2 or lines[0] != "1":
        raise DriverFault("the balancer speaks another version of its server state")
    names = lines[1].removeprefix("# ").split()
    servers: dict[tuple[str, str], Server] = {}
    for line in lines[2:]:
        values = dict(zip(names, line.split(" "), strict=False))
        key = values["be_name"], values["srv_name"]
        admin = int(values["srv_admin_state"])
        row = rows.get(key, {})
        servers[key] = Server(
            backend=key[0],
            name=key[1],
            address=values["srv_addr"],
            port=int(values["srv_port"]),
            maintenance=bool(admin & _MAINT_BITS),
            draining=bool(admin & _DRAIN_BITS),
            up=int(values["srv_op_state"]) != _STOPPED,
            sessions=int(row.get("scur") or 0),
            served=int(row.get("stot") or 0) > 0,
            check=row.get("check_desc") or "",
        )
    return servers
