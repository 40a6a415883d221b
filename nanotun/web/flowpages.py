"""
The pages about flows: all of them, and those of each program.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from nanotun.config.units import sizeText, timeText
from nanotun.web.html import Child, Html, join, tag
from nanotun.web.parts import cell, heading, number, numberHead, secret, section, table
from nanotun.web.text import (
    NOTHING,
    UNENCODABLE,
    countText,
    plural,
    processText,
    rateText,
    targetText,
)

#: Rows of a page.  More would not be read, and to make one takes the reactor some 60 us.
SHOWN = 200


def rateOf(flow: Mapping[str, Any], direction: str) -> float:
    """
    Bytes per second.

    @param direction: C{"up"} or C{"down"}.
    @return: the rate since the last look, where it is known; else the mean one.
    """
    known = flow.get(f"rate{direction.capitalize()}")
    return flow[direction] / max(flow["age"], 1.0) if known is None else known


#: What flows can be sorted by: how to find it, and whether the largest comes first.
SORTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any], bool]] = {
    "program": ("Program", lambda flow: processText(flow["process"]).lower(), False),
    "destination": ("Destination", lambda flow: targetText(flow).lower(), False),
    "upstream": ("Upstream", lambda flow: flow["upstream"] or "", False),
    "state": ("State", lambda flow: flow["state"], False),
    "age": ("Age", lambda flow: flow["age"], False),
    "up": ("Up", lambda flow: flow["up"], True),
    "down": ("Down", lambda flow: flow["down"], True),
    "rate": ("Rate", lambda flow: rateOf(flow, "up") + rateOf(flow, "down"), True),
}

#: The columns of numbers.
NUMBERS = ("age", "up", "down", "rate")


def wordsOf(flow: Mapping[str, Any]) -> str:
    """What a search looks at, in lower case, and as it can be asked for."""
    process = flow["process"] or {}
    words = (
        processText(flow["process"]),
        process.get("pid", ""),
        process.get("path", ""),
        process.get("unit") or "",
        flow["domain"] or "",
        flow["destination"],
        flow["source"],
        flow["upstream"] or "",
        flow["rule"] or "",
        flow["state"],
        flow["protocol"],
    )
    return " ".join(map(str, words)).lower().encode("utf-8", UNENCODABLE).decode()


class FlowSearch:
    """
    The flows that have every word of a search.

    @ivar flows: as docs/flows.md describes them.
    @ivar present: how many there are in all.
    """

    def __init__(self, search: str) -> None:
        self.flows: list[Mapping[str, Any]] = []
        self.present = 0
        self._words = search.lower().split()

    def take(self, flow: Mapping[str, Any]) -> None:
        """Look at a flow."""
        self.present += 1
        if self._words:
            text = wordsOf(flow)
            if not all(word in text for word in self._words):
                return
        self.flows.append(flow)


def flowsPage(found: FlowSearch, query: Mapping[str, str], csrf: str) -> Html:
    """
    The page with all flows.

    @param query: C{q}, the words that were searched for, and C{sort}, one of L{SORTS}.
    """
    search = query.get("q", "")
    sort = query.get("sort", "") if query.get("sort", "") in SORTS else "rate"
    _, key, largest = SORTS[sort]
    shown = sorted(found.flows, key=key, reverse=largest)[:SHOWN]
    form = tag(
        "form",
        tag("label", "Search", for_="search"),
        tag(
            "input",
            type="search",
            id="search",
            name="q",
            value=search,
            placeholder="program, name, address, upstream …",
            autocomplete="off",
            spellcheck="false",
            aria_keyshortcuts="/",
        ),
        tag("input", type="hidden", name="sort", value=sort) if sort != "rate" else None,
        tag("button", "Search"),
        action="/flows",
        method="get",
        role="search",
        class_="search",
    )
    nothing = f"No flow has “{search}”." if search and found.present else "No flow is open."
    rows = table(
        [*_heads(sort, search), tag("th", tag("span", "Close", class_="unseen"), scope="col")],
        map(flowRow, shown),
        nothing,
        id="flows",
        kind="flows",
    )
    return join(
        heading(
            "Flows", tag("p", _count(len(found.flows), found.present), id="count", role="status")
        ),
        form,
        tag(
            "form",
            secret(csrf),
            tag("input", type="hidden", name="back", value=_address(search, sort)),
            section("", rows, live="listing"),
            action="/flows/close",
            method="post",
            id="closing",
            data_sort=sort,
            data_search=search,
        ),
    )


def _count(found: int, present: int) -> str:
    text = plural(present, "flow") + (" is open" if present == 1 else " are open")
    if found != present:
        text += f", {countText(found)} found"
    return text + (f"; the first {SHOWN} are shown" if found > SHOWN else "")


def _heads(sort: str, search: str) -> Iterable[Html]:
    for name, (title, _, largest) in SORTS.items():
        order = ("descending" if largest else "ascending") if name == sort else None
        yield tag(
            "th",
            tag("a", title, href=_address(search, name)),
            scope="col",
            aria_sort=order,
            class_="number" if name in NUMBERS else None,
        )


def _address(search: str, sort: str) -> str:
    """The URL of the page with some of the flows."""
    values = {"q": search} if search else {}
    return f"/flows?{urlencode({**values, 'sort': sort})}"


def flowRow(flow: Mapping[str, Any]) -> Html:
    """One flow.  C{page.js} makes the same."""
    process = flow["process"]
    target = targetText(flow)
    name = processText(process)
    rate = rateOf(flow, "up") + rateOf(flow, "down")
    return tag(
        "tr",
        cell("Program", name, _small(process and process["pid"]), title=_whose(process)),
        cell(
            "Destination",
            target,
            _small(flow["protocol"]),
            kind="wide",
            title=f"{flow['source']} → {flow['destination']}",
        ),
        cell(
            "Upstream",
            flow["upstream"] or flow["verdict"] or NOTHING,
            _small(flow["rule"]),
            title=flow["by"] or "",
        ),
        cell("State", flow["state"]),
        number("Age", timeText(flow["age"])),
        number("Up", sizeText(flow["up"])),
        number("Down", sizeText(flow["down"])),
        number("Rate", rateText(rate)),
        cell(
            "",
            tag(
                "button",
                "Close",
                name="id",
                value=flow["id"],
                aria_label=f"Close {name} to {target}",
            ),
            kind="action",
        ),
        data_key=flow["id"],
        data_words=wordsOf(flow),
    )


def _small(text: Child) -> Child:
    """Something less important, after a space."""
    return (" ", tag("small", text)) if text else None


def _whose(process: Mapping[str, Any] | None) -> str:
    if process is None:
        return ""
    parts = [process["path"] or process["name"], f"user {process['uid']}", process["unit"] or ""]
    return ", ".join(filter(None, parts))


class ProgramSum:
    """
    The sums of one program's open flows.

    @ivar pids: its processes.
    """

    def __init__(self) -> None:
        self.path = ""
        self.pids: set[int] = set()
        self.flows = self.up = self.down = 0
        self.rate = 0.0


class ProgramSums:
    """
    The sums of all of them.

    @ivar sums: by the program's name.
    """

    def __init__(self) -> None:
        self.sums: dict[str, ProgramSum] = {}

    def take(self, flow: Mapping[str, Any]) -> None:
        """Add a flow."""
        process = flow["process"]
        found = self.sums.setdefault(processText(process), ProgramSum())
        if process is not None:
            found.path = found.path or process["path"]
            found.pids.add(process["pid"])
        found.flows += 1
        found.up += flow["up"]
        found.down += flow["down"]
        found.rate += rateOf(flow, "up") + rateOf(flow, "down")


def programsPage(programs: ProgramSums) -> Html:
    """The page with the sums of each program's open flows."""
    order = sorted(programs.sums.items(), key=lambda each: (-each[1].rate, each[0]))
    rows = table(
        [
            "Program",
            numberHead("Processes"),
            numberHead("Flows"),
            numberHead("Up"),
            numberHead("Down"),
            numberHead("Rate"),
        ],
        (_programRow(name, found) for name, found in order[:SHOWN]),
        "No flow is open.",
    )
    return join(
        heading("Programs"),
        tag("p", "The sums of the flows that are open now.", class_="about"),
        section("", rows, live="programs"),
    )


def _programRow(name: str, found: ProgramSum) -> Html:
    known = bool(found.pids)
    query = urlencode({"q": name}, errors=UNENCODABLE)
    link = tag("a", name, href=f"/flows?{query}") if known else "not known"
    return tag(
        "tr",
        cell("Program", link, _small(found.path), kind="wide"),
        number("Processes", countText(len(found.pids)) if known else NOTHING),
        number("Flows", countText(found.flows)),
        number("Up", sizeText(found.up)),
        number("Down", sizeText(found.down)),
        number("Rate", rateText(found.rate)),
        data_key=name,
    )
