"""
Receives signals together with their sender.

A terminal's Ctrl-C goes to the whole foreground process group, including the command:
if nanotun forwarded it, it would arrive twice.  A signal that was sent to nanotun alone,
with kill(1), must be forwarded.  A Python signal handler cannot tell them apart;
sigwaitinfo(2) can.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from nanotun.cell.command import SIGNALS

#: C{si_code} of a signal from the kernel, such as the terminal's (asm-generic/siginfo.h).
SI_KERNEL = 0x80


def blockSignals() -> set[signal.Signals]:
    """
    Block L{SIGNALS}, so they wait until L{watchSignals} collects them.  Call it before any
    thread is started: the kernel delivers a signal to any thread that does not block it.

    @return: the blocked signals; one that is already ignored (nohup(1)) stays ignored.
    """
    watched = {each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    return watched


def watchSignals(
    watched: set[signal.Signals],
    received: Callable[[int, bool], object],
    wait: Callable[[set[signal.Signals]], signal.struct_siginfo | None] = signal.sigwaitinfo,
) -> threading.Thread:
    """
    Report each signal, in a thread of its own, for as long as the process lives.

    @param watched: from L{blockSignals}.
    @param received: called in that thread with the signal's number, and whether the
        kernel sent it to the whole process group.
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
