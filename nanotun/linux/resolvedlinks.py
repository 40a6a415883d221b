"""
Asks systemd-resolved over D-Bus which DNS servers each interface has
(org.freedesktop.resolve1(5)).

Its file F{resolv.conf} has all of them in one list, which does not say that the servers of a VPN
know the names of that VPN, and that no others do.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from nanotun.addresses import DNS_PORT
from nanotun.flow import Endpoint

SERVICE = "org.freedesktop.resolve1"
PATH = "/org/freedesktop/resolve1"

#: The verb get-property ignores the time limit, which is one of seconds.
_GET = (
    "--system",
    "--auto-start=no",
    "--timeout=1",
    "--json=short",
    "call",
    SERVICE,
)
_PROPERTY = ("org.freedesktop.DBus.Properties", "Get", "ss")

#: Domains of one interface to look at; systemd-resolved takes as many.
DOMAINS_LIMIT = 256


class LinkServers(NamedTuple):
    """
    The servers of one interface, or those of F{resolved.conf}, which belong to none.

    @ivar number: the interface's; 0 for none.
    @ivar link: its name; empty for none.
    @ivar servers: in the order in which they are tried; a link-local address has its interface
        behind C{%}.
    @ivar domains: the servers are asked for these names and all below them, rather than others;
        in lower case, without a dot at the end.  The empty one stands for all names.
    @ivar isDefault: whether they are asked for names in nobody's domains, too.
    """

    number: int
    link: str
    servers: tuple[Endpoint, ...]
    domains: tuple[str, ...] = ()
    isDefault: bool = True


def linkPath(index: int) -> str:
    """The D-Bus path of an interface; its first digit is escaped (sd_bus_path_encode(3))."""
    digits = str(index)
    return f"{PATH}/link/_{ord(digits[0]):x}{digits[1:]}"


def resolvedServers(
    run: Callable[[Sequence[str]], str | None],
    nameOf: Callable[[int], str] = socket.if_indextoname,
) -> tuple[LinkServers, ...] | None:
    """
    Ask for all servers.  Takes some ten milliseconds for each interface that has any, and a
    second if systemd-resolved hangs.

    @param run: runs busctl with these arguments; returns its output, or L{None} if it is not
        installed or has failed.
    @param nameOf: an interface's name; raises L{OSError} if there is no such interface.
    @return: in the order of the interfaces' numbers; L{None} if systemd-resolved does not
        answer, or says something unknown.
    """
    try:
        found = _property(run, PATH, "Manager", "DNSEx")
        if found is None:
            # Before systemd 247.
            found = _property(run, PATH, "Manager", "DNS")
        if found is None:
            return None
        domains = _domains(_property(run, PATH, "Manager", "Domains") or [])
        servers: dict[int, list[Endpoint]] = {}
        names: dict[int, str] = {}
        for index, _, packed, *more in found:
            try:
                name = names[index] = nameOf(index) if index else ""
            except OSError:
                # It has gone since.
                continue
            address = ip_address(bytes(packed))
            scope = f"%{name}" if name and address.version == 6 and address.is_link_local else ""
            port = int(more[0]) if more else 0
            endpoint = Endpoint(f"{address}{scope}", port or DNS_PORT)
            if endpoint not in servers.setdefault(index, []):
                servers[index].append(endpoint)
        return tuple(
            LinkServers(
                index,
                names[index],
                tuple(servers[index]),
                tuple(domains.get(index, {})),
                _isDefault(run, index, domains.get(index, {})),
            )
            for index in sorted(servers)
        )
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def _property(
    run: Callable[[Sequence[str]], str | None], path: str, interface: str, name: str
) -> Any:
    """
    Get a property.

    @return: its value; L{None} if there is none.
    @raise ValueError, TypeError, KeyError, IndexError: the answer has another form.
    """
    output = run([*_GET, path, *_PROPERTY, f"{SERVICE}.{interface}", name])
    # A variant in the reply's body.
    return None if output is None else json.loads(output)["data"][0]["data"]


def _domains(found: Sequence[Any]) -> dict[int, dict[str, bool]]:
    """Each interface's domains, and whether each is for routing only and not for searching."""
    domains: dict[int, dict[str, bool]] = {}
    for index, name, routingOnly in found:
        of = domains.setdefault(index, {})
        if len(of) < DOMAINS_LIMIT:
            of[str(name).lower().rstrip(".")] = bool(routingOnly)
    return domains


def _isDefault(
    run: Callable[[Sequence[str]], str | None], index: int, domains: dict[str, bool]
) -> bool:
    """Whether an interface's servers are asked for names in nobody's domains."""
    if not index or "" in domains:
        return True
    found = _property(run, linkPath(index), "Link", "DefaultRoute")
    # Before systemd 240 there is no such property, but what it is by default.
    return not any(domains.values()) if found is None else bool(found)
