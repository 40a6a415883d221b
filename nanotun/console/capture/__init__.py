"""
C{nanotun capture}: write the device's packets to a file, with the program and the rule of each
flow.
"""

from __future__ import annotations

import contextlib
import platform
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial

from nanotun import __version__
from nanotun.console import FAILED, GOOD
from nanotun.console.capture.asking import DaemonFlows
from nanotun.console.capture.capture import Capture
from nanotun.console.capture.device import PacketDevice
from nanotun.console.capture.file import CaptureFile
from nanotun.console.capture.holding import Holding
from nanotun.console.capture.known import KnownFlows
from nanotun.console.capture.options import CaptureOptions
from nanotun.console.capture.programs import CapturedPrograms
from nanotun.console.capture.text import beginning, ending
from nanotun.console.command import run
from nanotun.control.client import Client

#: What ends it in order.
_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = CaptureOptions()
    return run("capture", options, arguments, lambda: _capture(options))


def _capture(options: CaptureOptions) -> int:
    stops: list[str] = []
    with contextlib.ExitStack() as stack:
        runDir = options.runDir()
        with Client(runDir) as client:
            name, pid = client.ask("status")["device"]["name"], client.pid
        device = stack.enter_context(contextlib.closing(PacketDevice(name, pid)))
        programs = stack.enter_context(contextlib.closing(CapturedPrograms(name, pid)))
        flows = DaemonFlows(partial(Client, runDir))
        known = KnownFlows(flows, programs, time.monotonic)
        known.start()
        output = CaptureFile(options["write"], options["force"])
        stack.callback(output.close)
        for number, word in _SIGNALS.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_, word=word: stops.append(word))
        _say(beginning(name, options.limits))
        capture = Capture(
            device,
            known,
            Holding(known, options.wantedOnly(), time.monotonic),
            output,
            options.limits,
            time.monotonic,
            time.time_ns,
        )
        captured = capture.run(
            f"{platform.system()} {platform.release()}",
            f"nanotun {__version__}",
            lambda: f"{stops[0]} has ended it." if stops else "",
        )
    for sentence in ending(captured, output.name, flows.silent):
        _say(sentence)
    return FAILED if captured.failed else GOOD


def _say(sentence: str) -> None:
    """Standard output may be the file."""
    print(sentence, file=sys.stderr, flush=True)
