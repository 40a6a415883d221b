"""Tests of C{nanotun flows --watch} on a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.flows.keyboard import ENDINGS, Keyboard, keyboard
from nanotun.console.flows.table import Order
from nanotun.console.flows.watch import HELP, Watched, showLive
from tests.unit.console.flow_cases import FlowsCase, described
from tests.unit.console.test_flows_pure import NAME, PAIRS, SIZE, Pair

#: Seconds for the answer of a terminal, on a busy machine.
PATIENCE = 60.0

#: What a terminal does when the screen for programs begins and ends.
BEGIN, END = "\x1b[?1049h", "\x1b[?1049l"


def watched(order: str = "name") -> Watched[Pair]:
    """What is shown of L{PAIRS}."""
    return Watched((NAME, SIZE), Order(order), lambda rows: f"{len(rows)} in all.")


class WatchedTests(SynchronousTestCase):
    """L{Watched}."""

    def test_screen(self) -> None:
        """A screen has the first rows that fit, and says how many there are."""
        whole = ["NAME▲  SIZE", "a        20", "b         1", "c       300", "", "3 in all.", HELP]
        self.assertEqual(watched().screen(PAIRS, 80, 24), whole)
        self.assertEqual(watched().screen(PAIRS, 80, 7), whole)
        part = [*whole[:3], "", "3 in all. The first 2 are shown.", HELP]
        self.assertEqual(watched().screen(PAIRS, 80, 6), part)
        self.assertEqual(len(watched().screen(PAIRS, 80, 1)), 5)
        self.assertLessEqual(max(map(len, watched().screen(PAIRS, 20, 24))), 20)
        self.assertEqual(watched().screen([], 80, 24)[0], "NAME▲  SIZE")

    def test_keys(self) -> None:
        """A letter sorts by a column that begins with it, a dash turns the order, q ends."""
        shown = watched()
        for keys, order in (
            ("s", Order("size")),
            ("-", Order("size", True)),
            ("N", Order("name")),
            ("x", Order("name")),
            ("\x1b[D\x1b[1;5A\x1bOS\x1b[3~", Order("name")),
            ("s--", Order("size")),
        ):
            self.assertTrue(shown.press(keys))
            self.assertEqual(shown.order, order, repr(keys))
        self.assertFalse(shown.press("q"))
        self.assertFalse(shown.press("-Qs"))

    def test_next(self) -> None:
        """The same letter again sorts by the next column that begins with it."""
        columns = [NAME, SIZE, *(type(NAME)(each, NAME.text, NAME.key) for each in ("SUM", "SO"))]
        shown: Watched[Pair] = Watched(columns, Order("name"), str)
        found = []
        for _ in range(4):
            shown.press("s")
            found.append(shown.order.name)
        self.assertEqual(found, ["size", "sum", "so", "size"])


class PressedKeys(Keyboard):
    """
    Keys that are pressed as the test says.

    @ivar waits: for each wait, the seconds that it might last.
    """

    def __init__(self, clock: Callable[[], float], *pressed: tuple[float, str]) -> None:
        super().__init__(-1, -1)
        self.waits: list[float] = []
        self._pressed = list(pressed)
        self.now = 0.0

    def wait(self, seconds: float) -> str:
        """See L{Keyboard.wait}."""
        self.waits.append(seconds)
        after, key = self._pressed.pop(0)
        self.now += after
        return key


class LiveTests(SynchronousTestCase):
    """L{showLive}."""

    def show(self, look: Callable[[], Sequence[Pair]], *pressed: tuple[float, str]) -> str:
        """What a terminal gets until the last key."""
        output = io.StringIO()
        screen = Console(file=output, force_terminal=True, width=80, height=10)
        self.keys = PressedKeys(float, *pressed)
        showLive(watched(), look, 2.0, self.keys, lambda: self.keys.now, screen)
        return output.getvalue()

    def test_looks(self) -> None:
        """There is another look after each interval, and a key only redraws."""
        looks: list[int] = []

        def look() -> list[Pair]:
            looks.append(len(self.keys.waits) if looks else 0)
            return [(f"look-{len(looks)}", 7)]

        said = self.show(look, (0.5, "s"), (1.5, ""), (2.0, ""), (0.25, "q"))
        self.assertEqual(self.keys.waits, [2.0, 1.5, 2.0, 2.0])
        self.assertEqual(looks, [0, 2, 3])
        found = re.findall(r"look-\d|▲|▼", said)
        self.assertEqual(found, ["▲", "look-1", "▼", "look-1", "▼", "look-2", "▼", "look-3"])
        self.assertTrue(said.startswith(BEGIN))
        self.assertIn(END, said)

    def test_markup(self) -> None:
        """Names that look like rich's markup are shown as they are."""
        self.assertIn("[red]x[/]", self.show(lambda: [("[red]x[/]", 1)], (0.0, "q")))

    def test_failing(self) -> None:
        """If there is nothing to look at any more, the screen is given back."""
        output = io.StringIO()
        screen = Console(file=output, force_terminal=True, width=80, height=10)
        rows = iter([PAIRS])

        def look() -> list[Pair]:
            try:
                return next(rows)
            except StopIteration:
                raise OSError("gone") from None

        keys = PressedKeys(float, (2.0, ""))
        self.assertRaises(OSError, showLive, watched(), look, 2.0, keys, lambda: keys.now, screen)
        self.assertIn(END, output.getvalue())


class KeyboardTests(SynchronousTestCase):
    """L{keyboard} on a pseudo-terminal."""

    def setUp(self) -> None:
        self.mine, self.terminal = pty.openpty()
        self.addCleanup(os.close, self.mine)
        self.addCleanup(os.close, self.terminal)
        self.before = termios.tcgetattr(self.terminal)

    def test_keys(self) -> None:
        """A key is there as soon as it is pressed, and is not shown; Ctrl-Z is none."""
        with keyboard(self.terminal) as keys:
            self.assertEqual(keys.wait(0), "")
            os.write(self.mine, b"s\x1a")
            self.assertEqual(keys.wait(PATIENCE), "s\x1a")
        self.assertEqual(select.select([self.mine], [], [], 0)[0], [])

    def test_restored(self) -> None:
        """The terminal and what signals do are as before, however it ends."""
        for number in ENDINGS:
            self.addCleanup(signal.signal, number, signal.signal(number, signal.SIG_DFL))

        def end(how: Callable[[], object]) -> None:
            with keyboard(self.terminal):
                self.assertNotEqual(termios.tcgetattr(self.terminal), self.before)
                how()

        end(lambda: None)
        for error in (KeyboardInterrupt, ValueError):
            self.assertRaises(error, end, lambda error=error: _throw(error()))
            self.assertEqual(termios.tcgetattr(self.terminal), self.before)
        for number in ENDINGS:
            ended = self.assertRaises(SystemExit, end, lambda n=number: os.kill(os.getpid(), n))
            self.assertEqual(ended.code, 128 + number)
            self.assertEqual(termios.tcgetattr(self.terminal), self.before)
        after = [signal.getsignal(each) for each in ENDINGS]
        self.assertEqual(after, [signal.SIG_DFL, signal.SIG_DFL])

    def test_gone(self) -> None:
        """Where no key can come any more, waiting goes on without a busy loop."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.close(writing)
        keys = Keyboard(reading, self.mine)
        self.assertEqual((keys.wait(PATIENCE), keys.ended), ("", True))
        self.assertEqual(keys.wait(0), "")

    def test_woken(self) -> None:
        """A signal that comes right before the wait ends it, and is not heard of again."""
        wake, woken = os.pipe2(os.O_NONBLOCK)
        self.addCleanup(os.close, wake)
        self.addCleanup(os.close, woken)
        os.write(woken, b"\x02")
        self.assertEqual(Keyboard(self.terminal, wake).wait(PATIENCE), "")
        self.assertRaises(BlockingIOError, os.read, wake, 1)


def _throw(error: BaseException) -> None:
    raise error


class TerminalTests(FlowsCase):
    """The command itself, in a process of its own on a pseudo-terminal."""

    def setUp(self) -> None:
        super().setUp()
        self.mine, self.terminal = pty.openpty()
        self.addCleanup(os.close, self.mine)
        self.addCleanup(os.close, self.terminal)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
        self.before = termios.tcgetattr(self.terminal)
        self.said = ""

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start C{nanotun} on the terminal."""
        code = "import sys; from nanotun.console import main; sys.exit(main())"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words, *self.where()],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def waitFor(self, text: str) -> None:
        """Wait until the terminal shows a text; what came before is forgotten."""
        end = time.monotonic() + PATIENCE
        while text not in self.said:
            # It may go on to say something else.
            left = max(0.0, end - time.monotonic())
            if not select.select([self.mine], [], [], left)[0] or not left:
                self.fail(f"no {text!r} in {self.said!r}")
            self.said += os.read(self.mine, 65536).decode("utf-8", "replace")
        self.said = self.said.partition(text)[2]

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self.mine, keys.encode())

    def assertEnds(self, process: subprocess.Popen[bytes], status: int) -> None:
        """It ends, and leaves the terminal as it was."""
        self.waitFor(END)
        self.assertEqual(process.wait(PATIENCE), status)
        self.assertEqual(termios.tcgetattr(self.terminal), self.before)

    def test_flows(self) -> None:
        """What is shown follows the daemon and the keys, until q is pressed."""
        process = self.start("flows", "--watch", "0.2")
        self.waitFor("DOWN/S▼")
        self.waitFor("4 flows are open.")
        self.daemon.flows = [described(77, domain="new.example")]
        self.waitFor("new.example:443")
        self.waitFor("1 flow is open.")
        self.press("i")
        self.waitFor("ID▼")
        self.press("-")
        self.waitFor("ID▲")
        self.press("q")
        self.assertEnds(process, 0)

    def test_top(self) -> None:
        """So do sums."""
        process = self.start("top", "--by", "rule", "--watch", "0.2")
        self.waitFor("RULE")
        self.waitFor("default")
        self.press("r")
        self.waitFor("RULE▲")
        self.press("q")
        self.assertEnds(process, 0)

    def test_ended(self) -> None:
        """Signals end it with their usual statuses, and the terminal is given back."""
        for number, status in ((signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            process = self.start("flows", "--watch", "60")
            self.waitFor("4 flows are open.")
            process.send_signal(number)
            self.assertEnds(process, status)

    def test_stopped(self) -> None:
        """When the daemon ends, so does this, with a sentence behind the screen."""
        process = self.start("flows", "--watch", "0.2")
        self.waitFor("4 flows are open.")
        self.daemon.trouble = "The daemon is stopping."
        self.assertEnds(process, 1)
        self.waitFor("nanotun: The daemon is stopping.")
