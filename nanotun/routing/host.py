"""
Reads all that the plan depends on: the settings' wishes and the state of the machine.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from nanotun.config.askedservers import literalHosts
from nanotun.config.selectors import Selector, SelectorKind
from nanotun.config.settings import Settings
from nanotun.config.upstreams import firstHops
from nanotun.errors import ConfigError, RoutingError
from nanotun.linux.locality import isOwnAddress
from nanotun.linux.neighbours import Relatives
from nanotun.linux.users import nearUser, uidOf
from nanotun.routing.changes import readSysctl
from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.values import (
    SOMEWHERE4,
    SOMEWHERE6,
    Earlier,
    Host,
    Interface,
    Wishes,
)

_CONF = "net/ipv4/conf"


#: A user's number is at most this; the next one means no change (chown(2)).
LAST_USER = 0xFFFFFFFE


def excludedUsers(
    chosen: Iterable[Selector], uidOf: Callable[[str], int] = uidOf
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """
    The users that C{excludedProcesses} names.

    @param uidOf: see L{nanotun.linux.users.uidOf}.
    @return: their numbers, each once, and the names and numbers that no user has.
    """
    found: dict[int, None] = {}
    unknown: list[str] = []
    for selector in chosen:
        if selector.kind is not SelectorKind.UID:
            continue
        try:
            number = uidOf(selector.value)
        except KeyError:
            number = LAST_USER + 1
        if number > LAST_USER:
            unknown.append(selector.value)
        else:
            found[number] = None
    return tuple(found), tuple(unknown)


def chosenUsers(chosen: Iterable[Selector], uidOf: Callable[[str], int] = uidOf) -> tuple[int, ...]:
    """
    The users that C{onlyProcesses} names: their numbers, each once.

    @raise ConfigError: there is no such user, whose packets would leave past the tunnel.
    """
    found, unknown = excludedUsers(chosen, uidOf)
    if unknown:
        name, near = unknown[0], nearUser(unknown[0])
        advice = f"did you mean {near}?" if near else "write another name, or a number."
        raise ConfigError(
            f"onlyProcesses names uid:{name}, but this machine has no user {name}; {advice}"
        )
    return found


def wishesOf(settings: Settings, uidOf: Callable[[str], int] = uidOf) -> Wishes:
    """
    What the settings ask of the routes.

    @param uidOf: see L{nanotun.linux.users.uidOf}.  An unknown user that is excluded is left
        out here; the firewall warns of it.
    @raise ConfigError: a user of C{onlyProcesses} is unknown.
    """
    uids, _ = excludedUsers(settings.excludedProcesses, uidOf)
    return Wishes(
        settings.tunName,
        settings.lan,
        settings.ipv6,
        settings.killSwitch,
        uids,
        chosenUsers(settings.onlyProcesses, uidOf),
        any(each.kind is not SelectorKind.UID for each in settings.onlyProcesses),
    )


def proxyHosts(settings: Settings) -> tuple[str, ...]:
    """
    The hosts of all proxies that nanotun's own sockets connect to: names and addresses, without
    paths of unix sockets.
    """
    proxies = (each for each in firstHops(settings) if not each.socketPath)
    return tuple(dict.fromkeys(each.host.lower().rstrip(".") for each in proxies))


def lookUp(host: str) -> list[str]:
    """
    Look up a name's addresses of both families with the system's resolver; blocks.

    @return: empty if there are none, or the lookup fails.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    # An address with a zone belongs to a link, and no rule can match it.
    return list(dict.fromkeys(str(each[4][0]) for each in found if "%" not in str(each[4][0])))


class AskedServers:
    """
    The DNS servers that the daemon itself talks to: their answers come in by an interface that the
    plan has to know.

    @param system: the literal addresses of those that C{system} stands for.
    """

    def __init__(
        self, settings: Settings, system: Callable[[], tuple[str, ...]] = lambda: ()
    ) -> None:
        self._hosts = literalHosts(settings)
        self._system = system

    def hosts(self) -> tuple[str, ...]:
        """Their addresses, literal ones."""
        return (*self._hosts, *self._system())

    def follow(self, settings: Settings) -> bool:
        """
        Use those of other settings.

        @return: whether they are others than before.
        """
        before, self._hosts = self._hosts, literalHosts(settings)
        return self._hosts != before


class HostReader:
    """
    Reads the machine's state.

    @param wishes: what the settings ask for.
    @param servers: the literal addresses of servers that the daemon itself talks to.
    @param root: the folder of sysctls.
    @param isOwn: see L{isOwnAddress}.
    @param relatives: see L{Relatives.of}.
    """

    def __init__(
        self,
        kernel: IKernelRoutes,
        wishes: Wishes,
        servers: Callable[[], Iterable[str]] = tuple,
        root: str = "/proc/sys",
        isOwn: Callable[[str], bool] = isOwnAddress,
        relatives: Callable[[Collection[str]], Iterable[str]] | None = None,
    ) -> None:
        self._kernel = kernel
        self._wishes = wishes
        self._servers = servers
        self._root = root
        self._isOwn = isOwn
        fresh = Relatives(time.monotonic, maxAge=0).of
        self._relatives = fresh if relatives is None else relatives

    def read(
        self,
        proxies: tuple[str, ...],
        sshPorts: tuple[int, ...],
        valuesBefore: Mapping[str, str],
        hops: tuple[str, ...] = (),
    ) -> Host:
        """
        Read the state.

        @param proxies: the proxies' addresses.
        @param sshPorts: where SSH is served.
        @param valuesBefore: the values of settings before we changed them, by name.
        @param hops: where proxies on this machine pass connections on to.
        @raise RoutingError: the kernel does not list its interfaces or routes.
        """
        destinations = (*proxies, *self._servers(), SOMEWHERE4, SOMEWHERE6)
        try:
            found = self._kernel.others()
            marks = tuple(dict.fromkeys(each.mark for each in found.marks))
            everything = self._kernel.interfaces(tuple(dict.fromkeys(destinations)), marks)
            uplinks = self._kernel.uplinks()
            known = dict.fromkeys((*hops, *proxies))
            named = tuple(each for each in known if not self._isOwn(each))
            behind = (*named, *sorted(set(self._relatives(named)).difference(named)))
        except OSError as error:
            raise RoutingError(
                f"The network interfaces cannot be listed: {error.strerror}."
            ) from None

        def rpFilter(name: str) -> int:
            key = f"{_CONF}/{name}/rp_filter"
            text = valuesBefore.get(key) or readSysctl(os.path.join(self._root, key))
            return int(text) if text.isdecimal() else 0

        # Only the switch table has a use for these.
        earlier: tuple[Earlier, ...] = ()
        unclear: set[int] = set()
        if self._wishes.killSwitch:
            earlier, unclear = found.earlier, set(found.unclear)
        others: list[Interface] = []
        tunnelHasIPv6 = False
        for each in everything:
            if each.name == self._wishes.device:
                tunnelHasIPv6 = any(":" in network for network in each.networks)
            else:
                others.append(each._replace(rpFilter=rpFilter(each.name)))
        # A device that is an uplink would let everything past; one below another VPN, too, as
        # soon as the VPN ends.
        leading = {each.name for each in others if each.gateways or each.answers}
        leading.update(uplinks)
        unclear |= {each.priority for each in earlier if each.device in leading}
        return Host(
            interfaces=tuple(others),
            hasIPv6=os.path.isdir(os.path.join(self._root, "net/ipv6")),
            usesIPv6=any(_usesIPv6(each) for each in others),
            tunnelHasIPv6=tunnelHasIPv6,
            rpFilterAll=rpFilter("all"),
            rpFilterTunnel=rpFilter(self._wishes.device),
            sshPorts=sshPorts,
            proxies=proxies,
            earlier=tuple(each for each in earlier if each.device not in leading),
            unclear=tuple(sorted(unclear)),
            behind=behind,
            uplinks=tuple(each for each in uplinks if each != self._wishes.device),
            first=found.first,
            marks=found.marks,
            ahead=found.ahead,
        )


def _usesIPv6(interface: Interface) -> bool:
    return any(":" in text for text in (*interface.networks, *interface.gateways))
