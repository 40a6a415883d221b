"""
Carries TCP and UDP through the engine, on a device that is only a socket:

    python tests/smoke.py

For machines that have nothing but Python and an installed nanotun, such as an emulated one.
It needs no root, and says what it has done.
"""

from __future__ import annotations

import importlib
import pkgutil
import platform
import socket
import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from zope.interface import implementer

import nanotun
from nanotun.engine.native import STACKS, NativeEngine
from nanotun.flow import FlowEnd
from nanotun.interfaces import (
    DatagramLeg,
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    ITunDevice,
    LegKind,
)
from nanotun.tun.port import TunPort

#: The app's end: the kernel's address on a device, as the simple stack serves no other machine.
APP = ("198.18.0.2", 40000)
DESTINATION = ("192.0.2.1", 80)

#: What the app sends, in segments that fit the MTU, and what it is sent.  Both fit the buffers
#: of the sockets on the way.
SEGMENT = 1024
REQUEST = bytes(range(256)) * 4 * 8
REPLY = bytes(reversed(range(256))) * 4 * 48

#: Seconds that anything may take before it counts as broken.
PATIENCE = 60.0

FIN, SYN, PSH, ACK = 1, 2, 8, 16


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def summed(protocol: int, ends: bytes, content: bytes) -> int:
    """The checksum of a segment or datagram between two addresses: 0 if it has its own."""
    return checksum(ends + struct.pack("!BBH", 0, protocol, len(content)) + content)


@implementer(ITunDevice)
class SocketDevice:
    """
    A device without a kernel behind it.

    @ivar far: where the packets are that a kernel would have.
    """

    name, index, mtu, vnetHeader = "smoke0", 7, 1500, 0

    def __init__(self) -> None:
        self.far, self._near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.far.settimeout(PATIENCE)
        self._near.setblocking(False)

    def fileno(self) -> int:
        """See L{ITunDevice.fileno}."""
        return self._near.fileno()

    def close(self) -> None:
        """See L{ITunDevice.close}."""
        self._near.close()
        self.far.close()

    def send(self, protocol: int, content: bytes, at: int) -> None:
        """Send a segment or datagram from the app; its checksum belongs C{at} this byte."""
        ends = socket.inet_aton(APP[0]) + socket.inet_aton(DESTINATION[0])
        total = struct.pack("!H", summed(protocol, ends, content))
        content = content[:at] + total + content[at + 2 :]
        start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(content), 1, 0, 64, protocol)
        header = start + struct.pack("!H", checksum(start + b"\0\0" + ends)) + ends
        self.far.send(header + content)

    def receive(self, protocol: int) -> bytes:
        """The next segment or datagram for the app."""
        while True:
            packet = self.far.recv(self.mtu)
            if packet[0] >> 4 == 4 and packet[9] == protocol:
                ends, content = packet[12:20], packet[(packet[0] & 15) * 4 :]
                assert ends == socket.inet_aton(DESTINATION[0]) + socket.inet_aton(APP[0]), ends
                assert checksum(packet[:20]) == summed(protocol, ends, content) == 0, "checksum"
                return content


class TCPApp:
    """An app's TCP, for a device that neither loses nor reorders."""

    def __init__(self, device: SocketDevice) -> None:
        self._device = device
        self._next = 1000
        self._expected = 0

    def send(self, flags: int, payload: bytes = b"") -> None:
        """Send a segment."""
        ports = APP[1], DESTINATION[1]
        numbers = self._next, self._expected
        header = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 65535, 0, 0)
        self._device.send(socket.IPPROTO_TCP, header + payload, 16)
        self._next += len(payload) + bool(flags & (SYN | FIN))

    def receive(self) -> tuple[int, bytes]:
        """Flags and payload of the next segment that is new."""
        while True:
            content = self._device.receive(socket.IPPROTO_TCP)
            number, _, offset, flags = struct.unpack_from("!IIBB", content, 4)
            payload = content[(offset >> 4) * 4 :]
            if flags & SYN:
                self._expected = number
            if number == self._expected and (payload or flags & (SYN | FIN)):
                self._expected = (number + len(payload) + bool(flags & (SYN | FIN))) % 2**32
                return flags, payload


@implementer(IFlowHandler)
class ToLoopback:
    """Sends every flow to servers on loopback, datagrams as to a SOCKS5 proxy."""

    followsFlows = True

    def __init__(self, engine: NativeEngine, device: SocketDevice) -> None:
        self.streams = socket.create_server(("127.0.0.1", 0))
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", 0))
        for server in (self.streams, self.datagrams):
            server.settimeout(PATIENCE)
        self.ended: Deferred[FlowEnd] = Deferred()
        self._engine = engine
        self._device = device

    def flowRequested(self, request: IFlowRequest) -> None:
        """Join it."""
        leg = socket.create_connection(self.streams.getsockname())
        leg.setblocking(False)
        request.join(leg.detach())

    def datagramFlowRequested(self, request: IDatagramFlowRequest) -> None:
        """Attach it."""
        leg = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        leg.connect(self.datagrams.getsockname())
        leg.setblocking(False)
        association = self._engine.openAssociation(
            DatagramLeg(leg.detach(), LegKind.SOCKS5, None), lambda error: None, lambda: None
        )
        request.attach(association)

    def flowClosed(self, end: FlowEnd) -> None:
        """Keep it."""
        self.ended.callback(end)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was not expected")

    def stream(self) -> None:
        """An app's connection, from its first segment to its last."""
        app = TCPApp(self._device)
        app.send(SYN)
        assert app.receive()[0] == SYN | ACK
        app.send(ACK)
        far, _ = self.streams.accept()
        far.settimeout(PATIENCE)
        with far, far.makefile("rb") as file:
            for start in range(0, len(REQUEST), SEGMENT):
                app.send(PSH | ACK, REQUEST[start : start + SEGMENT])
            assert file.read(len(REQUEST)) == REQUEST
            far.sendall(REPLY)
            far.shutdown(socket.SHUT_WR)
            heard, flags = b"", 0
            while not flags & FIN:
                flags, payload = app.receive()
                heard += payload
                app.send(ACK)
            assert heard == REPLY
            app.send(FIN | ACK)
            assert file.read() == b""

    def datagram(self) -> None:
        """A datagram of an app's, and the answer."""
        header = struct.pack("!HHHH", APP[1], DESTINATION[1], 8 + SEGMENT, 0)
        self._device.send(socket.IPPROTO_UDP, header + REQUEST[:SEGMENT], 6)
        heard, peer = self.datagrams.recvfrom(2 * SEGMENT)
        # The header of RFC 1928, section 7, for an IPv4 address.
        where = struct.pack("!HBB4sH", 0, 0, 1, socket.inet_aton(DESTINATION[0]), DESTINATION[1])
        assert heard == where + REQUEST[:SEGMENT]
        self.datagrams.sendto(where + REPLY[:SEGMENT], peer)
        content = self._device.receive(socket.IPPROTO_UDP)
        assert struct.unpack_from("!HH", content) == (DESTINATION[1], APP[1])
        assert content[8:] == REPLY[:SEGMENT]


async def carry(reactor: Any, stack: str) -> None:
    """Carry a connection and a datagram through one of the stacks."""
    device = SocketDevice()
    engine = NativeEngine(reactor, stack, 60.0)
    handler = ToLoopback(engine, device)
    engine.start(device, handler)
    port = TunPort(device, engine, reactor, lambda error: None)
    port.startReading()
    await deferToThread(handler.stream)
    end = await handler.ended
    assert (end.error, end.bytesUp, end.bytesDown) == (0, len(REQUEST), len(REPLY)), end
    await deferToThread(handler.datagram)
    port.stopReading()
    await engine.stop()
    device.close()
    carried = f"{end.bytesUp} bytes up and {end.bytesDown} down"
    print(f"{stack}: TCP, {carried}; UDP, there and back", flush=True)


def importAll() -> int:
    """Import every module of nanotun's; return how many there are."""
    found = pkgutil.walk_packages(nanotun.__path__, "nanotun.")
    # The library's file looks like a module of Python's.
    names = [each.name for each in found if not each.name.endswith(".libnetstack")]
    for name in names:
        importlib.import_module(name)
    return len(names)


async def main(reactor: Any) -> None:
    """Do all of it."""
    where = f"Python {platform.python_version()} on {platform.machine()}"
    print(f"nanotun {nanotun.__version__}, {where}: {importAll()} modules", flush=True)
    for stack in STACKS:
        await carry(reactor, stack)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
