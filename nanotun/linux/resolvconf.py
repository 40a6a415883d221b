"""
Reads F{resolv.conf}: which DNS servers a machine asks, and in which domains it looks for short
names (resolv.conf(5)).

In a container nanotun writes the file itself (L{nanotun.routing.firewall.resolvconf}).  What was
there before is then in comments behind the new lines, so that the file can be put back by whoever
finds it, and C{dns: system} goes on with the servers from before.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

RESOLV_CONF = "/etc/resolv.conf"

#: Characters to read.  A file of this size has thousands of servers.
SIZE_LIMIT = 1 << 16


#: The first line of a file that nanotun wrote, with the runDir of the daemon that did.
HEAD = "# Written by nanotun ({runDir}), which puts back the lines below when it stops."

#: Before each line that was there.
KEPT = "#nanotun: "

_HEAD = re.compile(re.escape(HEAD).replace(re.escape("{runDir}"), "(/[^\n]*)"))


class Written(NamedTuple):
    """
    A file that nanotun wrote.

    @ivar runDir: of the daemon.
    @ivar before: the whole text from before.
    """

    runDir: str
    before: str


def findWritten(text: str) -> Written | None:
    """What a file says of itself; L{None} if nanotun did not write it."""
    head, *lines = text.split("\n")
    found = _HEAD.fullmatch(head)
    if found is None:
        return None
    kept = (line.removeprefix(KEPT) for line in lines if line.startswith(KEPT))
    return Written(found[1], "\n".join(kept))


def written(before: str, runDir: str, server: str) -> str:
    """
    The text with another server; search domains and options stay.

    @param before: the text that L{findWritten} gives back, without nanotun's own lines.
    @param server: a literal address.
    """
    lines = before.split("\n")
    stay = [line for line in lines if line.split()[:1] in (["search"], ["domain"], ["options"])]
    kept = (f"{KEPT}{line}" for line in lines)
    head = HEAD.format(runDir=runDir)
    return "\n".join([head, f"nameserver {server}", *stay, *kept]) + "\n"


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
    Read a file.  Lines that are not understood are passed over, as the C library does.  Of a file
    that nanotun wrote, what was there before is read.

    @return: nothing in both fields if the file is missing or cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(SIZE_LIMIT)
    except OSError:
        return ResolvConf()
    found = findWritten(text)
    lines = (text if found is None else found.before).splitlines()
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
