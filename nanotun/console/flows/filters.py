"""
Which flows are meant: the filters of C{nanotun flows}, C{top} and C{close}.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from nanotun.config.domains import Pattern, PatternKind, pattern
from nanotun.config.networks import Network
from nanotun.config.selectors import processName
from nanotun.errors import ConfigError
from nanotun.policy.names import NameSet

#: How far a flow can be.
STATES = ("waiting", "dialling", "open", "half-closed")

PROTOCOLS = ("tcp", "udp")


class Target(NamedTuple):
    """
    One value of C{--to}.

    @ivar network: L{None} for any address.
    @ivar port: 0 for any.
    """

    network: Network | None
    port: int


class Wanted(NamedTuple):
    """
    The filters: a flow has to meet one of each kind; a kind without any is met by all.

    @ivar processes: names in the form of L{processName}, absolute paths, and pids as digits.
    @ivar rules: names of rules, as they are logged.
    """

    processes: tuple[str, ...] = ()
    domains: tuple[Pattern, ...] = ()
    upstreams: tuple[str, ...] = ()
    destinations: tuple[Target, ...] = ()
    states: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()


class Filter:
    """
    Says of each flow, as the daemon describes it, whether it is meant.

    @ivar usesProcesses: whether it has to be known whose it is.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._names = NameSet(wanted.domains, {})
        self.usesProcesses = bool(wanted.processes)

    def takes(self, flow: Mapping[str, Any]) -> bool:
        """Whether a flow is meant, as far as that does not depend on its process."""
        wanted = self._wanted
        return (
            (not wanted.states or flow["state"] in wanted.states)
            and (not wanted.protocols or flow["protocol"] in wanted.protocols)
            and (not wanted.rules or flow["rule"] in wanted.rules)
            and (not wanted.upstreams or flow["upstream"] in wanted.upstreams)
            and (not wanted.domains or self._named(flow["domain"]))
            and (not wanted.destinations or self._goesTo(flow["destination"]))
        )

    def takesProcess(self, process: Mapping[str, Any] | None, names: Collection[str] = ()) -> bool:
        """
        Whether a flow's process is meant.

        @param names: more names that it has.
        """
        wanted = self._wanted.processes
        if not wanted or process is None:
            return not wanted
        known = {processName(process["name"]), process["path"], str(process["pid"]), *names}
        return not known.isdisjoint(wanted)

    def _named(self, domain: str | None) -> bool:
        return domain is not None and bool(self._names.find(domain))

    def _goesTo(self, destination: str) -> bool:
        host, _, port = destination.rpartition(":")
        address = ip_address(host.strip("[]"))
        return any(
            (each.network is None or address in each.network) and each.port in (0, int(port))
            for each in self._wanted.destinations
        )


def processOf(text: str) -> str:
    """
    A value of C{--process}, in the form of L{Wanted}.

    @raise ValueError: with a sentence's end.
    """
    if not text or not text.isprintable() or ("/" in text and not text.startswith("/")):
        raise ValueError(f"must be a name, a path or a process's number, not {text[:40]!a}")
    return text if text.startswith("/") else processName(text)


def domainOf(text: str) -> Pattern:
    """
    A value of C{--domain}.

    @raise ValueError: with a sentence's end.
    """
    wrong = "must be a name, such as example.org, =example.org, *.example.org or ~EXPRESSION"
    try:
        found = pattern(text, "write it behind --to")
    except ConfigError as error:
        raise ValueError(str(error).removeprefix(": ")) from None
    except ValueError:
        raise ValueError(f"{wrong}, not {text[:60]!a}") from None
    if found.kind is PatternKind.FILE:
        raise ValueError(f"{wrong}; lists are not read here")
    return found


def destinationOf(text: str) -> Target:
    """
    A value of C{--to}: a network or an address, a port with a colon before it, or both.  An IPv6
    one is in brackets if a port follows.

    @raise ValueError: with a sentence's end.
    """
    match = (
        re.fullmatch(r"\[([^\]]*)\](/[0-9]+)?(?::([0-9]{1,5}))?", text)
        or re.fullmatch(r"([^:\[\]/]*)(/[0-9]+)?:([0-9]{1,5})", text)
        or re.fullmatch(r"([^/\[\]]+)(/[0-9]+)?()", text)
    )
    if match is not None:
        host, port = f"{match[1]}{match[2] or ''}", int(match[3] or 0)
        with contextlib.suppress(ValueError):
            if 1 <= port <= 65535 or not match[3]:
                anywhere = match[3] and not host
                return Target(None if anywhere else ip_network(host, strict=False), port)
    raise ValueError(
        "must be an address or a network and, if you like, a port, such as 192.0.2.7, "
        f"10.0.0.0/8:443 or '[2001:db8::]/32:443', not {text[:60]!a}"
    )


def ruleOf(text: str) -> str:
    """A value of C{--rule}: of the user's rules the number is enough, as shells take C{#} away."""
    return f"#{text}" if text.isdecimal() else text
