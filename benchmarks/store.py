"""What the store costs: durable writes by one and by eight clients, lookups and listings, at growing sizes.

    python -m benchmarks.store [--sizes 1000,10000,50000] [--folder FOLDER]

CPU is this process's, per operation. FOLDER decides which disk is measured (default: the temporary folder's).
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from msgspec.structs import replace

from alto.model.instances import Instance, Nic, Phase, RootVolume
from alto.store.sqlite import SqliteStore
from alto.store.store import Tx
from benchmarks.tables import Verdict, print_table, print_verdicts

SAMPLES = 5
WRITES = 400
CLIENTS = 8
ACCOUNT = "000000000001"
REGION = "us-east-1"


def instance(number: int) -> Instance:
    # Spread as real ids are, and the same in each run.
    id = f"i-{number * 0x9E3779B97F4A7C15 % 2**64:017x}"
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Instance(
        id=id,
        account=ACCOUNT,
        region=REGION,
        reservation_id=f"r-{id[2:]}",
        launch_index=0,
        launched_at=1.0,
        created_at=1.0,
        image_id="ami-0a170000000000001",
        image_source="tiny",
        instance_type="t3.micro",
        vcpus=2,
        memory_mib=1024,
        zone=f"{REGION}a",
        host_id=f"h-{number % 8}",
        phase=Phase.RUNNING,
        nics=(
            Nic(
                interface_id=f"eni-{id[2:]}",
                attachment_id=f"eni-attach-{id[2:]}",
                subnet_id="subnet-0123456789abcdef0",
                vpc_id="vpc-0123456789abcdef0",
                mac="02:00:00:00:00:01",
                private_ip=address,
                public_ip=None,
                group_ids=("sg-0123456789abcdef0",),
            ),
        ),
        root=RootVolume(volume_id=f"vol-{id[2:]}", size_gib=8),
        hostname=f"ip-{address.replace('.', '-')}.ec2.internal",
        tags={"Name": f"web-{number}", "team": "benchmarks"},
    )


class Figure:
    """CPU and wall time per operation; the median of some samples."""

    def __init__(self) -> None:
        self.cpu_us: list[float] = []
        self.wall_us: list[float] = []

    async def sample(self, run: Callable[[], Awaitable[None]], operations: int) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        await run()
        self.cpu_us.append((time.process_time() - cpu) / operations * 1e6)
        self.wall_us.append((time.perf_counter() - wall) / operations * 1e6)

    def __str__(self) -> str:
        return f"{statistics.median(self.cpu_us):.1f} us, {1e6 / statistics.median(self.wall_us):,.0f}/s"


async def measure(store: SqliteStore, size: int) -> dict[str, Figure]:
    def look(id: str) -> Callable[[Tx], object]:
        return lambda tx: tx.put(replace(tx.get(Instance, id), launched_at=tx.get(Instance, id).launched_at + 1))

    def read(body: Callable[[], object], times: int) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            for _ in range(times):
                body()

        return run

    ids = [instance(number).id for number in range(0, size, max(1, size // WRITES))][:WRITES]

    async def one_client() -> None:
        for id in ids:
            await store.write(look(id))

    async def client(number: int) -> None:
        for id in ids[number::CLIENTS]:
            await store.write(look(id))

    async def all_clients() -> None:
        await asyncio.gather(*(client(number) for number in range(CLIENTS)))

    middle = sorted(ids)[len(ids) // 2]
    work: dict[str, tuple[Callable[[], Awaitable[None]], int]] = {
        "write, 1 client": (one_client, len(ids)),
        "write, 8 clients": (all_clients, len(ids)),
        "get by id": (read(lambda: [store.read(lambda r, id=id: r.get(Instance, id)) for id in ids], 5), 5 * len(ids)),
        "page of 50": (
            read(lambda: store.read(lambda r: r.where(Instance, account=ACCOUNT, region=REGION, after=middle, limit=50)), 50),
            50,
        ),
        "list 1,000": (
            read(lambda: store.read(lambda r: r.where(Instance, account=ACCOUNT, region=REGION, limit=1000)), 10),
            10,
        ),
    }
    figures = {name: Figure() for name in work}
    for _ in range(SAMPLES + 1):
        for name, (run, operations) in work.items():
            await figures[name].sample(run, operations)
    for figure in figures.values():
        del figure.cpu_us[0], figure.wall_us[0]  # the first warms up
    return figures


async def growth(folder: Path, sizes: list[int]) -> list[tuple[int, dict[str, Figure], float]]:
    def failed(error: BaseException) -> None:
        raise SystemExit(f"the disk failed: {error}")

    rows = []
    store = await SqliteStore.open(folder / "store.db", monotonic=time.monotonic, failed=failed)
    present = 0
    for size in sizes:
        for start in range(present, size, 500):
            batch = [instance(number) for number in range(start, min(start + 500, size))]
            await store.write(lambda tx, batch=batch: [tx.put(one) for one in batch])
        present = size
        figures = await measure(store, size)
        rows.append((size, figures, (folder / "store.db").stat().st_size / size))
    await store.close()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,50000")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="alto-benchmark-", dir=options.folder) as name:
        rows = uvloop.run(growth(Path(name), sizes))
    names = list(rows[0][1])
    table = [(f"{size:,}", *(str(figures[name]) for name in names), f"{each:.0f} B") for size, figures, each in rows]
    print_table("Store: CPU per operation, operations per second", ("instances", *names, "file, each"), table)

    def medians(name: str) -> list[float]:
        return [statistics.median(figures[name].cpu_us) for _, figures, _ in rows]

    together = statistics.median(rows[0][1]["write, 1 client"].wall_us) / statistics.median(
        rows[0][1]["write, 8 clients"].wall_us
    )
    pages = max(medians("page of 50")) / min(medians("page of 50"))
    met = print_verdicts(
        [
            Verdict("8 clients share commits: at least 3 times one client's writes", f"{together:.1f}", together >= 3),
            Verdict("a page costs the same at each size: within 25 %", f"{(pages - 1) * 100:.0f} %", pages <= 1.25),
        ]
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
