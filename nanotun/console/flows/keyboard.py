"""
The keys that are pressed while something is shown on the terminal.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
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
    @param wake: becomes readable when there is a signal.
    """

    def __init__(self, fd: int, wake: int) -> None:
        self._fd = fd
        self._wake = wake
        self.ended = False

    def wait(self, seconds: float) -> str:
        """
        Wait for a key.

        @return: what was pressed, as characters; empty if nothing was.
        """
        # A signal that comes right before the call would be heard of after it.
        terminal = [] if self.ended else [self._fd]
        ready, _, _ = select.select([*terminal, self._wake], [], [], seconds)
        if self._wake in ready:
            os.read(self._wake, _READ_SIZE)
        if self._fd not in ready:
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
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakeup = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _end) for number in ENDINGS}
    try:
        tty.setcbreak(fd, termios.TCSADRAIN)
        without = termios.tcgetattr(fd)
        # Ctrl-Z would leave the shell with the terminal as it is now.
        without[_CHARACTERS][termios.VSUSP] = b"\0"
        termios.tcsetattr(fd, termios.TCSADRAIN, without)
        yield Keyboard(fd, wake)
    finally:
        # What was typed for us is not for the shell.
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(wake)
        os.close(woken)


def _end(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)
