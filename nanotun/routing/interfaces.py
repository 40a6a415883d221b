"""
What nanotun does to the machine that it runs on, and takes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from nanotun.routing.values import Interface as NetworkInterface
    from nanotun.routing.values import Route, Rule


class IChange(Interface):
    """
    One change to the machine: a route, a rule, a firewall table, a setting.  The
    routes' journal writes L{record} down before it calls L{apply}, and removes it
    after L{undo}.  A change made anew from its record by another process can be
    undone as well.

    Two changes are the same change if their C{kind} and their L{describe} are: what
    a crash left behind and is wanted again stays, if it L{holds}.
    """

    kind = Attribute("The short name of this kind of change, in records (L{str}).")

    def describe() -> str:
        """What it does, as a command that one could type."""

    def describeUndo() -> str:
        """The same for its undo."""

    def record() -> dict[str, Any]:
        """All that L{undo} needs, as JSON."""

    def apply() -> None:
        """
        Do it.

        @raise nanotun.errors.RoutingError: with one sentence; nothing is left of it.
        """

    def undo() -> None:
        """
        Take it back, and nothing else.  Harmless where nothing, or only a part, is left
        of it.

        @raise nanotun.errors.RoutingError: with one sentence; it is still there.
        """

    def holds() -> bool:
        """Whether it is still as L{apply} left it."""


class IKernelRoutes(Interface):
    """
    Policy rules and routes of the network namespace, of which only those that carry
    our protocol number are seen and touched.  All methods are synchronous and raise
    C{OSError}.
    """

    def rules() -> list[Rule]:
        """Ours, of both families."""

    def addRule(rule: Rule) -> None:
        """@raise FileExistsError: it is there, and ours."""

    def deleteRule(rule: Rule) -> None:
        """@raise OSError: ENOENT if it is not there, or not ours."""

    def routes() -> list[Route]:
        """Ours, of both families."""

    def addRoute(route: Route) -> None:
        """
        @raise FileExistsError: there is such a route, perhaps of somebody else.
        @raise OSError: ENODEV without the device, ENETDOWN if it is down.
        """

    def deleteRoute(route: Route) -> None:
        """@raise OSError: ESRCH or ENODEV if it is not there, or not ours."""

    def interfaces(destinations: tuple[str, ...]) -> list[NetworkInterface]:
        """
        All interfaces but the loopback, with the networks connected to them.

        @param destinations: literal addresses.  An interface by which marked packets to
            one of them leave is an uplink, and its C{gateways} says by which gateways.
        """

    def close() -> None:
        """Let go of the socket; the next call opens another."""
