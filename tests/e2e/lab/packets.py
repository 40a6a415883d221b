"""
Packets made by hand, such as no kernel would send.
"""

from __future__ import annotations

import socket
import struct

from tests.e2e.lab.namespace import Namespace

_ETH_P_IP = 0x0800
_SYN = 0x02


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """An IPv4 packet that requests a connection (RFC 791, RFC 9293)."""
    ends = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    fields = source[1], destination[1], 1, 0, 5 << 4, _SYN, 65535
    tcp = struct.pack("!HHIIBBHHH", *fields, 0, 0)
    pseudo = ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp))
    tcp = struct.pack("!HHIIBBHHH", *fields, _checksum(pseudo + tcp), 0)
    length = 20 + len(tcp)
    start = struct.pack("!BBHHHBB", 0x45, 0, length, 1, 0, 64, socket.IPPROTO_TCP)
    header = start + struct.pack("!H", _checksum(start + b"\0\0" + ends)) + ends
    return header + tcp


def inject(namespace: Namespace, device: str, packet: bytes) -> None:
    """Send an IPv4 packet through a device, regardless of all routes."""
    with namespace.makeSocket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
        sock.sendto(packet, (device, _ETH_P_IP))
