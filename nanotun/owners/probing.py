"""
Finds out whether something that listens at a proxy's address only passes connections on: to
a proxy in a container whose port is published on this machine.

There are two ways to publish a port, and a container runtime may use both.  The firewall
replaces the destination of connections; the kernel tells by what.  Or a helper such as
docker-proxy listens and passes them on.  It connects onwards as soon as it has accepted a
connection, whereas a proxy connects nowhere before it is asked.  So some connections are
opened on which nothing is said.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from nanotun.addresses import SOCKET_MARK, isLoopback
from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.linux.conntrack import ORIGINAL, REPLY, lookUp
from nanotun.linux.locality import isOwnAddress
from nanotun.owners.interfaces import IProcesses, ISockets
from nanotun.policy.reserved import specialOf

#: Connections that are opened at a time, and how often: a proxy that happens to connect
#: somewhere meanwhile must not be taken for a helper.
PROBES = 3
ROUNDS = 2

#: Seconds in which a helper connects onwards.  Docker's and socat need a few milliseconds.
QUIET = 0.15

#: Processes of a helper that are looked at: socat has one for each connection.  An ancestor of
#: more is init, or a helper that is very busy.
FAMILY_LIMIT = 256

_SO_MARK = getattr(socket, "SO_MARK", 36)


def openProbe(endpoint: Endpoint) -> Any:
    """
    Begin to connect to an endpoint, past the tunnel.

    @return: the socket, which does not block.
    @raise OSError: nothing listens there, as far as is known at once.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, _SO_MARK, SOCKET_MARK)
        with contextlib.suppress(BlockingIOError):
            opened.connect(endpoint)
    except BaseException:
        opened.close()
        raise
    return opened


def answererOf(flow: Flow) -> str:
    """The address that the firewall has put in place of a flow's destination; or that."""
    found = lookUp(ORIGINAL, flow, REPLY)
    return flow.destination.host if found is None else found.source.host


def mayBeBehind(isConnected: Callable[[str], bool], host: str) -> bool:
    """
    Whether a host may be behind this machine: its address is a reserved one, or belongs to a
    network that is connected.  Whoever uses a proxy, if only by a page in a browser, can have
    it open connections to any other host, which must not be let past the tunnel for that.

    @param isConnected: whether an address belongs to such a network.
    """
    return specialOf(host) is not None or isConnected(host)


class Prober:
    """
    Probes one endpoint at a time; called in a thread.

    @param makeSockets: makes an L{ISockets} that is not started.
    @param mayBeBehind: see L{mayBeBehind}.
    @param connect: see L{openProbe}.
    @param answerer: see L{answererOf}.
    @param isOwn: see L{isOwnAddress}.
    @param sleep: waits for some seconds; time.sleep.
    """

    def __init__(
        self,
        makeSockets: Callable[[], ISockets],
        processes: IProcesses,
        mayBeBehind: Callable[[str], bool],
        connect: Callable[[Endpoint], Any] = openProbe,
        answerer: Callable[[Flow], str] = answererOf,
        isOwn: Callable[[str], bool] = isOwnAddress,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._makeSockets = makeSockets
        self._processes = processes
        self._mayBeBehind = mayBeBehind
        self._connect = connect
        self._answerer = answerer
        self._isOwn = isOwn
        self._sleep = sleep

    def probe(self, endpoint: Endpoint, pids: Iterable[int]) -> str | None:
        """
        Find out where connections to an endpoint of this machine are passed on to.

        @param pids: the processes that listen there.
        @return: the address of another host; empty for nowhere; L{None} if it is not clear.
        @raise OSError: the kernel cannot be asked now.
        """
        sockets = self._makeSockets()
        sockets.start()
        try:
            found = self._round(sockets, endpoint, pids)
            for _ in range(1, ROUNDS):
                if found and self._round(sockets, endpoint, pids) != found:
                    return None
            return found
        finally:
            sockets.close()

    def _round(self, sockets: ISockets, endpoint: Endpoint, pids: Iterable[int]) -> str | None:
        before = {each.inode for each in sockets.connections()}
        with contextlib.ExitStack() as opened:
            probes = []
            for _ in range(PROBES):
                with contextlib.suppress(OSError):
                    probes.append(opened.enter_context(self._connect(endpoint)))
            for probe in probes:
                source = Endpoint(*probe.getsockname()[:2])
                host = self._answerer(Flow(0, Protocol.TCP, source, endpoint))
                if host != endpoint.host and self._isElsewhere(host):
                    return host
            if not probes:
                return ""
            self._sleep(QUIET)
            family = self._family(pids)
            if family is None:
                return None
            inodes = self._socketsOf(family)
            # What was accepted at the endpoint's own port leads nowhere.
            onward = [
                each
                for each in sockets.connections()
                if each.inode in inodes and each.local.port != endpoint.port
            ]
        if not onward:
            return ""
        new = sum(each.inode not in before for each in onward)
        (host, *others) = {each.remote.host for each in onward}
        if others or new < len(probes):
            return None
        return host if self._isElsewhere(host) and self._mayBeBehind(host) else ""

    def _isElsewhere(self, host: str) -> bool:
        return not isLoopback(host) and not self._isOwn(host)

    def _family(self, pids: Iterable[int]) -> set[int] | None:
        """Processes and all that descend from them; L{None} if they are too many."""
        family = set(pids)
        stats = ((pid, self._processes.stat(pid)) for pid in self._processes.pids())
        parents = {pid: stat.parent for pid, stat in stats if stat is not None}
        more = set(family)
        while more and len(family) <= FAMILY_LIMIT:
            more = {pid for pid, parent in parents.items() if parent in more} - family
            family |= more
        return family if len(family) <= FAMILY_LIMIT else None

    def _socketsOf(self, pids: Iterable[int]) -> set[int]:
        processes = self._processes
        return {
            processes.socketAt(pid, descriptor)
            for pid in pids
            for descriptor in processes.descriptors(pid)
        }
