"""Tests of L{nanotun.scripting.script}: what is asked, answered and configured."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from nanotun.errors import ConfigError
from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.interfaces import IPart
from nanotun.script import NOT_LOOKED_UP, End, Flow, Process, Query
from nanotun.scripting.script import ScriptOptions
from nanotun.testing import FakeScript
from tests.unit.scripting.scripts import NAMES, ScriptCase

#: The example of the documentation.
UPDATER = """
    from nanotun.script import Flow, Query

    async def flow(flow: Flow) -> str | None:      # or a plain def
        if flow.process and flow.process.name == "updater" and not (flow.domain or "").endswith("example.org"):
            return "reject"
        return None                                # let the rules decide

    def ended(flow, end): ...                      # bytes, duration, reason
    def query(query: Query): ...                   # None, "refuse", addresses, or another server
    """  # noqa: E501

END = End("proxy", "script", 1, 2, 3.0, "closed")


#: A script that reads an attribute without naming it where attributes are read.
MATCHING = """
from nanotun.script import Flow
def flow(flow):
    match flow:
        case Flow(port=443, process=None):
            return "reject"
"""


class AskTests(ScriptCase):
    """What a script is asked, and answers."""

    def test_example(self) -> None:
        """A coroutine that awaits nothing answers at once, by program and domain."""
        script = self.script(UPDATER)
        updater = Process(7, 0, "root", "updater")
        for flow, to in (
            (Flow("www.example.com", process=updater), "reject"),
            (Flow(None, process=updater), "reject"),
            (Flow("www.example.org", process=updater), ""),
            (Flow("www.example.com", process=updater._replace(name="curl")), ""),
            (Flow("www.example.com"), ""),
        ):
            answer = script.decide(flow)
            assert isinstance(answer, ScriptAnswer)
            self.assertEqual(answer.to, to, flow)
            self.assertEqual(answer.reason, f"the script {script.path} says so" if to else "")
        script.ended(Flow(), END)
        self.assertEqual(script.query(Query("example.org")), ScriptReply())
        self.assertTrue(script.needsProcess)
        self.assertTrue(script.decides and script.followsFlows and script.answersQueries)
        self.assertEqual(self.logged, [])

    def test_through(self) -> None:
        """Values for a template come with the answer."""
        script = self.script("""
            from nanotun.script import Through
            def flow(flow):
                return Through("tor", session=flow.domain)
            """)
        expected = ScriptAnswer(
            "tor", f"the script {script.path} says so", (("session", "example.org"),)
        )
        self.assertEqual(script.decide(Flow("example.org")), expected)

    def test_query(self) -> None:
        """A query gets what query returns, and addresses come in their canonical form."""
        script = self.script("""
            answers = {"a.example": "refuse", "b.example": ["2001:DB8::1"]}
            def query(query):
                return answers.get(query.name)
            """)
        self.assertEqual(script.query(Query("a.example")), ScriptReply(refused=True))
        expected = ScriptReply(addresses=("2001:db8::1",))
        self.assertEqual(script.query(Query("b.example")), expected)
        self.assertEqual(script.query(Query("c.example")), ScriptReply())

    def test_ended(self) -> None:
        """A script hears how flows end; a coroutine there runs to its end."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            heard, waits = [], Deferred()
            async def ended(flow, end):
                await waits
                heard.append((flow, end))
            """)
        flow = Flow("example.org")
        script.ended(flow, END)
        self.assertEqual(script.running, 1)
        script._loaded.module.waits.callback(None)
        self.assertEqual(script._loaded.module.heard, [(flow, END)])
        self.assertEqual(script.running, 0)

    def test_missing(self) -> None:
        """A function that there is not need not be asked, and lets the rules decide if it is."""
        script = self.script("def ended(flow, end): pass\n")
        self.assertFalse(script.decides or script.answersQueries)
        self.assertEqual(script.decide(Flow()), ScriptAnswer())
        self.assertEqual(script.query(Query("example.org")), ScriptReply())
        script = self.script("def flow(flow): pass\n")
        self.assertFalse(script.followsFlows)
        script.ended(Flow(), END)
        self.assertEqual(self.logged, [])

    def test_nothing(self) -> None:
        """A script without any function that is asked, or with one that is none, is an error."""
        for text, what in (
            ("def start(): pass\n", "does nothing: it has no function flow, ended or query."),
            ("flow = 'reject'\n", "has a flow that is no function."),
            ("stop = 1\ndef flow(flow): pass\n", "has a stop that is no function."),
            (
                "def flow(): pass\n",
                "has a function that cannot be called as flow(flow); write 'def flow(flow)'.",
            ),
            (
                "async def ended(flow): pass\n",
                "has a function that cannot be called as ended(flow, end); "
                "write 'def ended(flow, end)'.",
            ),
            (
                "def stop(x): pass\ndef flow(f, *more): pass\n",
                "has a function that cannot be called as stop(); write 'def stop()'.",
            ),
        ):
            error = self.assertRaises(ConfigError, self.script, text)
            path = self.folder.place("flows.py")
            self.assertEqual(str(error), f"The script {path} {what}")
            self.assertNothingLeft()

    def test_needsProcess(self) -> None:
        """Processes are needed by whoever says so, or mentions them, in a neighbour as well."""
        self.folder.write("helper.py", "def who(flow):\n    return flow.process\n")
        for text, expected in (
            ("def flow(flow): return flow.domain\n", False),
            ("def flow(flow): return [x for x in (1,) if flow.process]\n", True),
            ("needsProcess = True\ndef flow(flow): pass\n", True),
            ("needsProcess = False\ndef flow(flow): return flow.process\n", False),
            ("import helper\ndef flow(flow): return helper.who(flow)\n", True),
            ("'process'\ndef flow(flow): return 'process'\n", False),
            (MATCHING, True),
        ):
            self.assertIs(self.script(text).needsProcess, expected, text)

    def test_notLookedUp(self) -> None:
        """To read a process undeclared is a failure: None would let an allow-list leak."""
        script = self.script("def flow(flow): return getattr(flow, 'pro' + 'cess') and None\n")
        answer = script.decide(Flow(process=NOT_LOOKED_UP))
        assert isinstance(answer, ScriptAnswer)
        self.assertEqual(answer.to, "reject")
        self.assertIn("write needsProcess = True at the top of the script", self.logged[0])

    def test_report(self) -> None:
        """The report counts what was asked, what failed, and what waits."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            def flow(flow):
                return {1: lambda: None, 2: lambda: 1 / 0, 3: Deferred}[flow.port]()
            """)
        for port in (1, 2, 3, 3):
            script.decide(Flow(port=port))
        self.assertEqual(
            script.report(),
            {
                "path": script.path,
                "asked": 4,
                "failed": 1,
                "late": 0,
                "blocked": 0,
                "waiting": 2,
                "needsProcess": False,
            },
        )
        self.clock.advance(5.0)
        report = script.report()
        self.assertEqual((report["late"], report["waiting"]), (2, 0))

    def test_configure(self) -> None:
        """Other names, another timeout and another fallback count from the next answer on."""
        script = self.script("def flow(flow): return 'home'\n")
        answer = script.decide(Flow())
        assert isinstance(answer, ScriptAnswer)
        self.assertEqual(answer.to, "reject")
        script.configure(ScriptOptions(1.0, "rules", NAMES))
        answer = script.decide(Flow())
        assert isinstance(answer, ScriptAnswer)
        self.assertEqual(answer.to, "")
        self.assertTrue(self.logged[1].endswith("the rules decide meanwhile (scriptError)."))
        script.configure(ScriptOptions(1.0, "rules", {**NAMES, "home": frozenset()}))
        answer = script.decide(Flow())
        assert isinstance(answer, ScriptAnswer)
        self.assertEqual(answer.to, "home")

    def test_isCurrent(self) -> None:
        """A script is current until one of its files changes."""
        script = self.script("def flow(flow): pass\n")
        self.assertTrue(script.isCurrent())
        self.folder.write("flows.py", "def flow(flow): return 'reject'\n")
        self.assertFalse(script.isCurrent())


class LifeTests(ScriptCase):
    """C{start} and C{stop}."""

    def test_part(self) -> None:
        """A script is a part, also one that has neither function."""
        script = self.script("def flow(flow): pass\n")
        verifyObject(IPart, script)
        script.start()
        self.assertIsNone(script.stop())

    def test_start(self) -> None:
        """Its start is called once, and nothing waits for what it returns."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            started = []
            async def start():
                started.append(1)
                await Deferred()
            def flow(flow): pass
            """)
        self.assertEqual(script._loaded.module.started, [])
        script.start()
        self.assertEqual(script._loaded.module.started, [1])

    def test_startFails(self) -> None:
        """A start that raises is an error with its line, be it a coroutine or not."""
        for text in ("def", "async def"):
            script = self.script(f"{text} start():\n    open('/no')\ndef flow(flow): pass\n")
            error = self.assertRaises(ConfigError, script.start)
            self.assertEqual(
                str(error),
                f"The script {script.path} failed in start: line 2: FileNotFoundError: [Errno 2] "
                "No such file or directory: '/no'.",
            )
        self.assertEqual(self.logged, [])

    def test_startFailsLater(self) -> None:
        """One that fails after it has waited is logged."""
        script = self.script("""
            from twisted.internet.defer import Deferred
            waits = Deferred()
            async def start():
                await waits
                1 / 0
            def flow(flow): pass
            """)
        script.start()
        self.assertEqual(self.logged, [])
        script._loaded.module.waits.callback(None)
        sentence = "failed at line 6, in start (ZeroDivisionError: division by zero)."
        self.assertEqual(self.logged, [f"The script .../flows.py {sentence}"])
        self.assertEqual(script.running, 0)

    def test_stop(self) -> None:
        """Whoever stops the script can wait for what its stop returns, be it a coroutine."""
        for text in ("def stop(): return waits\n", "async def stop(): await waits\n"):
            script = self.script(
                "from twisted.internet.defer import Deferred\n"
                f"waits = Deferred()\n{text}def flow(flow): pass\n"
            )
            done = script.stop()
            assert isinstance(done, Deferred)
            self.assertNoResult(done)
            script._loaded.module.waits.callback("whatever")
            self.assertIsNone(self.successResultOf(done))
        self.assertNothingLeft()

    def test_stopFails(self) -> None:
        """A stop that fails is logged, and does not fail whoever stops the script."""
        for text in ("def", "async def"):
            script = self.script(f"{text} stop():\n    1 / 0\ndef flow(flow): pass\n")
            done = script.stop()
            if done is not None:
                self.assertIsNone(self.successResultOf(done))
            self.assertIn("failed at line 2, in stop (ZeroDivisionError", self.logged.pop())

    def test_stopped(self) -> None:
        """When nanotun stops, all is refused, and nothing of the script is called."""
        script = self.script("""
            def flow(flow): 1 / 0
            def query(query): 1 / 0
            def ended(flow, end): 1 / 0
            """)
        script.stop()
        self.assertEqual(script.decide(Flow()), ScriptAnswer("reject", "nanotun stops"))
        self.assertEqual(script.query(Query("example.org")), ScriptReply(refused=True))
        script.ended(Flow(), END)
        self.assertEqual(self.logged, [])

    def test_leaveTo(self) -> None:
        """Whoever still asks a version that was replaced gets the answer of the next one."""
        script = self.script("stopped = []\ndef stop(): stopped.append(1)\ndef flow(flow): 1 / 0\n")
        heir = FakeScript("office")
        heir.reply = ScriptReply(refused=True)
        script.leaveTo(heir)
        self.assertEqual(script._loaded.module.stopped, [1])
        self.assertEqual(script.decide(Flow("example.org")), heir.answer)
        self.assertEqual(script.query(Query("example.org")), heir.reply)
        self.assertEqual(len(heir.asked), 1)

    def test_leaveToRules(self) -> None:
        """Where there is no script any more, the rules decide what the last one is still asked."""
        script = self.script("def flow(flow): 1 / 0\ndef query(query): 1 / 0\n")
        script.leaveTo(None)
        self.assertEqual(script.decide(Flow()), ScriptAnswer())
        self.assertEqual(script.query(Query("example.org")), ScriptReply())

    def test_unload(self) -> None:
        """A script that is not taken leaves nothing, and is not told so."""
        script = self.script("def stop(): 1 / 0\ndef flow(flow): pass\n")
        script.unload()
        self.assertNothingLeft()
        self.assertEqual(self.logged, [])
