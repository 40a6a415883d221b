"""
Rules, routes and interfaces of the kernel, by rtnetlink(7).

pyroute2 is imported at the first call that needs it, not before.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from zope.interface import implementer

from nanotun.addresses import SOCKET_MARK
from nanotun.linux.network import (
    TABLE_MAIN,
    TUNNELS,
    Network,
    addresses,
    interfaceNames,
    linkOf,
    links,
    nextHops,
    routes,
)
from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.others import (
    GOTO,
    INVERT,
    LOOKUP,
    MARKS_LIMIT,
    WHOLE,
    earlierOf,
    firstAmong,
    markOf,
    priorityOf,
    takesAll,
)
from nanotun.routing.values import (
    PROTOCOL,
    SOMEWHERE4,
    SOMEWHERE6,
    TABLE,
    Earlier,
    Interface,
    Mark,
    Others,
    Route,
    Rule,
)

_Found = TypeVar("_Found")

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_TRANSPORTS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

#: FR_ACT_* of linux/fib_rules.h.
_ACTIONS = {"lookup": LOOKUP, "goto": GOTO, "nop": 3, "unreachable": 7}

#: RT_SCOPE_LINK and RT_SCOPE_UNIVERSE of linux/rtnetlink.h.
_SCOPE_LINK = 253
_SCOPE_UNIVERSE = 0

#: The longest prefix of routes that stand for a default route: 2000::/3 is all of the Internet.
_WIDEST = 3

#: How often a dump that a change has interrupted is repeated.
_TRIES = 5


def ruleMessage(rule: Rule) -> dict[str, Any]:
    """A rule as pyroute2's arguments."""
    message: dict[str, Any] = {
        "family": _FAMILIES[rule.family],
        "priority": rule.priority,
        "action": _ACTIONS[rule.action],
        "protocol": PROTOCOL,
    }
    if rule.action == "lookup":
        message["table"] = rule.target
    if rule.action == "goto":
        message["goto"] = rule.target
    if rule.mark:
        message["fwmark"] = rule.mark
    if rule.mask:
        message["fwmask"] = rule.mask
    if rule.invert:
        message["flags"] = INVERT
    if rule.to:
        message["dst"], length = rule.to.split("/")
        message["dst_len"] = int(length)
    if rule.source:
        message["src"], length = rule.source.split("/")
        message["src_len"] = int(length)
    if rule.transport:
        message["ip_proto"] = _TRANSPORTS[rule.transport]
    if rule.sourcePort:
        message["sport_range"] = f"{rule.sourcePort}:{rule.sourcePort}"
    if rule.destinationPort:
        message["dport_range"] = f"{rule.destinationPort}:{rule.destinationPort}"
    if rule.incoming:
        message["iifname"] = rule.incoming
    if rule.uids is not None:
        message["uid_range"] = f"{rule.uids[0]}:{rule.uids[1]}"
    return message


#: The attributes that nanotun's rules can have; a rule with others is not nanotun's.
_KNOWN = frozenset(
    (
        "FRA_TABLE",
        "FRA_PRIORITY",
        "FRA_PROTOCOL",
        "FRA_GOTO",
        "FRA_FWMARK",
        "FRA_FWMASK",
        "FRA_DST",
        "FRA_SRC",
        "FRA_IP_PROTO",
        "FRA_SPORT_RANGE",
        "FRA_DPORT_RANGE",
        "FRA_UID_RANGE",
        "FRA_IIFNAME",
        # Always present: they say that nothing is suppressed.
        "FRA_SUPPRESS_PREFIXLEN",
        "FRA_SUPPRESS_IFGROUP",
        # Attributes of newer kernels, such as the masks of ports.
        "UNKNOWN",
    )
)


def ruleOf(message: Any) -> Rule | None:
    """One of our rules, from pyroute2's message; L{None} if it cannot be ours."""
    attributes = dict(message["attrs"])
    actions = {number: name for name, number in _ACTIONS.items()}
    if (
        attributes.get("FRA_PROTOCOL") != PROTOCOL
        or not set(attributes) <= _KNOWN
        or message["action"] not in actions
        or bool(message["src_len"]) != ("FRA_SRC" in attributes)
    ):
        return None
    action = actions[message["action"]]
    target = {"lookup": "FRA_TABLE", "goto": "FRA_GOTO"}.get(action, "")
    transports = {int(number): name for name, number in _TRANSPORTS.items()}
    uids = attributes.get("FRA_UID_RANGE")
    mask = attributes.get("FRA_FWMASK", WHOLE)
    first, last = map(int, uids.split(":")) if uids else (0, 0)
    return Rule(
        6 if message["family"] == socket.AF_INET6 else 4,
        attributes.get("FRA_PRIORITY", 0),
        action,
        attributes.get(target, 0),
        attributes.get("FRA_FWMARK", 0),
        bool(message["flags"] & INVERT),
        f"{attributes['FRA_DST']}/{message['dst_len']}" if "FRA_DST" in attributes else "",
        transports.get(attributes.get("FRA_IP_PROTO", 0), ""),
        int(attributes.get("FRA_SPORT_RANGE", "0").split(":")[0]),
        int(attributes.get("FRA_DPORT_RANGE", "0").split(":")[0]),
        (first, last) if uids else None,
        attributes.get("FRA_IIFNAME", ""),
        f"{attributes['FRA_SRC']}/{message['src_len']}" if "FRA_SRC" in attributes else "",
        mask=0 if mask == WHOLE else mask,
    )


@implementer(IKernelRoutes)
class NetlinkRoutes:
    """See L{IKernelRoutes}."""

    def __init__(self) -> None:
        self._socket: Any = None

    def close(self) -> None:
        """See L{IKernelRoutes.close}."""
        if self._socket is not None:
            opened, self._socket = self._socket, None
            opened.close()

    def rules(self) -> list[Rule]:
        """See L{IKernelRoutes.rules}."""
        found = map(ruleOf, self._dumpRules())
        return [rule for rule in found if rule is not None]

    def addRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.addRule}."""
        self._ask(lambda netlink: netlink.rule("add", **ruleMessage(rule)))

    def deleteRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.deleteRule}."""
        self._ask(lambda netlink: netlink.rule("del", **ruleMessage(rule)))

    def routes(self) -> list[Route]:
        """See L{IKernelRoutes.routes}."""
        # Not by pyroute2, which reads all routes of the machine to find two.
        names = interfaceNames()
        return [
            Route(version, each.link or "?")
            for version, family in _FAMILIES.items()
            for each in routes(family, TABLE, names)
            if each.isDefault and each.protocol == PROTOCOL
        ]

    def addRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.addRoute}."""
        self._ask(lambda netlink: netlink.route("add", **self._routeMessage(route)))

    def deleteRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.deleteRoute}."""
        self._ask(lambda netlink: netlink.route("del", **self._routeMessage(route)))

    def interfaces(
        self, destinations: tuple[str, ...], marks: tuple[int, ...] = ()
    ) -> list[Interface]:
        """See L{IKernelRoutes.interfaces}."""
        names = interfaceNames()
        networks: dict[str, dict[str, None]] = {name: {} for name in names.values()}
        gateways: dict[str, dict[str, None]] = {name: {} for name in names.values()}
        found = [
            (address.link, address.connected)
            for address in addresses(names)
            if address.link and address.connected is not None
        ]
        down = _down(network for _, network in found)
        for link, network in found:
            if link not in down:
                networks[link][str(network)] = None
        for hop in nextHops(destinations, SOCKET_MARK):
            if hop.interface in names:
                gateways[names[hop.interface]][hop.gateway] = None
        answers = {
            names.get(hop.interface, "") for mark in marks for hop in nextHops(destinations, mark)
        }
        answers |= _below([name for name in gateways if gateways[name]], names)
        return [
            Interface(
                name,
                tuple(sorted(networks[name])),
                tuple(gateways[name]),
                answers=name in answers,
            )
            for name in names.values()
            if name != "lo"
        ]

    def uplinks(self) -> tuple[str, ...]:
        """See L{IKernelRoutes.uplinks}."""
        names = interfaceNames()
        hops = nextHops((SOMEWHERE4, SOMEWHERE6), SOCKET_MARK)
        found = {names.get(hop.interface, "") for hop in hops}
        for family in _FAMILIES.values():
            for each in routes(family, 0, names):
                if each.network.prefixlen <= _WIDEST and each.table != TABLE:
                    found.update((each.link, *each.hops))
        return tuple(sorted(found - {"", "lo"}))

    def others(self) -> Others:
        """See L{IKernelRoutes.others}."""
        messages = self._dumpRules()
        first = firstAmong([priorityOf(each) for each in messages])
        names = interfaceNames()

        def devices(family: int, table: int) -> list[str]:
            found = [each.link for each in routes(family, table, names) if each.link]
            return list(dict.fromkeys(found))

        def leadsAway(family: int, table: int) -> bool:
            return takesAll(routes(family, table, names), links())

        found: list[Earlier] = []
        unclear: list[int] = []
        marks: dict[Mark, int] = {}
        for message in messages:
            told = earlierOf(message, first, devices)
            found += told or []
            if told is None:
                unclear.append(priorityOf(message))
            mark = markOf(message, leadsAway)
            if mark is not None:
                marks.setdefault(mark, priorityOf(message))
        ahead = tuple(sorted({each for each in marks.values() if each < first}))
        return Others(tuple(found), tuple(unclear), first, tuple(marks)[:MARKS_LIMIT], ahead)

    def _dumpRules(self) -> list[Any]:
        """All rules of both families, as pyroute2's messages."""

        def dump(netlink: Any) -> list[Any]:
            families = _FAMILIES.values()
            return [each for family in families for each in netlink.get_rules(family=family)]

        return self._ask(dump)

    def _routeMessage(self, route: Route) -> dict[str, Any]:
        try:
            index = socket.if_nametoindex(route.device)
        except OSError:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
        return {
            "family": _FAMILIES[route.family],
            "dst": "default",
            "oif": index,
            "table": TABLE,
            "proto": PROTOCOL,
            # Through a device, without a gateway; IPv6 has no such scope.
            "scope": _SCOPE_LINK if route.family == 4 else _SCOPE_UNIVERSE,
        }

    def _ask(self, question: Callable[[Any], _Found]) -> _Found:
        """Call C{question} with the socket; its exceptions become C{OSError}."""
        from pyroute2.iproute.linux import IPRoute
        from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

        for _ in range(_TRIES):
            if self._socket is None:
                self._socket = IPRoute()
            try:
                return question(self._socket)
            except NetlinkDumpInterrupted:
                continue
            except NetlinkError as error:
                raise OSError(error.code, os.strerror(error.code)) from None
            except BaseException:
                # Unread answers must not be taken for those of the next question.
                self.close()
                raise
        raise OSError(errno.EINTR, os.strerror(errno.EINTR))


def _below(uplinks: Sequence[str], names: Mapping[int, str]) -> set[str]:
    """
    The links by which another VPN reaches its server, if the uplink is a VPN: those of the
    default routes that it has overridden, and of its routes to single hosts.

    @param uplinks: by which packets to the Internet leave.
    @param names: of all links, by index.
    """
    indexes = [index for index, name in names.items() if name in uplinks]
    if not any(link.kind in TUNNELS for link in map(linkOf, indexes) if link is not None):
        return set()
    return {
        each.link
        for each in routes(socket.AF_INET, TABLE_MAIN, names)
        if each.isDefault or each.network.prefixlen == each.network.max_prefixlen
    }.difference(uplinks)


def _down(networks: Iterable[Network]) -> set[str]:
    """
    The links that are down but may have an address of a public network, which is then not
    where they are: its hosts are reached by the default route.  In IPv6 the kernel takes such
    addresses away.

    A dump of the links costs more than all the rest, so it is made only where it matters.

    @param networks: all that belong to an address.
    """
    if not any(network.version == 4 and network.is_global for network in networks):
        return set()
    return {link.name for link in links() if not link.up}


@implementer(IKernelRoutes)
class CachedRoutes:
    """
    Rules and routes as of one moment: forty changes ask whether they hold, and the kernel
    is asked once.  After a change of its own, and after L{forget}, it asks again.

    @param kernel: what is asked.
    """

    def __init__(self, kernel: IKernelRoutes) -> None:
        self._kernel = kernel
        self._rules: list[Rule] | None = None
        self._routes: list[Route] | None = None

    def forget(self) -> None:
        """Ask the kernel anew at the next question."""
        self._rules = self._routes = None

    def close(self) -> None:
        """See L{IKernelRoutes.close}."""
        self._kernel.close()

    def rules(self) -> list[Rule]:
        """See L{IKernelRoutes.rules}."""
        if self._rules is None:
            self._rules = self._kernel.rules()
        return self._rules

    def addRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.addRule}."""
        self.forget()
        self._kernel.addRule(rule)

    def deleteRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.deleteRule}."""
        self.forget()
        self._kernel.deleteRule(rule)

    def routes(self) -> list[Route]:
        """See L{IKernelRoutes.routes}."""
        if self._routes is None:
            self._routes = self._kernel.routes()
        return self._routes

    def addRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.addRoute}."""
        self.forget()
        self._kernel.addRoute(route)

    def deleteRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.deleteRoute}."""
        self.forget()
        self._kernel.deleteRoute(route)

    def interfaces(
        self, destinations: tuple[str, ...], marks: tuple[int, ...] = ()
    ) -> list[Interface]:
        """See L{IKernelRoutes.interfaces}."""
        return self._kernel.interfaces(destinations, marks)

    def uplinks(self) -> tuple[str, ...]:
        """See L{IKernelRoutes.uplinks}."""
        return self._kernel.uplinks()

    def others(self) -> Others:
        """See L{IKernelRoutes.others}."""
        return self._kernel.others()


def vpnMarks() -> tuple[int, ...]:
    """
    The marks of other VPNs' own packets; see L{nanotun.routing.others.markOf}.  None if the
    kernel does not list its rules.
    """
    kernel = NetlinkRoutes()
    try:
        return tuple(dict.fromkeys(each.mark for each in kernel.others().marks))
    except OSError:
        return ()
    finally:
        kernel.close()
