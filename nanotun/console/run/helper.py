"""
The main program of the helper process of C{nanotun run}.

L{nanotun.cell.launch} starts it in the cell's namespaces.
"""

from __future__ import annotations

import json
import os
import socket
import sys

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogPublisher
from zope.interface import implementer

from nanotun.cell.channel import Channel
from nanotun.cell.command import CommandUser
from nanotun.cell.helper import Helper, beDeaf
from nanotun.cell.mounts import CellMounts
from nanotun.cell.network import routeAll
from nanotun.cell.refusals import Refusals
from nanotun.engine.probe import offloadWorks
from nanotun.tun.device import LinuxTunOpener


@implementer(ILogObserver)
class Notes:
    """Collects warnings, which nanotun logs in its own process."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        """See L{twisted.logger.ILogObserver}."""
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            self._texts.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    def take(self) -> list[str]:
        """The warnings since the last call."""
        texts, self._texts = self._texts, []
        return texts


def main() -> None:
    """Serve one cell; L{nanotun.cell.launch.Cell} passes the arguments."""
    about = json.loads(sys.argv[1])
    os.dup2(about["stderr"], 2)
    os.close(about["stderr"])
    os.set_inheritable(about["channel"], False)
    beDeaf()
    notes = Notes()
    globalLogPublisher.addObserver(notes)
    user = about["user"]
    Helper(
        Channel(socket.socket(fileno=about["channel"])),
        LinuxTunOpener(offloadWorks),
        CellMounts(wholeFirst=about["wholeFirst"]),
        routeAll,
        notes.take,
        Refusals().explained if about["rootless"] else str,
    ).serve(sys.argv[2:], None if user is None else CommandUser(**user), os.environ)
