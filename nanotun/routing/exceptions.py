"""
What bypasses the tunnel and takes a while to find out: the proxies' addresses, and the
ports where SSH is served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from nanotun.addresses import isAddress

#: Seconds that the start waits for the proxies' names to be looked up.  A resolver asks
#: its second server after five.
START_LIMIT = 6.0


class Exceptions:
    """
    Looks both up, at the start and again later.

    @ivar hosts: the names and addresses of the proxies.
    @ivar proxies: the proxies' last known addresses.
    @ivar hops: where proxies on this machine pass connections on to.
    @ivar sshPorts: the last known ports.

    @param hosts: the proxies' names and addresses.
    @param lookUpNow: looks a name's addresses up; blocks.
    @param lookUp: the same without blocking; does not fail.
    @param readPorts: finds the ports, in some milliseconds for each thousand processes.
    @param defer: calls a function in a thread.
    """

    _log = Logger()

    def __init__(
        self,
        hosts: Sequence[str],
        lookUpNow: Callable[[str], list[str]],
        lookUp: Callable[[str], Deferred[list[str]]],
        readPorts: Callable[[], tuple[int, ...]],
        defer: Callable[[Callable[[], Any]], Deferred[Any]],
    ) -> None:
        self.proxies: tuple[str, ...] = ()
        self.hops: tuple[str, ...] = ()
        self.sshPorts: tuple[int, ...] = ()
        self._known: dict[str, list[str]] = {}
        self.hosts = tuple(hosts)
        self._lookUpNow = lookUpNow
        self._lookUp = lookUp
        self._readPorts = readPorts
        self._defer = defer

    def setHosts(self, hosts: Sequence[str]) -> None:
        """Replace the proxies; the next L{refresh} looks their addresses up."""
        self.hosts = tuple(hosts)
        self._known = {host: [host] for host in self.hosts if isAddress(host)}

    def readNow(self) -> None:
        """Look everything up; names that take longer than L{START_LIMIT} are left out."""
        self.sshPorts = self._readPorts()
        self._known = {host: [host] for host in self.hosts if isAddress(host)}
        names = [host for host in self.hosts if host not in self._known]
        lookups = {name: _inThread(self._lookUpNow, name) for name in names}
        end = time.monotonic() + START_LIMIT
        for name, lookup in lookups.items():
            try:
                found = lookup.result(max(0.0, end - time.monotonic()))
            except NotInTime:
                found = []
            if not found:
                self._log.warn(
                    "The proxy's name {name} cannot be looked up yet; it is tried again.",
                    name=name,
                )
            self._known[name] = found
        self._collect()

    def refresh(self) -> Deferred[bool]:
        """
        Look everything up again.

        @return: fires with whether anything is different.  Does not fail.
        """
        before = (self.proxies, self.sshPorts)
        names = [host for host in self.hosts if not isAddress(host)]

        def ports(found: tuple[int, ...]) -> None:
            # A port stays: somebody may still be logged in there.
            self.sshPorts = tuple(sorted({*self.sshPorts, *found}))

        def addresses(found: list[str], name: str) -> None:
            if found:
                self._known[name] = found

        waiting: list[Deferred[Any]] = [self._defer(self._readPorts).addCallback(ports)]
        waiting += [self._lookUp(name).addCallback(addresses, name) for name in names]

        def done(results: list[tuple[bool, Any]]) -> bool:
            for ok, failure in results:
                if not ok:
                    self._log.failure("Looking up exceptions failed: internal error", failure)
            self._collect()
            return (self.proxies, self.sshPorts) != before

        return DeferredList(waiting, consumeErrors=True).addCallback(done)

    @property
    def complete(self) -> bool:
        """Whether every name was looked up successfully at least once."""
        return all(self._known.get(host) for host in self.hosts)

    def _collect(self) -> None:
        found = (each for host in self.hosts for each in self._known.get(host, ()))
        # Sorted, because servers rotate their answers.
        self.proxies = tuple(sorted(set(found)))


def _inThread(function: Callable[[str], list[str]], argument: str) -> Future[list[str]]:
    """Call in a thread that does not keep the process from ending."""
    future: Future[list[str]] = Future()

    def run() -> None:
        try:
            future.set_result(function(argument))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
