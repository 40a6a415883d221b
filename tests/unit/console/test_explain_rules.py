"""Tests of L{nanotun.console.explain}: the user's rules, names and the script."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.explain import answer
from nanotun.console.explain.waiting import blockOn
from nanotun.errors import NanotunError
from nanotun.scripting import load
from nanotun.scripting.load import Guard, ScriptFinder
from tests.unit.console.test_explain import ExplainCase, FakeDaemon

RULES = (
    "{to: reject, ports: 25}",
    "{to: office, domains: corp.example}",
    "{to: reject, processes: wget}",
)

SCRIPT = """
def flow(flow):
    if flow.domain == "secret.example":
        return "drop"
    if flow.domain == "broken.example":
        raise ValueError("no idea")
"""


class RulesTests(ExplainCase):
    """Rules, as typed."""

    def setUp(self) -> None:
        """Have no daemon, and rules."""
        self.words = ["--proxy", "p.example", "--upstream", "office=socks5://gate.example"]
        self.words += ["--tun", "lo", *(f"--rule={rule}" for rule in RULES)]

    def lines(self, *words: str) -> list[str]:
        """The answer for people."""
        status, out, err = self.typed("tcp", *words, *self.words)
        self.assertEqual((status, err), (0, ""))
        return out.splitlines()

    def test_decisive(self) -> None:
        """The rule has its place; those before it are shown with what they say, itself not."""
        self.assertEqual(
            self.lines("1.1.1.1:443", "--name", "www.corp.example"),
            [
                "tcp 1.1.1.1:443 (www.corp.example)",
                "  PROXY    through office",
                "  rule     #2 (--rule)",
                "  because  www.corp.example is below corp.example",
                "  asked    #1       no: TCP 443 is none of its ports",
                "  office   socks5://gate.example:1080",
                "  by       the options given",
            ],
        )

    def test_default(self) -> None:
        """Where none holds, all are shown."""
        lines = self.lines("1.1.1.1:443", "--process", "curl")
        self.assertEqual(
            lines[3:7],
            [
                "  because  no other rule applies, and default is proxy",
                "  asked    #1       no: TCP 443 is none of its ports",
                "           #2       unknown: no name is known",
                "           #3       no: curl is none of its processes",
            ],
        )

    def test_control(self) -> None:
        """No control character of a process's name reaches the terminal with what rules say."""
        for line in self.lines("1.1.1.1:443", "--process", "a\x1b[31m"):
            self.assertNotIn("\x1b", line)

    def test_lookedUp(self) -> None:
        """A host name that is looked up is the name that its addresses are judged by."""
        found = [(0, 0, 0, "", (address, 443)) for address in ("1.1.1.1", "2620:fe::fe")]
        self.patch(socket, "getaddrinfo", lambda *words, **more: found)
        lines = self.lines("www.corp.example:443", "--process", "curl")
        self.assertEqual(lines[0], "tcp www.corp.example:443 (1.1.1.1, 2620:fe::fe) of curl")
        self.assertEqual(lines[2], "  rule     #2 (--rule)")
        # The relay answers this machine only, so it knows no names for the flows of another one.
        words = ("tcp", "www.corp.example:443", "--from", "192.0.2.9", *self.words)
        self.assertRule("proxy default", *words)

    def test_wrongName(self) -> None:
        """A name is given with an address, and is one."""
        self.assertWrong("so give an address", "tcp", "a.example:443", "--name", "b.example")
        for name in ("a b", "192.0.2.1", "", "-"):
            self.assertWrong("--name must be a host name", "tcp", "1.1.1.1:443", "--name", name)

    def test_daemon(self) -> None:
        """The daemon is told the name; a name that was looked up goes along with its address."""
        asked: list[Any] = []
        self.patch(FakeDaemon, "asked", asked)
        self.patch(answer, "Client", FakeDaemon)
        self.typed("tcp", "192.0.2.1:443", "--name", "a.example")
        found = [(0, 0, 0, "", ("192.0.2.7", 443))]
        self.patch(socket, "getaddrinfo", lambda *words, **more: found)
        self.typed("tcp", "example.org:443")
        self.typed("tcp", "example.org:443", "--from", "192.0.2.9")
        self.assertEqual(
            [(each["host"], each["name"]) for _, each in asked],
            [
                ("192.0.2.1", "a.example"),
                ("example.org", ""),
                ("192.0.2.7", "example.org"),
                ("example.org", ""),
                ("192.0.2.7", ""),
            ],
        )


class ScriptTests(ExplainCase):
    """The user's script, without a daemon."""

    def setUp(self) -> None:
        """Write the script."""

        def guard(trusted: Collection[int], nameOf: Callable[[int], str]) -> Guard:
            return Guard({*trusted, os.geteuid()}, nameOf=nameOf)

        self.patch(load, "Guard", guard)
        self.clock = Clock()
        self.patch(answer, "steadyReactor", lambda: self.clock)
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(0o700)
        self.script = folder / "flows.py"
        self.write(SCRIPT)

    def write(self, text: str) -> None:
        """Write another version."""
        self.script.write_text(text)
        self.script.chmod(0o600)

    def answer(self, name: str, *words: str) -> str:
        """The answer for people about a flow to a name."""
        more = ("--proxy", "p.example", "--script", str(self.script), *words)
        status, out, err = self.typed("tcp", "1.1.1.1:443", "--name", name, *more)
        self.assertEqual((status, err), (0, ""))
        return out

    def test_decides(self) -> None:
        """It is asked for real, and nothing is left of it."""
        out = self.answer("secret.example")
        self.assertIn("  rule     script\n  because  the script", out)
        self.assertIn("DROP", out)
        self.assertNotIn("asked", out)
        self.assertFalse(any(isinstance(each, ScriptFinder) for each in sys.meta_path))

    def test_leaves(self) -> None:
        """If it leaves the flow to the rules that is shown, with why if it has failed."""
        out = self.answer("other.example", "--rule", "{to: reject, ports: 25}")
        self.assertIn("  asked    script   leaves it to the rules\n           #1       no: ", out)
        out = self.answer("broken.example", "--script-error", "rules")
        self.assertRegex(out, r"(?m)^  rule     default$")
        self.assertRegex(out, r"(?m)^  asked    script   the script .*flows\.py failed at line 6")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_start(self) -> None:
        """Its start is not called, and a note says so where the script was asked."""
        self.write(f"{SCRIPT}\ndef start(): raise ValueError('called')\n")
        self.assertIn("  note     The script's start was not called", self.answer("a.example"))
        _, out, _ = self.typed(
            "tcp", "127.0.0.1:443", "--proxy", "p.example", "--script", str(self.script)
        )
        self.assertNotIn("The script's start", out)

    def test_prints(self) -> None:
        """What it prints is not part of the answer."""
        self.write("print('loaded')\ndef flow(flow): print('asked')\n")
        words = ("tcp", "1.1.1.1:443", "--proxy", "p.example", "--script", str(self.script))
        _, out, err = self.typed(*words, "--json")
        self.assertEqual(json.loads(out)["verdict"], "proxy")
        self.assertEqual(err, "loaded\nasked\n")

    def test_bad(self) -> None:
        """A script that cannot be loaded is an error of the configuration."""
        self.write("def flow(")
        words = ("tcp", "1.1.1.1:443", "--proxy", "p.example", "--script", str(self.script))
        self.assertWrong("flows.py", *words)


class FakeReactor(Clock):
    """
    A reactor whose time passes while it runs.

    @ivar runs: how often it was run.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.runs = 0
        self._left = seconds
        self._stopped = False

    def run(self) -> None:
        """Let a second pass after the other, until it is stopped or a signal comes."""
        self.runs += 1
        while not self._stopped and self._left > 0:
            self._left -= 1
            self.advance(1)

    def stop(self) -> None:
        """Stop it."""
        self._stopped = True


class WaitingTests(SynchronousTestCase):
    """L{blockOn}."""

    def test_atOnce(self) -> None:
        """The reactor does not run for what is there, be it a result or an error."""
        reactor = FakeReactor(5)
        self.assertEqual(blockOn(succeed(7), reactor), 7)
        error = self.assertRaises(NanotunError, blockOn, fail(NanotunError("No.")), reactor)
        self.assertEqual((str(error), reactor.runs), ("No.", 0))

    def test_later(self) -> None:
        """The reactor runs until the result is there, and no longer."""
        reactor = FakeReactor(9)
        self.assertEqual(blockOn(deferLater(reactor, 3, lambda: 7), reactor), 7)
        self.assertEqual((reactor.seconds(), reactor.runs), (3, 1))

        def no() -> None:
            raise NanotunError("No.")

        reactor = FakeReactor(9)
        self.assertRaises(NanotunError, blockOn, deferLater(reactor, 3, no), reactor)

    def test_signal(self) -> None:
        """A signal ends the wait as it ends any other command."""
        reactor = FakeReactor(2)
        waited: Deferred[int] = deferLater(reactor, 3, lambda: 7)
        self.assertRaises(KeyboardInterrupt, blockOn, waited, reactor)
        waited.addErrback(lambda reason: reason.trap(CancelledError))
        waited.cancel()
