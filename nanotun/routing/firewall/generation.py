"""
The generation number of the nft ruleset: it changes with each change, no matter whose.
While it is the same the ruleset need not be listed again.

Messages and attributes are those of C{linux/netfilter/nf_tables.h}, behind the header
of C{linux/netfilter/nfnetlink.h}.
"""

from __future__ import annotations

import struct

from nanotun.linux import netlink

_GETGEN = 10 << 8 | 16  #: NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN.
_NEWGEN = 10 << 8 | 15
_GEN_ID = 1  #: NFTA_GEN_ID.

#: struct nfgenmsg: family, version, resource id.
_NFGENMSG = struct.Struct("=BBH")
_NUMBER = struct.Struct("!I")

#: Seconds; the kernel answers within the call.
_TIME_LIMIT = 1.0


def parse(data: bytes) -> int:
    """
    Read an answer.

    @return: the number, or 0 if there is none in it.
    """
    for message in netlink.messages(data):
        if message.kind == _NEWGEN:
            start = message.start + _NFGENMSG.size
            number = netlink.attributeValues(data, start, message.end).get(_GEN_ID, b"")
            return int(_NUMBER.unpack(number)[0]) if len(number) == _NUMBER.size else 0
    return 0


def generation() -> int:
    """
    Ask the kernel, in the thread's network namespace.

    @return: the number; 0 if the kernel does not tell.
    """
    question = netlink.pack(_GETGEN, netlink.NLM_F_REQUEST, 1, _NFGENMSG.pack(0, 0, 0))
    try:
        with netlink.openNetlink(netlink.NETFILTER, blocking=True) as opened:
            opened.settimeout(_TIME_LIMIT)
            opened.send(question)
            return parse(opened.recv(4096))
    except OSError:
        return 0
