"""
The command line of C{nanotun history}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.python import usage

from nanotun import __version__
from nanotun.addresses import isAddress
from nanotun.config.arguments import ArrangedOptions
from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.options import DEFAULT_FILE, readFile
from nanotun.config.selectors import processName
from nanotun.console.flows.filters import domainOf, processOf, ruleOf
from nanotun.console.history.times import spanOf
from nanotun.errors import ConfigError
from nanotun.history.reader import SUMMED, HistoryFilter
from nanotun.policy.names import NameSet

#: Lines, unless C{--limit} says another number.
LIMIT = 50

_KEY = KEYS["flowLog"]


class HistoryOptions(ArrangedOptions):
    """
    The file, the time, and the filters.

    @ivar limit: how many lines there may be.
    """

    synopsis = "Usage: nanotun history [--since TIME] [--until TIME] [--by WHAT] [FILTERS]"

    longdesc = (
        "Shows the flows that have ended, the last one first, from the file of the setting "
        "flowLog; or with --by what they add up to. A TIME is how long ago it was (90m, 2h, 7d), "
        "or a day or a moment (yesterday, 14:30, 2026-11-29, '2026-11-29 14:30'). It needs no "
        "daemon."
    )

    optFlags = [["json", "j", "one JSON object; docs/history.md has its fields"]]

    optParameters = [
        ["since", "s", None, "no flows that ended earlier"],
        ["until", "u", None, "no flows that ended later"],
        ["by", "b", None, f"sum up by {', '.join(SUMMED)}"],
        ["limit", "n", str(LIMIT), "how many lines at most"],
        ["file", "f", None, "the file, if it is not the flowLog of the configuration"],
        ["config", "c", None, f"the configuration file that names it [default: {DEFAULT_FILE}]"],
    ]

    defaultFile = DEFAULT_FILE

    limit = LIMIT

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[str, list[Any]] = {}

    def opt_process(self, text: str) -> None:
        """flows of a program: a name, a path or a process's number"""
        self._add("process", text, processOf)

    def opt_domain(self, text: str) -> None:
        """flows to a name: example.org and all below, =NAME, *.NAME or ~EXPRESSION"""
        self._add("domain", text, domainOf)

    def opt_upstream(self, text: str) -> None:
        """flows by an upstream, such as proxy, direct or one by name"""
        self._add("upstream", text, str)

    def opt_rule(self, text: str) -> None:
        """flows that a rule has decided about: its name in logs, or its number"""
        self._add("rule", text, ruleOf)

    def opt_version(self) -> None:
        """Display nanotun's version and exit."""
        print(f"nanotun {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        """Accept no arguments."""
        if args:
            raise usage.UsageError(f"there is no argument {args[0][:40]!a}")

    def postOptions(self) -> None:
        """Check what to sum up by, and the limit."""
        by, limit = self["by"], self["limit"]
        if by is not None and by not in SUMMED:
            raise usage.UsageError(f"--by must be one of {', '.join(SUMMED)}, not {by[:40]!a}")
        if not limit.isdecimal() or not limit.isascii() or not 0 < int(limit) < 1 << 31:
            raise usage.UsageError(f"--limit must be a number of lines, not {limit[:40]!a}")
        self.limit = int(limit)

    def filter(self, now: float) -> HistoryFilter:
        """
        What is meant.

        @param now: seconds since 1970.
        @raise usage.UsageError: there is no such time.
        """
        since, until = self._moment("since", now, 0), self._moment("until", now, 1)
        if since and until and since >= until:
            raise usage.UsageError("--since must be earlier than --until")
        processes = set(self._given.get("process", ()))
        names = NameSet(self._given.get("domain", ()), {})

        def isProcess(name: str, path: str, pid: str) -> bool:
            return not processes.isdisjoint((processName(name), path, pid))

        def isDomain(domain: str) -> bool:
            # Where flows without a name are counted by their addresses.
            return bool(domain) and not isAddress(domain) and bool(names.find(domain))

        return HistoryFilter(
            since,
            until,
            isProcess if processes else None,
            isDomain if "domain" in self._given else None,
            tuple(self._given.get("upstream", ())),
            tuple(self._given.get("rule", ())),
            not any(each.startswith("/") or each.isdecimal() for each in processes),
        )

    def path(self) -> str:
        """
        The file to read.

        @raise ConfigError: it is not known, or the configuration is wrong.
        """
        found: object = self["file"] or os.environ.get(_KEY.variable)
        config, where = self["config"], _KEY.variable
        if self["file"]:
            return os.path.abspath(self["file"])
        if not found and config is None and os.path.lexists(self.defaultFile):
            config = self.defaultFile
        if not found and config is not None:
            text, _ = readFile(config, os.geteuid())
            given = parseFile(text, config, KEYS).get(_KEY.name)
            if given is not None:
                found, where = given.value, given.where
        try:
            checked = str(_KEY.check(found or ""))
        except ConfigError as error:
            raise ConfigError(f"{where} {error}.") from None
        if not checked:
            raise ConfigError(
                "No flows are recorded, as flowLog is not set; set it, or name a file after --file."
            )
        return checked

    def _moment(self, option: str, now: float, end: int) -> float:
        """@param end: 1 for the end of a day, 0 for its beginning."""
        given: str | None = self[option]
        if given is None:
            return 0.0
        try:
            return spanOf(given, now)[end]
        except ValueError as error:
            raise usage.UsageError(f"--{option} {error}") from None

    def _add(self, option: str, text: str, read: Callable[[str], Any]) -> None:
        try:
            value = read(text)
        except ValueError as error:
            raise usage.UsageError(f"--{option} {error}") from None
        self._given.setdefault(option, []).append(value)
