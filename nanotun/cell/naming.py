"""
How names are looked up in a cell: its own F{/etc/resolv.conf} and F{/etc/nsswitch.conf},
derived from the machine's.  Pure: text in, text out.
"""

from __future__ import annotations

import re

from nanotun.addresses import GATEWAY4, GATEWAY6

#: Sources of host names (nsswitch.conf(5)) that stay within the process, or ask the
#: servers of F{resolv.conf}.  All others ask a daemon of the machine through a unix
#: socket, and that daemon asks past the tunnel.
SOURCES = ("files", "dns", "myhostname")


def resolvConf(text: str, wholeFirst: bool = False) -> str:
    """
    Replace the name servers by the gateway's DNS relay.

    @param text: the machine's file; search lists and options are kept, but for C{ndots}:
        under fake-ip a name may have an answer whether it exists or not, so a whole name
        must be asked for before any that a search list makes of it.
    @param wholeFirst: whether that holds for names without a dot, too: they are a proxy's to
        resolve (resolv.conf(5), C{ndots:0}).
    @return: the cell's.
    """
    kept = []
    for line in text.splitlines():
        if re.match(r"(search|domain|options)\s", line) and line.isprintable():
            word, *values = line.split()
            if word == "options":
                values = [value for value in values if not value.startswith("ndots:")]
            if values:
                kept.append(" ".join((word, *values)))
    if wholeFirst:
        kept.append("options ndots:0")
    servers = [f"nameserver {GATEWAY4}", f"nameserver {GATEWAY6}"]
    return "\n".join(["# Made by 'nanotun run' for this command.", *servers, *kept, ""])


def nsswitchConf(text: str) -> str:
    """
    Keep only the sources of host names that stay inside the cell.

    @param text: the machine's file.
    @return: the cell's; the same text if nothing has to change.
    """
    return re.sub(r"(?m)^([ \t]*hosts:)(.*)$", _hosts, text)


def _hosts(line: re.Match[str]) -> str:
    """Drop the other sources, and all conditions, which refer to the dropped ones."""
    given = line[2].partition("#")[0]
    words = re.sub(r"\[[^]]*\]", " ", given).split()
    if all(word in SOURCES for word in words) and "dns" in words and "[" not in given:
        return line[0]
    kept = [word for word in words if word in SOURCES]
    if "dns" not in kept:
        kept.append("dns")
    return f"{line[1]} {' '.join(kept)}"
