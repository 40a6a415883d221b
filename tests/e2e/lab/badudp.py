"""
Misbehaving SOCKS5 UDP relays: variants of L{tests.e2e.lab.udprelay.Manners}.  RFC 1928,
sections 6 and 7, says what they should have done.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from tests.e2e.lab.udp import Address
from tests.e2e.lab.udprelay import COMMAND_NOT_SUPPORTED, Manners, encodeAddress, wrap

EVIL = b"evil"
"""The payload that no app may ever see."""


class Prefixed(Manners):
    """Sends bad datagrams before every correct one."""

    def __init__(self, *bad: bytes) -> None:
        self._bad = bad

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """The bad ones, then the correct one."""
        return [*self._bad, wrap(peer, payload)]


class CutShort(Manners):
    """Sends every prefix of a header, from nothing to all but its last byte."""

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """The prefixes, then the correct one."""
        header = wrap(peer, b"")
        return [*(header[:length] for length in range(len(header))), wrap(peer, payload)]


class Fragments(Manners):
    """Sends fragments, which a client that does not reassemble them has to drop."""

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """A first, a middle and a last one, then the correct one."""
        rest = wrap(peer, EVIL)[3:]
        pieces = [b"\x00\x00" + bytes([number]) + rest for number in (1, 2, 0x7F, 0x80, 0xFF)]
        return [*pieces, wrap(peer, payload)]


class UnknownTypes(Manners):
    """Sends address types that RFC 1928 does not have."""

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """All of these types, then the correct one."""
        rest = wrap(peer, EVIL)[4:]
        strange = [b"\x00\x00\x00" + bytes([kind]) + rest for kind in (0, 2, 5, 0x7F, 0xFF)]
        return [*strange, wrap(peer, payload)]


class LyingNames(Manners):
    """Sends names that are empty, or longer than the datagram."""

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """Several such names, then the correct one."""
        start = b"\x00\x00\x00\x03"
        lies = [
            b"",
            b"\x00",
            b"\x00\x00\x35",
            b"\xff",
            b"\xff" + EVIL,
            b"\x04lab.\x00",
            b"\x01\x00",
        ]
        return [*(start + lie for lie in lies), wrap(peer, payload)]


class Flood(Manners):
    """Answers each datagram with thousands, good and bad."""

    def __init__(self, count: int) -> None:
        self._count = count

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """The correct one C{count} times, every second time with a bad header."""
        good = wrap(peer, payload)
        bad = b"\x00\x00\x01" + wrap(peer, EVIL)[3:]
        for _ in range(self._count // 2):
            yield bad
            yield good


class NamesOfPeers(Manners):
    """Names the sender of a datagram by a host name (ATYP 3)."""

    def __init__(self, name: str = "") -> None:
        """@param name: the host name; by default, the address in text form."""
        self._name = name

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """The correct one, apart from its address."""
        name = (self._name or peer[0]).encode()
        head = b"\x00\x00\x00\x03" + bytes([len(name)]) + name + struct.pack("!H", peer[1])
        return [head + payload]


class ImpossibleSenders(Manners):
    """Names senders that cannot have sent a datagram."""

    hosts = (
        "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1",
        "::", "::1", "ff02::1", "fdfe:dcba:9876::1", "2001:db8::1",
    )  # fmt: skip

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """One from each of them, one from port 0, then the correct one."""
        senders = [*((host, peer[1]) for host in self.hosts), (peer[0], 0)]
        return [*(wrap(sender, EVIL) for sender in senders), wrap(peer, payload)]


class Refuses(Manners):
    """Does not support the command, like a proxy without UDP."""

    code = COMMAND_NOT_SUPPORTED


class Silent(Manners):
    """Never answers the request."""

    code = None


class SaysItIsAt(Manners):
    """Names an address that it does not listen on, with the right port."""

    def __init__(self, host: str) -> None:
        self._host = host

    def bound(self, name: Address) -> bytes:
        """The wrong address."""
        return encodeAddress(self._host, name[1])


class SaysItsName(Manners):
    """Names itself by a host name that cannot be looked up."""

    def bound(self, name: Address) -> bytes:
        """A host name (ATYP 3)."""
        host = b"relay.invalid"
        return b"\x03" + bytes([len(host)]) + host + struct.pack("!H", name[1])


class SaysPortZero(Manners):
    """Names no port to send to."""

    def bound(self, name: Address) -> bytes:
        """An address without a port."""
        return encodeAddress(name[0], 0)


class SaysAClosedPort(Manners):
    """Names a port that nothing listens on."""

    def bound(self, name: Address) -> bytes:
        """The port of the discard service."""
        return encodeAddress(name[0], 9)


class HangsUp(Manners):
    """Opens a UDP relay and closes its control connection."""

    hangsUp = True
