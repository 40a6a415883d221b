"""
Rules, routes and interfaces by rtnetlink(7).

pyroute2 is imported here at the first call, not before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, ip_interface
from typing import Any, TypeVar

from zope.interface import implementer

from nanotun.addresses import SOCKET_MARK
from nanotun.linux.tables import Interrupted, defaultRoutes
from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.values import PROTOCOL, TABLE, Interface, Route, Rule

_Found = TypeVar("_Found")

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_TRANSPORTS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

#: FR_ACT_* and FIB_RULE_INVERT of linux/fib_rules.h.
_ACTIONS = {"lookup": 1, "goto": 2, "nop": 3, "unreachable": 7}
_INVERT = 2

#: RT_SCOPE_LINK and RT_SCOPE_UNIVERSE of linux/rtnetlink.h.
_SCOPE_LINK = 253
_SCOPE_UNIVERSE = 0

#: A dump that a change ran into is asked for again, so often at most.
_TRIES = 5


def ruleMessage(rule: Rule) -> dict[str, Any]:
    """A rule as pyroute2 takes it."""
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
    if rule.invert:
        message["flags"] = _INVERT
    if rule.to:
        message["dst"], length = rule.to.split("/")
        message["dst_len"] = int(length)
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


#: What a rule of ours can have; with anything else it is another rule.
_KNOWN = frozenset(
    (
        "FRA_TABLE",
        "FRA_PRIORITY",
        "FRA_PROTOCOL",
        "FRA_GOTO",
        "FRA_FWMARK",
        "FRA_FWMASK",
        "FRA_DST",
        "FRA_IP_PROTO",
        "FRA_SPORT_RANGE",
        "FRA_DPORT_RANGE",
        "FRA_UID_RANGE",
        "FRA_IIFNAME",
        # What the kernel always tells: that nothing is suppressed.
        "FRA_SUPPRESS_PREFIXLEN",
        "FRA_SUPPRESS_IFGROUP",
        # What newer kernels tell beside, such as the masks of ports.
        "UNKNOWN",
    )
)
_WHOLE = 0xFFFFFFFF


def ruleOf(message: Any) -> Rule | None:
    """What pyroute2 has read as one of our rules; L{None} if it cannot be ours."""
    attributes = dict(message["attrs"])
    actions = {number: name for name, number in _ACTIONS.items()}
    if (
        attributes.get("FRA_PROTOCOL") != PROTOCOL
        or not set(attributes) <= _KNOWN
        or message["action"] not in actions
        or message["src_len"]
        or attributes.get("FRA_FWMASK", _WHOLE) != _WHOLE
    ):
        return None
    action = actions[message["action"]]
    target = {"lookup": "FRA_TABLE", "goto": "FRA_GOTO"}.get(action, "")
    transports = {int(number): name for name, number in _TRANSPORTS.items()}
    uids = attributes.get("FRA_UID_RANGE")
    first, last = map(int, uids.split(":")) if uids else (0, 0)
    return Rule(
        6 if message["family"] == socket.AF_INET6 else 4,
        attributes.get("FRA_PRIORITY", 0),
        action,
        attributes.get(target, 0),
        attributes.get("FRA_FWMARK", 0),
        bool(message["flags"] & _INVERT),
        f"{attributes['FRA_DST']}/{message['dst_len']}" if "FRA_DST" in attributes else "",
        transports.get(attributes.get("FRA_IP_PROTO", 0), ""),
        int(attributes.get("FRA_SPORT_RANGE", "0").split(":")[0]),
        int(attributes.get("FRA_DPORT_RANGE", "0").split(":")[0]),
        (first, last) if uids else None,
        attributes.get("FRA_IIFNAME", ""),
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

        def dump(netlink: Any) -> list[Rule]:
            found = []
            for family in _FAMILIES.values():
                found += [ruleOf(each) for each in netlink.get_rules(family=family)]
            return [rule for rule in found if rule is not None]

        return self._ask(dump)

    def addRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.addRule}."""
        self._ask(lambda netlink: netlink.rule("add", **ruleMessage(rule)))

    def deleteRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.deleteRule}."""
        self._ask(lambda netlink: netlink.rule("del", **ruleMessage(rule)))

    def routes(self) -> list[Route]:
        """See L{IKernelRoutes.routes}."""

        for _ in range(_TRIES):
            with contextlib.suppress(Interrupted):
                names = dict(socket.if_nameindex())
                return [
                    Route(version, names.get(each.interface, "?"))
                    for version, family in _FAMILIES.items()
                    for each in defaultRoutes(family, TABLE)
                    if each.protocol == PROTOCOL
                ]
        raise OSError(errno.EINTR, os.strerror(errno.EINTR))

    def addRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.addRoute}."""
        self._ask(lambda netlink: netlink.route("add", **self._routeMessage(route)))

    def deleteRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.deleteRoute}."""
        self._ask(lambda netlink: netlink.route("del", **self._routeMessage(route)))

    def interfaces(self, probes: tuple[str, ...]) -> list[Interface]:
        """See L{IKernelRoutes.interfaces}."""

        def look(netlink: Any) -> list[Interface]:
            # Not by a dump of the links, which takes a millisecond for each.
            names = {index: name for index, name in socket.if_nameindex() if name != "lo"}
            networks: dict[int, dict[str, None]] = {index: {} for index in names}
            addresses = [
                (each["index"], _networkOf(each)) for each in netlink.get_addr(socket.AF_INET)
            ]
            for index, network in (*addresses, *_networks6()):
                if network and index in networks:
                    networks[index][network] = None
            ways: dict[int, dict[str, None]] = {index: {} for index in names}
            for index, gateway in filter(None, (_wayTo(netlink, probe) for probe in probes)):
                if index in ways:
                    ways[index][gateway] = None
            return [
                Interface(name, tuple(sorted(networks[index])), tuple(ways[index]))
                for index, name in names.items()
            ]

        return self._ask(look)

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
            # To a device and no gateway; IPv6 has no such scope.
            "scope": _SCOPE_LINK if route.family == 4 else _SCOPE_UNIVERSE,
        }

    def _ask(self, question: Callable[[Any], _Found]) -> _Found:
        """Call with the socket, and make what it raises an C{OSError}."""
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
                # What is still to be read belongs to no question of ours.
                self.close()
                raise
        raise OSError(errno.EINTR, os.strerror(errno.EINTR))


def _networkOf(address: Any) -> str:
    """The network of one address, or nothing if it is the machine's alone, or the link's."""
    own, other = address.get_attr("IFA_LOCAL"), address.get_attr("IFA_ADDRESS")
    if address["scope"] != _SCOPE_UNIVERSE or other is None:
        return ""
    network = ip_interface(f"{other}/{address['prefixlen']}").network
    alone = network.prefixlen == network.max_prefixlen and own in (None, other)
    return "" if alone else str(network)


def _networks6() -> Iterator[tuple[int, str]]:
    """The same of all IPv6 addresses, by index, from C{if_inet6} of proc(5)."""
    try:
        with open("/proc/thread-self/net/if_inet6") as file:
            lines = file.readlines()
    except OSError:
        return
    for line in lines:
        text, index, length, scope = line.split()[:4]
        if int(scope, 16) == _SCOPE_UNIVERSE and int(length, 16) < 128:
            address = IPv6Address(int(text, 16))
            yield int(index, 16), str(ip_interface((address, int(length, 16))).network)


def _wayTo(netlink: Any, probe: str) -> tuple[int, str] | None:
    """The interface by which marked packets to C{probe} leave, and the gateway's address."""
    from pyroute2.netlink.exceptions import NetlinkError

    family = _FAMILIES[6 if ":" in probe else 4]
    with contextlib.suppress(NetlinkError):
        for route in netlink.route("get", family=family, dst=probe, mark=SOCKET_MARK):
            index, gateway = route.get_attr("RTA_OIF"), route.get_attr("RTA_GATEWAY")
            if index is not None:
                return index, gateway or ("::" if ":" in probe else "0.0.0.0")
    return None
