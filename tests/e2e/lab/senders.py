"""
Senders of every kind, as witnesses of what leaves a cell: a program of its own.

C{senders.py DEVICE [NAME ...]} has each sender send something, and prints a line for each:
C{NAME: OUTCOME}.  An outcome is C{sent}, or the name of the error that came.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

WAIT = 1.0
"""Seconds for a TCP connection."""

PUBLIC4, PUBLIC6 = "9.9.9.10", "2620:fe::10"
DNS4, DNS6 = "8.8.8.8", "2001:4860:4860::8888"
PRIVATE4 = "10.200.0.1"
NEIGHBOUR4, OWN4, BROADCAST4 = "10.77.1.1", "10.77.1.2", "10.77.1.3"
LINK4, METADATA, LINK6, LINK6_UDP = "169.254.1.1", "169.254.169.254", "fe80::1", "fe80::2"
GROUP4 = "239.1.2.3"
ABSTRACT = "\0nanotun-witness"
"""The name of a unix socket on which the test listens, outside the cell."""

LOOKUP_SOCKETS = (
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/nscd/socket",
    "/run/avahi-daemon/socket",
)

SENT = frozenset({"sent"})
ANSWERED = SENT | {"ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "EACCES"}
"""What a TCP connection that was asked for may end with."""

ASKED = SENT | {"unknown"}
"""What a look-up may end with."""

_MSG_FASTOPEN = 0x20000000
_IP_PKTINFO, _IP_TRANSPARENT, _IP_MULTICAST_IF = 8, 19, 32
_SO_MARK = 36

_QUIC = b"\xc0\0\0\0\1\x0812345678\0\0\x44\x90" + bytes(1182)
_DHCP = (
    struct.pack("!BBBBIHH", 1, 1, 6, 0, 7, 0, 0x8000)
    + bytes(16)
    + b"\2\0\0\0\0\1"
    + bytes(202)
    + b"\x63\x82\x53\x63\x35\1\1\xff"
)
_ARP = b"\0\1\x08\0\6\4\0\1" + b"\2" * 6 + bytes(10) + socket.inet_aton("10.77.1.9")
"""A probe (RFC 5227): it has no sender's address, which would spoil the proxy's ARP cache."""

_device = "lo"


def _number() -> int:
    return socket.if_nametoindex(_device)


def _address(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if ":" not in host:
        return host, port
    return host, port, 0, _number() if host.startswith(("fe80", "ff02")) else 0


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _tcp(host: str, port: int, data: bytes = b"GET / HTTP/1.0\r\n\r\n", fast: bool = False) -> None:
    with socket.socket(_family(host), socket.SOCK_STREAM) as sock:
        sock.settimeout(WAIT)
        if fast:
            sock.sendto(data, _MSG_FASTOPEN, _address(host, port))
        else:
            sock.connect(_address(host, port))
            sock.sendall(data)


def _udp(
    host: str,
    port: int,
    data: bytes = b"witness",
    *options: tuple[int, int, int | bytes],
    source: tuple[str, int] | None = None,
    connect: bool = False,
) -> None:
    with socket.socket(_family(host), socket.SOCK_DGRAM) as sock:
        for option in options:
            sock.setsockopt(*option)
        if source is not None:
            sock.bind(source)
        if connect:
            sock.connect(_address(host, port))
            sock.send(data)
        else:
            sock.sendto(data, _address(host, port))


def _query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    header = struct.pack("!HHHHHH", 0x4E54, 0x100, 1, 0, 0, 0)
    return header + labels + struct.pack("!BHH", 0, kind, 1)


def _queryByTCP() -> None:
    query = _query("tcp.example.com")
    _tcp(DNS4, 53, struct.pack("!H", len(query)) + query)


def _raw(host: str, protocol: int, data: bytes = bytes(32)) -> None:
    with socket.socket(_family(host), socket.SOCK_RAW, protocol) as sock:
        sock.sendto(data, _address(host, 0))


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _packet4(source: str, body: bytes, protocol: int = 17) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(PUBLIC4)
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(body), 7, 0, 64, protocol)
    sum4 = struct.pack("!H", _checksum(start + b"\0\0" + addresses))
    return start + sum4 + addresses + body


def _datagram(port: int) -> bytes:
    return struct.pack("!HHHH", 7, port, 9, 0) + b"w"


def _withHeader(source: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(_packet4(source, _datagram(port)), (PUBLIC4, 0))


def _echo(kind: int) -> bytes:
    start, end = struct.pack("!BB", kind, 0), struct.pack("!HH", 9, 1)
    return start + struct.pack("!H", _checksum(start + b"\0\0" + end)) + end


def _ping() -> None:
    # A new network namespace lets nobody have such a socket.
    with open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
        file.write("0 2147483647")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as sock:
        sock.sendto(_echo(8), ("9.9.9.13", 0))


def _frame(kind: int, ethertype: int, data: bytes, destination: bytes = b"\xff" * 6) -> None:
    """By a packet socket, whatever the link's header is."""
    with socket.socket(socket.AF_PACKET, kind, socket.htons(ethertype)) as sock:
        sock.bind((_device, ethertype))
        hardware = sock.getsockname()[4]
        if kind == socket.SOCK_RAW:
            if hardware:
                data = destination + hardware + struct.pack("!H", ethertype) + data
            sock.send(data)
        else:
            sock.sendto(data, (_device, ethertype, 0, 0, destination if hardware else b""))


def _join4() -> None:
    group = socket.inet_aton(GROUP4) + struct.pack("4si", bytes(4), _number())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        time.sleep(0.3)


def _join6() -> None:
    group = socket.inet_pton(socket.AF_INET6, "ff02::4:5") + struct.pack("i", _number())
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        time.sleep(0.3)


def _multicast(group: str, port: int, data: bytes) -> None:
    interface = struct.pack("4s4si", bytes(4), bytes(4), _number())
    _udp(group, port, data, (socket.IPPROTO_IP, _IP_MULTICAST_IF, interface))


def _pktinfo(port: int) -> None:
    about = struct.pack("i4s4s", _number(), bytes(4), bytes(4))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendmsg([b"witness"], [(socket.IPPROTO_IP, _IP_PKTINFO, about)], 0, (PUBLIC4, port))


def _bound(port: int, device: str = "") -> None:
    name = (device or _device).encode()
    _udp(PUBLIC4, port, b"witness", (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name))


def _broadcast(host: str, port: int, data: bytes = b"witness") -> None:
    options: list[tuple[int, int, int | bytes]] = [(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)]
    source = None
    if port == 67:
        device = (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _device.encode())
        options, source = [*options, device], ("0.0.0.0", 68)
    _udp(host, port, data, *options, source=source)


def _resolve(name: str) -> None:
    socket.getaddrinfo(name, 80)


def _lookupSockets() -> None:
    found = False
    for path in LOOKUP_SOCKETS:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            found = sock.connect_ex(path) == 0 or found
    if not found:
        raise FileNotFoundError(errno.ENOENT, "no socket")


def _abstract() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(ABSTRACT)


class Sender(NamedTuple):
    """
    One sender.

    @ivar filter: its packets, as a pcap-filter(7) expression; empty if it sends none.
    @ivar send: sends them.
    @ivar inCell: the outcomes in a cell that show that something was sent there, or that
        there was nothing to be found.
    @ivar word: what L{tests.e2e.lab.tcpdump.Capture} prints of them, where the filter alone
        fits other senders' packets.
    """

    filter: str
    send: Callable[[], object]
    inCell: frozenset[str] = SENT
    word: str = ""


def _tcpTo(host: str, port: int, fast: bool = False) -> Sender:
    expression = f"tcp and dst host {host} and dst port {port}"
    # With fast open and a time-out, the SYN has been sent when the call returns.
    outcomes = ANSWERED | {"EINPROGRESS"} if fast else ANSWERED
    return Sender(expression, partial(_tcp, host, port, fast=fast), outcomes)


def _udpTo(host: str, port: int, *more: object, **how: object) -> Sender:
    send = partial(_udp, host, port, *more, **how)  # type: ignore[arg-type]
    return Sender(f"udp and dst host {host} and dst port {port}", send)


def _protocol(number: int, host: str = PUBLIC4, data: bytes = bytes(32)) -> Sender:
    family = "ip6" if ":" in host else "ip"
    send = partial(_raw, host, number, data)
    return Sender(f"{family} proto {number} and dst host {host}", send)


def _name(name: str, send: Callable[[], object], inCell: frozenset[str] = ASKED) -> Sender:
    return Sender("port 53", send, inCell, name)


def _multicastTo(group: str, port: int, data: bytes) -> Sender:
    return Sender(f"udp and dst host {group}", partial(_multicast, group, port, data))


def _toPublic(port: int, send: Callable[[], object], inCell: frozenset[str] = SENT) -> Sender:
    return Sender(f"udp and dst host {PUBLIC4} and dst port {port}", send, inCell)


def _orSearch(expression: str, last: int) -> str:
    """An expression, or the neighbour solicitation for C{fe80::} and a number."""
    search = f"icmp6 and ip6[40] = 135 and ip6[48:2] = 0xfe80 and ip6[60:4] = {last}"
    return f"({expression}) or ({search})"


SENDERS: dict[str, Sender] = {
    "tcp4": _tcpTo(PUBLIC4, 80),
    "tcp6": _tcpTo(PUBLIC6, 80),
    "tcp-private": _tcpTo(PRIVATE4, 8080),
    "tcp-neighbour": _tcpTo(NEIGHBOUR4, 22),
    "tcp-mapped": Sender(
        "tcp and dst host 9.9.9.11", partial(_tcp, "::ffff:9.9.9.11", 80), ANSWERED
    ),
    "tcp-fastopen": _tcpTo(PUBLIC4, 81, fast=True),
    "tcp-445": _tcpTo(PUBLIC4, 445),
    "tcp-139": _tcpTo(PUBLIC4, 139),
    "udp4": _udpTo(PUBLIC4, 4000),
    "udp4-connected": _udpTo(PUBLIC4, 4001, connect=True),
    "udp6": _udpTo(PUBLIC6, 4002),
    "udp-fragments": Sender(
        f"dst host {PUBLIC4} and ip[6:2] & 0x3fff != 0",
        partial(_udp, PUBLIC4, 4003, b"w" * 20000),
    ),
    "udp-137": _udpTo(PUBLIC4, 137),
    "udp-138": _udpTo(PUBLIC4, 138),
    "udp-445": _udpTo(PUBLIC4, 445),
    "udp-5353": _udpTo(PUBLIC4, 5353),
    "netbios-broadcast": Sender(
        f"udp and dst host {BROADCAST4} and dst port 137", partial(_broadcast, BROADCAST4, 137)
    ),
    "broadcast": Sender(
        "udp and dst host 255.255.255.255 and dst port 4004",
        partial(_broadcast, "255.255.255.255", 4004),
    ),
    "dhcp": Sender("udp and dst port 67", partial(_broadcast, "255.255.255.255", 67, _DHCP)),
    "mdns4": _multicastTo("224.0.0.251", 5353, _query("printer.local")),
    "mdns6": Sender(
        "udp and dst host ff02::fb", partial(_udp, "ff02::fb", 5353, _query("printer.local"))
    ),
    "llmnr4": _multicastTo("224.0.0.252", 5355, _query("printer")),
    "llmnr6": Sender(
        "udp and dst host ff02::1:3", partial(_udp, "ff02::1:3", 5355, _query("printer"))
    ),
    "ssdp": _multicastTo("239.255.255.250", 1900, b"M-SEARCH * HTTP/1.1\r\n\r\n"),
    "igmp": Sender("igmp", _join4),
    "mld": Sender("ip6[6] = 0 and ip6[72:4] = 0x00040005", _join6),
    "getaddrinfo": _name("gai.example.com", partial(_resolve, "gai.example.com")),
    "getaddrinfo-local": _name("scanner.local", partial(_resolve, "scanner.local")),
    "getaddrinfo-label": _name("label", partial(_resolve, "label")),
    "reverse": _name("12.9.9.9.in-addr.arpa", partial(socket.gethostbyaddr, "9.9.9.12")),
    "dns-other": _udpTo(DNS4, 53, _query("udp.example.com")),
    "dns-other6": _udpTo(DNS6, 53, _query("udp6.example.com", 28)),
    "dns-tcp": Sender(f"tcp and dst host {DNS4} and dst port 53", _queryByTCP, ANSWERED),
    "dns-tls": _tcpTo(DNS4, 853),
    "dns-mx": _name(
        "mx.example.com", partial(_udp, "198.18.0.1", 53, _query("mx.example.com", 15)), SENT
    ),
    "dns-router": _udpTo(NEIGHBOUR4, 53, _query("router.example.com")),
    "lookup-sockets": Sender("", _lookupSockets, frozenset({"ENOENT"})),
    "metadata": Sender(f"tcp and dst host {METADATA}", partial(_tcp, METADATA, 80), ANSWERED),
    "link-local-udp4": _udpTo(LINK4, 4005),
    "link-local-tcp6": Sender(
        _orSearch(f"tcp and dst host {LINK6}", 1), partial(_tcp, LINK6, 80), ANSWERED
    ),
    "link-local-udp6": Sender(
        _orSearch(f"udp and dst host {LINK6_UDP}", 2), partial(_udp, LINK6_UDP, 4006)
    ),
    "ping4-raw": Sender(f"icmp and dst host {PUBLIC4}", partial(_raw, PUBLIC4, 1, _echo(8))),
    "ping4-socket": Sender("icmp and dst host 9.9.9.13", _ping),
    "ping6-raw": Sender(
        f"icmp6 and dst host {PUBLIC6}", partial(_raw, PUBLIC6, 58, b"\x80\0\0\0\0\x09\0\1")
    ),
    "router-solicitation": Sender(
        "icmp6 and dst host ff02::2 and ip6[40] = 133",
        partial(_raw, "ff02::2", 58, b"\x85" + bytes(7)),
    ),
    "neighbour-solicitation": Sender(
        "icmp6 and dst host ff02::1:ff00:9",
        partial(
            _raw,
            "ff02::1:ff00:9",
            58,
            b"\x87" + bytes(7) + socket.inet_pton(socket.AF_INET6, "fe80::9"),
        ),
    ),
    "ntp": _udpTo(PUBLIC4, 123, b"\x23" + bytes(47)),
    "quic": _udpTo(PUBLIC4, 443, _QUIC),
    "wireguard": _udpTo(PUBLIC4, 51820, b"\1" + bytes(147)),
    "traceroute": _udpTo(PUBLIC4, 33434, b"w", (socket.IPPROTO_IP, socket.IP_TTL, 1)),
    "sctp": _protocol(132),
    "udplite": _protocol(136),
    "dccp": _protocol(33),
    "gre": _protocol(47),
    "esp": _protocol(50),
    "ospf": _protocol(89),
    "ip-in-ip": _protocol(4, PUBLIC4, _packet4(OWN4, _datagram(4007))),
    "sctp6": _protocol(132, PUBLIC6),
    "raw-spoofed": _toPublic(4008, partial(_withHeader, OWN4, 4008)),
    "raw-foreign": _toPublic(4009, partial(_withHeader, "10.200.0.9", 4009)),
    "packet-raw": _toPublic(
        4010, partial(_frame, socket.SOCK_RAW, 0x800, _packet4(OWN4, _datagram(4010)))
    ),
    "packet-dgram": _toPublic(
        4011, partial(_frame, socket.SOCK_DGRAM, 0x800, _packet4(OWN4, _datagram(4011)))
    ),
    "packet-arp": Sender(
        "arp and arp[24:4] = 0x0a4d0109", partial(_frame, socket.SOCK_DGRAM, 0x806, _ARP)
    ),
    "packet-lldp": Sender(
        "ether proto 0x88cc",
        partial(_frame, socket.SOCK_DGRAM, 0x88CC, b"\2\7\4" + bytes(40), b"\1\x80\xc2\0\0\x0e"),
    ),
    "bind-device": _toPublic(4012, partial(_bound, 4012)),
    "bind-uplink": _toPublic(4013, partial(_bound, 4013, "up0"), frozenset({"ENODEV"})),
    "pktinfo": _toPublic(4014, partial(_pktinfo, 4014)),
    "mark": _udpTo(PUBLIC4, 4015, b"w", (socket.SOL_SOCKET, _SO_MARK, 0x6E74)),
    "transparent": _udpTo(
        PUBLIC4, 4016, b"w", (socket.IPPROTO_IP, _IP_TRANSPARENT, 1), source=(OWN4, 0)
    ),
    "nat64-metadata": Sender(
        "tcp and dst host 64:ff9b::a9fe:a9fe", partial(_tcp, "64:ff9b::a9fe:a9fe", 80), ANSWERED
    ),
    "abstract": Sender("", _abstract, frozenset({"ECONNREFUSED"})),
}
"""Every sender by its name."""


def _outcome(send: Callable[[], object]) -> str:
    try:
        send()
    except (socket.gaierror, socket.herror):
        return "unknown"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "sent"


def main(device: str, names: Sequence[str]) -> None:
    """
    Have senders send.

    @param device: the interface of those that name one.
    @param names: by default all of L{SENDERS}.
    """
    global _device
    _device = device
    for name in names or SENDERS:
        print(f"{name}: {_outcome(SENDERS[name].send)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
