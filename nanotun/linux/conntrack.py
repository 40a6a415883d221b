"""
Asks the kernel's connection tracking about one flow (ctnetlink, the formats of
linux/netfilter/nfnetlink_conntrack.h).

A firewall that changes addresses notes both sides of each flow: the packets as they were
sent, and those that answer them.  Who sees one side only can ask for the other.  The answer
takes 30 microseconds, and needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from nanotun.flow import Endpoint, Flow
from nanotun.linux import netlink
from nanotun.linux.netlink import attributeValues, packAttribute

#: The sides of a flow: CTA_TUPLE_ORIG and CTA_TUPLE_REPLY.
ORIGINAL, REPLY = 1, 2

#: In NFNL_SUBSYS_CTNETLINK: IPCTNL_MSG_CT_GET, and the answer's IPCTNL_MSG_CT_NEW.
_GET = 1 << 8 | 1
_ANSWER = 1 << 8
#: struct nfgenmsg: family, version, resource.
_MESSAGE = struct.Struct("=BBH")
_NESTED = 0x8000
#: In a side: CTA_TUPLE_IP and CTA_TUPLE_PROTO.
_ADDRESSES, _PORTS = 1, 2
#: In the addresses: the source's and the destination's attribute, by the family.
_HOSTS: dict[int, tuple[int, int]] = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}
#: In the ports: CTA_PROTO_NUM, CTA_PROTO_SRC_PORT and CTA_PROTO_DST_PORT.
_NUMBER, _SOURCE, _DESTINATION = 1, 2, 3
_PORT = struct.Struct("!H")

#: Bytes; an answer has some 300.
_ANSWER_LIMIT = 4096

#: Seconds; the kernel answers within the call that asks.
_PATIENCE = 1.0


def originalOf(flow: Flow) -> Flow | None:
    """
    The flow as the app meant it, before the firewall changed its addresses: asks the kernel for
    the connection whose answers go from the flow's destination to its source.

    @return: L{None} if it was not changed, is not tracked, or the kernel does not say.
    """
    answers = flow._replace(source=flow.destination, destination=flow.source)
    found = lookUp(REPLY, answers, ORIGINAL)
    return None if found == flow else found


def lookUp(side: int, flow: Flow, wanted: int) -> Flow | None:
    """
    Ask for one side of a flow, by one of its sides.

    @param side: L{ORIGINAL} or L{REPLY}: what C{flow} is.
    @param wanted: the side to return, with C{flow}'s id.
    @return: L{None} if the flow is not tracked, or the kernel does not say.
    """
    try:
        with netlink.openNetlink(netlink.NETFILTER, blocking=True) as asked:
            asked.settimeout(_PATIENCE)
            asked.send(packQuestion(side, flow))
            return readSide(asked.recv(_ANSWER_LIMIT), wanted, flow)
    except OSError:
        return None


def packQuestion(side: int, flow: Flow) -> bytes:
    """The message that asks for the flow of which this is one side."""
    family = socket.AF_INET6 if ":" in flow.source.host else socket.AF_INET
    first, second = _HOSTS[family]
    addresses = packAttribute(first, ipaddress.ip_address(flow.source.host).packed)
    addresses += packAttribute(second, ipaddress.ip_address(flow.destination.host).packed)
    ports = packAttribute(_NUMBER, bytes((flow.protocol,)))
    ports += packAttribute(_SOURCE, _PORT.pack(flow.source.port))
    ports += packAttribute(_DESTINATION, _PORT.pack(flow.destination.port))
    both = packAttribute(_ADDRESSES | _NESTED, addresses) + packAttribute(_PORTS | _NESTED, ports)
    body = _MESSAGE.pack(family, 0, 0) + packAttribute(side | _NESTED, both)
    return netlink.pack(_GET, netlink.NLM_F_REQUEST, 1, body)


def readSide(data: bytes, wanted: int, flow: Flow) -> Flow | None:
    """
    One side of the flow in the kernel's answer.

    @param flow: for the id and the protocol.
    @return: L{None} if the answer is an error, or makes no sense.
    """
    for message in netlink.messages(data):
        if message.kind != _ANSWER:
            return None
        family = data[message.start] if message.start < message.end else 0
        found = attributeValues(data, message.start + _MESSAGE.size, message.end)
        both = _inside(found.get(wanted, b""))
        addresses, ports = _inside(both.get(_ADDRESSES, b"")), _inside(both.get(_PORTS, b""))
        try:
            ends = [
                Endpoint(
                    socket.inet_ntop(family, addresses[host]), _PORT.unpack_from(ports[port])[0]
                )
                for host, port in zip(_HOSTS[family], (_SOURCE, _DESTINATION), strict=True)
            ]
        except (KeyError, ValueError, struct.error):
            return None
        return flow._replace(source=ends[0], destination=ends[1])
    return None


def _inside(value: bytes) -> dict[int, bytes]:
    return attributeValues(value, 0, len(value))
