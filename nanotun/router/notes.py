"""
What was decided about each flow, as a number that the engine keeps with the flow.

The engine says the number with everything that it tells of the flow, so a listing has rule and
upstream of flows that began long before anybody looked.  Most flows share a few numbers.
"""

from __future__ import annotations

from typing import TypeAlias

from nanotun.flow import Decision, Flow, Note, Owner
from nanotun.interfaces import INames, IUpstream
from nanotun.policy.decisions import nameOf

#: Notes of a generation, some 550 bytes each.  There are two generations, so that a note lives
#: for as many others at least; as many flows as the engine has may each have one.
GENERATION = 65536

#: All that makes a note.  The verdict is not among it: an upstream has one name, and that has
#: one verdict.
_Key: TypeAlias = "tuple[str, str, str, Owner | None, str, IUpstream | None]"


def whole(note: Note | None, flow: Flow, owner: Owner | None, names: INames) -> Note | None:
    """
    The note of a flow, with what is known of that flow besides.

    @param owner: found since; L{None} if it was not looked for.
    @return: with the name that the flow's address stands for, if that is a fake one.
    """
    if note is None:
        return None
    host = flow.destination.host
    if not note.name and names.isFake(host):
        note = note._replace(name=names.nameOf(host) or "")
    return note if owner is None else note._replace(owner=owner)


class NoteTable:
    """
    All that may still be asked for.

    @param limit: how many a generation has.
    """

    def __init__(self, limit: int = GENERATION) -> None:
        self._limit = limit
        self._last = 0
        # Each as two generations.
        self._numbers: dict[_Key, int] = {}
        self._oldNumbers: dict[_Key, int] = {}
        self._notes: dict[int, Note] = {}
        self._oldNotes: dict[int, Note] = {}

    def numberOf(self, decision: Decision, upstream: IUpstream | None) -> int:
        """
        The number for a flow.  Called for each, so it takes half a microsecond.

        @param upstream: by which it leaves; L{None} for what is served.
        @return: not 0, and the same for equal flows mostly; never one that stood for others.
        """
        _, rule, reason, owner, _, name, _, domain = decision
        key = rule, reason, name, owner, domain, upstream
        number = self._numbers.get(key)
        if number is None:
            number = self._oldNumbers.get(key, 0)
            note = self.of(number)
            if note is None:
                note = self._noteOf(decision, upstream)
                self._last = number = self._last + 1
                self._keep(number, note)
            self._numbers[key] = number
        return number

    def of(self, number: int) -> Note | None:
        """
        What a number stands for.

        @return: L{None} for 0, and for what has been forgotten.
        """
        note = self._notes.get(number)
        if note is None:
            note = self._oldNotes.get(number)
            if note is not None:
                self._keep(number, note)
        return note

    def forgetUpstreams(self) -> None:
        """There are others now.  All numbers keep their meaning."""
        self._numbers.clear()
        self._oldNumbers.clear()

    def _keep(self, number: int, note: Note) -> None:
        """Put a note into the young generation."""
        if len(self._notes) >= self._limit:
            self._oldNotes, self._notes = self._notes, {}
            self._oldNumbers, self._numbers = self._numbers, {}
        self._notes[number] = note

    def _noteOf(self, decision: Decision, upstream: IUpstream | None) -> Note:
        return Note(
            decision.verdict,
            decision.rule,
            nameOf(decision),
            "" if upstream is None else upstream.describe(),
            decision.name,
            decision.reason,
            decision.owner,
        )
