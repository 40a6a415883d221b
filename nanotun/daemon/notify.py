"""
Tells systemd that the service is ready, that it is alive, and that it stops.

The protocol is sd_notify(3): datagrams of C{NAME=VALUE} lines, sent to the socket that
C{NOTIFY_SOCKET} names.  No package is used for it: those there are bind libsystemd or
have been unmaintained for years, and all that is needed is one sendto.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.interfaces import IPart

#: Seconds that a datagram may wait for room in the socket.  The reactor waits with it,
#: and a message that systemd has not read by then can be lost without harm.
SEND_LIMIT = 0.2

Send = Callable[[str, str], None]


def sendDatagram(address: str, text: str) -> None:
    """
    Send C{text} to a unix socket.

    @param address: its path, or C{@} and an abstract name.
    @raise OSError: it could not be sent.
    """
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SEND_LIMIT)
        sock.sendto(text.encode(), address)


@implementer(IPart)
class Notifier:
    """
    Notifies systemd, if it listens.  Started last and stopped first.

    While the reactor turns, the watchdog is pinged twice in each of its intervals.  When
    the reactor hangs the pings end, and systemd restarts the service.
    """

    _log = Logger()

    name = "the notification of systemd"

    def __init__(
        self,
        environment: MutableMapping[str, str],
        status: str,
        clock: IReactorTime,
        send: Send = sendDatagram,
        getpid: Callable[[], int] = os.getpid,
    ) -> None:
        """
        @param environment: the process's.  systemd's variables are removed from it, as
            no child process may speak for the daemon.
        @param status: what C{systemctl status} shows while the tunnel is up.
        @param getpid: called after twistd has forked.
        """
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self._interval = environment.pop("WATCHDOG_USEC", "")
        self._watched = environment.pop("WATCHDOG_PID", "")
        self._status = status
        self._send = send
        self._getpid = getpid
        self._failed = False
        self._pings = LoopingCall(self._tell, "WATCHDOG=1")
        self._pings.clock = clock

    def start(self) -> None:
        """See L{IPart.start}.  The tunnel is up."""
        self._tell("READY=1", f"STATUS={self._status}")
        period = self._period()
        if self._address and period:
            self._pings.start(period, now=False)

    def stop(self) -> None:
        """See L{IPart.stop}."""
        if self._pings.running:
            self._pings.stop()
        self._tell("STOPPING=1")

    def reloading(self) -> None:
        """A reload begins.  Call L{reloaded} when it ends, in success or in failure."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """The reload is over."""
        self._tell("READY=1")

    def _period(self) -> float:
        """Seconds between two pings, or 0 for no watchdog (sd_watchdog_enabled(3))."""
        if self._watched and self._watched != str(self._getpid()):
            return 0
        return int(self._interval) / 2e6 if self._interval.isdecimal() else 0

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            self._send(self._address, "\n".join(lines))
        except OSError as error:
            if not self._failed:
                self._log.warn(
                    "systemd does not hear nanotun at {socket} ({error}); it may take the "
                    "service for one that hangs. Check NotifyAccess= of its unit.",
                    socket=self._address,
                    error=error.strerror or str(error),
                )
            self._failed = True
        else:
            self._failed = False
