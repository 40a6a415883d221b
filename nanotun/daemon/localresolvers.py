"""
Programs on this machine that look names up for others.

With C{onlyProcesses} the firewall redirects what the chosen programs ask themselves.  What such a
program has somebody else ask is that program's own query, and leaves in the clear unless it is
chosen, too.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator

from nanotun.addresses import DNS_PORT, GATEWAY4
from nanotun.config.settings import Settings
from nanotun.flow import Endpoint
from nanotun.linux.cgroups import cgroupMount
from nanotun.linux.locality import isOwnAddress
from nanotun.linux.resolvconf import RESOLV_CONF, readResolvConf
from nanotun.linux.users import uidOf
from nanotun.owners.cgroups import CgroupTree
from nanotun.owners.interfaces import IProcesses, ISockets
from nanotun.owners.matching import Matcher
from nanotun.owners.sockets import KernelSockets
from nanotun.routing.host import chosenUsers

#: Where nscd listens (nscd(8)), and what a unit or a user of it is called.
NSCD_SOCKETS = ("/run/nscd/socket", "/var/run/nscd/socket")
NSCD_NAMES = frozenset({"unit:nscd.service", "unit:unscd.service", "uid:nscd", "uid:unscd"})

#: Exists while systemd-resolved answers, at which addresses it does, and its names.
RESOLVED = "/run/systemd/resolve/stub-resolv.conf"
RESOLVED_STUBS = ("127.0.0.53", "127.0.0.54")
RESOLVED_NAMES = frozenset({"unit:systemd-resolved.service", "uid:systemd-resolve"})


class LocalResolvers:
    """
    Looks for those whose queries leave in the clear.

    @param sockets: the machine's.
    @param pathOf: from a control group's number to its path.
    @param hasBusctl: whether systemd-resolved can be told of the relay.
    @param root: prefix of every path, for tests.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: ISockets | None = None,
        pathOf: Callable[[int], str] | None = None,
        isOwn: Callable[[str], bool] = isOwnAddress,
        hasBusctl: Callable[[], bool] = lambda: shutil.which("busctl") is not None,
        root: str = "",
    ) -> None:
        self._settings = settings
        self._sockets = KernelSockets(settings.tunName) if sockets is None else sockets
        self._pathOf = (
            CgroupTree(cgroupMount(), time.monotonic).pathOf if pathOf is None else pathOf
        )
        self._isOwn = isOwn
        self._hasBusctl = hasBusctl
        self._root = root

    def namesLeft(self) -> tuple[str, ...]:
        """
        A sentence about each, with its cure after a semicolon; none without C{onlyProcesses}.

        @raise nanotun.errors.ConfigError: a user is unknown.
        """
        if not (self._settings.autoDefaultRoute and self._settings.onlyProcesses):
            return ()
        # A matcher's sentence about an unknown user would name another setting.
        chosenUsers(self._settings.onlyProcesses)
        return (*self._nscd(), *self._server(), *self._resolved())

    def _nscd(self) -> Iterator[str]:
        if self._isChosen(NSCD_NAMES):
            return
        if any(self._sockets.listeningAt(path) for path in NSCD_SOCKETS):
            yield (
                "nscd looks names up for all programs, and what it asks for those of onlyProcesses "
                "leaves in the clear; stop it, or add unit:nscd.service to onlyProcesses."
            )

    def _server(self) -> Iterator[str]:
        servers = readResolvConf(self._root + RESOLV_CONF).servers
        matcher = Matcher(self._settings.onlyProcesses, False, uidOf, os.path.realpath)
        try:
            hosts = [each for each in servers if each not in RESOLVED_STUBS and self._isOwn(each)]
            here = (Endpoint(host, DNS_PORT) for host in hosts)
            chosen = listenersIn(matcher, here, self._sockets, self._pathOf)
        except OSError:
            return
        for host in hosts:
            if Endpoint(host, DNS_PORT) in chosen:
                continue
            yield (
                f"{RESOLV_CONF} names {host}, a DNS server on this machine, and its own "
                "queries leave in the clear; add its user or unit to onlyProcesses, or write "
                f"'nameserver {GATEWAY4}' there."
            )

    def _resolved(self) -> Iterator[str]:
        if not os.path.exists(self._root + RESOLVED):
            return
        if not self._hasBusctl():
            if not self._isChosen(RESOLVED_NAMES):
                yield (
                    "systemd-resolved cannot be told to ask the relay, because busctl is missing, "
                    "and what it asks for programs of onlyProcesses leaves in the clear; install "
                    "busctl (systemd), or add uid:systemd-resolve to onlyProcesses."
                )
        elif self._settings.dnsMode == "fake-ip":
            yield (
                "With dnsMode: fake-ip, systemd-resolved gives fake addresses to every program, "
                "so that connections of others than onlyProcesses enter the tunnel, too; set "
                "dnsMode: normal."
            )

    def _isChosen(self, names: frozenset[str]) -> bool:
        return not names.isdisjoint(map(str, self._settings.onlyProcesses))


def listenersIn(
    matcher: Matcher,
    endpoints: Iterable[Endpoint],
    sockets: ISockets,
    pathOf: Callable[[int], str],
    processes: IProcesses | None = None,
) -> set[Endpoint]:
    """
    The endpoints of this machine at which somebody listens whom a matcher excludes: by the
    socket's user, control group or unit, or as a program.

    @param pathOf: from a control group's number to its path.
    @param processes: the machine's; L{None} if the matcher knows no programs.
    @raise OSError: the kernel does not tell.
    """
    sockets.start()
    try:
        found = set()
        for endpoint in endpoints:
            listener = sockets.listener(endpoint)
            if listener and (
                matcher.socketText(listener.uid, pathOf(listener.cgroup))
                or (processes and _holds(matcher, listener.inode, processes))
            ):
                found.add(endpoint)
        return found
    finally:
        sockets.close()


def _holds(matcher: Matcher, inode: int, processes: IProcesses) -> bool:
    """Whether a program that a matcher excludes has a socket."""
    if not matcher.byProcesses:
        return False
    for pid in processes.pids():
        stat = processes.stat(pid)
        if stat is not None and matcher.programText(
            pid, stat.started, processes.program(pid, stat)
        ):
            for descriptor in processes.descriptors(pid):
                if processes.socketAt(pid, descriptor) == inode:
                    return True
    return False
