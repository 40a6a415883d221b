"""
The names behind addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from nanotun.flow import Flow, Known


class INames(Interface):
    """
    What the gateway knows of the names behind addresses.  All hosts are in their
    canonical text form.
    """

    followsFlows = Attribute("Whether L{flowJoined} and L{flowClosed} have to be called (L{bool}).")

    def isFake(host: str) -> bool:
        """
        Whether an address is a fake one.  Its name may be forgotten by now.
        """

    def nameOf(host: str) -> str | None:
        """
        The name that apps got an address for, be the address fake or be it real and from
        an answer of the relay.

        @return: L{None} if there is no such name.
        """

    def namesOf(flow: Flow) -> Known:
        """
        All names that a flow's destination may have for the program that it comes from.  Only
        the judge asks: what an upstream is sent is L{nameOf}.
        """

    def resolve(name: str, family: int) -> Deferred[list[str]]:
        """
        Look a name up, without the system's resolver.

        @param family: 4 or 6.
        @return: fires with the addresses that may be dialled, perhaps none, or fails with
            L{nanotun.errors.UpstreamError}.
        """

    def flowJoined(host: str) -> None:
        """A flow to an address was joined."""

    def flowClosed(host: str) -> None:
        """A flow that L{flowJoined} was called for ended."""
