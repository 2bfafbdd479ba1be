"""The guard of unused public addresses refuses what it must, and nothing else.

Goal: a service of this machine on 0.0.0.0 is not reached through the pool; a balancer on an address of the pool is, always.
Method: the real rules in a namespace of their own. The awkward moment is forced: the client comes back on the same port
while the server's side of the connection before is still in TIME-WAIT.
"""

import os
import subprocess
import sys
from ipaddress import IPv4Network

import pytest

from alto.drivers.network.uplink import pool_guard

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces"),
]

NETNS = f"ui-guard-{os.getpid()}"

PROGRAM = """
import socket, sys
def listen(address, port):
    sock = socket.create_server((address, port)); return sock
def visit(server, address, port, source):
    client = socket.socket(); client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.settimeout(3); client.bind(("127.0.0.1", source))
    try:
        client.connect((address, port))
    except ConnectionRefusedError:
        return "refused"
    finally:
        if server is not None: server.settimeout(0.2)
    taken, _ = server.accept()
    taken.close()          # first, so that TIME-WAIT stays on this side
    client.recv(1); client.close()
    return "served"
balancer, sshd = listen("127.64.0.4", 80), listen("0.0.0.0", 22)
print(*[visit(balancer, "127.64.0.4", 80, 40001) for turn in range(3)])
print(visit(sshd, "127.64.0.9", 22, 40002), visit(sshd, "127.0.0.1", 22, 40003), visit(None, "127.64.0.9", 81, 40004))
"""


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(["ip", "netns", "exec", NETNS, *argv], input=stdin, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_exact_listeners_are_always_reached_and_wildcard_ones_never() -> None:
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        run("ip", "link", "set", "lo", "up")
        chain = "add table ip t\nadd chain ip t c_input { type filter hook input priority -5; policy accept; }\n"
        run("nft", "-f", "-", stdin=chain + pool_guard("t", IPv4Network("127.64.0.0/16")))
        first, second = run(sys.executable, "-c", PROGRAM).splitlines()
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=True)
    assert first.split() == ["served", "served", "served"]
    assert second.split() == ["refused", "served", "refused"]
