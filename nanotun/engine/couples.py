"""
Couples: two sockets whose bytes the native library carries, without an engine.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from nanotun.engine import abi


class NativeCouples:
    """
    The library is loaded when it is needed.

    @param load: makes the L{abi.NativeLibrary}.
    """

    def __init__(self, load: Callable[[], abi.NativeLibrary] = abi.NativeLibrary.load) -> None:
        self._load = load
        self._loaded: abi.NativeLibrary | None = None

    def join(self, one: socket.socket, other: socket.socket) -> None:
        """
        Carry bytes between two stream sockets, which may still be connecting, until both have
        ended; a failure of one resets the other.

        @raise OSError: the library cannot; both are reset.
        """
        for each in (one, other):
            # A peer that vanished without a word ends it, though only after two hours (tcp(7)).
            each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        abi.check(self._library().ns_couple(one.detach(), other.detach()), "ns_couple")

    def count(self) -> int:
        """How many couples of this process have not ended."""
        return abi.check(self._library().ns_couples(), "ns_couples")

    def _library(self) -> abi.NativeLibrary:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded
