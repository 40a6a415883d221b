"""
Tells systemd-resolved over D-Bus to look up all names through the tunnel
(org.freedesktop.resolve1(5)).

systemd-resolved sends each query by the interface that its server belongs to.  The
firewall drops those that leave by the uplink; without this change systemd-resolved would
first wait for their answers.  It forgets the change when the device is removed, or at
C{RevertLink}.
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
from nanotun.linux.resolvedlinks import PATH, SERVICE, linkPath
from nanotun.routing.firewall.tools import Tools
from nanotun.routing.interfaces import IChange

_MANAGER = (SERVICE, PATH, f"{SERVICE}.Manager")
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")

#: Exists once systemd-resolved has run.
FOLDER = "/run/systemd/resolve"

#: Busctl's error for a method that does not exist (org.freedesktop.DBus.Error.UnknownMethod).
_UNKNOWN = "Unknown method"

#: Busctl's error if no answer arrived in time.
_TIMED_OUT = "timed out"

#: Seconds; systemd-resolved answers at once, or it hangs.
_TIME_LIMIT = "1"

#: Seconds until systemd-resolved is asked again after it did not answer.
_HUNG_PAUSE = 15.0


def servers(versions: tuple[int, ...]) -> list[str]:
    """The gateway's addresses as busctl's arguments for an C{a(iay)}."""
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

    @param indexOf: an interface's number; raises L{OSError} if there is no such interface.
    @param seconds: a monotonic clock.
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
        """See L{IChange.apply}.  Does nothing if systemd-resolved does not run."""
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
            # "." as a routing-only domain, which resolvectl writes as "~.".
            ("SetLinkDomains", "ia(sb)", "1", ".", "true"),
            # Since systemd 240 and 239; older versions need neither.
            ("SetLinkDefaultRoute", "ib", "true"),
            # The relay does not speak DNS over TLS.
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
            # The change was forgotten with the device.
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
        """See L{IChange.holds}.  Holds as long as systemd-resolved does not run."""
        if not self._tools.exists(FOLDER) or not self._tools.path("busctl"):
            return True
        try:
            path = linkPath(self._indexOf(self._device))
        except OSError:
            return not isRunning(self._tools)
        if self._seconds() < self._askAgain:
            return True
        # The verb get-property ignores the time limit.
        get = (SERVICE, path, "org.freedesktop.DBus.Properties", "Get", "ss", f"{SERVICE}.Link")
        ran = self._tools.run([*self._busctl(), "call", *get, "DNS"])
        if _TIMED_OUT in ran.error:
            # Telling it again would hang as well, and block the reactor.
            self._askAgain = self._seconds() + _HUNG_PAUSE
            return True
        if ran.status:
            return not isRunning(self._tools)
        return ran.output.split() == ["v", "a(iay)", *servers((4, 6))]

    def _revert(self, index: int) -> str:
        return self._call("RevertLink", "i", str(index))

    def _call(self, method: str, signature: str, *values: str) -> str:
        """Call a method; returns an error, or an empty string."""
        ran = self._tools.run([*self._busctl(), "call", *_MANAGER, method, signature, *values])
        return ran.error.strip().partition("\n")[0] or "no reason" if ran.status else ""

    def _busctl(self) -> list[str]:
        return busctl(self._tools)


def busctl(tools: Tools) -> list[str]:
    """
    The command busctl with its options, up to the verb.

    @raise RoutingError: busctl is not installed.
    """
    path = tools.path("busctl")
    if not path:
        raise RoutingError("busctl is not installed; install systemd.")
    return [path, "--system", "--auto-start=no", f"--timeout={_TIME_LIMIT}"]


def isRunning(tools: Tools) -> bool:
    """Whether systemd-resolved is on the bus; asking does not start it."""
    if not tools.exists(FOLDER) or not tools.path("busctl"):
        return False
    ran = tools.run([*busctl(tools), "call", *_BUS, "NameHasOwner", "s", SERVICE])
    return ran.status == 0 and ran.output.split() == ["b", "true"]


def linkFromRecord(tools: Tools, record: dict[str, Any]) -> ResolvedLink:
    """
    Make a change from its record; see L{IChange.record}.

    @raise ValueError, TypeError, KeyError: the record is invalid, or names a link of hardware,
        which cannot have been a tunnel.
    """
    device = str(record["device"])
    if "/" in device or tools.exists(f"/sys/class/net/{device}/device"):
        raise ValueError(record)
    return ResolvedLink(tools, device)
