"""
Packets, and what stands for the daemon, the device and the clock.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.task import Clock

from nanotun.console.capture.packets import CapturedPacket
from nanotun.flow import Flow, Protocol

APP4, FAR4 = "198.18.0.2", "93.184.216.34"
APP6, FAR6 = "fdfe:dcba:9876::2", "2001:db8::34"

#: Bits of a TCP header.
SYN, ACK = 0x02, 0x10

#: 2026-11-30, in nanoseconds, which need more than 32 bits of seconds' parts.
THEN = 1_796_000_000_123_456_789


def ip(source: str, destination: str, protocol: int, payload: bytes, fragment: int = 0) -> bytes:
    """
    A packet.

    @param fragment: the field of IPv4 with the flags and the offset.
    """
    here, there = ip_address(source), ip_address(destination)
    if here.version == 4:
        total = 20 + len(payload)
        head = struct.pack("!BBHHHBBH", 0x45, 0, total, 77, fragment, 64, protocol, 0)
    else:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
    return head + here.packed + there.packed + payload


def tcp(source: int, destination: int, flags: int = ACK, payload: bytes = b"") -> bytes:
    """A TCP header and its payload."""
    head = struct.pack("!HHIIBBHHH", source, destination, 1, 0, 0x50, flags, 65535, 0, 0)
    return head + payload


def udp(source: int, destination: int, payload: bytes = b"") -> bytes:
    """A datagram."""
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def captured(data: bytes, fromApp: bool = True, nanoseconds: int = THEN) -> CapturedPacket:
    """A packet of the device."""
    return CapturedPacket(nanoseconds, data, len(data), fromApp)


def row(number: int, port: int = 50000, **fields: Any) -> dict[str, Any]:
    """A flow from C{port} as the daemon describes it."""
    described = {
        "id": number,
        "protocol": "tcp",
        "state": "open",
        "source": f"{APP4}:{port}",
        "destination": f"{FAR4}:443",
        "domain": None,
        "verdict": "proxy",
        "rule": "#2",
        "upstream": "office",
        "process": None,
    }
    return {**described, **fields}


def fromApp(port: int = 50000, flags: int = ACK, payload: bytes = b"") -> CapturedPacket:
    """A packet of the flow of L{row}."""
    return captured(ip(APP4, FAR4, Protocol.TCP, tcp(port, 443, flags, payload)))


def toApp(port: int = 50000, payload: bytes = b"") -> CapturedPacket:
    """The other way."""
    return captured(ip(FAR4, APP4, Protocol.TCP, tcp(443, port, ACK, payload)), False)


CURL = {"pid": 17, "uid": 1000, "name": "curl", "path": "/usr/bin/curl", "unit": None}


class Machine:
    """
    What the command asks.

    @ivar clock: the time.
    @ivar flows: the daemon's.
    @ivar asked: after which ids it was asked.
    @ivar processes: by the port of a flow's source.
    @ivar isRecorded: whether the kernel records who makes sockets.
    @ivar lookups: the ports of the flows whose processes were searched for, each time.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.flows: list[dict[str, Any]] = []
        self.asked: list[int] = []
        self.processes: dict[int, Mapping[str, Any]] = {}
        self.isRecorded = False
        self.lookups: list[list[int]] = []

    def rows(self, after: int) -> list[dict[str, Any]]:
        """See L{KnownFlows}."""
        self.asked.append(after)
        return [each for each in self.flows if each["id"] > after]

    def recorded(self, flows: Sequence[Flow]) -> Mapping[int, Mapping[str, Any]]:
        """See L{CapturedPrograms.recorded}."""
        return self._known(flows) if self.isRecorded else {}

    def searched(self, flows: Sequence[Flow]) -> Mapping[int, Mapping[str, Any]]:
        """See L{CapturedPrograms.searched}."""
        self.lookups.append([each.source.port for each in flows])
        return self._known(flows)

    def _known(self, flows: Sequence[Flow]) -> dict[int, Mapping[str, Any]]:
        found = ((each.id, self.processes.get(each.source.port)) for each in flows)
        return {number: process for number, process in found if process is not None}
