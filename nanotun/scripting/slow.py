"""
Notices script code that blocks the reactor, and where.

A thread looks at the reactor's thread, but only while the script is called now and then, and
only at what takes longer than L{BLOCKED}: a call that is quicker costs two assignments.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Mapping
from time import sleep
from types import FrameType

#: Seconds that script code may take.  Everything else waits meanwhile: all flows' decisions,
#: all DNS queries.
BLOCKED = 0.05

#: Seconds between two looks.  A call is seen before it has taken L{BLOCKED}.
LOOK = 0.025

#: Looks without a call, after which the thread sleeps until there is one.
QUIET = 40


class SlowCalls:
    """
    @param files: the script's source files, which may become more.
    @param blocked: called on the reactor's thread after a call that took too long, with the
        seconds, the function's name, the file and the line; the line is 0 where it was not seen.
    @param now: the time.
    @param frames: what each thread is doing.
    @param begin: begins a thread that runs a function.
    """

    def __init__(
        self,
        files: Collection[str],
        blocked: Callable[[float, str, str, int], object],
        now: Callable[[], float],
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,
        begin: Callable[[Callable[[], None]], object] = lambda run: threading.Thread(
            target=run, name="script", daemon=True
        ).start(),
    ) -> None:
        self._files = files
        self._blocked = blocked
        self._now = now
        self._frames = frames
        self._begin = begin
        self._watched = 0
        self._since: float | None = None
        self._name = ""
        # When the call began that was too slow, and where it was then.
        self._place: tuple[float | None, str, int] = None, "", 0
        self._quiet = 0
        self._idle = True
        self._called = threading.Event()
        self._stopped = False

    def enter(self, name: str) -> float:
        """
        Script code begins.

        @param name: of the function that nanotun has called.
        @return: for L{leave}.
        """
        self._name = name
        self._since = now = self._now()
        if self._idle:
            self._wake()
        return now

    def leave(self, since: float) -> None:
        """It has ended, or waits."""
        self._since = None
        took = self._now() - since
        if took > BLOCKED:
            began, file, line = self._place
            if began != since:
                file, line = "", 0
            self._blocked(took, self._name, file, line)

    def stop(self) -> None:
        """Let the thread end."""
        self._stopped = True
        self._called.set()

    def look(self) -> float | None:
        """
        See whether a call takes too long, and where; on the other thread.

        @return: seconds until the next look; L{None} if there need be none before a call.
        """
        since = self._since
        if since is None:
            self._quiet += 1
            if self._quiet <= QUIET:
                return LOOK
            self._called.clear()
            self._idle = True
            return None
        self._quiet = 0
        left = since + BLOCKED - self._now()
        if left > 0:
            return left
        if self._place[0] != since:
            self._place = since, *self._where()
        return LOOK

    def _wake(self) -> None:
        self._idle = False
        self._quiet = 0
        if not self._watched:
            # Not before the first call: a daemon forks when it has loaded the script.
            self._watched = threading.get_ident()
            self._begin(self._watch)
        self._called.set()

    def _watch(self) -> None:
        while not self._stopped:
            left = self.look()
            if left is None:
                self._called.wait()
            else:
                sleep(left)

    def _where(self) -> tuple[str, int]:
        """The innermost place of the script that is executed right now."""
        frame = self._frames().get(self._watched)
        while frame is not None:
            if frame.f_code.co_filename in self._files:
                return frame.f_code.co_filename, frame.f_lineno
            frame = frame.f_back
        return "", 0
