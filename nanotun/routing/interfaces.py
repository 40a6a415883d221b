"""
Interfaces of this package: a change to the machine, and the kernel's routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from nanotun.routing.values import Interface as NetworkInterface
    from nanotun.routing.values import Others, Route, Rule


class IChange(Interface):
    """
    One reversible change to the machine: a route, a rule, a firewall table, a setting.
    Its L{record} is written to the journal before L{apply} is called, and removed from it
    after L{undo}.  A process that makes the change again from its record can undo it.

    Two changes are the same if their C{kind} and their L{describe} are equal: a change
    that a crash left behind and that is wanted again is kept, if it L{holds}.
    """

    kind = Attribute("The short name of this kind of change, in records (L{str}).")

    def describe() -> str:
        """The change, as a command that a user could type."""

    def describeUndo() -> str:
        """Its undoing, as such a command."""

    def record() -> dict[str, Any]:
        """All that L{undo} needs, in JSON's types."""

    def apply() -> None:
        """
        Make the change.

        @raise nanotun.errors.RoutingError: with one sentence; nothing is changed then.
        """

    def undo() -> None:
        """
        Undo the change, and nothing else.  Harmless if nothing, or only a part, is left of
        it.

        @raise nanotun.errors.RoutingError: with one sentence; the change is still made.
        """

    def holds() -> bool:
        """Whether the machine is still as L{apply} left it."""


class IFollowingChange(IChange):
    """A change that is to be made again when something else on the machine has changed."""

    outdated = Attribute(
        "Whether the last L{holds} found everything as L{apply} left it, and only not what it "
        "would be today (L{bool})."
    )


class ISwitchChange(IChange):
    """The switch table, which is found even if no journal names it."""

    def isThere() -> bool:
        """Whether there is such a table, whichever change has made it."""


class IKernelRoutes(Interface):
    """
    Policy rules and routes of the network namespace.  Only those with our protocol number
    are listed and deleted.  All methods are synchronous and raise C{OSError}.
    """

    def rules() -> list[Rule]:
        """Our rules of both families."""

    def addRule(rule: Rule) -> None:
        """
        Add a rule.

        @raise FileExistsError: nanotun has added such a rule already.
        """

    def deleteRule(rule: Rule) -> None:
        """
        Delete a rule.

        @raise OSError: ENOENT if nanotun has added no such rule.
        """

    def routes() -> list[Route]:
        """Our routes of both families."""

    def addRoute(route: Route) -> None:
        """
        Add a route.

        @raise FileExistsError: there is such a route already, perhaps another program's.
        @raise OSError: ENODEV if there is no such device, ENETDOWN if it is down.
        """

    def deleteRoute(route: Route) -> None:
        """
        Delete a route.

        @raise OSError: ESRCH or ENODEV if nanotun has added no such route.
        """

    def interfaces(
        destinations: tuple[str, ...], marks: tuple[int, ...] = ()
    ) -> list[NetworkInterface]:
        """
        All interfaces but the loopback, with the networks connected to them.

        @param destinations: literal addresses.  An interface by which marked packets to
            one of them leave is an uplink, and its C{gateways} says by which gateways.
        @param marks: of other VPNs' own packets.
        """

    def uplinks() -> tuple[str, ...]:
        """
        The names of the interfaces that lead to the Internet, sorted: those by which marked
        packets to it leave, and all those of default routes in any table but ours, or of
        routes that are as good as one, such as its halves.
        """

    def others() -> Others:
        """What other programs' rules mean for ours."""

    def close() -> None:
        """Close the socket; the next call opens another one."""
