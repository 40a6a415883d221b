"""
Whose flow it is, and where it goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from nanotun.flow import Decision, Flow, Owner


class IOwners(Interface):
    """
    Finds the process that a local flow belongs to.  The judge asks for every flow of
    this machine, before its first packet is answered, if any rule is about processes.
    """

    misses = Attribute("How many flows had no owner that could be found, or not in time.")

    def ownerOf(flow: Flow) -> Owner | None:
        """
        Ask the kernel for the flow's socket, which is still connecting.

        @return: L{None} if there is none or it cannot be found in time, which is
            counted in L{misses}.  Never raises; takes milliseconds at most.
        """


class IJudge(Interface):
    """Decides where flows go.  The router calls it once for each flow."""

    def judge(flow: Flow) -> Decision:
        """Never raises: what cannot be found out goes to the proxy."""
