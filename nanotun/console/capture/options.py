"""
The command line of C{nanotun capture}.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from twisted.python import usage

from nanotun.config import values
from nanotun.console.capture.capture import Limits
from nanotun.console.command import AskOptions
from nanotun.console.flows.filters import Filter, Wanted
from nanotun.console.flows.options import FilterOptions
from nanotun.errors import ConfigError

V = TypeVar("V")

_SIZE = values.size("64KiB", "1TiB", "100MiB")
_TIME = values.duration("1s", "168h", "30s, 10m or 2h")
_COUNT = values.number(1, 1_000_000_000, "packets")


class CaptureOptions(FilterOptions, AskOptions):
    """
    What is captured, and where to.

    @ivar limits: when it ends by itself.
    """

    synopsis = "Usage: nanotun capture -w FILE [FILTERS] [--limit SIZE] [--time TIME] [options]"

    longdesc = (
        "Writes the device's packets for Wireshark; comments have each flow's program and rule. "
        "The filters are those of 'nanotun flows'. Status 3: no daemon runs."
    )

    optFlags = [["force", "f", "overwrite a file that exists"]]

    optParameters = [
        ["write", "w", None, "the file; - for standard output"],
        ["limit", None, "100MiB", "end when the file has this size"],
        ["time", None, "10m", "end after this time"],
        ["count", None, None, "end after so many packets"],
    ]

    limits = Limits(0, 0.0)

    def wantedOnly(self) -> Filter | None:
        """Says which flows are captured; L{None} for all packets."""
        return None if self.wanted() == Wanted() else self.filter()

    def postOptions(self) -> None:
        """Read the limits."""
        if self["write"] is None:
            raise usage.UsageError("say which file to write, with -w FILE.pcapng or -w -")
        size = self._checked("limit", _SIZE, self["limit"])
        seconds = self._checked("time", _TIME, self["time"])
        text = self["count"]
        if text is None:
            self.limits = Limits(size, seconds)
            return
        count = int(text) if re.fullmatch("[0-9]{1,10}", text) else text
        self.limits = Limits(size, seconds, self._checked("count", _COUNT, count))

    def _checked(self, name: str, check: Callable[[object], V], value: object) -> V:
        try:
            return check(value)
        except ConfigError as error:
            raise usage.UsageError(f"--{name} {error}") from None
