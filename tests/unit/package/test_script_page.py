"""Tests of docs/script.md: its examples, loaded and asked."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import SynchronousTestCase, TestCase

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.script import End, Flow, Process, Query
from nanotun.scripting.load import Guard, loadScript
from nanotun.scripting.script import Script, ScriptOptions
from tests import ROOT

PAGE = ROOT / "docs" / "script.md"
EXAMPLES = ROOT / "tests" / "examples"

NAMES = {
    **dict.fromkeys(("proxy", "cheap", "costly", "direct", "reject", "drop"), frozenset[str]()),
    "tor": frozenset(("session",)),
}

CURL = Process(5, 1000, "ann", "curl", "/usr/bin/curl", "/user.slice/a.scope")
END = End("cheap", "script", 600, 500, 1.5, "closed")


class AnyGuard(Guard):
    """Trusts everybody: where the checkout lies says nothing about the examples."""

    def check(self, path: str, what: str, installed: bool = False) -> None:
        """See L{Guard.check}."""


class ExampleCase(TestCase):
    """A test with one of the examples, on the reactor that scripts run on."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    def example(self, name: str, **variables: object) -> Script:
        """
        Load an example as it is on the page.

        @param variables: what is different in the test.
        """
        loaded = loadScript(str(EXAMPLES / name), AnyGuard())
        vars(loaded.module).update(variables)
        self.module: Any = loaded.module
        script = Script(loaded, ScriptOptions(60.0, "reject", NAMES), self.reactor)
        self.addCleanup(script.unload)
        # The machine may be so busy that a step takes long.
        self.addCleanup(script._failures.stop)
        return script

    def asked(self, script: Script, flow: Flow) -> Deferred[Any]:
        """What an example answers in time."""
        return maybeDeferred(script.decide, flow)

    def decided(self, script: Script, flow: Flow) -> str:
        """What an example answers at once."""
        answer = script.decide(flow)
        assert isinstance(answer, ScriptAnswer)
        return answer.to


class HoursTests(ExampleCase):
    """By domain and time of day."""

    def test_hours(self) -> None:
        """Social networks are open in the evening, and at weekends from noon on."""
        script = self.example("hours.py")
        for when, to in (
            (datetime(2026, 11, 30, 12), "reject"),
            (datetime(2026, 11, 30, 18), ""),
            (datetime(2026, 11, 30, 22), "reject"),
            (datetime(2026, 11, 28, 11), "reject"),
            (datetime(2026, 11, 28, 12), ""),
        ):
            self.module.datetime = type("Then", (), {"now": staticmethod(lambda when=when: when)})
            self.assertEqual(self.decided(script, Flow("www.facebook.com")), to, when)
            self.assertEqual(self.decided(script, Flow("example.org")), "")
        self.assertFalse(script.needsProcess)


class SessionTests(ExampleCase):
    """A log-in for each program."""

    def test_sessions(self) -> None:
        """Each program has its own, a browser one for each site, and nobody a shared one."""
        script = self.example("sessions.py")
        self.assertTrue(script.needsProcess)
        for flow, session in (
            (Flow("a.example.org", process=CURL), "ann-curl"),
            (
                Flow("a.b.example.org", process=CURL._replace(name="firefox")),
                "ann-firefox-example.org",
            ),
        ):
            answer = script.decide(flow)
            assert isinstance(answer, ScriptAnswer)
            self.assertEqual((answer.to, answer.values), ("tor", (("session", session),)))
        self.assertEqual(self.decided(script, Flow("example.org")), "reject")
        self.assertEqual(self.decided(script, Flow("example.org", process=Process(0, 0))), "reject")


class AgentTests(ExampleCase):
    """What an agent may do."""

    def test_agent(self) -> None:
        """Nothing leaves but for the names and ports that are listed, and no other name does."""
        script = self.example("agent.py")
        for flow, to in (
            (Flow("pypi.org"), "proxy"),
            (Flow("pypi.org", 80), "reject"),
            (Flow("pypi.org", protocol="udp"), "reject"),
            (Flow("x.pypi.org"), "reject"),
            (Flow(None, address="192.0.2.1"), "reject"),
        ):
            self.assertEqual(self.decided(script, flow), to, flow)
        self.assertEqual(script.query(Query("pypi.org")), ScriptReply())
        self.assertEqual(script.query(Query("secret.evil.org")), ScriptReply(refused=True))
        self.assertFalse(script.needsProcess)


class VolumeTests(ExampleCase):
    """Two uplinks, by volume."""

    def test_volume(self) -> None:
        """The cheap one is used up to the limit, also across a reload and a crash."""
        file = self.mktemp()
        script = self.example("volume.py", FILE=file, LIMIT=1000)
        script.start()
        self.assertEqual(self.decided(script, Flow("example.org")), "cheap")
        script.ended(Flow("example.org"), END._replace(upstream="costly"))
        self.assertEqual(self.decided(script, Flow("example.org")), "cheap")
        script.ended(Flow("example.org"), END)
        self.assertEqual(self.decided(script, Flow("example.org")), "costly")
        before, script = script, self.example("volume.py", FILE=file, LIMIT=2000)
        script.start()
        before.stop()
        self.assertEqual(self.decided(script, Flow("example.org")), "cheap")
        script.ended(Flow("example.org"), END)
        script = self.example("volume.py", FILE=file, LIMIT=2000)
        script.start()
        self.assertEqual(self.decided(script, Flow("example.org")), "costly")


class JournalTests(ExampleCase):
    """Every connection in SQLite."""

    async def test_journal(self) -> None:
        """Each connection that has ended is a row, also one shortly before the stop."""
        file = self.mktemp()
        script = self.example("journal.py", FILE=file)
        self.assertTrue(script.needsProcess)
        self.assertFalse(script.decides)
        script.start()
        script.ended(Flow("a.example", process=CURL), END)
        await self.module.write()
        script.ended(Flow(None, address="192.0.2.1"), END._replace(reason="reset"))
        stopped = script.stop()
        assert stopped is not None
        await stopped
        with sqlite3.connect(file) as database:
            rows = database.execute(
                "SELECT user, process, host, port, upstream, rule, up, down, seconds, reason "
                "FROM flows"
            ).fetchall()
        where = (443, "cheap", "script", 600, 500, 1.5)
        self.assertEqual(
            rows,
            [
                ("ann", "curl", "a.example", *where, "closed"),
                ("", "", "192.0.2.1", *where, "reset"),
            ],
        )

    async def test_full(self) -> None:
        """A database that cannot be written costs rows, and neither the script nor the loop."""
        script = self.example("journal.py", FILE="/nowhere/at/all.db")
        script.start()
        script.ended(Flow("a.example", process=CURL), END)
        await self.module.write()
        self.assertTrue(self.flushLoggedErrors(sqlite3.OperationalError))
        self.assertTrue(self.module.writing.running)
        stopped = script.stop()
        assert stopped is not None
        await stopped
        self.flushLoggedErrors()


class Person(LineOnlyReceiver):
    """Somebody who reads questions, and answers when the test says so."""

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        """A question."""
        self.factory.asked(self, line.decode())  # type: ignore[union-attr]


class People(Factory):
    """Accepts questions, one on each connection."""

    protocol = Person

    def __init__(self) -> None:
        self.questions: list[str] = []
        self.waiting: list[Person] = []
        self.next: Deferred[None] = Deferred()

    def asked(self, person: Person, question: str) -> None:
        """Keep a question."""
        self.questions.append(question)
        self.waiting.append(person)
        done, self.next = self.next, Deferred()
        done.callback(None)

    def answer(self, text: str) -> None:
        """Answer the oldest one."""
        self.waiting.pop(0).sendLine(text.encode())


class AskTests(ExampleCase):
    """Ask a person."""

    def setUp(self) -> None:
        super().setUp()
        self.address = f"\0nanotun-ask-{os.getpid()}"
        self.people = People()
        port = self.reactor.listenUNIX(self.address, self.people)
        self.addCleanup(port.stopListening)

    def asking(self, person: int | None = None) -> Script:
        """The example, at an address of the test's."""
        script = self.example("ask.py", PERSON=os.getuid() if person is None else person)
        self.addCleanup(script.stop)
        real = self.module.UNIXClientEndpoint
        self.module.UNIXClientEndpoint = lambda reactor, path: real(reactor, self.address)
        return script

    async def test_asked(self) -> None:
        """One question at a time; what a person has said of it counts for all who ask."""
        script = self.asking()
        asked = self.people.next
        answers = [
            self.asked(script, Flow(name, process=CURL))
            for name in ("a.example", "a.example", "b.example")
        ]
        await asked
        self.assertEqual(self.people.questions, ["/usr/bin/curl wants a.example"])
        asked = self.people.next
        self.people.answer("y")
        self.assertEqual([(await each).to for each in answers[:2]], ["", ""])
        await asked
        self.people.answer("n")
        self.assertEqual((await answers[2]).to, "reject")
        self.assertEqual(self.decided(script, Flow("a.example", process=CURL)), "")
        self.assertEqual(len(self.people.questions), 2)

    async def test_givenUp(self) -> None:
        """A program that gives up takes its question back, and the next one can be asked."""
        script = self.asking()
        asked = self.people.next
        answer = self.asked(script, Flow("a.example", process=CURL))
        await asked
        answer.cancel()
        with self.assertRaises(CancelledError):
            await answer
        asked = self.people.next
        answer = self.asked(script, Flow("b.example", process=CURL))
        await asked
        self.people.waiting.pop(0)
        self.people.answer("y")
        self.assertEqual((await answer).to, "")
        self.assertEqual(script.running, 0)

    async def test_stranger(self) -> None:
        """An answer of somebody else does not count."""
        script = self.asking(os.getuid() + 1)
        answer = await self.asked(script, Flow("a.example", process=CURL))
        self.assertEqual(answer.to, "reject")
        self.assertEqual(self.people.questions, [])

    async def test_nobody(self) -> None:
        """While nobody is there, what is new is refused, and is asked again later."""
        script = self.asking()
        here, self.address = self.address, "\0nanotun-nobody"
        answer = await self.asked(script, Flow("a.example", process=CURL))
        self.assertEqual(answer.to, "reject")
        self.address = here
        asked = self.people.next
        second = self.asked(script, Flow("a.example", process=CURL))
        await asked
        self.people.answer("y")
        self.assertEqual((await second).to, "")


class AskerTests(SynchronousTestCase):
    """C{nanotun-ask}, the program that a person runs."""

    def ask(self, given: str, *arguments: str) -> str:
        """Put one question to the program, and take the answer."""
        address = f"\0nanotun-asker-{os.getpid()}"
        text = (EXAMPLES / "nanotun-ask").read_text().replace("\0nanotun-ask", address)
        text = text.replace("\\0nanotun-ask", f"\\0{address[1:]}")
        program = Path(self.mktemp())
        program.write_text(
            text.replace("listener.listen()", "listener.listen(); print(flush=True)")
        )
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PATH": f"{self.desktop()}:{os.environ['PATH']}"},
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        process.stdin.write(given)
        process.stdin.flush()
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(20)
            channel.connect(address)
            channel.sendall(b"/usr/bin/curl wants a.example\n")
            return channel.makefile().readline().strip()

    def desktop(self) -> str:
        """A directory with a notify-send that repeats the question."""
        folder = Path(self.mktemp())
        folder.mkdir()
        command = folder / "notify-send"
        command.write_text('#!/bin/sh\necho "$5"\n')
        command.chmod(0o755)
        return str(folder.resolve())

    def test_terminal(self) -> None:
        """The answer is what is typed."""
        self.assertEqual(self.ask("y\n"), "y")

    def test_desktop(self) -> None:
        """With --desktop, it is what notify-send says."""
        self.assertEqual(self.ask("", "--desktop"), "/usr/bin/curl wants a.example")


class PageTests(SynchronousTestCase):
    """What docs/script.md says."""

    def test_examples(self) -> None:
        """The page shows the files that are tested here, and no other program."""
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        shown = [each for each in blocks if each.startswith(('"""', "#!"))]
        files = [each.read_text() for each in EXAMPLES.iterdir() if each.is_file()]
        self.assertEqual(sorted(shown), sorted(files))
        self.assertEqual(len(files), 7)

    def test_attributes(self) -> None:
        """The tables have all that a script can use."""
        page = PAGE.read_text()
        flow = {name.lstrip("_") for name in Flow.__slots__} | {"host", "isBelow"}
        for name in (*flow, *Process._fields, "unit", *End._fields, *Query._fields):
            self.assertRegex(page, rf"`{name}[`(]")
