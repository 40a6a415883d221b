"""
systemd-resolved, told over D-Bus that all names are looked up by way of the tunnel
(org.freedesktop.resolve1(5)).

It sends its queries by the interface that each server belongs to.  Those by the uplink
are dropped by the firewall; without this it would wait for their answers first.  What
it is told it forgets with the device, or with C{RevertLink}.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from zope.interface import implementer

from nanotun.addresses import GATEWAY4, GATEWAY6
from nanotun.errors import RoutingError
from nanotun.routing.firewall.tools import Tools
from nanotun.routing.interfaces import IChange

SERVICE = "org.freedesktop.resolve1"
_MANAGER = (SERVICE, "/org/freedesktop/resolve1", f"{SERVICE}.Manager")
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")

#: Where it never was, it has never run.
FOLDER = "/run/systemd/resolve"

#: What busctl says of a method that there is not (org.freedesktop.DBus.Error.UnknownMethod).
_UNKNOWN = "Unknown method"

#: What busctl says where no answer came in time.
_TIMED_OUT = "timed out"

#: Seconds; it answers at once or is not well.
_TIME_LIMIT = "1"

#: Seconds until it is asked again after it did not answer.
_HUNG_PAUSE = 15.0


def linkPath(index: int) -> str:
    """The object of an interface; the first digit is escaped (sd_bus_path_encode(3))."""
    digits = str(index)
    return f"/org/freedesktop/resolve1/link/_{ord(digits[0]):x}{digits[1:]}"


def servers(versions: tuple[int, ...]) -> list[str]:
    """The gateway's addresses as busctl takes an C{a(iay)}."""
    words: list[str] = []
    hosts = [host for host in (GATEWAY4, GATEWAY6) if ip_address(host).version in versions]
    for host in hosts:
        address = ip_address(host)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        packed = [str(byte) for byte in address.packed]
        words += [str(int(family)), str(len(packed)), *packed]
    return [str(len(hosts)), *words]


@implementer(IChange)
class ResolvedLink:
    """
    The tunnel's interface as systemd-resolved sees it.

    L{holds} and L{undo} may be called in any thread.

    @param indexOf: an interface's number; raises L{OSError} without it.
    @param seconds: a clock that only goes forward.
    """

    kind = "resolved"

    def __init__(
        self,
        tools: Tools,
        device: str,
        indexOf: Callable[[str], int] = socket.if_nametoindex,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tools = tools
        self._device = device
        self._indexOf = indexOf
        self._seconds = seconds
        self._askAgain = -_HUNG_PAUSE

    def describe(self) -> str:
        """See L{IChange.describe}."""
        return (
            f"resolvectl dns {self._device} {GATEWAY4} {GATEWAY6}; "
            f"resolvectl domain {self._device} '~.'; "
            f"resolvectl default-route {self._device} yes; "
            f"resolvectl dnsovertls {self._device} no"
        )

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        return f"resolvectl revert {self._device}"

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return {"device": self._device}

    def apply(self) -> None:
        """See L{IChange.apply}.  Nothing is to be done while it does not run."""
        if not isRunning(self._tools):
            return
        try:
            index = self._indexOf(self._device)
        except OSError:
            raise RoutingError(
                f"systemd-resolved cannot be told of {self._device}, which is gone."
            ) from None
        for method, signature, *values in (
            ("SetLinkDNS", "ia(iay)", *servers((4, 6))),
            # "." that is for routing only, which resolvectl writes "~.".
            ("SetLinkDomains", "ia(sb)", "1", ".", "true"),
            # Of systemd 240 and 239: before those there was nothing to be told.
            ("SetLinkDefaultRoute", "ib", "true"),
            # The relay does not speak it, whatever the other servers do.
            ("SetLinkDNSOverTLS", "is", "no"),
        ):
            refused = self._call(method, signature, str(index), *values)
            if refused and _UNKNOWN not in refused:
                self._revert(index)
                raise RoutingError(
                    f"systemd-resolved does not take the gateway as its server ({refused}); "
                    "restart systemd-resolved, or stop it."
                )

    def undo(self) -> None:
        """See L{IChange.undo}."""
        try:
            index = self._indexOf(self._device)
        except OSError:
            # It was forgotten with the device.
            return
        if not isRunning(self._tools):
            return
        refused = self._revert(index)
        if refused:
            raise RoutingError(
                f"systemd-resolved still asks by {self._device} ({refused}); type "
                f"'{self.describeUndo()}'."
            )

    def holds(self) -> bool:
        """See L{IChange.holds}.  While it does not run there is nothing to put right."""
        if not self._tools.exists(FOLDER) or not self._tools.path("busctl"):
            return True
        try:
            path = linkPath(self._indexOf(self._device))
        except OSError:
            return not isRunning(self._tools)
        if self._seconds() < self._askAgain:
            return True
        # The verb get-property knows no time limit.
        get = (SERVICE, path, "org.freedesktop.DBus.Properties", "Get", "ss", f"{SERVICE}.Link")
        ran = self._tools.run([*self._busctl(), "call", *get, "DNS"])
        if _TIMED_OUT in ran.error:
            # To tell it again would work no better, and everybody here waits meanwhile.
            self._askAgain = self._seconds() + _HUNG_PAUSE
            return True
        if ran.status:
            return not isRunning(self._tools)
        return ran.output.split() == ["v", "a(iay)", *servers((4, 6))]

    def _revert(self, index: int) -> str:
        return self._call("RevertLink", "i", str(index))

    def _call(self, method: str, signature: str, *values: str) -> str:
        """Returns what is said against it."""
        ran = self._tools.run([*self._busctl(), "call", *_MANAGER, method, signature, *values])
        return ran.error.strip().partition("\n")[0] or "no reason" if ran.status else ""

    def _busctl(self) -> list[str]:
        return busctl(self._tools)


def busctl(tools: Tools) -> list[str]:
    """
    The command up to its verb.

    @raise RoutingError: it is not installed.
    """
    path = tools.path("busctl")
    if not path:
        raise RoutingError("busctl is not installed; install systemd.")
    return [path, "--system", "--auto-start=no", f"--timeout={_TIME_LIMIT}"]


def isRunning(tools: Tools) -> bool:
    """Whether systemd-resolved is on the bus; it is not started by asking."""
    if not tools.exists(FOLDER) or not tools.path("busctl"):
        return False
    ran = tools.run([*busctl(tools), "call", *_BUS, "NameHasOwner", "s", SERVICE])
    return ran.status == 0 and ran.output.split() == ["b", "true"]


def linkFromRecord(tools: Tools, record: dict[str, Any]) -> ResolvedLink:
    """
    See L{IChange.record}.

    @raise TypeError, KeyError: it is none.
    """
    return ResolvedLink(tools, str(record["device"]))
