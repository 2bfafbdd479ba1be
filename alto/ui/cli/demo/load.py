"""A small load generator of its own: `python -m alto.ui.cli.demo.load URL RATE FILE`.

Sends RATE requests a second, each over a connection of its own, whether or not earlier ones came back, and writes one JSON
line for each to FILE: when it was sent, how long it took, and the member that answered or what went wrong; `cut` when the
answer had begun, and its end never came. A process apart, so that nothing the story does slows it. The invariant: it ends
with its parent, and after `LIFE_S` in any case.
"""

import asyncio
import json
import os
import re
import sys
import time
from typing import NamedTuple, TextIO
from urllib.parse import urlsplit

LIFE_S = 3600.0
ANSWER_S = 10.0
IN_FLIGHT_MAX = 500
CHUNK_BYTES = 65536
MEMBER = re.compile(rb"\bi-[0-9a-f]{8,17}\b")
LENGTH = re.compile(rb"^content-length: *([0-9]+)\r?$", re.IGNORECASE | re.MULTILINE)


class Outcome(NamedTuple):
    member: str | None = None
    wrong: str | None = None
    cut: bool = False


async def ask(address: str, port: int, path: str) -> Outcome:
    answer = b""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                while chunk := await reader.read(CHUNK_BYTES):
                    answer += chunk
            finally:
                writer.close()
    except TimeoutError:
        return Outcome(wrong="no answer in time", cut=bool(answer))
    except OSError as error:
        # By number: asyncio has words of its own for a refused connection.
        return Outcome(wrong=os.strerror(error.errno) if error.errno else str(error), cut=bool(answer))
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        return Outcome(wrong=f"HTTP {status[0].decode(errors='replace')}" if status else "an empty answer")
    if (length := LENGTH.search(head)) and len(body) < int(length[1]):
        return Outcome(wrong=f"{len(body)} of {int(length[1])} bytes of an answer", cut=True)
    found = MEMBER.search(body)
    return Outcome(member=found.group().decode()) if found else Outcome(wrong="an answer that names no instance")


async def generate(url: str, rate: float, out: TextIO) -> None:
    parts = urlsplit(url)
    address, port = parts.hostname or "", parts.port or 80
    parent = os.getppid()
    began = time.monotonic()
    in_flight: set[asyncio.Task[None]] = set()

    async def one() -> None:
        sent, start = time.time(), time.monotonic()
        outcome = await ask(address, port, parts.path or "/")
        line = {"at": round(sent, 3), "ms": round((time.monotonic() - start) * 1000, 1), **outcome._asdict()}
        out.write(json.dumps(line) + "\n")
        out.flush()

    turn = 0
    async with asyncio.TaskGroup() as tasks:
        while os.getppid() == parent and time.monotonic() - began < LIFE_S:
            if len(in_flight) < IN_FLIGHT_MAX:
                task = tasks.create_task(one())
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            turn += 1
            # By the clock, not by pauses: a slow moment is caught up with, so the rate stays what it says.
            await asyncio.sleep(max(0.0, began + turn / rate - time.monotonic()))


def main() -> None:
    url, rate, path = sys.argv[1:4]
    with open(path, "a") as out:
        asyncio.run(generate(url, float(rate), out))


if __name__ == "__main__":
    main()
