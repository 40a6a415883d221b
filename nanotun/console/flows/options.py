"""
The command lines of C{nanotun flows}, C{top} and C{close}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.python import usage

from nanotun.console.command import AskOptions
from nanotun.console.flows.filters import (
    PROTOCOLS,
    STATES,
    Filter,
    Wanted,
    destinationOf,
    domainOf,
    processOf,
    ruleOf,
)
from nanotun.console.flows.rows import GROUPS
from nanotun.console.flows.table import Column, Order
from nanotun.console.flows.text import FLOW_COLUMNS, totalColumns
from nanotun.console.watched import WatchOptions

V = TypeVar("V")


class FilterOptions:
    """
    Mixin: options that say which flows are meant.  Each may be given several times.

    @cvar choices: the values of those that have few, for completions.
    """

    choices = {"state": STATES, "protocol": PROTOCOLS}

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[str, tuple[Any, ...]] = {}

    def filter(self) -> Filter:
        """What they say together."""
        return Filter(self.wanted())

    def wanted(self) -> Wanted:
        """What they say each."""
        return Wanted(**self._given)

    def opt_process(self, text: str) -> None:
        """flows of a program: a name, a path or a process's number"""
        self._add("processes", "process", text, processOf)

    def opt_domain(self, text: str) -> None:
        """flows to a name: example.org and all below, =NAME, *.NAME or ~EXPRESSION"""
        self._add("domains", "domain", text, domainOf)

    def opt_upstream(self, text: str) -> None:
        """flows by an upstream, such as proxy, direct or one by name"""
        self._add("upstreams", "upstream", text, str)

    def opt_to(self, text: str) -> None:
        """flows to an address or NETWORK[:PORT]"""
        self._add("destinations", "to", text, destinationOf)

    def opt_state(self, text: str) -> None:
        """flows that are waiting, dialling, open or half-closed"""
        self._add("states", "state", text, _oneOf(STATES))

    def opt_rule(self, text: str) -> None:
        """flows that a rule has decided about: its name in logs, or its number"""
        self._add("rules", "rule", text, ruleOf)

    def opt_protocol(self, text: str) -> None:
        """tcp or udp"""
        self._add("protocols", "protocol", text, _oneOf(PROTOCOLS))

    def _add(self, kind: str, option: str, text: str, read: Callable[[str], Any]) -> None:
        try:
            value = read(text)
        except ValueError as error:
            raise usage.UsageError(f"--{option} {error}") from None
        self._given[kind] = (*self._given.get(kind, ()), value)


def _oneOf(words: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            several = f"{', '.join(words[:-1])} or {words[-1]}"
            raise ValueError(f"must be {several}, not {text[:40]!a}")
        return text.lower()

    return read


class SortedOptions(FilterOptions, WatchOptions):
    """
    Options of what is shown as a table.

    @ivar order: how it is sorted.
    """

    optFlags = [["json", "j", "one JSON object; docs/flows.md has its fields"]]

    optParameters = [
        ["sort", "s", None, "by which column, in small letters; -COLUMN turns the order"],
    ]

    def order(self, columns: Sequence[Column[Any]], default: Order) -> Order:
        """
        How the rows are sorted.

        @param default: if the command line does not say it.
        """
        given: str | None = self["sort"]
        if given is None:
            return default
        name = given.removeprefix("-").lower()
        names = [each.name for each in columns]
        if name not in names:
            raise usage.UsageError(f"--sort must be one of {', '.join(names)}, not {given[:40]!a}")
        return Order(name, given.startswith("-"))


class FlowsOptions(SortedOptions):
    """The command line of C{nanotun flows}."""

    synopsis = "Usage: nanotun flows [FILTERS] [--json] [--watch [SECONDS]] [--sort COLUMN]"

    longdesc = (
        "Lists the open flows, with their programs, rules and upstreams. Of several filters of one "
        "kind a flow has to meet any, of different kinds all. Status 3: no daemon runs."
    )

    sorted = Order("id")

    def postOptions(self) -> None:
        """Find the order."""
        # The largest are looked for where not all fit.
        usual = Order("down/s") if self["watch"] else Order("id")
        self.sorted = self.order(FLOW_COLUMNS, usual)


class TopOptions(SortedOptions):
    """The command line of C{nanotun top}."""

    synopsis = "Usage: nanotun top [--by WHAT] [FILTERS] [--json] [--watch [SECONDS]]"

    longdesc = (
        "Sums up the open flows by their programs, or by what --by says. The filters are those of "
        "'nanotun flows'. Status 3: no daemon runs."
    )

    optParameters = [
        ["by", "b", "process", f"what to sum up by: {', '.join(GROUPS)}"],
    ]

    sorted = Order("down")

    def postOptions(self) -> None:
        """Check what to sum up by, and find the order."""
        try:
            self["by"] = _oneOf(tuple(GROUPS))(self["by"])
        except ValueError as error:
            raise usage.UsageError(f"--by {error}") from None
        usual = Order("down/s") if self["watch"] else Order("down")
        self.sorted = self.order(totalColumns(self["by"]), usual)


class CloseOptions(FilterOptions, AskOptions):
    """
    The command line of C{nanotun close}.

    @ivar ids: of the flows to close.
    """

    synopsis = "Usage: nanotun close [--yes] ID... | FILTERS [options]"

    longdesc = (
        "Closes flows: those with these ids, or all that meet the filters of 'nanotun flows'. With "
        "filters it shows them and asks first. Status 1: nothing was closed, 3: no daemon runs."
    )

    optFlags = [["yes", "y", "close what meets the filters without asking"]]

    ids: tuple[int, ...] = ()

    def parseArgs(self, *args: str) -> None:
        """Take the ids."""
        for text in args:
            if not text.isdecimal() or not text.isascii() or not 0 < int(text) < 1 << 64:
                raise usage.UsageError(f"{text[:40]!a} is no flow's id")
        self.ids = tuple(dict.fromkeys(map(int, args)))

    def postOptions(self) -> None:
        """There must be something to close."""
        if bool(self.ids) == (self.wanted() != Wanted()):
            raise usage.UsageError(
                "give either ids or filters; 'nanotun flows' shows what is open"
                if self.ids
                else "give ids or filters, such as 17 or --process curl"
            )
