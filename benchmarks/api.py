"""What API calls cost: Alto (signatures checked, durable commits, simulated hosts) beside moto's server, in one run.

    python -m benchmarks.api [--pairs 9] [--quick] [--json FILE]

CPU is that of the server's whole process tree, per call. RunInstances is measured twice: until the answer, with whatever
the control loops do meanwhile, and until every instance is running, which moto's are at once. The gate of each ratio is
the median of pairwise ratios of interleaved blocks.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.client import Ec2, values
from benchmarks.clouds import Cloud, start_alto, start_moto
from benchmarks.paired import Comparison, Cost, Side, compare, cost, median_cpu, median_wall
from benchmarks.processes import cpu_s, pss_mib
from benchmarks.tables import Verdict, ms, print_table, print_verdicts, spread

INSTANCE_TYPE = "t2.nano"
# 512 vCPUs each, of which a t2.nano takes one.
HOSTS, SUSTAINED_HOSTS, GROWTH_HOSTS = 16, 40, 40
IDLE_HOSTS = 1
IDLE_S = 5.0
RUNNING_TIMEOUT_S = 120.0
LAUNCHES = 200  # one after another, in a block
# Of each kind in a block, which must cost much more than one call that is disturbed.
CALLS = {"page": 600, "next": 600, "by id": 400, "run": 40}
TURNS = 9
ALONE_S = 15.0  # three looks of each host at itself


def launch(client: Ec2, cloud: Cloud, count: int = 1, zone: str | None = None) -> list[str]:
    where = {"Placement.AvailabilityZone": zone} if zone else {}
    wish = {"ImageId": cloud.image_id, "InstanceType": INSTANCE_TYPE, "MinCount": count, "MaxCount": count, **where}
    return values(client.call("RunInstances", wish), "instanceId")


def states(client: Ec2, state: str, size: int = 1000) -> int:
    """How many instances are in this state."""
    found, token = 0, ""
    while True:
        page = {"Filter.1.Name": "instance-state-name", "Filter.1.Value.1": state, "MaxResults": size}
        answer = client.call("DescribeInstances", {**page, **({"NextToken": token} if token else {})})
        found += len(values(answer, "privateIpAddress")) if not state else answer.count(b"<instanceState>")
        token = (values(answer, "nextToken") or [""])[0]
        if not token:
            return found


def wait_until_none_pending(client: Ec2) -> None:
    give_up_at = time.monotonic() + RUNNING_TIMEOUT_S
    while states(client, "pending"):
        if time.monotonic() > give_up_at:
            raise SystemExit(f"instances are still pending after {RUNNING_TIMEOUT_S:g} s")
        time.sleep(0.05)


def fill(client: Ec2, cloud: Cloud, total: int) -> None:
    """Until the account has `total` instances, all of them running."""
    zones = [f"{cloud.region}{letter}" for letter in "abc"]
    present = states(client, "running")
    while present < total:
        count = min(100, total - present)
        present += len(launch(client, cloud, count, zones[(present // 100) % 3]))
    wait_until_none_pending(client)


def terminate_all(client: Ec2) -> None:
    """Room for what comes next, on both sides."""
    running = {"Filter.1.Name": "instance-state-name", "Filter.1.Value.1": "running", "MaxResults": 500}
    while ids := values(client.call("DescribeInstances", running), "instanceId"):
        client.call("TerminateInstances", {f"InstanceId.{number}": id for number, id in enumerate(ids, 1)})
    give_up_at = time.monotonic() + RUNNING_TIMEOUT_S
    while states(client, "shutting-down"):
        if time.monotonic() > give_up_at:
            raise SystemExit(f"instances are still shutting down after {RUNNING_TIMEOUT_S:g} s")
        time.sleep(0.05)


def runs(cloud: Cloud, client: Ec2, *, wait: bool) -> Side:
    def run(calls: int) -> None:
        ids = [launch(client, cloud)[0] for _ in range(calls)]
        # Asked of few: the question must not cost what is measured. The last ones first, they come last.
        for id in reversed(ids[-20:]) if wait else ():
            wait_until_running(client, id)

    return Side(cloud, run)


def wait_until_running(client: Ec2, id: str) -> None:
    give_up_at = time.monotonic() + RUNNING_TIMEOUT_S
    while b"<name>running</name>" not in client.call("DescribeInstances", {"InstanceId.1": id}):
        if time.monotonic() > give_up_at:
            raise SystemExit(f"{id} is not running after {RUNNING_TIMEOUT_S:g} s")
        time.sleep(0.02)


def describes(cloud: Cloud, client: Ec2, parameters: dict[str, str | int]) -> Side:
    def run(calls: int) -> None:
        for _ in range(calls):
            client.call("DescribeInstances", parameters)

    return Side(cloud, run)


class Report:
    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []
        self.verdicts: list[Verdict] = []
        self.figures: dict[str, object] = {}

    def comparison(self, name: str, found: Comparison, floor: float | None) -> None:
        ratio = statistics.median(found.ratios)
        self.figures[name] = {
            "alto_cpu_ms": median_cpu(found.ours) * 1000,
            "moto_cpu_ms": median_cpu(found.theirs) * 1000,
            "ratio": ratio,
        }
        self.rows.append(
            (
                name,
                ms(median_cpu(found.ours)),
                ms(median_cpu(found.theirs)),
                spread(found.ratios),
                ms(median_wall(found.ours)),
                ms(median_wall(found.theirs)),
                spread(found.wall_ratios),
            )
        )
        if floor is not None:
            self.verdicts.append(Verdict(f"{name}: at least {floor:g} times cheaper", f"{ratio:.1f}", ratio >= floor))


def against_moto(report: Report, alto: Cloud, folder: Path, pairs: int) -> None:
    """The goal is beside a moto that has hardly any instance, where it is at its cheapest. It grows dearer with each, so
    launches are also compared where both sides have as many. Each comparison has a moto anew: it looks through all that
    ever was, and Alto, which has its history by then, does not."""
    ours = alto.client()
    for name, wait, alike, floor in (
        ("RunInstances count=1, accepted", False, None, 8.0),
        ("the same, as many instances on both sides", False, LAUNCHES, None),
        ("RunInstances count=1, all the way to running", True, LAUNCHES, None),
    ):
        with moto_in(folder) as moto:
            launches = compare(
                runs(alto, ours, wait=wait),
                runs(moto, moto.client(), wait=False),
                pairs=pairs,
                calls_max=LAUNCHES,
                calls_alike=alike,
            )
        report.comparison(name, launches, floor)
        wait_until_none_pending(ours)
        terminate_all(ours)
    with moto_in(folder) as moto:
        describe_both(report, alto, moto, pairs)


@contextmanager
def moto_in(folder: Path) -> Iterator[Cloud]:
    moto = start_moto(folder)
    try:
        yield moto
    finally:
        moto.process.stop()


def describe_both(report: Report, alto: Cloud, moto: Cloud, pairs: int) -> None:
    ours, theirs = alto.client(), moto.client()
    one = {side: launch(client, side)[0] for side, client in ((alto, ours), (moto, theirs))}
    wait_until_none_pending(ours)
    by_id = compare(
        describes(alto, ours, {"InstanceId.1": one[alto]}),
        describes(moto, theirs, {"InstanceId.1": one[moto]}),
        pairs=pairs,
    )
    report.comparison("DescribeInstances by id", by_id, 5.0)

    # Both sides answer the same thousand: of one launch tag, whatever was made before.
    for cloud, client in ((alto, ours), (moto, theirs)):
        ids: list[str] = []
        for _ in range(10):
            ids += launch(client, cloud, 100)
        if cloud is alto:
            wait_until_none_pending(ours)
        for start in range(0, 1000, 100):
            batch = {f"ResourceId.{number}": id for number, id in enumerate(ids[start : start + 100], 1)}
            client.call("CreateTags", {**batch, "Tag.1.Key": "set", "Tag.1.Value": "thousand"})
    thousand: dict[str, str | int] = {"Filter.1.Name": "tag:set", "Filter.1.Value.1": "thousand"}
    assert ours.call("DescribeInstances", thousand).count(b"<instanceState>") == 1000
    listed = compare(describes(alto, ours, thousand), describes(moto, theirs, thousand), pairs=max(3, pairs // 3), calls_max=50)
    report.comparison("DescribeInstances of 1,000", listed, 50.0)


def growth(report: Report, clouds: Mapping[int, Cloud], turns: int) -> None:
    """One cloud of each size, all warmed up alike, asked in turns: whatever else the machine does falls on all of them."""
    clients = {size: cloud.client() for size, cloud in clouds.items()}
    sides: dict[int, dict[str, Side]] = {}
    for size, cloud in clouds.items():
        client = clients[size]
        fill(client, cloud, size)
        one = launch(client, cloud)[0]
        wait_until_none_pending(client)
        token = values(client.call("DescribeInstances", {"MaxResults": 50}), "nextToken")[0]
        sides[size] = {
            "page": describes(cloud, client, {"MaxResults": 50}),
            "next": describes(cloud, client, {"MaxResults": 50, "NextToken": token}),
            "by id": describes(cloud, client, {"InstanceId.1": one}),
            "run": runs(cloud, client, wait=True),
        }
    # What hosts do by themselves grows with what is on them, and is nothing that a call costs.
    before = {size: cpu_s(cloud.process.pid) for size, cloud in clouds.items()}
    time.sleep(ALONE_S)
    alone = {size: (cpu_s(cloud.process.pid) - before[size]) / ALONE_S for size, cloud in clouds.items()}
    costs: dict[int, dict[str, list[Cost]]] = {size: {name: [] for name in CALLS} for size in clouds}
    for name, calls in CALLS.items():
        for each in sides.values():
            each[name].run(calls)
        for turn in range(turns):
            # Who begins changes: a drift then falls on all.
            for size in list(clouds)[:: -1 if turn % 2 else 1]:
                found = cost(sides[size][name], calls)
                costs[size][name].append(Cost(found.cpu_s - alone[size] * found.wall_s, found.wall_s))
    rows: list[tuple[str, ...]] = []
    for size, cloud in clouds.items():
        total = states(clients[size], "running")
        whole = cost(describes(cloud, clients[size], {}), 3)
        rows.append(
            (
                f"{total:,}",
                *(ms(median_cpu(costs[size][name])) for name in CALLS),
                f"{alone[size] * 100:.1f} %",
                ms(whole.cpu_s),
                f"{whole.cpu_s / total * 1e6:.0f} us",
                f"{pss_mib(cloud.process.pid):.0f} MiB",
            )
        )
    head = ("instances", "page of 50", "next page", "by id", "RunInstances -> running", "alone", "all", "all, each", "PSS")
    print_table("Growth (CPU per call)", head, rows)
    smallest, *others = clouds
    ratios = [
        statistics.median(
            there.cpu_s / here.cpu_s for here, there in zip(costs[smallest]["page"], costs[size]["page"], strict=True)
        )
        for size in others
    ]
    worst = max(max(ratio, 1 / ratio) for ratio in ratios)
    goal = f"page of 50 independent of the total ({smallest:,} to {others[-1]:,}): within 25 %"
    report.verdicts.append(Verdict(goal, f"{(worst - 1) * 100:.0f} %", worst <= 1.25))
    report.figures["page_of_50_growth"] = worst


def sustained(report: Report, alto: Cloud, seconds: float) -> None:
    """RunInstances count=1, one after another, for `seconds`; counted is what is running at the end of the wait."""
    client = alto.client()
    before = states(client, "running")
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        launch(client, alto)
    accepted_s = time.monotonic() - started
    wait_until_none_pending(client)
    took = time.monotonic() - started
    count = states(client, "running") - before
    rate = count / took
    print_table("Sustained", ("", "per second"), [("accepted", f"{count / accepted_s:.0f}"), ("running", f"{rate:.0f}")])
    report.verdicts.append(Verdict("accepted to running, sustained: at least 50/s", f"{rate:.0f}/s", rate >= 50))
    report.figures["running_per_s"] = rate


def latency(report: Report, alto: Cloud) -> None:
    """One after another: from the answer of RunInstances to DescribeInstances saying "running"."""
    client = alto.client()
    found: list[float] = []
    for _ in range(20):
        id = launch(client, alto)[0]
        started = time.monotonic()
        while b"<name>running</name>" not in client.call("DescribeInstances", {"InstanceId.1": id}):
            if time.monotonic() - started > RUNNING_TIMEOUT_S:
                raise SystemExit(f"{id} is not running after {RUNNING_TIMEOUT_S:g} s")
        found.append(time.monotonic() - started)
    print_table("Latency", ("", "ms"), [("accepted -> running, alone", spread([one * 1000 for one in found]))])
    report.figures["running_latency_ms"] = statistics.median(found) * 1000


def idle(report: Report, folder: Path) -> None:
    """A fresh cloud with one host and nothing in it."""
    alto = start_alto(folder, hosts=IDLE_HOSTS)
    try:
        time.sleep(IDLE_S)
        used = cost(Side(alto, lambda _: time.sleep(IDLE_S)), 1)
        pss = pss_mib(alto.process.pid)
        percent = used.cpu_s / used.wall_s * 100
        rows = [("PSS", f"{pss:.0f} MiB"), ("ready", f"{alto.ready_s:.2f} s"), ("CPU", f"{percent:.1f} %")]
        print_table("Idle, one simulated host", ("", ""), rows)
        report.verdicts.append(Verdict("idle: at most 190 MiB", f"{pss:.0f} MiB", pss <= 190))
        report.verdicts.append(Verdict("ready in at most 5 s", f"{alto.ready_s:.2f} s", alto.ready_s <= 5))
        report.figures |= {"idle_pss_mib": pss, "ready_s": alto.ready_s, "idle_cpu_percent": percent}
    finally:
        alto.process.stop()


def _sizes(text: str) -> list[int]:
    sizes = sorted(int(size) for size in text.split(","))
    if sizes[0] < 1:
        raise ValueError
    return sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--sizes", type=_sizes, default="1000,3000,10000", help="instances, for the growth table")
    parser.add_argument("--quick", action="store_true", help="3 pairs, sizes 300,1000,3000")
    parser.add_argument("--without-moto", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    pairs = 3 if options.quick else options.pairs
    sizes = [300, 1000, 3000] if options.quick else options.sizes
    if len(set(sizes)) < 2:
        parser.error("growth is seen between at least two different sizes, such as --sizes 1000,3000")

    report = Report()
    with tempfile.TemporaryDirectory(prefix="alto-benchmark-") as name:
        folder = Path(name)
        (folder / "idle").mkdir()
        idle(report, folder / "idle")
        alto = start_alto(folder, hosts=HOSTS)
        try:
            latency(report, alto)
            if not options.without_moto:
                against_moto(report, alto, folder, pairs)
                head = ("CPU and wall time per call", "alto CPU", "moto CPU", "ratio", "alto wall", "moto wall", "ratio")
                print_table("Beside moto's server", head, report.rows)
        finally:
            alto.process.stop()
        (folder / "sustained").mkdir()
        alto = start_alto(folder / "sustained", hosts=SUSTAINED_HOSTS)
        try:
            sustained(report, alto, 3.0 if options.quick else 10.0)
        finally:
            alto.process.stop()
        clouds: dict[int, Cloud] = {}
        try:
            for size in sizes:
                (folder / f"growth-{size}").mkdir()
                clouds[size] = start_alto(folder / f"growth-{size}", hosts=GROWTH_HOSTS)
            growth(report, clouds, TURNS)
        finally:
            for cloud in clouds.values():
                cloud.process.stop()
    met = print_verdicts(report.verdicts)
    if options.json:
        options.json.write_text(json.dumps(report.figures, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
