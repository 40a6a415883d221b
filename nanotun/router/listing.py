"""
The flows that are open, as the control socket tells of them: docs/flows.md has the names.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from typing import Any, NamedTuple

from nanotun.flow import FlowEnd, FlowState, ListedFlow, Note, Owner
from nanotun.interfaces import INames, IPacketEngine
from nanotun.linux.cgroups import unitOf
from nanotun.policy.asked import PROTOCOLS
from nanotun.router.dialling import Dialling
from nanotun.router.notes import NoteTable, whole
from nanotun.router.programs import FlowPrograms

#: What the states are called.
STATES = {
    FlowState.WAITING: "waiting",
    FlowState.DIALLING: "dialling",
    FlowState.OPEN: "open",
    FlowState.HALF_CLOSED: "half-closed",
}

#: What is said of a flow that is over.
ENDED = "ended"

#: Characters of a page's texts, after which it ends early.  With everything else of two thousand
#: flows it stays below what a response of the control socket may have.
TEXTS_LIMIT = 1 << 21

#: Characters that a response has for one that is not ASCII, at most.
ESCAPED = 12


class FlowPage(NamedTuple):
    """
    Part of a listing.

    @ivar flows: each as L{FlowListing.page} has it.
    @ivar next: the id after which the next page begins; L{None} after the last.
    """

    flows: list[dict[str, Any]]
    next: int | None


class FlowListing:
    """
    What the engine lists, with what is known of it here.

    @param dialling: the flows that wait for a leg.
    @param names: knows the names behind fake addresses.
    """

    def __init__(
        self,
        engine: IPacketEngine,
        notes: NoteTable,
        dialling: Dialling,
        names: INames,
        programs: FlowPrograms,
    ) -> None:
        self._engine = engine
        self._notes = notes
        self._dialling = dialling
        self._names = names
        self._programs = programs

    def flows(self, after: int, limit: int) -> list[tuple[ListedFlow, Note | None]]:
        """
        Open flows and those that wait, with what was decided; see L{IPacketEngine.listFlows}.

        @return: the notes have the processes that were looked up for those who record.
        """
        return [self._known(each) for each in self._engine.listFlows(after, limit)]

    def page(self, after: int, limit: int, ids: Container[int] | None = None) -> FlowPage:
        """
        As L{flows}, for the user.

        @param ids: which of them are wanted; L{None} for all.
        @return: for each flow what docs/flows.md says.
        """
        flows: list[dict[str, Any]] = []
        left = TEXTS_LIMIT
        # Most flows share a few notes.
        shared: dict[int, _Noted] = {}
        found = self._engine.listFlows(after, limit)
        for each in found:
            if ids is not None and each.flow.id not in ids:
                continue
            listed, note = self._known(each)
            noted = shared.get(listed.note)
            if noted is None or noted.note is not note:
                shared[listed.note] = noted = _noted(note)
            left -= noted.size
            if left < 0:
                return FlowPage(flows, flows[-1]["id"])
            flows.append(_row(listed, noted.fields))
        return FlowPage(flows, found[-1].flow.id if len(found) == limit else None)

    def end(self, ids: Collection[int]) -> int:
        """End flows; see L{IPacketEngine.endFlows}."""
        return self._engine.endFlows(list(ids))

    def _known(self, listed: ListedFlow) -> tuple[ListedFlow, Note | None]:
        if listed.state == FlowState.WAITING:
            # The engine hears only of a leg that is there.
            pending = self._dialling.pendingOf(listed.flow.id)
            if pending is not None:
                listed = listed._replace(state=FlowState.DIALLING, note=pending.note)
        flow, note = listed.flow, self._notes.of(listed.note)
        owner = self._programs.of(flow)
        if owner is None and note is not None:
            self._programs.ask(flow, note.owner)
        return listed, whole(note, flow, owner, self._names)


def endedRows(ends: Iterable[tuple[FlowEnd, Note | None]]) -> list[dict[str, Any]]:
    """
    Flows that are over, each as L{FlowListing.page} has it.

    @return: the first of them, as many as a response has room for.
    """
    rows: list[dict[str, Any]] = []
    left = TEXTS_LIMIT
    for end, note in ends:
        noted = _noted(note)
        left -= noted.size
        if left < 0:
            break
        listed = ListedFlow(
            end.flow, FlowState.OPEN, end.seconds, 0.0, end.note, end.bytesUp, end.bytesDown
        )
        rows.append({**_row(listed, noted.fields), "state": ENDED})
    return rows


class _Noted(NamedTuple):
    """
    A note for the user.

    @ivar size: characters of its texts, at most.
    """

    note: Note | None
    fields: dict[str, Any]
    size: int


def _row(listed: ListedFlow, noted: dict[str, Any]) -> dict[str, Any]:
    flow, state, age, idle, _, up, down = listed
    return {
        "id": flow.id,
        "protocol": PROTOCOLS[flow.protocol],
        "state": STATES[state],
        "age": round(age, 3),
        "idle": round(idle, 3),
        "source": str(flow.source),
        "destination": str(flow.destination),
        **noted,
        "up": up,
        "down": down,
    }


def _noted(note: Note | None) -> _Noted:
    if note is None:
        names = ("domain", "verdict", "rule", "upstream", "by", "process")
        return _Noted(note, dict.fromkeys(names), 0)
    verdict, rule, upstream, by, name, _, owner = note
    texts = [rule, upstream, by, name]
    if owner is not None:
        texts += [owner.name, owner.path, owner.cgroup]
    fields = {
        "domain": name or None,
        "verdict": verdict.value,
        "rule": rule,
        "upstream": upstream or None,
        "by": by or None,
        "process": None if owner is None else processOf(owner),
    }
    size = sum(len(each) if each.isascii() else ESCAPED * len(each) for each in texts)
    return _Noted(note, fields, size)


def processOf(owner: Owner) -> dict[str, Any]:
    """A flow's process for the user."""
    return {
        "pid": owner.pid,
        "uid": owner.uid,
        "name": owner.name,
        "path": owner.path,
        "unit": unitOf(owner.cgroup) or None,
    }
