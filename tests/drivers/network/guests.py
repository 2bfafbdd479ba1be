"""Guests without QEMU: a namespace whose eth0 is wired to the driver's tap, so that real TCP, UDP, DHCP and curl run.

`site` is the machine: a namespace too, which the test's thread is in, so that this machine's own network is never touched.
"""

import ctypes
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from alto.drivers.compute.driver import Tap
from alto.kit.world import CLONE_NEWNET, NETNS_DIR, inside_netns, real_world

_numbers = itertools.count(1)
SHUTTLE = Path(__file__).with_name("shuttle.py")
UDHCPC = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr replace "$ip/$mask" dev "$interface"
ip route replace default via "$router"
echo "lease $ip/$mask router $router dns $dns domain $domain name $hostname"
"""


def run(*argv: str, netns: str | None = None, timeout: float = 20, check: bool = True, stdin: bytes | None = None) -> str:
    command = ["ip", "netns", "exec", netns, *argv] if netns else list(argv)
    done = subprocess.run(command, capture_output=True, timeout=timeout, input=stdin)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}: {done.stdout.decode()} {done.stderr.decode()}")
    return done.stdout.decode()


@contextmanager
def site(name: str) -> Iterator[str]:
    """This thread, and every process it starts, is in a new namespace for the block."""
    run("ip", "netns", "add", name)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(NETNS_DIR / name, os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        assert libc.setns(there, CLONE_NEWNET) == 0
        run("ip", "link", "set", "lo", "up")
        yield name
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)
        os.close(there)
        run("ip", "netns", "delete", name)


class Guest:
    """A namespace `name` behind `tap`; its eth0 has the MAC and, unless it asks DHCP itself, the address given."""

    def __init__(self, name: str, tap: Tap, *, address: str = "", gateway: str = "10.77.0.1", ipv6: str = "") -> None:
        self.netns = name
        run("ip", "netns", "add", name)
        eth0 = real_world().net.open_tap("eth0", netns=name)
        try:
            argv = [sys.executable, "-S", str(SHUTTLE), str(tap.fd), str(eth0)]
            self.process = subprocess.Popen(argv, pass_fds=(tap.fd, eth0), start_new_session=True)
        finally:
            os.close(eth0)
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "set", "eth0", "address", tap.mac)
        run("ip", "-n", name, "link", "set", "eth0", "up")
        if address:
            run("ip", "-n", name, "addr", "add", address, "dev", "eth0")
            run("ip", "-n", name, "route", "add", "default", "via", gateway)
        if ipv6:
            run("ip", "-n", name, "addr", "add", f"{ipv6}/128", "dev", "eth0", "nodad")
            run("ip", "-n", name, "route", "add", "::/0", "via", "fe80::1", "dev", "eth0")

    def run(self, *argv: str, **options: object) -> str:
        return run(*argv, netns=self.netns, **options)  # type: ignore[arg-type]

    def dhcp(self, folder: Path) -> str:
        """What the lease said, or "" when nobody gave one."""
        script = folder / "udhcpc"
        script.write_text(UDHCPC)
        script.chmod(0o755)
        udhcpc = ("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "3", "-T", "1", "-s", str(script))
        return self.run(*udhcpc, check=False)

    def curl(self, url: str, *options: str) -> str:
        """The answer's body, a blank line, and its status."""
        return self.run("curl", "-s", "-m", "5", "-w", "\n%{http_code}", *options, url, check=False)

    def reaches(self, address: str, port: int, *, timeout: float = 1.0, **options: str) -> str:
        return reaches(address, port, netns=self.netns, timeout=timeout)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        with suppress(AssertionError):
            run("ip", "netns", "delete", self.netns)


def open_socket(netns: str | None, kind: socket.SocketKind, address: str = "") -> socket.socket:
    """For `address`, which is of IPv4 unless it says otherwise."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if netns is None:
        return socket.socket(family, kind)
    with inside_netns(netns):
        return socket.socket(family, kind)


def reaches(address: str, port: int, *, netns: str | None = None, timeout: float = 1.0, source: str | None = None) -> str:
    """ "open", "refused", "silence" or "unreachable": how a TCP connection fares."""
    with open_socket(netns, socket.SOCK_STREAM, address) as sock:
        sock.settimeout(timeout)
        if source:
            sock.bind((source, 0))
        try:
            sock.connect((address, port))
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "silence"
        except OSError:
            return "unreachable"
        return "open"


@contextmanager
def tcp_server(netns: str | None, port: int, serve: Callable[[socket.socket, str], None], address: str = "") -> Iterator[None]:
    """`serve(connection, peer address)` in a thread for each connection."""
    listener = open_socket(netns, socket.SOCK_STREAM, address)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(1024)

    def accept() -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection, peer[0]), daemon=True).start()

    def answer(connection: socket.socket, peer: str) -> None:
        with connection, suppress(OSError):
            serve(connection, peer)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@contextmanager
def udp_echo(netns: str | None, port: int) -> Iterator[None]:
    """Answers each datagram with the sender's address and the datagram."""
    sock = open_socket(netns, socket.SOCK_DGRAM)
    sock.bind(("", port))
    sock.settimeout(0.2)
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                data, peer = sock.recvfrom(65536)
                sock.sendto(peer[0].encode() + b" " + data, peer)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        sock.close()


def ask_udp(address: str, port: int, data: bytes, *, netns: str | None = None, timeout: float = 2.0) -> bytes | str:
    with open_socket(netns, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect((address, port))
            sock.send(data)
            return sock.recv(65536)
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "refused"


def pings(address: str, *, netns: str | None = None, timeout: float = 0.3) -> bool:
    """Whether an ICMP echo is answered."""
    # A number of its own, else the state of an earlier ping would let this one through.
    number = next(_numbers)
    message = struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800 - number, number, 0)
    with inside_netns(netns) if netns else nullcontext():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with sock:
        sock.settimeout(timeout)
        sock.sendto(message, (address, 0))
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                packet, peer = sock.recvfrom(1000)
            except TimeoutError:
                break
            if peer[0] == address and packet[20] == 0:
                return True
        return False


def hello(connection: socket.socket, peer: str) -> None:
    """Says who the server sees."""
    connection.sendall(peer.encode())


def say(address: str, port: int, *, netns: str | None = None, source: str | None = None) -> str:
    """What a `hello` server answers."""
    with open_socket(netns, socket.SOCK_STREAM, address) as sock:
        sock.settimeout(5)
        if source:
            sock.bind((source, 0))
        sock.connect((address, port))
        return sock.recv(1000).decode()


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.02)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
