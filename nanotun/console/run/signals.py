"""
Signals, and who sent them.

A terminal's Ctrl-C goes to the whole foreground process group, the command included:
passed on, it would arrive twice.  What somebody sent to nanotun alone with kill(1) is
passed on.  A Python signal handler is not told which it was; sigwaitinfo(2) is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from nanotun.cell.command import SIGNALS

#: C{si_code} of what the kernel sent, such as the terminal's (asm-generic/siginfo.h).
SI_KERNEL = 0x80


def block() -> set[signal.Signals]:
    """
    Have the signals wait to be told of.  Before any thread is started: a signal goes to
    any thread that does not block it.

    @return: which; those that were ignored already (nohup(1)) stay so.
    """
    watched = {each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    return watched


def watch(
    watched: set[signal.Signals],
    received: Callable[[int, bool], object],
    wait: Callable[[set[signal.Signals]], signal.struct_siginfo | None] = signal.sigwaitinfo,
) -> threading.Thread:
    """
    Tell of each signal, from a thread of its own, for as long as the process lives.

    @param received: called in that thread with the number and whether the kernel sent
        it, to our whole group.
    @param wait: as L{signal.sigwaitinfo}; the thread ends when it returns L{None}.
    """

    def loop() -> None:
        while True:
            info = wait(watched)
            if info is None:
                return
            received(info.si_signo, info.si_code == SI_KERNEL)

    thread = threading.Thread(target=loop, name="signals", daemon=True)
    thread.start()
    return thread
