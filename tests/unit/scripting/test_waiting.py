"""Tests of L{nanotun.scripting.script}: answers that are awaited."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.log.trouble import REPORT_INTERVAL
from nanotun.script import End, Flow, Query
from nanotun.scripting.script import RUNNING_LIMIT, Script
from tests.unit.scripting.scripts import REFUSED, ScriptCase


class WaitingTests(ScriptCase):
    """Answers that are awaited."""

    TEXT = """
        from twisted.internet.defer import CancelledError, Deferred
        waits, seen = [], []

        async def deep():
            waits.append(Deferred())
            try:
                return await waits[-1]
            except CancelledError:
                seen.append("cancelled")
                raise

        async def flow(flow):
            x = 1
            return await deep()

        async def query(query):
            return await deep()
        """

    def ask(self, script: Script) -> Deferred[ScriptAnswer]:
        """Ask about a flow; the answer takes a while."""
        answer = script.decide(Flow("example.org"))
        assert isinstance(answer, Deferred)
        self.assertNoResult(answer)
        return answer

    def inside(self, script: Script) -> Any:
        """The script's own variables."""
        return script._loaded.module

    def test_later(self) -> None:
        """An answer counts when it comes, and leaves no timer."""
        script = self.script(self.TEXT)
        answer = self.ask(script)
        self.assertEqual(script.running, 1)
        self.clock.advance(4.9)
        self.inside(script).waits[0].callback("office")
        self.assertEqual(self.successResultOf(answer).to, "office")
        self.assertEqual(script.running, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        reply = script.query(Query("a.example"))
        self.inside(script).waits[1].callback("refuse")
        self.assertEqual(self.successResultOf(reply), ScriptReply(refused=True))  # type: ignore[arg-type]

    def test_failsLater(self) -> None:
        """One that fails later gets the fallback, with the line."""
        script = self.script(self.TEXT)
        answer = self.ask(script)
        self.inside(script).waits[0].errback(ValueError("no"))
        self.assertEqual(self.successResultOf(answer).to, "reject")
        self.assertIn("failed at line 8, in flow (ValueError: no)", self.logged[0])
        self.clock.advance(5.0)
        self.assertEqual(script.report()["late"], 0)

    def test_late(self) -> None:
        """After scriptTimeout, the fallback counts, the line is logged, and it is cancelled."""
        script = self.script(self.TEXT)
        answer = self.ask(script)
        self.clock.advance(5.0)
        self.assertEqual(
            self.successResultOf(answer),
            ScriptAnswer(
                "reject",
                f"the script {script.path} did not answer within 5 s, and scriptError is reject",
            ),
        )
        self.assertEqual(self.inside(script).seen, ["cancelled"])
        self.assertEqual(script.running, 0)
        self.assertEqual(
            self.logged,
            [f"The script .../flows.py did not answer within 5 s (line 8, in flow){REFUSED}"],
        )

    def test_lateQuery(self) -> None:
        """With scriptError: rules, a query that takes too long goes on."""
        script = self.script(self.TEXT, "rules", 0.1)
        reply = script.query(Query("a.example"))
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(reply), ScriptReply())  # type: ignore[arg-type]
        self.assertIn("did not answer within 0.1 s (line 8, in query)", self.logged[0])

    def test_cancelled(self) -> None:
        """When the app gives up, the coroutine is told where it waits, and no timer is left."""
        script = self.script(self.TEXT)
        answer = self.ask(script)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(self.inside(script).seen, ["cancelled"])
        self.assertEqual(script.running, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.logged, [])

    def test_swallowed(self) -> None:
        """A coroutine that goes on when it is cancelled counts as running until it ends."""
        script = self.script("""
            from twisted.internet.defer import CancelledError, Deferred
            waits = [Deferred(), Deferred()]
            async def flow(flow):
                try:
                    await waits[0]
                except CancelledError:
                    await waits[1]
                return "office"
            """)
        answer = self.ask(script)
        self.clock.advance(5.0)
        self.assertEqual(self.successResultOf(answer).to, "reject")
        self.assertEqual(script.running, 1)
        self.inside(script).waits[1].callback(None)
        self.assertEqual(script.running, 0)
        self.assertEqual(len(self.logged), 1)

    def test_tooMany(self) -> None:
        """One more than there may be is not run, gets the fallback, and is logged."""
        script = self.script(self.TEXT)
        for _ in range(RUNNING_LIMIT):
            self.ask(script)
        answer = script.decide(Flow("example.org"))
        self.assertEqual(
            answer,
            ScriptAnswer(
                "reject",
                f"the script {script.path} has 1000 calls under way, which is the limit, and "
                "scriptError is reject",
            ),
        )
        self.assertEqual(len(self.inside(script).waits), RUNNING_LIMIT)
        self.assertEqual(
            self.logged,
            [
                "The script .../flows.py has 1000 calls under way, which is the limit (in flow)"
                f"{REFUSED}"
            ],
        )
        self.inside(script).waits[0].callback("office")
        self.ask(script)

    def test_tooManyEnds(self) -> None:
        """What is only told counts as well."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            async def ended(flow, end): await Deferred()
            """)
        for _ in range(RUNNING_LIMIT + 1):
            script.ended(Flow(), End("proxy", "script", 1, 2, 3.0, "closed"))
        self.assertEqual(script.running, RUNNING_LIMIT)
        expected = (
            "The script .../flows.py has 1000 calls under way, which is the limit (in ended)."
        )
        self.assertEqual(self.logged, [expected])

    def test_deferred(self) -> None:
        """A plain function may return a Deferred, which is waited for, cancelled and limited."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            waits = []
            def flow(flow):
                waits.append(Deferred())
                return waits[-1]
            """)
        answers = [self.ask(script) for _ in range(3)]
        self.inside(script).waits[0].callback("office")
        self.assertEqual(self.successResultOf(answers[0]).to, "office")
        answers[1].cancel()
        self.failureResultOf(answers[1], CancelledError)
        self.clock.advance(5.0)
        self.assertEqual(self.successResultOf(answers[2]).to, "reject")
        self.assertIn("did not answer within 5 s (in flow)", self.logged[0])
        for _ in range(RUNNING_LIMIT):
            self.ask(script)
        script.decide(Flow())
        self.assertEqual(script.running, RUNNING_LIMIT)

    def test_shared(self) -> None:
        """A Deferred may answer for several flows: all of them get its result, or its error."""
        for function in (
            "def flow(flow): return waits",
            "async def flow(flow): return await waits",
            "async def flow(flow): return 'office' if await waits else 'reject'",
        ):
            for outcome, to in (("office", "office"), (ValueError("no"), "reject")):
                script = self.script(
                    f"from twisted.internet.defer import Deferred\nwaits = Deferred()\n{function}\n"
                )
                answers = [self.ask(script) for _ in range(3)]
                waits = self.inside(script).waits
                (waits.errback if to == "reject" else waits.callback)(outcome)
                self.assertEqual([self.successResultOf(each).to for each in answers], [to] * 3)

    def test_sharedAndGivenUp(self) -> None:
        """Whoever gives up, or is late, leaves the others waiting, but for the last."""
        for function in (
            "def flow(flow): return waits",
            "async def flow(flow): return await waits",
        ):
            script = self.script(
                f"from twisted.internet.defer import Deferred\nwaits = Deferred()\n{function}\n"
            )
            waits = self.inside(script).waits
            gone, late = self.ask(script), self.ask(script)
            self.clock.advance(4.0)
            answered, other = self.ask(script), self.ask(script)
            gone.cancel()
            self.failureResultOf(gone, CancelledError)
            self.clock.advance(1.0)
            self.assertEqual(self.successResultOf(late).to, "reject")
            self.assertNoResult(answered)
            other.cancel()
            self.failureResultOf(other, CancelledError)
            waits.callback("office")
            self.assertEqual(self.successResultOf(answered).to, "office")
            script = self.script(
                f"from twisted.internet.defer import Deferred\nwaits = Deferred()\n{function}\n"
            )
            for answer in [self.ask(script), self.ask(script)]:
                self.assertFalse(self.inside(script).waits.called)
                answer.cancel()
                self.failureResultOf(answer, CancelledError)
            self.assertTrue(self.inside(script).waits.called)

    def test_sharedLater(self) -> None:
        """One that has fired answers for those who come later, too."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            waits = {443: Deferred(), 80: Deferred()}
            def flow(flow): return waits[flow.port]
            """)
        self.ask(script)
        answer = script.decide(Flow(port=80))
        self.inside(script).waits[443].callback("office")
        self.inside(script).waits[80].errback(ValueError("no"))
        self.assertEqual(self.successResultOf(answer).to, "reject")  # type: ignore[arg-type]
        for port, to in ((443, "office"), (80, "reject")):
            answer = script.decide(Flow(port=port))
            assert isinstance(answer, ScriptAnswer)
            self.assertEqual(answer.to, to)

    def test_sharedAndDropped(self) -> None:
        """That holds for one that was given up because too many others were awaited, too."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            waits, last = Deferred(), Deferred()
            def flow(flow): return waits if flow.port == 443 else last
            """)
        answers = [self.ask(script) for _ in range(RUNNING_LIMIT)]
        script.decide(Flow(port=80))
        self.inside(script).waits.callback("office")
        self.assertEqual({self.successResultOf(each).to for each in answers}, {"office"})
        answer = script.decide(Flow(port=80))
        assert isinstance(answer, ScriptAnswer)
        self.assertEqual(answer.to, "reject")

    def test_stopOfMany(self) -> None:
        """However many others wait, the stop is run to its end."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            last, saved = Deferred(), []
            async def ended(flow, end): await Deferred()
            async def stop():
                await last
                saved.append("all")
            """)
        for _ in range(RUNNING_LIMIT):
            script.ended(Flow(), End("proxy", "script", 1, 2, 3.0, "closed"))
        inside = self.inside(script)
        done = script.stop()
        assert done is not None
        inside.last.callback(None)
        self.successResultOf(done)
        self.assertEqual((inside.saved, self.logged), (["all"], []))

    def test_atOnce(self) -> None:
        """What is there before anything waits is no Deferred to the judge."""
        script = self.script("""
            from twisted.internet.defer import succeed
            async def flow(flow):
                return await succeed("office")
            def query(query):
                return succeed("refuse")
            """)
        self.assertIsInstance(script.decide(Flow()), ScriptAnswer)
        self.assertEqual(script.query(Query("a.example")), ScriptReply(refused=True))
        self.assertEqual(script.running, 0)

    def test_afterStop(self) -> None:
        """What is awaited when another version takes over is answered by the one that was asked."""
        script = self.script(self.TEXT)
        answer = self.ask(script)
        late = self.ask(script)
        script.leaveTo(None)
        self.inside(script).waits[0].callback("office")
        self.assertEqual(self.successResultOf(answer).to, "office")
        self.clock.advance(5.0)
        self.assertEqual(self.successResultOf(late).to, "reject")
        self.clock.advance(REPORT_INTERVAL)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_withEachOther(self) -> None:
        """A coroutine that another one lets go on does not disturb it."""
        script = self.script("""
            from twisted.internet.defer import DeferredLock, Deferred
            lock, waits = DeferredLock(), []
            async def flow(flow):
                await lock.acquire()
                try:
                    waits.append(Deferred())
                    return await waits[-1]
                finally:
                    lock.release()
            """)
        answers = [self.ask(script) for _ in range(3)]
        for number in range(3):
            self.inside(script).waits[number].callback("office")
            self.assertEqual(self.successResultOf(answers[number]).to, "office")
