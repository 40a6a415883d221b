"""Tests of L{nanotun.scripting.slow}."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import perf_counter
from types import FrameType

from twisted.trial.unittest import SynchronousTestCase

from nanotun.scripting.slow import BLOCKED, LOOK, QUIET, SlowCalls


class SlowTests(SynchronousTestCase):
    """L{SlowCalls}, with a clock and looks of the test's."""

    def setUp(self) -> None:
        self.time = 100.0
        self.threads: list[Callable[[], None]] = []
        self.reported: list[tuple[str, str, int]] = []
        self.frame: FrameType | None = None
        self.calls = SlowCalls(
            {__file__},
            lambda seconds, *place: self.reported.append(place),
            now=lambda: self.time,
            frames=lambda: {threading.get_ident(): self.frame} if self.frame else {},
            begin=self.threads.append,
        )

    def call(self, seconds: float, look: bool = True) -> None:
        """Call a function that takes some time; the other thread looks as often as it wants to."""
        since = self.calls.enter("flow")
        self.frame = sys._getframe()
        ends = self.time + seconds
        while look and (left := self.calls.look()) is not None and self.time + left <= ends:
            self.time += left
        self.time = ends
        self.frame = None
        self.calls.leave(since)

    def test_quick(self) -> None:
        """A call that does not take too long is not reported."""
        self.call(0.0)
        self.call(BLOCKED * 0.99)
        self.assertEqual(self.reported, [])

    def test_slow(self) -> None:
        """One that does is reported once, with its line, and so is the next one."""
        self.call(BLOCKED * 1.5)
        (first,) = self.reported
        self.assertEqual(first[:2], ("flow", __file__))
        self.assertGreater(first[2], 0)
        self.call(BLOCKED * 20)
        self.assertEqual(len(self.reported), 2)

    def test_innermost(self) -> None:
        """The line is the script's, however deep in a library it is that waits."""
        space = {"call": lambda: self.call(BLOCKED * 2)}
        exec(compile("def library(): call()", "/usr/lib/library.py", "exec"), space)
        self.calls = SlowCalls(
            {"/etc/flows.py"},
            lambda seconds, *place: self.reported.append(place),
            now=lambda: self.time,
            frames=lambda: {threading.get_ident(): self.frame} if self.frame else {},
            begin=self.threads.append,
        )
        code = compile("\n\ndef flow(library):\n    library()\n", "/etc/flows.py", "exec")
        exec(code, space)
        flow: Callable[[object], object] = space["flow"]  # type: ignore[assignment]
        flow(space["library"])
        self.assertEqual(self.reported, [("flow", "/etc/flows.py", 4)])

    def test_notSeen(self) -> None:
        """One that nobody has looked at in time is reported without a line."""
        self.call(BLOCKED * 2, look=False)
        self.assertEqual(self.reported, [("flow", "", 0)])
        self.reported.clear()
        self.call(BLOCKED * 2)
        self.call(BLOCKED * 2, look=False)
        self.assertEqual(self.reported[1], ("flow", "", 0))

    def test_quiet(self) -> None:
        """Where nothing is called, nobody looks: the thread waits for the next call."""
        self.assertEqual(self.threads, [])
        self.call(0.0)
        self.assertEqual(len(self.threads), 1)
        self.assertEqual([self.calls.look() for _ in range(QUIET)], [LOOK] * QUIET)
        self.assertIsNone(self.calls.look())
        self.call(BLOCKED * 2)
        self.assertNotEqual(self.reported[0][2], 0)
        self.assertEqual(len(self.threads), 1)

    def test_thread(self) -> None:
        """A real thread finds the line while the function runs, and ends when it is told to."""
        threads: list[threading.Thread] = []

        def begin(run: Callable[[], None]) -> None:
            threads.append(threading.Thread(target=run, daemon=True))
            threads[0].start()

        calls = SlowCalls(
            {__file__}, lambda _, *place: self.reported.append(place), now=perf_counter, begin=begin
        )
        since = calls.enter("flow")
        ends = perf_counter() + 10
        while not calls._place[1] and perf_counter() < ends:
            pass
        calls.leave(since)
        line = sys._getframe().f_lineno - 3
        self.assertIn(self.reported[0][2], (line, line + 1))
        calls.stop()
        threads[0].join(10)
        self.assertFalse(threads[0].is_alive())

    def test_stopWhileQuiet(self) -> None:
        """A thread that waits for a call ends, too."""
        self.call(0.0)
        while self.calls.look() is not None:
            pass
        looked = threading.Event()
        self.patch(self.calls, "look", looked.set)
        thread = threading.Thread(target=self.threads[0], daemon=True)
        thread.start()
        looked.wait(10)
        self.calls.stop()
        thread.join(10)
        self.assertFalse(thread.is_alive())
