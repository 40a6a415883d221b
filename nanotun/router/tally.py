"""
Counts decisions, and writes the debug lines about flows.
"""

from __future__ import annotations

import errno
from collections import Counter
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nanotun.flow import Decision, Flow, FlowEnd, Owner, Verdict
from nanotun.interfaces import INames, IUpstream
from nanotun.policy.decisions import nameOf
from nanotun.router.named import shown
from nanotun.router.openflows import OpenFlow


def processOf(owner: Owner | None) -> str:
    """What a line calls a flow's process; empty if nobody asked for the owner."""
    if owner is None:
        return ""
    return owner.name or owner.path or f"uid {owner.uid}"


def _shown(decision: Decision, upstream: IUpstream) -> str:
    """What a line calls an upstream."""
    what = upstream.describe()
    return f"{decision.upstream}, {what}" if decision.upstream else what


def _beginning(flow: Flow, decision: Decision, names: INames) -> tuple[str, dict[str, Any]]:
    """How each line about a flow begins, and the fields for it."""
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
        "destination": shown(names, flow.destination, decision.name),
    }


class Tally:
    """
    Counts every decision, and writes the debug lines.

    @ivar debug: whether each flow gets some, which cost more than half of what it does.
    """

    def __init__(self, clock: IReactorTime, log: Logger, names: INames) -> None:
        self.debug = False
        self._clock = clock
        self._log = log
        self._names = names
        # By rule, which is empty for what rules that are gone have decided.
        self._counts: dict[tuple[str, Verdict, str], int] = {}

    def count(self, decision: Decision, flows: int = 1) -> None:
        """A flow was decided, or several in the same way."""
        key = decision.rule, decision.verdict, nameOf(decision)
        self._counts[key] = self._counts.get(key, 0) + flows

    def rulesChanged(self) -> None:
        """The user's rules are others from now on, and what they decide is counted anew."""
        counts, self._counts = self._counts, {}
        for (rule, verdict, upstream), count in counts.items():
            key = "" if rule.startswith("#") else rule, verdict, upstream
            self._counts[key] = self._counts.get(key, 0) + count

    def decisions(self) -> dict[tuple[str, str, str], int]:
        """
        How many flows there were since the start, by verdict, rule and upstream.  In an order
        that stays; the rule is empty for what rules that are gone have decided.
        """
        return {
            (verdict.value, rule, upstream): count
            for (rule, verdict, upstream), count in self._counts.items()
        }

    def report(self) -> dict[str, Any]:
        """
        How many flows there were since the start.

        @return: C{verdicts}, C{rules} and C{upstreams}, each by name.  What is served goes to
            no upstream; C{direct}, C{reject} and C{drop} are upstreams here.
        """
        verdicts: Counter[str] = Counter()
        rules: Counter[str] = Counter()
        upstreams: Counter[str] = Counter()
        for (rule, verdict, upstream), count in self._counts.items():
            verdicts[verdict.value] += count
            if rule:
                rules[rule] += count
            if upstream:
                upstreams[upstream] += count
        return {"verdicts": dict(verdicts), "rules": dict(rules), "upstreams": dict(upstreams)}

    def tellUpstream(self, flow: Flow, decision: Decision, upstream: IUpstream) -> None:
        """Log that a flow leaves by an upstream, if each is logged."""
        if not self.debug:
            return
        beginning, fields = _beginning(flow, decision, self._names)
        self._log.debug(
            beginning + " by {upstream} (rule {rule})",
            upstream=_shown(decision, upstream),
            rule=decision.rule,
            **fields,
        )

    def tellHalt(self, flow: Flow, decision: Decision) -> None:
        """Log that a flow is refused, dropped or served, if each is logged."""
        if not self.debug:
            return
        beginning, fields = _beginning(flow, decision, self._names)
        self._log.debug(
            beginning + ": {verdict} (rule {rule}), because {reason}",
            verdict=decision.verdict.value,
            rule=decision.rule,
            reason=decision.reason,
            **fields,
        )

    def tellEnd(self, end: FlowEnd, joined: OpenFlow) -> None:
        """Log the end of a joined flow."""
        beginning, fields = _beginning(end.flow, joined.decision, self._names)
        self._log.debug(
            beginning + " by {upstream} (rule {rule}) ended: {up} bytes up, {down} down, "
            "{seconds:.3f} s, errno {error}",
            upstream=_shown(joined.decision, joined.upstream),
            rule=joined.decision.rule,
            up=end.bytesUp,
            down=end.bytesDown,
            seconds=self._clock.seconds() - joined.began,
            error=errno.errorcode.get(end.error, end.error),
            **fields,
        )
