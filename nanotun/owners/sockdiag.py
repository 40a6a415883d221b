"""
Messages of sock_diag(7), which ask the kernel for one socket or for some.

The formats are those of linux/sock_diag.h and linux/inet_diag.h: the kernel's byte
order, but network byte order for addresses and ports.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from nanotun.addresses import OWN4, OWN6
from nanotun.flow import Endpoint, Protocol
from nanotun.linux import netlink
from nanotun.linux.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from nanotun.owners.values import FlowSocket, OpenConnection

SOCK_DIAG_BY_FAMILY = 20

#: INET_DIAG_NOCOOKIE: no particular socket.
_NO_COOKIE = b"\xff" * 8

#: Attributes of an answer.
_MARK = 15
_CGROUP_ID = 21

#: A bit for each state of linux/tcp_states.h; TCP_LISTEN is 10.
ALL_STATES = 0xFFFFFFFF
LISTENING = 1 << 10
#: ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK and CLOSING: a process may
#: have these connections open, and packets of them are still to come.
OPEN = sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11))
#: TCP_ESTABLISHED and TCP_SYN_SENT.
CONNECTED = 1 << 1 | 1 << 2

#: struct inet_diag_req_v2 up to its addresses.
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_INTERFACE = struct.Struct("=I")
#: struct inet_diag_msg: what precedes its addresses, and what follows them.
_ANSWER = struct.Struct("=BBBB")
_COOKIE = struct.Struct("=Q")
_ANSWER_END = struct.Struct("=IIIII")
_ADDRESSES = _ANSWER.size + _PORTS.size
_ANSWER_LENGTH = _ADDRESSES + 32 + _INTERFACE.size + _COOKIE.size + _ANSWER_END.size
_UINT64 = struct.Struct("=Q")

_NOWHERE = b"\0" * 16
#: RFC 4291, section 2.5.5.2.
_MAPPED = b"\0" * 10 + b"\xff\xff"

_OWN = {4: ip_network(OWN4), 6: ip_network(OWN6)}


class Answer(NamedTuple):
    """
    One socket.

    @ivar local: its address, packed; 16 bytes, of which IPv4 uses the first four.
    @ivar remotePort: 0 if it has no peer.
    @ivar remote: the peer's address, as C{local}.
    """

    family: int
    local: bytes
    localPort: int
    remotePort: int
    socket: FlowSocket
    remote: bytes = b"\0" * 16


def packAddress(host: str) -> tuple[int, bytes]:
    """The family, and the 16 bytes, of an address; an IPv4-mapped one is IPv4."""
    # A lookup does this twice; ipaddress takes ten times as long.
    if ":" not in host:
        return AF_INET, inet_pton(AF_INET, host).ljust(16, b"\0")
    packed = inet_pton(AF_INET6, host.partition("%")[0])
    if packed.startswith(_MAPPED):
        return AF_INET, packed[len(_MAPPED) :].ljust(16, b"\0")
    return AF_INET6, packed


def askForOne(
    number: int, protocol: Protocol, local: Endpoint, remote: Endpoint, interface: int
) -> bytes:
    """
    The request for the one socket that a flow belongs to, in any state.  The kernel
    finds IPv6 sockets that talk IPv4 by their IPv4 addresses.

    @param number: the sequence number, which the answer repeats.
    @param interface: the index of the device from which the packets were read, for
        sockets that are bound to it; 0 for none.
    """
    family, here = packAddress(local.host)
    there = packAddress(remote.host)[1]
    ports = (local.port, remote.port)
    if protocol is Protocol.UDP:
        # "Swapped for historical reasons", net/ipv4/udp_diag.c says.
        here, there, ports = there, here, (remote.port, local.port)
    return netlink.pack(
        SOCK_DIAG_BY_FAMILY,
        NLM_F_REQUEST,
        number,
        _REQUEST.pack(family, protocol, 0, 0, ALL_STATES)
        + _PORTS.pack(*ports)
        + here
        + there
        + _INTERFACE.pack(interface)
        + _NO_COOKIE,
    )


def askForPort(number: int, protocol: Protocol, family: int, port: int, states: int) -> bytes:
    """
    The request for all sockets of one family with this local port.

    @param port: 0 for all ports.
    @param states: a bit for each state to include.
    """
    return netlink.pack(
        SOCK_DIAG_BY_FAMILY,
        NLM_F_REQUEST | NLM_F_DUMP,
        number,
        _REQUEST.pack(family, protocol, 0, 0, states)
        + _PORTS.pack(port, 0)
        + _NOWHERE
        + _NOWHERE
        + _INTERFACE.pack(0)
        + _NO_COOKIE,
    )


def answers(data: bytes, number: int) -> Iterator[Answer | None]:
    """
    Read what one recv(2) returned; messages that answer other requests are left out.

    @return: sockets, and at last L{None} if the answer ends here.
    @raise OSError: the kernel refuses.
    """
    for message in netlink.messages(data):
        kind, _, sequence, start, end = message
        if sequence != number:
            continue
        if kind == NLMSG_DONE:
            yield None
        elif kind == NLMSG_ERROR:
            code = netlink.errorOf(data, message)
            if code == errno.ENOENT:
                yield None
            elif code:
                raise netlink.osError(code)
        elif kind == SOCK_DIAG_BY_FAMILY and end - start >= _ANSWER_LENGTH:
            yield _answer(data, start, end)


def _answer(data: bytes, start: int, end: int) -> Answer:
    family, _, _, _ = _ANSWER.unpack_from(data, start)
    localPort, remotePort = _PORTS.unpack_from(data, start + _ANSWER.size)
    addresses = start + _ADDRESSES
    local, remote = data[addresses : addresses + 16], data[addresses + 16 : addresses + 32]
    place = start + _ANSWER_LENGTH
    _, _, _, uid, inode = _ANSWER_END.unpack_from(data, place - _ANSWER_END.size)
    (cookie,) = _COOKIE.unpack_from(data, place - _ANSWER_END.size - _COOKIE.size)
    mark = cgroup = 0
    for kind, first, _ in netlink.attributes(data, place, end):
        if kind == _MARK:
            mark = netlink.UINT32.unpack_from(data, first)[0]
        elif kind == _CGROUP_ID:
            cgroup = _UINT64.unpack_from(data, first)[0]
    found = FlowSocket(inode, uid, mark, cgroup, remotePort != 0, cookie)
    return Answer(family, local, localPort, remotePort, found, remote)


def sends(answer: Answer, protocol: Protocol, local: Endpoint, remote: Endpoint) -> bool:
    """
    Whether the socket that the kernel found is the flow's.  If a connection has no socket,
    the kernel finds a listening socket of the same port instead, which has no peer, or the
    remains of an earlier connection, which are no file any more.
    """
    if answer.localPort != local.port or not answer.socket.inode:
        return False
    if protocol is Protocol.TCP:
        return answer.remotePort == remote.port
    return answer.remotePort in (0, remote.port)


def takes(answer: Answer, host: str) -> bool:
    """Whether a socket is bound to C{host}, one of our addresses, or to any address."""
    if answer.local == _NOWHERE:
        # An IPv6 socket that is bound to any address may receive IPv4 as well.  Not every
        # kernel tells; assuming so does no harm.
        return True
    family, packed = packAddress(host)
    if answer.family == AF_INET6 and answer.local.startswith(_MAPPED):
        return family == AF_INET and answer.local[12:] in (packed[:4], b"\0\0\0\0")
    return (answer.family, answer.local) == (family, packed)


def leaves(answer: Answer) -> bool:
    """
    Whether a socket talks to other machines, past our own device: from that its packets
    would have the device's address.
    """
    if not answer.socket.inode:
        return False
    if answer.local == _NOWHERE:
        # It is a UDP socket, and each datagram gets an address of its own.
        return True
    length = 4 if answer.family == AF_INET else 16
    address = ip_address(answer.local[:length])
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return not address.is_loopback and address not in _OWN[address.version]


def connectionOf(answer: Answer) -> OpenConnection:
    """The connection of a socket that has a peer; one that talks IPv4 has IPv4 addresses."""
    local = Endpoint(_host(answer.family, answer.local), answer.localPort)
    remote = Endpoint(_host(answer.family, answer.remote), answer.remotePort)
    return OpenConnection(answer.socket.inode, local, remote)


def _host(family: int, packed: bytes) -> str:
    if family == AF_INET6 and not packed.startswith(_MAPPED):
        return inet_ntop(AF_INET6, packed)
    return inet_ntop(AF_INET, packed[:4] if family == AF_INET else packed[12:])
