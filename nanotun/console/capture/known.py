"""
What is known of the flows whose packets are captured: from the daemon's list, and whose they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from nanotun.console.capture.packets import CapturedPacket, Key, begins, endpointsOf, keyOf
from nanotun.flow import Flow
from nanotun.flow import Protocol as IPProtocol

#: Seconds that the packets of a new flow wait for what is to be known of it.
HOLD = 1.0

#: Seconds from one question to the next: while packets wait, and while only flows are left that
#: somebody takes long to decide about.
PROMPT = 0.02
CALM = 0.5

#: Seconds from one question to the next while nothing is to be known: less than those after which
#: the daemon keeps no ends of flows for us any more (nanotun.daemon.lately).
IDLE = 5.0

#: So many times as long as the questions took they are not asked again, so that neither the
#: daemon nor this program does little else.
REST = 4

#: Seconds after which nothing more is expected of a flow that the daemon does not list: what it
#: refuses, drops or serves itself.
PATIENCE = 10.0

#: Flows that are remembered at least before those are looked for that are no more, and at most.
REMEMBERED = 20_000
REMEMBERED_LIMIT = 200_000

#: Seconds for which a flow that is no more is remembered, as last packets may be on their way.
FORGOTTEN_AFTER = 10.0


class FlowFilter(Protocol):
    """See L{nanotun.console.flows.filters.Filter}."""

    def takes(self, flow: Mapping[str, Any]) -> bool:
        """Whether a flow is meant, as far as that does not depend on its process."""

    def takesProcess(self, process: Mapping[str, Any] | None, names: Collection[str]) -> bool:
        """Whether a flow's process is meant, which has these names as well."""


class ProgramLookups(Protocol):
    """See L{nanotun.console.capture.programs.CapturedPrograms}."""

    def recorded(self, flows: Sequence[Flow]) -> Mapping[int, Mapping[str, Any]]:
        """The processes of new flows, by their ids; at once."""

    def searched(self, flows: Sequence[Flow]) -> Mapping[int, Mapping[str, Any]]:
        """The processes of flows, by their ids; it takes a while."""


class KnownFlow:
    """
    One flow.

    @ivar row: as the daemon describes it (docs/flows.md); what its packets say until then.
    @ivar listed: whether the daemon has described it.
    @ivar process: of this machine's that has its socket; L{None} if that is not known.
    @ivar asked: whether somebody was asked about it since it began.
    @ivar deadline: when its packets do not wait any more.
    @ivar seen: when its last packet came.
    @ivar found: when that was found out.
    @ivar searched: whether its program was searched for.
    @ivar isWritten: whether a packet of it is in the file.
    @ivar told: its last comment there.
    """

    __slots__ = (
        "asked",
        "deadline",
        "found",
        "isWritten",
        "key",
        "listed",
        "process",
        "row",
        "searched",
        "seen",
        "told",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.deadline = 0.0
        self.seen: float | None = None
        self.found = 0.0
        self.asked = False
        self.process: Mapping[str, Any] | None = None
        self.become(_unlisted(key), 0.0)
        self.listed = False

    def become(self, row: Mapping[str, Any], since: float) -> None:
        """
        Another flow has the same endpoints now.

        @param since: a process that was found before has had the earlier one.
        """
        self.row = row
        self.listed = True
        if self.found < since:
            self.process = None
        self.searched = False
        self.isWritten = False
        self.told = ""

    @property
    def settled(self) -> bool:
        """Whether everything is known that can be."""
        isDecided = self.asked and self.row["rule"] is not None
        return isDecided and (self.process is not None or self.searched)

    def comment(self) -> str:
        """What is known, in one line; empty if it was told last, or is nothing."""
        text = describe(self.row, self.process)
        if text == self.told:
            return ""
        self.told = text
        return text


class KnownFlows:
    """
    Asks about flows as soon as packets of new ones come.

    @param rows: asks the daemon for its flows whose ids are greater than a number, and for those
        that have ended since the last question.
    @param programs: finds the processes of flows.
    @param clock: seconds that only grow.
    """

    def __init__(
        self,
        rows: Callable[[int], Iterable[Mapping[str, Any]]],
        programs: ProgramLookups,
        clock: Callable[[], float],
    ) -> None:
        self._rows = rows
        self._programs = programs
        self._clock = clock
        self._flows: dict[Key, KnownFlow] = {}
        self._waiting: dict[Key, KnownFlow] = {}
        self._new: list[KnownFlow] = []
        self._undecided: set[int] = set()
        self._highest = 0
        self._asked = self._rest = self._hurried = 0.0
        self._enough = REMEMBERED

    def start(self) -> None:
        """Learn of the flows that are open already."""
        self._learn(self._rows(0))
        self._asked = self._clock() - PROMPT

    def see(self, packet: CapturedPacket, key: Key) -> KnownFlow:
        """The flow of a packet."""
        now = self._clock()
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = KnownFlow(key)
        if flow.seen is None or begins(packet, key):
            # An app may use a port again.
            flow.asked = False
            flow.deadline = self._hurried = now + HOLD
            self._waiting[key] = flow
            self._new.append(flow)
        flow.seen = now
        return flow

    def refresh(self, final: bool = False) -> None:
        """
        Ask, if it is time to.

        @param final: whether this is the last time, so that it is time in any case.
        """
        if self._new:
            # They may end at any moment, and their programs with them.
            self._find(self._new, self._programs.recorded)
            self._new = []
        begun = self._clock()
        pause = (PROMPT if begun < self._hurried else CALM) if self._waiting else IDLE
        if begun < self._asked + max(pause, self._rest) and not final:
            return
        lacking = [each for each in self._waiting.values() if not each.searched]
        lacking = [each for each in lacking if each.process is None]
        if lacking:
            self._find(lacking, self._programs.searched)
            for flow in lacking:
                flow.searched = True
        undecided = min(self._undecided, default=0)
        rows = list(self._rows(undecided - 1 if undecided else self._highest))
        self._learn(rows)
        # Those that have been refused or dropped are not listed any more.
        self._undecided.intersection_update(row["id"] for row in rows)
        for key, flow in list(self._waiting.items()):
            flow.asked = True
            if flow.settled or self._isHopeless(flow, begun):
                del self._waiting[key]
        if len(self._flows) > self._enough:
            self._forget()
        self._asked = self._clock()
        self._rest = REST * (self._asked - begun)

    def _isHopeless(self, flow: KnownFlow, now: float) -> bool:
        """Whether nothing more is to be expected of a flow."""
        if flow.listed:
            return flow.row["rule"] is None and flow.row["id"] not in self._undecided
        return now > flow.deadline + PATIENCE

    def _learn(self, rows: Iterable[Mapping[str, Any]]) -> None:
        since = self._clock() - HOLD
        for row in rows:
            key = keyOf(row["protocol"], row["source"], row["destination"])
            flow = self._flows.get(key)
            if flow is None:
                flow = self._flows[key] = KnownFlow(key)
            if flow.listed and flow.row["id"] > row["id"]:
                # One that has ended, whose port is used again.
                continue
            if flow.listed and flow.row["id"] < row["id"]:
                flow.become(row, since)
            flow.row, flow.listed = row, True
            flow.process = row["process"] or flow.process
            if row["state"] == "ended":
                # Flows with smaller ids may not have been listed yet.
                self._undecided.discard(row["id"])
                continue
            self._highest = max(self._highest, row["id"])
            if row["rule"] is None:
                self._undecided.add(row["id"])
            else:
                self._undecided.discard(row["id"])

    def _find(
        self,
        flows: Sequence[KnownFlow],
        how: Callable[[Sequence[Flow]], Mapping[int, Mapping[str, Any]]],
    ) -> None:
        asked = [
            Flow(number, IPProtocol(flow.key[0]), *endpointsOf(flow.key))
            for number, flow in enumerate(flows)
        ]
        for number, process in how(asked).items():
            flows[number].process = process
            flows[number].found = self._clock()

    def _forget(self) -> None:
        """Forget the flows that are no more."""
        rows = list(self._rows(0))
        self._learn(rows)
        kept = {keyOf(row["protocol"], row["source"], row["destination"]) for row in rows}
        since = self._clock() - FORGOTTEN_AFTER
        for key, flow in list(self._flows.items()):
            if key not in kept and (flow.seen is None or flow.seen < since):
                del self._flows[key]
        for key in list(self._flows)[: max(0, len(self._flows) - REMEMBERED_LIMIT)]:
            del self._flows[key]
        self._waiting = {key: each for key, each in self._waiting.items() if key in self._flows}
        self._undecided.intersection_update(row["id"] for row in rows)
        self._enough = 2 * len(self._flows) + REMEMBERED


def describe(row: Mapping[str, Any], process: Mapping[str, Any] | None) -> str:
    """
    A flow in one line, such as C{program curl (pid 17), to example.org, rule #2, by office}.

    @param row: as the daemon describes it.
    @param process: whose it is.
    """
    parts = []
    if process is not None and process["pid"]:
        parts.append(f"program {process['name']} (pid {process['pid']})")
    if row["domain"]:
        parts.append(f"to {row['domain']}")
    if row["rule"]:
        parts.append(f"rule {row['rule']}")
    if row["upstream"]:
        parts.append(f"by {row['upstream']}")
    # A program chooses its own name.
    return "".join(c if c.isprintable() else "?" for c in ", ".join(parts))


def _unlisted(key: Key) -> Mapping[str, Any]:
    """What is known by a packet alone, in the form of the daemon's list."""
    source, destination = endpointsOf(key)
    return {
        "id": 0,
        "protocol": IPProtocol(key[0]).name.lower(),
        "state": "waiting",
        "source": str(source),
        "destination": str(destination),
        "domain": None,
        "rule": None,
        "upstream": None,
        "process": None,
    }
