"""
Tests for L{nanotun.testing.script}, L{nanotun.scripting.script} and L{nanotun.scripting.apart}:
all of them keep the contract.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.scripting.apart import RemoteScript
from nanotun.scripting.script import Script
from nanotun.testing import FakeScript
from tests.contracts.script import FLOW, QUERY, ScriptContract
from tests.unit.scripting.remote import RemoteCase
from tests.unit.scripting.scripts import ScriptCase


class FakeScriptTests(ScriptContract, SynchronousTestCase):
    """L{FakeScript}."""

    def answering(self) -> FakeScript:
        script = FakeScript("office")
        script.reply = ScriptReply(refused=True)
        return script

    def waiting(self) -> FakeScript:
        script = FakeScript(None)
        script.reply = None
        return script

    def test_given(self) -> None:
        """Those that wait get what a test gives them, in order."""
        script = self.waiting()
        answers = [script.decide(FLOW), script.decide(FLOW)]
        assert all(isinstance(each, Deferred) for each in answers)
        script.give(ScriptAnswer("office"))
        self.assertEqual(self.settled(answers[0]).to, "office")
        self.assertEqual(script.pending, 1)
        replies = [script.query(QUERY), script.query(QUERY)]
        script.giveReply(ScriptReply(refused=True))
        self.assertEqual(self.settled(replies[0]), ScriptReply(refused=True))
        self.assertEqual((script.asked, script.queries), ([FLOW] * 2, [QUERY] * 2))
        self.assertEqual(script.pending, 2)


class RealScriptTests(ScriptContract, ScriptCase):
    """L{Script}, with a plain function each."""

    def answering(self) -> Script:
        return self.script("""
            def flow(flow): return "office"
            def ended(flow, end): return flow.id / 0
            def query(query): return "refuse"
            """)

    def waiting(self) -> Script:
        return self.script("""
            from twisted.internet.defer import Deferred
            def flow(flow): return Deferred()
            def query(query): return Deferred()
            """)


class CoroutineTests(RealScriptTests):
    """L{Script}, with coroutines."""

    def answering(self) -> Script:
        return self.script("""
            async def flow(flow): return "office"
            async def ended(flow, end): return flow.id / 0
            async def query(query): return "refuse"
            """)

    def waiting(self) -> Script:
        return self.script("""
            from twisted.internet.defer import Deferred
            async def flow(flow): await Deferred()
            async def query(query): await Deferred()
            """)


class RemoteScriptTests(ScriptContract, RemoteCase):
    """L{RemoteScript}, with a plain function each."""

    def answering(self) -> RemoteScript:
        return self.remote("""
            def flow(flow): return "office"
            def ended(flow, end): return flow.id / 0
            def query(query): return "refuse"
            """)

    def waiting(self) -> RemoteScript:
        return self.remote("""
            from twisted.internet.defer import Deferred
            def flow(flow): return Deferred()
            def query(query): return Deferred()
            """)
