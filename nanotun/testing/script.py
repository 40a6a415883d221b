"""
A script that answers as a test says.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.interfaces import IScript
from nanotun.script import End, Flow, Query


@implementer(IScript)
class FakeScript:
    """
    See L{IScript}.

    @ivar needsProcess: see L{IScript}; likewise C{decides}, C{followsFlows} and
        C{answersQueries}.
    @ivar answer: what L{decide} answers at once; L{None} to let it wait for L{give}.
    @ivar reply: likewise for L{query} and L{giveReply}.
    @ivar asked: every flow that L{decide} was asked about.
    @ivar queries: every query.
    @ivar ends: every flow that has ended, and how.
    """

    def __init__(self, to: str | None = "") -> None:
        """
        @param to: what L{decide} answers; see C{answer}.
        """
        self.needsProcess = False
        self.decides = True
        self.followsFlows = True
        self.answersQueries = True
        self.answer = None if to is None else ScriptAnswer(to, "the script says so" if to else "")
        self.reply: ScriptReply | None = ScriptReply()
        self.asked: list[Flow] = []
        self.queries: list[Query] = []
        self.ends: list[tuple[Flow, End]] = []
        self._answers: list[Deferred[ScriptAnswer]] = []
        self._replies: list[Deferred[ScriptReply]] = []

    def decide(self, flow: Flow) -> ScriptAnswer | Deferred[ScriptAnswer]:
        """See L{IScript.decide}."""
        self.asked.append(flow)
        if self.answer is not None:
            return self.answer
        waiting: Deferred[ScriptAnswer] = Deferred(self._answers.remove)
        self._answers.append(waiting)
        return waiting

    def ended(self, flow: Flow, end: End) -> None:
        """See L{IScript.ended}."""
        self.ends.append((flow, end))

    def query(self, query: Query) -> ScriptReply | Deferred[ScriptReply]:
        """See L{IScript.query}."""
        self.queries.append(query)
        if self.reply is not None:
            return self.reply
        waiting: Deferred[ScriptReply] = Deferred(self._replies.remove)
        self._replies.append(waiting)
        return waiting

    def give(self, answer: ScriptAnswer) -> None:
        """The flow that waits longest gets its answer."""
        self._answers.pop(0).callback(answer)

    def giveReply(self, reply: ScriptReply) -> None:
        """The query that waits longest gets its reply."""
        self._replies.pop(0).callback(reply)

    @property
    def pending(self) -> int:
        """How many answers and replies are awaited."""
        return len(self._answers) + len(self._replies)
