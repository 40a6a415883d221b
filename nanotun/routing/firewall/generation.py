"""
The number of the nft ruleset's generation: another one after each change, whoever made
it.  While it is the same nothing has to be listed.

Message and attributes are those of C{linux/netfilter/nf_tables.h}, behind the headers
of C{linux/netlink.h} and C{linux/netfilter/nfnetlink.h}.
"""

from __future__ import annotations

import socket
import struct

_NETLINK_NETFILTER = 12
_GETGEN = 10 << 8 | 16  #: NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN.
_NEWGEN = 10 << 8 | 15
_GEN_ID = 1  #: NFTA_GEN_ID.
_REQUEST = 1  #: NLM_F_REQUEST.

#: struct nlmsghdr and struct nfgenmsg; attributes have their length and their type.
_HEADER = struct.Struct("=IHHIIBBH")
_ATTRIBUTE = struct.Struct("=HH")

#: Seconds; the kernel answers within the call.
_TIME_LIMIT = 1.0


def parse(data: bytes) -> int:
    """
    Read an answer.

    @return: the number, or 0 if it is none.
    """
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[1] != _NEWGEN:
        return 0
    offset = _HEADER.size
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return 0
        if kind == _GEN_ID and length == 8 and offset + 8 <= len(data):
            return int(struct.unpack_from("!I", data, offset + _ATTRIBUTE.size)[0])
        offset += (length + 3) & ~3
    return 0


def generation() -> int:
    """
    Ask the kernel, in the thread's network namespace.

    @return: the number; 0 if it does not say.
    """
    question = _HEADER.pack(_HEADER.size, _GETGEN, _REQUEST, 1, 0, 0, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.settimeout(_TIME_LIMIT)
            netlink.send(question)
            return parse(netlink.recv(4096))
    except OSError:
        return 0
