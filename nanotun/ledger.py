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
    """What a line says of a flow's process; nothing where it was not asked for."""
    if owner is None:
        return ""
    name = owner.name or owner.path or f"uid {owner.uid}"
    return f" of {name} (pid {owner.pid})" if owner.pid else f" of {name}"


#: How each line begins.
_FLOW = "{protocol} flow {flow}{process} from {source} to {destination}"


def _fields(flow: Flow, decision: Decision, destination: str) -> dict[str, Any]:
    """What L{_FLOW} needs."""
    return {
        "protocol": flow.protocol.name,
        "flow": flow.id,
        "process": processOf(decision.owner),
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
        self._log.debug(
            _FLOW + " by {upstream} (rule {rule})",
            upstream=upstream.describe(),
            rule=decision.rule,
            **_fields(flow, decision, destination),
        )

    def tellHalt(self, flow: Flow, decision: Decision, destination: str) -> None:
        """A flow goes nowhere, or to our own services."""
        self._log.debug(
            _FLOW + ": {verdict} (rule {rule}), because {reason}",
            verdict=decision.verdict.value,
            rule=decision.rule,
            reason=decision.reason,
            **_fields(flow, decision, destination),
        )

    def joined(self, flow: Flow, decision: Decision, upstream: IUpstream) -> None:
        """A flow that will be told of was joined."""
        self.entries[flow.id] = _Entry(self._clock.seconds(), decision, upstream)

    def ended(self, end: FlowEnd, destination: str) -> None:
        """A joined flow ended; one line if it was told of when it was joined."""
        entry = self.entries.pop(end.flow.id, None)
        if entry is None:
            return
        self._log.debug(
            _FLOW + " by {upstream} (rule {rule}) ended: {up} bytes up, {down} down, "
            "{seconds:.3f} s, errno {error}",
            upstream=entry.upstream.describe(),
            rule=entry.decision.rule,
            up=end.bytesUp,
            down=end.bytesDown,
            seconds=self._clock.seconds() - entry.began,
            error=errno.errorcode.get(end.error, end.error),
            **_fields(end.flow, entry.decision, destination),
        )
