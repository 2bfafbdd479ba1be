"""Guests without a kernel: frames are written to and read from the driver's own taps, so that thousands of flows take seconds.

What is written passes the VPC's namespace like any guest's packet; what comes out of another tap, its guest would have got.
"""

import os
import select
import socket
import struct
import time
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from alto.drivers.network.vpc import TAP_MAC

VNET_HEADER = bytes(10)
UNREACHABLE, ECHO, TIMESTAMP, ECHO_V6 = 3, 8, 13, 128
ANSWERS = {ECHO: 0, TIMESTAMP: 14, ECHO_V6: 129}  # ICMP: request -> answer
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
ETH_P_ALL = 3
V4, V6 = b"\x08\x00", b"\x86\xdd"
SYN, SYN_ACK = 0x02, 0x12


class Packet(NamedTuple):
    """`source_port` is an ICMP message's identifier, `port` its type; other protocols have neither."""

    source: str
    destination: str
    protocol: int
    source_port: int = 0
    port: int = 0
    answer: bool = False

    def answered(self) -> "Packet":
        """What the receiver says back."""
        if self.protocol in (ICMP, ICMPV6):
            return Packet(self.destination, self.source, self.protocol, self.source_port, ANSWERS[self.port], True)
        return Packet(self.destination, self.source, self.protocol, self.port, self.source_port, self.protocol == TCP)


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(packet: Packet) -> bytes:
    source, destination = ip_address(packet.source).packed, ip_address(packet.destination).packed
    if packet.protocol == TCP:
        flags = SYN_ACK if packet.answer else SYN
        body = struct.pack("!HHIIBBHHH", packet.source_port, packet.port, 1, int(packet.answer) * 2, 5 << 4, flags, 1024, 0, 0)
        body = body[:16] + struct.pack("!H", _sum(source, destination, TCP, body)) + body[18:]
    elif packet.protocol == UDP:
        body = struct.pack("!HHHH", packet.source_port, packet.port, 12, 0) + b"alto"
        body = body[:6] + struct.pack("!H", _sum(source, destination, UDP, body)) + body[8:]
    elif packet.protocol == ICMP:
        body = struct.pack("!BBHHH", packet.port, 0, 0, packet.source_port, 1) + bytes(12)
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    elif packet.protocol == ICMPV6:
        body = struct.pack("!BBHHH", packet.port, 0, 0, packet.source_port, 1) + bytes(12)
        body = body[:2] + struct.pack("!H", _sum(source, destination, ICMPV6, body)) + body[4:]
    else:
        body = b"of another kind"
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, len(body), packet.protocol, 64) + source + destination + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, packet.protocol, 0) + source + destination
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def _sum(source: bytes, destination: bytes, protocol: int, body: bytes) -> int:
    # Of IPv6 the pseudo header is longer, and adds up to the same.
    return checksum(source + destination + struct.pack("!BBH", 0, protocol, len(body)) + body)


def unpacked(frame: bytes) -> Packet | None:
    """None for what is no packet of ours."""
    ip = frame[14:]
    if len(frame) >= 54 and frame[12:14] == V6:
        body, protocol = ip[40:], ip[6]
        source, destination = str(IPv6Address(ip[8:24])), str(IPv6Address(ip[24:40]))
        if destination.startswith("ff") or (protocol == ICMPV6 and body[0] not in (ECHO_V6, ANSWERS[ECHO_V6])):
            return None  # a word of the router's, or about it
    elif len(frame) >= 34 and frame[12:14] == V4:
        body, protocol = ip[(ip[0] & 15) * 4 :], ip[9]
        source, destination = str(ip_address(ip[12:16])), str(ip_address(ip[16:20]))
    else:
        return None
    if protocol in (TCP, UDP):
        low, high = struct.unpack("!HH", body[:4])
        return Packet(source, destination, protocol, low, high, protocol == TCP and body[13] & SYN_ACK == SYN_ACK)
    if protocol in (ICMP, ICMPV6):
        return Packet(source, destination, protocol, struct.unpack("!H", body[4:6])[0], body[0], body[0] in ANSWERS.values())
    return Packet(source, destination, protocol)


class Wire:
    """A guest's end of a tap. Takes the file descriptor over."""

    def __init__(self, fd: int, mac: str) -> None:
        self.mac = mac
        self._fd = fd
        os.set_blocking(fd, False)

    def send(self, packet: Packet, *, mac: str | None = None) -> None:
        kind = V6 if ":" in packet.source else V4
        self.send_frame(mac_bytes(TAP_MAC) + mac_bytes(mac or self.mac) + kind + packed(packet))

    def send_frame(self, frame: bytes) -> None:
        os.write(self._fd, VNET_HEADER + frame)

    def frames(self) -> list[bytes]:
        """What has come so far."""
        found = []
        while True:
            try:
                found.append(os.read(self._fd, 65600)[len(VNET_HEADER) :])
            except BlockingIOError:
                return found

    def packets(self) -> list[Packet]:
        return [packet for packet in map(unpacked, self.frames()) if packet is not None]

    def settle(self, own: str, gateway: str) -> list[Packet]:
        """All that came until the VPC's router answered a ping sent now: what was sent before has met its fate by then."""
        marker = Packet(own, gateway, ICMP, 0xFFFF, ECHO)
        self.send(marker)
        found: list[Packet] = []
        end = time.monotonic() + 2
        while time.monotonic() < end:
            found += self.packets()
            if marker.answered() in found:
                return [one for one in found if one.source_port != 0xFFFF]
            select.select([self._fd], [], [], 0.1)
        raise AssertionError(f"the router {gateway} does not answer {own}")

    def close(self) -> None:
        os.close(self._fd)


class Outside:
    """This machine's end of a VPC's uplink: what comes out there would go into the world, and the other way round."""

    def __init__(self, device: str, mac: str, vpc_mac: str) -> None:
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._sock.bind((device, ETH_P_ALL))
        self._sock.setblocking(False)
        self._macs = mac_bytes(vpc_mac) + mac_bytes(mac)

    def send(self, packet: Packet) -> None:
        self._sock.send(self._macs + (V6 if ":" in packet.source else V4) + packed(packet))

    def packets(self) -> list[Packet]:
        found = []
        while True:
            try:
                frame, address = self._sock.recvfrom(65600)
            except BlockingIOError:
                return found
            packet = unpacked(frame)
            if address[2] != socket.PACKET_OUTGOING and packet is not None:
                found.append(packet)

    def close(self) -> None:
        self._sock.close()
