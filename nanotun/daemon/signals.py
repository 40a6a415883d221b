"""
The signals of the daemon, from its first step to its last.

Before the reactor runs SIGTERM would end Python at once, and SIGINT whatever it is at:
what was done by then would stay.  So the daemon takes them itself; what arrives during
the start is acted on as soon as the start is over.
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

#: They stop the reactor.
ENDING = (signal.SIGTERM, signal.SIGINT)


@implementer(IPart)
class Signals:
    """
    @param reactor: its C{callFromThread} is what a signal's handler may call.
    @param others: what other signals do, on the reactor's thread, by number.
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
        """Take them.  The reactor takes SIGTERM over, to the same end, once it runs."""
        for number in self._actions:
            self._before[number] = self._install(number, self._arrived)

    def stop(self) -> None:
        """Leave the ending ones as they were; none of the others is to end the stop."""
        for number, before in self._before.items():
            self._install(number, before if number in ENDING else signal.SIG_IGN)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._actions[number])

    def _end(self) -> None:
        # Twice Ctrl-C is one stop.
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.stop()
