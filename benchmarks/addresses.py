"""The associate dance: what AssociateAddress costs beside moto's, and how long until packets follow on a real machine.

    python -m benchmarks.addresses [--pairs 5]               API alone, over simulated hosts, beside moto's server
    sudo python -m benchmarks.addresses --real [--rounds 20]  two real guests, an address that goes from one to the other

Of the real one two times are told: from the request to the first answer of the new guest at the address, and how long the same
guest takes to answer at its own address just before, which is no part of the dance. Who answers says its name; words of the old
guest after the first of the new one are counted, and there must be none. Needs root; runs in a network namespace of its own.
"""

import argparse
import base64
import ctypes
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from benchmarks.api import launch, wait_until_running
from benchmarks.client import Ec2, values
from benchmarks.clouds import Cloud, prepare_images, start_alto, start_moto, start_real_alto, take_down
from benchmarks.paired import Side, compare, median_cpu, median_wall
from benchmarks.tables import Verdict, ms, print_table, print_verdicts, spread

CLONE_NEWNET = 0x40000000
GIVE_UP_S = 240.0
TRY_S = 1.0
ASK_EVERY_S, ASKING_MAX = 0.02, 60
AFTER = 10  # questions after the first answer of the new guest
FLOOR = 3.0  # times cheaper than moto's, which moves no packet
DANCE_MAX_S = 0.5
USER_DATA = base64.b64encode(b"#!/bin/sh\nhostname > /www/who.txt\n").decode()


def dances(cloud: Cloud, client: Ec2) -> Side:
    """An address goes from one instance to another and back."""
    instances = launch(client, cloud, 2)
    for id in instances:
        wait_until_running(client, id)
    allocation = values(client.call("AllocateAddress", {"Domain": "vpc"}), "allocationId")[0]
    turn = [0]

    def run(calls: int) -> None:
        for _ in range(calls):
            turn[0] += 1
            wish = {"AllocationId": allocation, "InstanceId": instances[turn[0] % 2], "AllowReassociation": "true"}
            client.call("AssociateAddress", wish)

    return Side(cloud, run)


def beside_moto(folder: Path, pairs: int) -> list[Verdict]:
    alto = start_alto(folder, hosts=4)
    try:
        moto = start_moto(folder)
        try:
            found = compare(dances(alto, alto.client()), dances(moto, moto.client()), pairs=pairs)
        finally:
            moto.process.stop()
    finally:
        alto.process.stop()
    row = (
        "AssociateAddress",
        *(ms(median_cpu(found.ours)), ms(median_cpu(found.theirs)), spread(found.ratios)),
        *(ms(median_wall(found.ours)), ms(median_wall(found.theirs)), spread(found.wall_ratios)),
    )
    head = ("CPU and wall time per call", "alto CPU", "moto CPU", "ratio", "alto wall", "moto wall", "ratio")
    print_table("Beside moto's server", head, [row])
    ratio = statistics.median(found.ratios)
    return [Verdict(f"AssociateAddress: at least {FLOOR:g} times cheaper", f"{ratio:.1f}", ratio >= FLOOR)]


def who(address: str, timeout_s: float = TRY_S) -> str | None:
    """The name of the guest that answers there."""
    connection = http.client.HTTPConnection(address, 80, timeout=timeout_s)
    try:
        connection.request("GET", "/who.txt")
        return connection.getresponse().read().decode().strip() or None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def until_it_says(address: str, name: str) -> float:
    """When it first did. Asked anew again and again: a question that was under way while the address moved is lost, and would
    wait a second until its sender tries again."""
    give_up_at = time.monotonic() + GIVE_UP_S
    with ThreadPoolExecutor(ASKING_MAX) as pool:
        asked: set[Future[str | None]] = set()
        while True:
            if len(asked) < ASKING_MAX:
                asked.add(pool.submit(who, address))
            done, asked = wait(asked, timeout=ASK_EVERY_S, return_when=FIRST_COMPLETED)
            if any(one.result() == name for one in done):
                return time.monotonic()
            if time.monotonic() > give_up_at:
                raise SystemExit(f"{address} does not lead to {name} after {GIVE_UP_S:g} s")


def on_a_real_machine(cloud: Cloud, rounds: int) -> list[Verdict]:
    client = cloud.client()
    open_port = {"IpPermissions.1.IpProtocol": "tcp", "IpPermissions.1.IpRanges.1.CidrIp": "0.0.0.0/0"}
    open_port |= {"IpPermissions.1.FromPort": "80", "IpPermissions.1.ToPort": "80", "GroupName": "default"}
    client.call("AuthorizeSecurityGroupIngress", open_port)
    wish = {"ImageId": cloud.image_id, "InstanceType": "m1.tiny", "MinCount": 2, "MaxCount": 2, "UserData": USER_DATA}
    ids = values(client.call("RunInstances", wish), "instanceId")
    names = [values(client.call("DescribeInstances", {"InstanceId.1": id}), "privateDnsName")[0].split(".")[0] for id in ids]
    for id, name in zip(ids, names, strict=True):
        wait_until_running(client, id)
        until_it_says(own_address(client, id), name)
    made = client.call("AllocateAddress", {"Domain": "vpc"})
    elastic, allocation = values(made, "publicIp")[0], values(made, "allocationId")[0]
    dance, plain, old_words = [], [], 0
    for turn in range(rounds + 1):
        id, name = ids[turn % 2], names[turn % 2]
        own = own_address(client, id)
        began = time.monotonic()
        alone = until_it_says(own, name) - began
        began = time.monotonic()
        client.call("AssociateAddress", {"AllocationId": allocation, "InstanceId": id})
        took = until_it_says(elastic, name) - began
        old_words += sum(who(elastic) != name for _ in range(AFTER))
        if turn:  # the first comes from nowhere, and warms up
            dance.append(took)
            plain.append(alone)
    rows = [("dance", spread([one * 1000 for one in dance])), ("answer alone", spread([one * 1000 for one in plain]))]
    print_table("AssociateAddress to the first answer", ("", "ms"), rows)
    added = statistics.median(dance) - statistics.median(plain)
    return [
        Verdict(f"the dance adds at most {DANCE_MAX_S * 1000:g} ms", f"{added * 1000:.0f} ms", added <= DANCE_MAX_S),
        Verdict("no word of the old guest afterwards", str(old_words), old_words == 0),
    ]


def own_address(client: Ec2, id: str) -> str:
    return values(client.call("DescribeInstances", {"InstanceId.1": id}), "ipAddress")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cache", type=Path, default=Path("/var/tmp/alto-benchmark-images"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alto-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # QEMU runs as another user
        if not options.real:
            return 0 if print_verdicts(beside_moto(folder, options.pairs)) else 1
        if os.geteuid() != 0:
            parser.error("needs root: sudo python -m benchmarks.addresses --real")
        prepare_images(options.cache)
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            parser.error("this kernel refuses network namespaces")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        cloud = start_real_alto(folder, options.cache)
        try:
            verdicts = on_a_real_machine(cloud, options.rounds)
        finally:
            take_down(cloud, folder, options.cache)
    return 0 if print_verdicts(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
