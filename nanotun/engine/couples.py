"""
Couples: two sockets whose bytes the native library carries, without an engine.
"""

from __future__ import annotations

import socket

from nanotun.engine import abi
from nanotun.engine.ondemand import OnDemand


class NativeCouples(OnDemand):
    """See L{nanotun.cell.passages.Couples}."""

    def join(self, one: socket.socket, other: socket.socket) -> None:
        """
        Carry bytes between two stream sockets, which may still be connecting, until both have
        ended; a failure of one resets the other.

        @raise OSError: the library cannot; both are reset.
        """
        for each in (one, other):
            # A peer that vanished without a word ends it, though only after two hours (tcp(7)).
            each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        abi.check(self.library.ns_couple(one.detach(), other.detach()), "ns_couple")

    def count(self) -> int:
        """How many couples of this process have not ended."""
        return abi.check(self.library.ns_couples(), "ns_couples")
