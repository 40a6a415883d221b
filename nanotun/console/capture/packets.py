"""
Which flow a packet belongs to, by its headers.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from nanotun.flow import Endpoint, Protocol

#: A flow: its protocol, the app's address and port, and the destination's; addresses packed.
Key = tuple[int, bytes, int, bytes, int]

#: Fragmented packets that are remembered until their last fragment: with one in flight for each
#: app, and a reserve for lost ones.
_FRAGMENT_LIMIT = 1024

_ICMP, _ICMP6 = 1, 58
#: Types of ICMP messages that quote the packet that they are about.
_QUOTING = {_ICMP: (3, 4, 5, 11, 12), _ICMP6: (1, 2, 3, 4)}
_ICMP_LENGTH = 8

#: IPv6 extension headers with a length in units of eight bytes (RFC 8200, section 4), and the
#: fragment header.
_EXTENSIONS = (0, 43, 60, 135)
_FRAGMENT = 44

_PORTS = struct.Struct("!HH")
_UINT16 = struct.Struct("!H")
_UINT32 = struct.Struct("!I")


class CapturedPacket(NamedTuple):
    """
    A packet as the device had it.

    @ivar nanoseconds: when, since 1970.
    @ivar data: from its IP header on.
    @ivar length: how many bytes it had, of which C{data} may lack the last.
    @ivar fromApp: whether the kernel sent it to nanotun, and not the other way.
    """

    nanoseconds: int
    data: bytes
    length: int
    fromApp: bool


class FlowFinder:
    """
    Tells the flows of packets.  All fragments of a packet are of the flow that its first one
    names; an ICMP error is of the flow of the packet that it quotes.
    """

    def __init__(self) -> None:
        self._fragments: dict[tuple[int, bytes, bytes, int], Key] = {}

    def keyOf(self, packet: CapturedPacket) -> Key | None:
        """The flow; L{None} if it is of none, or that cannot be told."""
        return self._keyOf(packet.data, packet.fromApp)

    def _keyOf(self, data: bytes, fromApp: bool, quoted: bool = False) -> Key | None:
        try:
            if data[0] >> 4 == 4:
                protocol, source, destination, start, fragment = _header4(data)
            else:
                protocol, source, destination, start, fragment = _header6(data)
            if fragment is not None:
                place = (protocol, source, destination, fragment.number)
                if fragment.offset:
                    return self._fragments.get(place)
            if protocol in _QUOTING and not quoted and data[start] in _QUOTING[protocol]:
                # It goes to the one who has sent what it quotes.
                return self._keyOf(data[start + _ICMP_LENGTH :], not fromApp, True)
            if protocol != Protocol.TCP and protocol != Protocol.UDP:
                return None
            sourcePort, destinationPort = _PORTS.unpack_from(data, start)
        except (IndexError, struct.error):
            return None
        if fromApp:
            key = (protocol, source, sourcePort, destination, destinationPort)
        else:
            key = (protocol, destination, destinationPort, source, sourcePort)
        if fragment is not None and not quoted:
            self._remember(place, key)
        return key

    def _remember(self, place: tuple[int, bytes, bytes, int], key: Key) -> None:
        if len(self._fragments) >= _FRAGMENT_LIMIT:
            del self._fragments[next(iter(self._fragments))]
        self._fragments[place] = key


class _Fragment(NamedTuple):
    """Which part of which packet a fragment is."""

    number: int
    offset: int


_Header = tuple[int, bytes, bytes, int, "_Fragment | None"]


def _header4(data: bytes) -> _Header:
    """Protocol, source, destination and length of an IPv4 header."""
    (place,) = _UINT16.unpack_from(data, 6)
    fragment = None
    if place & 0x3FFF:
        fragment = _Fragment(_UINT16.unpack_from(data, 4)[0], place & 0x1FFF)
    return data[9], data[12:16], data[16:20], (data[0] & 15) * 4, fragment


def _header6(data: bytes) -> _Header:
    """The same of an IPv6 header and its extensions."""
    following, start, fragment = data[6], 40, None
    while True:
        if following in _EXTENSIONS:
            following, start = data[start], start + 8 * data[start + 1] + 8
        elif following == _FRAGMENT and fragment is None:
            (place,) = _UINT16.unpack_from(data, start + 2)
            fragment = _Fragment(_UINT32.unpack_from(data, start + 4)[0], place >> 3)
            following, start = data[start], start + 8
            if fragment.offset:
                break
        else:
            break
    return following, data[8:24], data[24:40], start, fragment


def begins(packet: CapturedPacket, key: Key) -> bool:
    """Whether a packet asks for a TCP connection."""
    data = packet.data
    if key[0] != Protocol.TCP or not packet.fromApp or data[0] >> 4 not in (4, 6):
        return False
    start = (data[0] & 15) * 4 if data[0] >> 4 == 4 else 40
    # SYN without ACK (RFC 9293, section 3.1).
    return len(data) > start + 13 and data[start + 13] & 0x12 == 0x02


def keyOf(protocol: str, source: str, destination: str) -> Key:
    """
    The key of a flow in the daemon's list.

    @param protocol: C{tcp} or C{udp}.
    @param source: address and port, as the list has them.
    @param destination: likewise.
    """
    number = int(Protocol[protocol.upper()])
    return (number, *_packed(source), *_packed(destination))


def endpointsOf(key: Key) -> tuple[Endpoint, Endpoint]:
    """The app's end of a flow, and the destination."""
    _, source, sourcePort, destination, destinationPort = key
    return (
        Endpoint(str(ip_address(source)), sourcePort),
        Endpoint(str(ip_address(destination)), destinationPort),
    )


def _packed(text: str) -> tuple[bytes, int]:
    host, _, port = text.rpartition(":")
    if host.startswith("["):
        return inet_pton(AF_INET6, host.strip("[]")), int(port)
    return inet_pton(AF_INET, host), int(port)
