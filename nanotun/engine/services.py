"""
The datagrams of our own services, between Python and the native library.

Unlike all others these pass through Python, so everything here is per datagram.  It costs a
few microseconds each, without a system call.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from twisted.logger import Logger

from nanotun.engine import abi
from nanotun.flow import Datagram, Endpoint

#: Bytes moved in one call: some thousand queries, and at least the 65,579 that the largest
#: datagram needs.
BUFFER_SIZE = 1 << 18

#: Batches handled in one turn.  In a flood there is always another batch, and the
#: reactor has other work.
BATCH_LIMIT = 4

#: Addresses whose other form is remembered.  Few apps ask, most of them from one address.
ADDRESS_LIMIT = 4096

_PAD = bytes(12)


def _nobody(datagrams: list[Datagram]) -> None:
    """The receiver for as long as no service listens."""


class ServiceDatagrams:
    """
    Unpacks the library's datagrams, and packs those for it.

    @ivar receiver: see L{nanotun.interfaces.IPacketEngine.receiveDatagrams}.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.receiver: Callable[[list[Datagram]], None] = _nobody
        self._buffer = abi.byteBuffer(BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._names4: dict[bytes, str] = {}
        self._names6: dict[bytes, str] = {}
        self._packed: dict[str, tuple[int, bytes]] = {}

    def receive(self, library: abi.NativeLibrary, handle: int) -> bool:
        """
        Hand the datagrams that wait to the receiver.

        @return: whether there may be more.
        """
        for _ in range(BATCH_LIMIT):
            size = library.ns_receive(handle, self._buffer, BUFFER_SIZE)
            if size <= 0:
                abi.check(size, "ns_receive")
                return False
            try:
                self.receiver(self._unpack(self._view[:size].tobytes()))
            except Exception:
                self._log.failure("A service failed; the datagrams of one batch are lost")
        return True

    def send(self, library: abi.NativeLibrary, handle: int, datagrams: list[Datagram]) -> None:
        """See L{nanotun.interfaces.IPacketEngine.sendDatagrams}."""
        pack, packed = abi.DATAGRAM.pack, self._packed
        parts = []
        for (sourceHost, sourcePort), (host, port), payload in datagrams:
            family, source = packed.get(sourceHost) or self._pack(sourceHost)
            _, destination = packed.get(host) or self._pack(host)
            parts.append(pack(len(payload), sourcePort, port, family, source, destination))
            parts.append(payload)
        data = b"".join(parts)
        abi.check(library.ns_send(handle, data, len(data)), "ns_send")

    def _unpack(self, data: bytes) -> list[Datagram]:
        header, headerSize = abi.DATAGRAM.unpack_from, abi.DATAGRAM.size
        datagrams = []
        offset, end = 0, len(data)
        while offset < end:
            length, sourcePort, port, family, source, destination = header(data, offset)
            names = self._names4 if family == 4 else self._names6
            start = offset + headerSize
            offset = start + length
            datagrams.append(
                Datagram(
                    Endpoint(names.get(source) or self._name(family, source), sourcePort),
                    Endpoint(names.get(destination) or self._name(family, destination), port),
                    data[start:offset],
                )
            )
        return datagrams

    def _name(self, family: int, packed: bytes) -> str:
        names = self._names4 if family == 4 else self._names6
        if len(names) >= ADDRESS_LIMIT:
            names.clear()
        name = inet_ntop(AF_INET, packed[:4]) if family == 4 else inet_ntop(AF_INET6, packed)
        names[packed] = name
        return name

    def _pack(self, host: str) -> tuple[int, bytes]:
        if len(self._packed) >= ADDRESS_LIMIT:
            self._packed.clear()
        if ":" in host:
            pair = 6, inet_pton(AF_INET6, host)
        else:
            pair = 4, inet_pton(AF_INET, host) + _PAD
        self._packed[host] = pair
        return pair
