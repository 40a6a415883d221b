"""
What was decided of flows: counted, and kept for the line about a flow's end.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nanotun.flow import Decision, Flow, FlowEnd, Owner
from nanotun.interfaces import IUpstream


class _Entry(NamedTuple):
    """
    A joined flow.

    @ivar began: the clock's seconds.
    """

    began: float
    decision: Decision
    upstream: IUpstream


def processOf(owner: Owner | None) -> str:
    """What a line calls a flow's process; empty where it was not asked for."""
    if owner is None:
        return ""
    return owner.name or owner.path or f"uid {owner.uid}"


def _beginning(flow: Flow, decision: Decision, destination: str) -> tuple[str, dict[str, Any]]:
    """How each line begins, and the fields that this needs."""
    owner = decision.owner
    process = ""
    if owner is not None:
        process = " of {process} (pid {pid})" if owner.pid else " of {process}"
    return "{protocol} flow {flow}" + process + " from {source} to {destination}", {
        "protocol": flow.protocol.name,
        "flow": flow.id,
        "process": processOf(owner),
        "pid": owner.pid if owner is not None else 0,
        "source": flow.source,
        "destination": destination,
    }


class Ledger:
    """
    The counters, always; entries and lines only for flows that are told of.

    @ivar entries: flow id to entry, for joined flows.
    """

    def __init__(self, clock: IReactorTime, log: Logger) -> None:
        self.entries: dict[int, _Entry] = {}
        self._clock = clock
        self._log = log
        self._counts: dict[tuple[str, object], int] = {}

    def count(self, decision: Decision) -> None:
        """A flow was decided."""
        key = decision.rule, decision.verdict
        self._counts[key] = self._counts.get(key, 0) + 1

    def report(self) -> dict[str, Any]:
        """
        How many flows there were since the start.

        @return: C{verdicts} and C{rules}, each by name.
        """
        verdicts: dict[str, int] = {}
        rules: dict[str, int] = {}
        for (rule, verdict), count in self._counts.items():
            name = str(getattr(verdict, "value", verdict))
            verdicts[name] = verdicts.get(name, 0) + count
            rules[rule] = rules.get(rule, 0) + count
        return {"verdicts": verdicts, "rules": rules}

    def tellWay(
        self, flow: Flow, decision: Decision, upstream: IUpstream, destination: str
    ) -> None:
        """
        A flow goes out.

        @param destination: as it is to be shown.
        """
        beginning, fields = _beginning(flow, decision, destination)
        self._log.debug(
            beginning + " by {upstream} (rule {rule})",
            upstream=upstream.describe(),
            rule=decision.rule,
            **fields,
        )

    def tellHalt(self, flow: Flow, decision: Decision, destination: str) -> None:
        """A flow goes nowhere, or to our own services."""
        beginning, fields = _beginning(flow, decision, destination)
        self._log.debug(
            beginning + ": {verdict} (rule {rule}), because {reason}",
            verdict=decision.verdict.value,
            rule=decision.rule,
            reason=decision.reason,
            **fields,
        )

    def joined(self, flow: Flow, decision: Decision, upstream: IUpstream) -> None:
        """A flow that will be told of was joined."""
        self.entries[flow.id] = _Entry(self._clock.seconds(), decision, upstream)

    def ended(self, end: FlowEnd, destination: str) -> None:
        """A joined flow ended; one line if it was told of when it was joined."""
        entry = self.entries.pop(end.flow.id, None)
        if entry is None:
            return
        beginning, fields = _beginning(end.flow, entry.decision, destination)
        self._log.debug(
            beginning + " by {upstream} (rule {rule}) ended: {up} bytes up, {down} down, "
            "{seconds:.3f} s, errno {error}",
            upstream=entry.upstream.describe(),
            rule=entry.decision.rule,
            up=end.bytesUp,
            down=end.bytesDown,
            seconds=self._clock.seconds() - entry.began,
            error=errno.errorcode.get(end.error, end.error),
            **fields,
        )
