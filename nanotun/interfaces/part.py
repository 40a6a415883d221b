"""
A part of the daemon that is started and stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class IPart(Interface):
    """
    A part of the daemon beside device, engine and router.  The service starts the
    parts in order and stops them in the reverse order, each once.
    """

    name = Attribute("What errors and logs call it, with its article (L{str}).")

    def start() -> None:
        """
        Start, completely, before this returns.

        @raise nanotun.errors.NanotunError: with one sentence; nothing was started.
        """

    def stop() -> Deferred[None] | None:
        """Take back what L{start} did.  Only called after a start that returned."""
