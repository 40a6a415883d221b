"""
The keys that are pressed while something is shown on the terminal.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import time
import tty
from collections.abc import Iterator
from types import FrameType
from typing import Any

#: What ends a program from outside: the terminal is gone, or somebody wants it to end.
ENDINGS = (signal.SIGHUP, signal.SIGTERM)

#: Bytes that are read at once: more than anybody presses between two looks.
_READ_SIZE = 256

#: The position of the characters in what C{tcgetattr} returns (Python's termios).
_CHARACTERS = 6


class Keyboard:
    """
    Reads keys as they are pressed, without showing them.  Ctrl-C still interrupts.

    @param fd: the terminal.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.ended = False

    def wait(self, seconds: float) -> str:
        """
        Wait for a key.

        @return: what was pressed, as characters; empty if nothing was.
        """
        if self.ended:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return ""
        pressed = os.read(self._fd, _READ_SIZE)
        self.ended = not pressed
        return pressed.decode("utf-8", "replace")


@contextlib.contextmanager
def keyboard(fd: int) -> Iterator[Keyboard]:
    """
    Have the keys of a terminal until the end of a C{with} block, after which the terminal is as it
    was, whether the block ends by itself, by an error or by a signal.

    @param fd: the terminal.
    @raise SystemExit: in the block, with the status that a shell gives to a program that such a
        signal has ended.
    """
    before = termios.tcgetattr(fd)
    handlers = {number: signal.signal(number, _end) for number in ENDINGS}
    try:
        tty.setcbreak(fd, termios.TCSADRAIN)
        without = termios.tcgetattr(fd)
        # Ctrl-Z would leave the shell with the terminal as it is now.
        without[_CHARACTERS][termios.VSUSP] = b"\0"
        termios.tcsetattr(fd, termios.TCSADRAIN, without)
        yield Keyboard(fd)
    finally:
        # What was typed for us is not for the shell.
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)
