"""Tests of L{nanotun.scripting.script}: what fails, or takes too long."""

from __future__ import annotations

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.log.trouble import REPORT_INTERVAL
from nanotun.script import End, Flow, Query
from nanotun.scripting.failures import CAUSE_LIMIT
from nanotun.scripting.slow import BLOCKED
from tests.unit.scripting.scripts import REFUSED, ScriptCase


class FailureTests(ScriptCase):
    """What a script does wrong."""

    def failing(self, text: str, onError: str = "reject") -> ScriptAnswer:
        """The answer of a script that fails."""
        answer = self.script(text, onError).decide(Flow("example.org"))
        assert isinstance(answer, ScriptAnswer)
        return answer

    def sentence(self, text: str) -> str:
        """The one line about a script that fails, without what is the same in all of them."""
        self.logged.clear()
        self.assertEqual(self.failing(text).to, "reject")
        (line,) = self.logged
        begin = "The script .../flows.py "
        self.assertTrue(line.startswith(begin) and line.endswith(REFUSED), line)
        return line.removeprefix(begin).removesuffix(REFUSED)

    def test_reject(self) -> None:
        """By default, what a script fails at is refused, and the reason says why."""
        answer = self.failing("\ndef flow(flow):\n    return {}['x']\n")
        path = self.folder.place("flows.py")
        self.assertEqual(
            answer,
            ScriptAnswer(
                "reject",
                f"the script {path} failed at line 3, in flow, and scriptError is reject",
            ),
        )
        expected = f"The script .../flows.py failed at line 3, in flow (KeyError: 'x'){REFUSED}"
        self.assertEqual(self.logged, [expected])

    def test_rules(self) -> None:
        """With scriptError: rules, the rules decide, and the reason is there for explain."""
        answer = self.failing("\ndef flow(flow):\n    return {}['x']\n", "rules")
        path = self.folder.place("flows.py")
        self.assertEqual(answer, ScriptAnswer("", f"the script {path} failed at line 3, in flow"))
        self.assertEqual(
            self.logged,
            [
                "The script .../flows.py failed at line 3, in flow (KeyError: 'x'); the rules "
                "decide meanwhile (scriptError)."
            ],
        )

    def test_query(self) -> None:
        """A query that a script fails at is refused, or goes on."""
        for onError, refused in (("reject", True), ("rules", False)):
            script = self.script("def query(query): return 7\n", onError)
            self.assertEqual(script.query(Query("a.example")), ScriptReply(refused=refused))
        self.assertIn("failed at line 1, in query (it answered 7; it may", self.logged[0])

    def test_sentences(self) -> None:
        """Each way to fail is one sentence with the line of the script."""
        self.folder.write("helper.py", "\n\ndef help(): return 1 / 0\n")
        for text, sentence in (
            (
                "def flow(flow):\n    raise SystemExit(3)\n",
                "failed at line 2, in flow (SystemExit: 3)",
            ),
            (
                "def flow(flow):\n    raise GeneratorExit()\n",
                "failed at line 2, in flow (GeneratorExit)",
            ),
            (
                "import helper\ndef flow(flow):\n    helper.help()\n",
                "failed at line 3 of .../helper.py, in flow (ZeroDivisionError: division by zero)",
            ),
            (
                "import json\ndef flow(flow):\n    json.loads('x')\n",
                "failed at line 3, in flow (JSONDecodeError: Expecting value: line 1 column 1 "
                "(char 0))",
            ),
            (
                "flow = len\n",
                "failed in flow (TypeError: object of type 'Flow' has no len())",
            ),
            (
                "x = 1\nflow = lambda flow: 'ofice'\n",
                "failed at line 2, in flow (it answered 'ofice'; did you mean office?)",
            ),
            (
                "async def flow(flow):\n    return 7\n",
                "failed at line 1, in flow (it answered 7; there are None, proxy, office, direct, "
                "reject, drop, tor)",
            ),
            (
                "class Flow:\n    def __call__(self, flow): return 7\nflow = Flow()\n",
                "failed in flow (it answered 7; there are None, proxy, office, direct, reject, "
                "drop, tor)",
            ),
            (
                "import asyncio\nasync def flow(flow):\n    await asyncio.sleep(1)\n",
                "failed at line 3, in flow (RuntimeError: no running event loop: asyncio's "
                "awaitables do not run on nanotun's reactor)",
            ),
            (
                "def flow(flow):\n    raise ValueError('a\\n  b' * 200)\n",
                f"failed at line 2, in flow (ValueError: {('a b' * 200)[:200]})",
            ),
        ):
            self.assertEqual(self.sentence(text), sentence)

    def test_awaitable(self) -> None:
        """An awaitable of asyncio's is an error in the script, at the line that awaits it."""
        text = """
            import asyncio
            loop = asyncio.new_event_loop()
            future = loop.create_future()
            loop.close()
            async def flow(flow):
                x = 1
                await future
            """
        self.assertEqual(
            self.sentence(text),
            "failed at line 8, in flow (TypeError: it awaits Future, which is no Deferred: "
            "asyncio's awaitables do not run on nanotun's reactor)",
        )

    def test_unreadable(self) -> None:
        """Not even what has no text and no length makes nanotun fail."""
        text = """
            class Odd(list):
                def __repr__(self): raise ValueError("odd")
                def __len__(self): raise ValueError("odd")
            class OddError(Exception):
                def __str__(self): raise ValueError("odd")
            def flow(flow):
                if flow.port == 1:
                    raise OddError()
                return Odd()
            def query(query): return Odd()
            """
        script = self.script(text)
        for port in (1, 2):
            answer = script.decide(Flow(port=port))
            assert isinstance(answer, ScriptAnswer)
            self.assertEqual(answer.to, "reject")
        self.assertEqual(script.query(Query("a.example")), ScriptReply(refused=True))
        self.assertIn("line 9, in flow (OddError)", self.logged[0])

    def test_ended(self) -> None:
        """A failure in ended is logged, and nobody is refused for it."""
        for text in ("def", "async def"):
            script = self.script(f"{text} ended(flow, end):\n    1 / 0\n")
            script.ended(Flow(), End("proxy", "script", 1, 2, 3.0, "closed"))
            self.assertEqual(
                self.logged.pop(),
                "The script .../flows.py failed at line 2, in ended (ZeroDivisionError: division "
                "by zero).",
            )

    def test_once(self) -> None:
        """The same cause again is counted, also where its text differs."""
        script = self.script("def flow(flow):\n    return {}[flow.port]\n")
        for port in range(1, 51):
            script.decide(Flow(port=port))
        self.assertEqual(len(self.logged), 1)
        self.assertIn("KeyError: 1", self.logged[0])
        self.clock.advance(REPORT_INTERVAL)
        self.assertEqual(len(self.logged), 2)
        self.assertIn("(49 more in 10 s)", self.logged[1])
        self.assertEqual(script.report()["failed"], 50)

    def test_causes(self) -> None:
        """The number of causes has a limit."""
        lines = "".join(f"    if flow.port == {n}: 1 / 0\n" for n in range(1, 201))
        script = self.script(f"def flow(flow):\n{lines}")
        for port in range(1, 201):
            script.decide(Flow(port=port))
        self.assertEqual(len(self.logged), CAUSE_LIMIT)

    def test_held(self) -> None:
        """Counts that are held back are logged at the stop."""
        script = self.script("def flow(flow): 1 / 0\n")
        for _ in range(3):
            script.decide(Flow())
        script.stop()
        self.assertIn("(2 more)", self.logged[-1])

    def test_blocking(self) -> None:
        """A function that blocks nanotun is logged with its line, each step of a coroutine too."""
        text = """
            from twisted.internet.defer import Deferred
            clock, waits = None, Deferred()
            def flow(flow):
                clock.advance(flow.port / 1000)
            async def query(query):
                await waits
                flow(query)
            """
        script = self.script(text)
        vars(script._loaded.module)["clock"] = self.clock
        script.decide(Flow(port=1))
        self.assertEqual(self.logged, [])
        script.decide(Flow(port=int(BLOCKED * 2500)))
        self.assertRegex(
            self.logged.pop(),
            r"^The script \.\.\./flows\.py blocks nanotun for more than 50 ms (at line 5, )?in "
            r"flow, and everything else waits meanwhile; await a Deferred there, or use "
            r"twisted\.internet\.threads\.deferToThread\.$",
        )
        script.query(Flow(port=int(BLOCKED * 2500)))  # type: ignore[arg-type]
        self.assertEqual(script.report()["blocked"], 1)
        script._loaded.module.waits.callback(None)
        self.assertEqual(script.report()["blocked"], 2)
