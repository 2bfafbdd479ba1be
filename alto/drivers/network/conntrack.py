"""Ends connections in the kernel's table of them, so that nothing established for one owner of an address reaches the next.

By netlink in this process: the `conntrack` command does the same, but takes a process (10 ms) for each address and side.
The kernel lists the whole table, which is searched for the addresses' bytes; a hundred thousand entries take half a second,
so this belongs off the event loop's thread.
"""

import asyncio
import errno
import functools
import os
import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import ip_address

from alto.kit.world import World

NETLINK_NETFILTER = 12
CTNETLINK = 1 << 8
NEW, GET, DELETE = CTNETLINK | 0, CTNETLINK | 1, CTNETLINK | 2
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
ERROR, DONE = 2, 3
TUPLE_ORIG, TUPLE_REPLY = 1, 2  # attributes of an entry
# Attributes of a tuple's addresses, by how long these are.
SIDES = {4: (1, 2), 16: (3, 4)}
TYPE_MASK = 0x3FFF
HEAD = struct.Struct("=IHHII")  # length, type, flags, sequence, port
FAMILIES = {4: struct.pack("=BBH", socket.AF_INET, 0, 0), 16: struct.pack("=BBH", socket.AF_INET6, 0, 0)}
TIMEOUT_S = 10.0


async def forget(world: World, netns: str | None, addresses: Collection[str]) -> int:
    """End every connection in the namespace from, to or translated to one of `addresses`; how many there were."""
    if not addresses:
        return 0
    return await asyncio.to_thread(world.net.in_netns, netns, functools.partial(_forget, addresses))


def _forget(addresses: Collection[str]) -> int:
    packed = [ip_address(address).packed for address in addresses]
    ended = 0
    for length, family in FAMILIES.items():
        ours = [address for address in packed if len(address) == length]
        wanted = [struct.pack("=HH", 4 + length, side) + address for address in ours for side in SIDES[length]]
        if wanted:
            ended += _forget_family(family, wanted)
    return ended


def _forget_family(family: bytes, wanted: list[bytes]) -> int:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        sock.settimeout(TIMEOUT_S)
        # Listed whole before the first is ended: a table that shrinks while it is listed may be listed with gaps.
        return sum(_end(sock, family, original) for original in list(_matching(sock, family, wanted)))


def _matching(sock: socket.socket, family: bytes, wanted: list[bytes]) -> Iterator[bytes]:
    """The first attribute (who speaks to whom) of each entry that has one of `wanted` in either direction."""
    sock.send(HEAD.pack(HEAD.size + len(family), GET, REQUEST | DUMP, 1, 0) + family)
    for kind, body in _messages(sock):
        if kind == NEW:
            tuples = dict(_attributes(body[len(family) :]))
            both = tuples.get(TUPLE_ORIG, b"") + tuples.get(TUPLE_REPLY, b"")
            if any(one in both for one in wanted):
                yield tuples[TUPLE_ORIG]


def _end(sock: socket.socket, family: bytes, original: bytes) -> int:
    sock.send(HEAD.pack(HEAD.size + len(family) + len(original), DELETE, REQUEST | ACK, 2, 0) + family + original)
    try:
        for _ in _messages(sock):
            pass
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return 0  # it ended by itself meanwhile
    return 1


def _messages(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Until the kernel says that it is done. Raises: OSError with what it complains of."""
    while True:
        data = sock.recv(1 << 18)
        at = 0
        while at + HEAD.size <= len(data):
            length, kind, _, _, _ = HEAD.unpack_from(data, at)
            body = data[at + HEAD.size : at + length]
            at += (length + 3) & ~3
            if kind == DONE:
                return
            if kind == ERROR:
                number = -struct.unpack_from("=i", body)[0]
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield kind, body


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and whole bytes, head and padding included."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        end = at + ((length + 3) & ~3)
        yield kind & TYPE_MASK, data[at:end]
        at = end
