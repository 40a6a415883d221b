"""
Tests for L{nanotun.daemon.reload} and L{nanotun.daemon.scripts}: the user's script.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nanotun.config.options import Options
from nanotun.daemon.checking import checkFiles
from nanotun.daemon.privileges import SEARCHING, needed
from nanotun.daemon.scripts import describeScript, scriptFor
from nanotun.errors import ConfigError
from nanotun.flow import Decision, Endpoint, Flow, Protocol
from nanotun.scripting import load
from nanotun.scripting.load import MODULE, Guard, ScriptFinder
from tests.unit.daemon.test_reload import LiveCase

FLOW = Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 40000), Endpoint("1.1.1.1", 443))

SENDS = """
from tests.unit.daemon.test_reload_script import noted
calls = noted.calls
def start(): calls.append("start {0}")
def stop(): calls.append("stop {0}")
def flow(flow): return {0!r}
"""


class Noted:
    """
    What the scripts of a test have done.

    @ivar calls: of their start and stop.
    """

    calls: list[str]

    def __init__(self) -> None:
        self.calls = []


noted = Noted()


class ScriptCase(LiveCase):
    """A daemon with a script, which may belong to the user of the tests."""

    def setUp(self) -> None:
        """Write the script."""

        def guard(trusted: object, nameOf: Callable[[int], str]) -> Guard:
            return Guard({os.geteuid()}, nameOf=nameOf)

        self.patch(load, "Guard", guard)
        self.calls: list[str] = []
        self.patch(noted, "calls", self.calls)
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(0o700)
        self.script = folder / "flows.py"
        self.writeScript(SENDS.format("reject"))
        super().setUp()

    def writeScript(self, text: str) -> None:
        """Write another version of the script."""
        self.script.write_text(text)
        self.script.chmod(0o600)

    def begin(self, rest: str = "") -> None:
        """Start a daemon with the script."""
        self.configure(rest)
        self.live = self.makeLive()
        self.addCleanup(self.finish)

    def finish(self) -> None:
        """Stop the daemon, and leave nothing of the script."""
        self.live.stop()

    def configure(self, rest: str = "") -> None:
        """Write a configuration with the script."""
        self.write(f"proxy: h:1\nscript: {self.script}\n{rest}")

    def decide(self) -> str:
        """What becomes of a flow."""
        decision = self.live.current.judge.judge(FLOW)
        assert isinstance(decision, Decision)
        return f"{decision.verdict.value} {decision.rule}"

    @property
    def finders(self) -> int:
        """How many versions take part in imports."""
        return sum(isinstance(each, ScriptFinder) for each in sys.meta_path)


class ReloadTests(ScriptCase):
    """L{nanotun.daemon.reload.Live} with a script."""

    def test_life(self) -> None:
        """It is started and stopped with the daemon, and decides meanwhile."""
        self.begin()
        self.assertEqual(self.calls, ["start reject"])
        self.assertEqual(self.decide(), "reject script")
        self.live.stop()
        self.assertEqual(self.calls, ["start reject", "stop reject"])
        self.assertEqual(self.finders, 0)
        self.live = self.makeLive()

    def test_stopIsAwaited(self) -> None:
        """The daemon's stop waits for what the script still has to do."""
        self.begin()
        self.writeScript(
            SENDS.format("reject") + "from twisted.internet.defer import Deferred\n"
            "waiting = Deferred()\nasync def stop(): await waiting\n"
        )
        self.live.reload()
        module: Any = sys.modules[MODULE]
        stopped = self.live.stop()
        assert isinstance(stopped, Deferred)
        self.assertNoResult(stopped)
        module.waiting.callback(None)
        self.successResultOf(stopped)
        self.live = self.makeLive()

    def test_startFails(self) -> None:
        """A start that fails leaves nothing started."""
        self.writeScript("needsProcess = True\ndef flow(f): pass\ndef start(): 1 / 0\n")
        self.configure()
        error = self.assertRaises(ConfigError, self.makeLive)
        self.assertIn("failed in start: line 3: ZeroDivisionError", str(error))
        (owners,) = self.made
        self.assertEqual(owners.state, "stopped")
        sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, ScriptFinder)]

    def test_newVersion(self) -> None:
        """
        A changed file under the same path is another version: it is started before the old one
        is stopped, and decides from then on.
        """
        self.begin()
        self.writeScript(SENDS.format("drop"))
        answer = self.live.reload()
        self.assertEqual((answer["changed"], answer["restart"]), (["script"], []))
        self.assertEqual(self.calls, ["start reject", "start drop", "stop reject"])
        self.assertEqual(self.decide(), "drop script")
        self.assertIs(self.router.calls[-1][3], self.live.current.script)
        self.assertEqual(self.finders, 1)

    def test_sameVersion(self) -> None:
        """A script that has not changed keeps its variables, and follows the settings."""
        self.begin()
        before = self.live.current.script
        self.configure("scriptTimeout: 7s\nupstreams: {office: 'http://o'}")
        self.assertEqual(self.live.reload()["changed"], ["upstreams", "scriptTimeout"])
        script = self.live.current.script
        assert script is not None
        self.assertIs(script, before)
        self.assertEqual(script._options.timeout, 7)
        self.assertIn("office", script._options.names)
        self.assertEqual(self.calls, ["start reject"])

    def test_bad(self) -> None:
        """A version that is broken, unsafe or fails to start changes nothing."""
        self.begin()
        before = self.live.current
        for text, mode, sentence in (
            ("def flow(f) return", 0o600, "is not Python (line 1"),
            ("x = 1", 0o600, "does nothing"),
            (SENDS.format("drop"), 0o666, "could be changed by others"),
            ("def start(): 1 / 0\ndef flow(f): pass", 0o600, "failed in start: line 1"),
        ):
            self.writeScript(text)
            self.script.chmod(mode)
            error = self.assertRaises(ConfigError, self.live.reload)
            self.assertIn(sentence, str(error))
            self.assertIs(self.live.current, before)
            self.assertEqual((self.decide(), self.finders), ("reject script", 1))
        self.script.unlink()
        self.assertIn("cannot be read", str(self.assertRaises(ConfigError, self.live.reload)))
        self.assertEqual(self.calls, ["start reject"])

    def test_otherFault(self) -> None:
        """If something else is wrong with a configuration, the new version is never called."""
        self.begin()
        self.writeScript(SENDS.format("drop"))
        self.configure("rules: [{to: nowhere, ports: '1'}]")
        self.assertRaises(ConfigError, self.live.reload)
        self.root.refusal = ConfigError("No directory.")
        self.configure("logLevel: debug")
        self.assertRaises(ConfigError, self.live.reload)
        self.assertEqual((self.calls, self.finders), (["start reject"], 1))

    def test_removed(self) -> None:
        """Without a script the rules decide, and one that comes back decides again."""
        self.begin()
        self.write("proxy: h:1")
        self.assertEqual(self.live.reload()["changed"], ["script"])
        self.assertEqual((self.decide(), self.finders), ("proxy default", 0))
        self.configure()
        self.live.reload()
        self.assertEqual(self.decide(), "reject script")
        self.assertEqual(self.calls, ["start reject", "stop reject", "start reject"])

    def test_owners(self) -> None:
        """A version that needs processes has them looked up, and one that does not has not."""
        self.begin()
        self.assertIsNone(self.live.current.owners)
        self.writeScript("def flow(flow): return flow.process and 'drop'")
        self.live.reload()
        owners: Any = self.live.current.owners
        self.assertEqual(owners.state, "started")
        self.writeScript("def flow(flow): return 'drop'")
        self.live.reload()
        self.assertEqual((owners.state, self.live.current.owners), ("stopped", None))

    def test_rights(self) -> None:
        """A daemon with a script keeps the rights to look for processes; without them, another
        script has to wait for a restart."""
        options = Options()
        self.configure()
        options.parseOptions(["-c", str(self.path)])
        self.assertLessEqual(SEARCHING, needed(options.settings, owners=False, foreign=False))
        self.write("proxy: h:1")
        self.live = self.makeLive(frozenset({"NET_ADMIN"}))
        self.configure("logLevel: debug")
        answer = self.live.reload()
        self.assertEqual((answer["changed"], answer["restart"]), (["logLevel"], ["script"]))
        self.assertEqual((self.calls, self.finders), ([], 0))
        self.assertIsNone(self.live.current.script)

    def test_rejected(self) -> None:
        """
        While the script decides about connections, C{dnsRejected} says nothing about any name,
        and a reload and a check say so; with a script that does not, it counts.
        """
        rules = "dnsRejected: refuse\nrules: [{to: reject, domains: ads.test}]\n"
        self.begin()
        for text, decides in (
            (SENDS.format("direct"), True),
            ("def query(query): pass", False),
        ):
            self.writeScript(text)
            self.configure(rules)
            warnings = self.live.reload()["warnings"]
            self.assertEqual("dnsRejected does nothing" in "".join(warnings), decides)
            names = self.live.current.names
            self.assertEqual(names.of("ads.test").rejected, not decides)
            self.assertEqual(len(names.waysOf("ads.test")), 4 if decides else 1)
            checked = checkFiles(self.live.current.settings, Clock())
            self.assertEqual(checked.notices, names.notices)


class DescribeTests(ScriptCase):
    """L{describeScript} and L{scriptFor}."""

    def settings(self) -> Any:
        """Those of the file."""
        options = Options()
        options.parseOptions(["-c", str(self.path)])
        return options.settings

    def describe(self) -> str:
        """What is said about the script of the file, of which nothing is left."""
        script = scriptFor(self.settings(), self.clock)
        assert script is not None
        script.unload()
        return describeScript(script, self.settings())

    def test_described(self) -> None:
        """It is imported, nothing in it is called, and nothing of it is left."""
        self.configure("scriptError: rules")
        text = self.describe()
        self.assertEqual(text, f"{self.script}: flow; no processes; 5 s, then rules")
        self.writeScript("def query(q): pass\ndef ended(f, e): f.process")
        text = self.describe()
        self.assertIn(": ended, query; processes are looked up; 5 s", text)
        self.assertEqual((self.calls, self.finders), ([], 0))
        self.assertNotIn(MODULE, sys.modules)

    def test_none(self) -> None:
        """There may be none."""
        self.write("proxy: h:1")
        self.assertIsNone(scriptFor(self.settings(), self.clock))
