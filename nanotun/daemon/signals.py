"""
The daemon's signals, from its first step to its last.

Before the reactor runs, SIGTERM would end Python at once and SIGINT would interrupt
whatever it does, and neither would undo what had been done by then.  So the daemon
handles both itself.  A signal that arrives during the start takes effect when the start
is over.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from twisted.internet.error import ReactorNotRunning
from zope.interface import implementer

from nanotun.interfaces import IPart

#: These stop the reactor.
ENDING = (signal.SIGTERM, signal.SIGINT)


@implementer(IPart)
class Signals:
    """
    Handles signals on the reactor's thread.

    @param reactor: C{callFromThread} is the one method that a handler may call.
    @param others: what to call for other signals, by number.
    @param install: L{signal.signal}.
    """

    name = "the signals"

    def __init__(
        self,
        reactor: Any,
        others: Mapping[int, Callable[[], object]],
        install: Callable[[int, Any], Any] = signal.signal,
    ) -> None:
        self._reactor = reactor
        self._install = install
        self._actions = {**dict.fromkeys(map(int, ENDING), self._end), **others}
        self._before: dict[int, Any] = {}

    def start(self) -> None:
        """See L{IPart.start}.  Once it runs, the reactor handles SIGTERM, to the same effect."""
        for number in self._actions:
            self._before[number] = self._install(number, self._arrived)

    def stop(self) -> None:
        """See L{IPart.stop}.  L{ENDING} do as before; the others must not cut the stop short."""
        for number, before in self._before.items():
            self._install(number, before if number in ENDING else signal.SIG_IGN)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._actions[number])

    def _end(self) -> None:
        # Ctrl-C may be pressed twice.
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.stop()
