"""
Reads F{resolv.conf}: which DNS servers a machine asks, and in which domains it looks for short
names (resolv.conf(5)).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

#: Characters to read.  A file of this size has thousands of servers.
SIZE_LIMIT = 1 << 16


class ResolvConf(NamedTuple):
    """
    What such a file says.

    @ivar servers: literal addresses in their canonical form, in the order of the file, without
        repetitions; a link-local one has its link behind C{%}.  Programs ask the first three.
    @ivar search: domains in lower case, without a dot at the end, in the order in which they are
        tried.
    """

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def readResolvConf(path: str) -> ResolvConf:
    """
    Read a file.  Lines that are not understood are passed over, as the C library does.

    @return: nothing in both fields if the file is missing or cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(SIZE_LIMIT).splitlines()
    except OSError:
        return ResolvConf()
    servers: dict[str, None] = {}
    search: tuple[str, ...] = ()
    for line in lines:
        # A keyword must begin its line; so a comment, too, is none of the three.
        words = line.split() if line[:1].isalpha() else []
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            try:
                servers[str(ip_address(words[1]))] = None
            except ValueError:
                pass
        elif words[0] in ("search", "domain"):
            # The last of these lines counts.
            search = tuple(words[1:] if words[0] == "search" else words[1:2])
    domains = (domain.lower().rstrip(".") for domain in search)
    return ResolvConf(tuple(servers), tuple(dict.fromkeys(filter(None, domains))))
