"""
Writes MaxMind DB files: https://maxmind.github.io/MaxMind-DB.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import ip_network

_MARKER = b"\xab\xcd\xefMaxMind.com"

#: The head of a number of two bytes.  The C library insists on each number's size.
_SHORT = b"\xa2"

#: What stands for an address in the IPv6 tree that is an IPv4 one: the first 96 bits are 0.
_FOUR = 96


def countries(networks: Mapping[str, str]) -> bytes:
    """
    A file that says which country some networks are in.

    @param networks: no one of them is in another one.
    """
    return mmdb({network: {"country": {"iso_code": code}} for network, code in networks.items()})


def mmdb(networks: Mapping[str, object], kind: str = "Test-Country") -> bytes:
    """
    A file with a record for each of some networks.

    @param kind: what kind of file it says it is.
    """
    data, places = b"", {}
    tree: list[list[int | None]] = [[None, None]]
    for text, record in networks.items():
        packed = _packed(record)
        if packed not in places:
            places[packed] = len(data)
            data += packed
        _plant(tree, text, ~places[packed])
    nodes = len(tree)
    search = b"".join(
        struct.pack(
            ">2I",
            # Nowhere, a record's place, which was kept as a negative number, or a node.
            *(nodes if at is None else nodes + 16 + ~at if at < 0 else at for at in node),
        )
        for node in tree
    )
    metadata = {
        "node_count": nodes,
        "record_size": _SHORT + b"\0\x20",
        "ip_version": _SHORT + b"\0\6",
        "database_type": kind,
        "languages": [],
        "binary_format_major_version": _SHORT + b"\0\2",
        "binary_format_minor_version": _SHORT + b"\0\0",
        "build_epoch": b"\1\2\1",
        "description": {},
    }
    return search + bytes(16) + data + _MARKER + _packed(metadata)


def _plant(tree: list[list[int | None]], text: str, leaf: int) -> None:
    network = ip_network(text)
    bits = f"{int(network.network_address):0{network.max_prefixlen}b}"[: network.prefixlen]
    *path, last = [0] * (_FOUR if network.version == 4 else 0) + [int(bit) for bit in bits]
    node = 0
    for side in path:
        following = tree[node][side]
        if following is None:
            tree.append([None, None])
            following = tree[node][side] = len(tree) - 1
        node = following
    tree[node][last] = leaf


def _packed(value: object) -> bytes:
    """A value as the data section has it; bytes are packed already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        text = value.encode()
        return _head(2, len(text)) + text
    if isinstance(value, int):
        return _head(6, 4) + value.to_bytes(4, "big")
    if isinstance(value, list):
        return _head(11, len(value)) + b"".join(map(_packed, value))
    assert isinstance(value, dict)
    return _head(7, len(value)) + b"".join(
        _packed(key) + _packed(each) for key, each in value.items()
    )


def _head(kind: int, size: int) -> bytes:
    assert size < 29, "a larger size takes another form"
    return bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])
