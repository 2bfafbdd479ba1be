"""A process that writes 1,000 records at once and says of each that it is durable; to be killed (`test_durability.py`)."""

import asyncio
import os
import sys
import time
from pathlib import Path

from alto.store.sqlite import SqliteStore
from tests.store.kinds import Thing

WRITES = 1_000


async def write(store: SqliteStore, start: int) -> None:
    # 100 writers of ten records each: groups form, and nobody waits for all the others.
    for number in range(start, start + 10):
        thing = await store.write(lambda tx, number=number: tx.put(Thing(id=f"t-{number:04}", tags={"x": "y" * 500})))
        os.write(1, f"{thing.id}\n".encode())


async def main(path: Path) -> None:
    store = await SqliteStore.open(path, monotonic=time.monotonic, failed=lambda error: os._exit(3), kinds=(Thing,))
    await asyncio.gather(*(write(store, start) for start in range(0, WRITES, 10)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
