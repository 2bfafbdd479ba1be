"""A small load generator of its own: `python -m alto.ui.cli.demo.load URL RATE FILE`.

Sends RATE requests a second, each over a connection of its own, whether or not earlier ones came back, and writes one JSON
line for each to FILE: when it was sent, how long it took, and the member that answered or what went wrong. A process apart,
so that nothing the story does slows it. The invariant: it ends with its parent, and after `LIFE_S` in any case.
"""

import asyncio
import json
import os
import re
import sys
import time
from typing import TextIO
from urllib.parse import urlsplit

LIFE_S = 3600.0
ANSWER_S = 10.0
IN_FLIGHT_MAX = 500
CHUNK_BYTES = 65536
MEMBER = re.compile(rb"\bi-[0-9a-f]{8,17}\b")


async def ask(address: str, port: int, path: str) -> tuple[str | None, str | None]:
    """(member, None) or (None, what went wrong)."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                answer = b""
                while chunk := await reader.read(CHUNK_BYTES):
                    answer += chunk
            finally:
                writer.close()
    except TimeoutError:
        return None, "no answer in time"
    except OSError as error:
        # By number: asyncio has words of its own for a refused connection.
        return None, os.strerror(error.errno) if error.errno else str(error)
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        return None, f"HTTP {status[0].decode(errors='replace')}" if status else "an empty answer"
    found = MEMBER.search(answer)
    return (found.group().decode(), None) if found else (None, "an answer that names no instance")


async def generate(url: str, rate: float, out: TextIO) -> None:
    parts = urlsplit(url)
    address, port = parts.hostname or "", parts.port or 80
    parent = os.getppid()
    began = time.monotonic()
    in_flight: set[asyncio.Task[None]] = set()

    async def one() -> None:
        sent, start = time.time(), time.monotonic()
        member, wrong = await ask(address, port, parts.path or "/")
        line = {"at": round(sent, 3), "ms": round((time.monotonic() - start) * 1000, 1), "member": member, "wrong": wrong}
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
