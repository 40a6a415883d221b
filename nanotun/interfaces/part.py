"""
Parts of the daemon that are started and stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class IPart(Interface):
    """
    A part of the daemon other than device, engine, gateway and router.  The service
    starts the parts in order, and stops them in the reverse order.
    """

    name = Attribute("Its name in errors and logs, with its article (L{str}).")

    def start() -> None:
        """
        Start.  The part has started completely when this returns.

        @raise nanotun.errors.NanotunError: with one sentence; nothing is left started.
        """

    def stop() -> Deferred[None] | None:
        """
        Undo what L{start} did.  Only called after a start that succeeded.

        @return: fires when it is undone; L{None} if it is undone already.
        """
