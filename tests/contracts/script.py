"""
What everything must keep that answers for the user's script.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.interfaces import IScript
from nanotun.script import End, Flow, Query

FLOW = Flow("example.org", 443, id=7)
QUERY = Query("example.org")


class ScriptContract:
    """
    Mixin for a test case.
    """

    assertEqual: Any
    assertIsInstance: Any
    assertNoResult: Any
    successResultOf: Any
    failureResultOf: Any

    def answering(self) -> Any:
        """A script that sends flows to C{office} and refuses queries, at once or soon."""
        raise NotImplementedError

    def waiting(self) -> Any:
        """A script that lets both wait."""
        raise NotImplementedError

    def settled(self, answer: Any) -> Any:
        """An answer, be it there or come later."""
        return self.successResultOf(answer) if isinstance(answer, Deferred) else answer

    def test_interface(self) -> None:
        """It provides its interface, and says what it has to be asked for."""
        script = self.answering()
        verifyObject(IScript, script)
        for name in ("needsProcess", "decides", "followsFlows", "answersQueries"):
            self.assertIsInstance(getattr(script, name), bool)

    def test_answers(self) -> None:
        """Each flow and each query gets an answer, which says why."""
        script = self.answering()
        answer = self.settled(script.decide(FLOW))
        self.assertIsInstance(answer, ScriptAnswer)
        self.assertEqual((answer.to, answer.values), ("office", ()))
        self.assertEqual(answer.reason[:11], "the script ")
        reply = self.settled(script.query(QUERY))
        self.assertEqual(reply, ScriptReply(refused=True))

    def test_ended(self) -> None:
        """It hears of an end without a word."""
        end = End("office", "script", 1, 2, 3.0, "closed")
        self.assertEqual(self.answering().ended(FLOW, end), None)

    def test_cancelled(self) -> None:
        """An answer that nobody waits for any more can be cancelled, and others are not."""
        script = self.waiting()
        for ask, about in ((script.decide, FLOW), (script.query, QUERY)):
            first, second = ask(about), ask(about)
            first.cancel()
            self.failureResultOf(first, CancelledError)
            self.assertNoResult(second)
            second.cancel()
            self.failureResultOf(second, CancelledError)
