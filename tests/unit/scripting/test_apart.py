"""Tests of L{nanotun.scripting.apart} and L{nanotun.scripting.served}: the two ends together."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel
from zope.interface.verify import verifyObject

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.interfaces import IPart
from nanotun.script import NOT_LOOKED_UP, End, Flow, Query
from nanotun.scripting.apart import RemoteScript
from nanotun.scripting.script import RUNNING_LIMIT
from nanotun.scripting.served import LINE_LIMIT, LogLines, ServedScript
from tests.unit.scripting.remote import RemoteCase
from tests.unit.scripting.scripts import REFUSED

END = End("office", "script", 1, 2, 3.5, "closed")

WAITS = """
    from twisted.internet.defer import Deferred
    waits, cancelled = [], []
    def flow(flow):
        waits.append(Deferred(cancelled.append))
        return waits[-1]
    query = flow
    """


class AskTests(RemoteCase):
    """What crosses the channel."""

    def test_interface(self) -> None:
        """It is a part, and says of the script what the process has said."""
        remote = self.remote("def flow(flow): return flow.process and 'reject'\n")
        verifyObject(IPart, remote)
        self.assertEqual((remote.needsProcess, remote.decides), (True, True))
        self.assertEqual((remote.followsFlows, remote.answersQueries), (False, False))

    def test_flow(self) -> None:
        """The script sees the whole flow, even if it comes byte by byte, and its answer counts."""
        text = """
            from nanotun.script import Through
            seen = []
            needsProcess = True
            def flow(flow):
                seen.append({each: getattr(flow, each) for each in dir(flow) if each[0] != "_"})
                return [None, "drop", Through("tor", session="b\\u00e4nk\\n")][len(seen) - 1]
            """
        for step in (1 << 20, 1):
            remote = self.remote(text, step=step)
            flow = Flow(
                "example.org", 53, protocol="udp", address="2001:db8::1", source="fd00::1",
                sourcePort=7, local=False, id=9,
            )  # fmt: skip
            says = f"the script {remote.path} says so"
            self.assertEqual(remote.decide(flow), ScriptAnswer())
            self.assertEqual(remote.decide(flow), ScriptAnswer("drop", says))
            values = (("session", "b\u00e4nk\n"),)
            self.assertEqual(remote.decide(flow), ScriptAnswer("tor", says, values))
            seen: dict[str, Any] = self.seen(remote)[0]
            expected = {each: getattr(flow, each) for each in dir(flow) if each[0] != "_"}
            self.assertEqual(
                {k: v for k, v in seen.items() if not callable(v)},
                {k: v for k, v in expected.items() if not callable(v)},
            )
            self.assertEqual(self.logged, [])

    def seen(self, remote: RemoteScript) -> Any:
        """The variable C{seen} of the script."""
        served = self.channel.ends[1]
        assert isinstance(served, ServedScript)
        return vars(served._script._loaded.module)["seen"]

    def test_process(self) -> None:
        """A script that mentions processes reads None, and another one is told that it must."""
        remote = self.remote("def flow(flow): return 'reject' if flow.process else 'office'\n")
        answer = remote.decide(Flow(process=NOT_LOOKED_UP))
        assert isinstance(answer, ScriptAnswer)
        self.assertEqual(answer.to, "office")
        remote = self.remote("def flow(flow): return getattr(flow, 'pro' + 'cess')\n")
        remote.decide(Flow())
        self.assertIn("write needsProcess = True", self.logged[0])

    def test_ended(self) -> None:
        """The script hears how a flow has ended."""
        remote = self.remote("seen = []\ndef ended(flow, end): seen.append((str(flow), end))\n")
        remote.ended(Flow("example.org"), END)
        self.assertEqual(self.seen(remote), [("tcp example.org:443", END)])

    def test_query(self) -> None:
        """Each kind of reply arrives."""
        remote = self.remote("""
            answers = {"r": "refuse", "a": ["2001:DB8::1", "192.0.2.1"], "e": [],
                       "s": "udp://192.0.2.53"}
            def query(query): return answers.get(query.name)
            """)
        for name, reply in (
            ("r", ScriptReply(refused=True)),
            ("a", ScriptReply(addresses=("2001:db8::1", "192.0.2.1"))),
            ("e", ScriptReply(addresses=())),
            ("s", ScriptReply(server="udp://192.0.2.53:53")),
            ("n", ScriptReply()),
        ):
            self.assertEqual(remote.query(Query(name)), reply, name)

    def test_failure(self) -> None:
        """The process answers for the script if it fails, and logs why."""
        remote = self.remote("def flow(flow): return 1 / 0\n")
        answer = remote.decide(Flow())
        failed = f"the script {remote.path} failed at line 1, in flow"
        self.assertEqual(answer, ScriptAnswer("reject", f"{failed}, and scriptError is reject"))
        remote = self.remote("def flow(flow): return 1 / 0\n", "rules")
        self.assertEqual(remote.decide(Flow()), ScriptAnswer("", failed))


class WaitingTests(RemoteCase):
    """Answers that take a while."""

    def waiting(self, remote: RemoteScript, times: int = 1) -> list[Deferred[ScriptAnswer]]:
        """Ask about flows whose answers are awaited."""
        answers = [remote.decide(Flow(id=each)) for each in range(times)]
        return [each for each in answers if isinstance(each, Deferred)]

    def module(self) -> dict[str, Any]:
        """The variables of the script."""
        served = self.channel.ends[1]
        assert isinstance(served, ServedScript)
        return vars(served._script._loaded.module)

    def test_later(self) -> None:
        """Each flow gets its own answer, in whatever order they come, and no timer is left."""
        first, second = self.waiting(self.remote(WAITS), 2)
        self.module()["waits"][1].callback("office")
        self.assertEqual(self.successResultOf(second).to, "office")
        self.assertNoResult(first)
        self.module()["waits"][0].callback("drop")
        self.assertEqual(self.successResultOf(first).to, "drop")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """If the app gives up, the work in the process is cancelled; nothing is logged."""
        remote = self.remote(WAITS)
        (answer,) = self.waiting(remote)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(len(self.module()["cancelled"]), 1)
        self.assertEqual((self.clock.getDelayedCalls(), self.logged), ([], []))
        self.assertEqual(remote.decide(Flow()).called, False)  # type: ignore[union-attr]

    def test_late(self) -> None:
        """The process itself gives the fallback in time."""
        (answer,) = self.waiting(self.remote(WAITS))
        self.clock.advance(5.0)
        self.assertEqual(self.successResultOf(answer).to, "reject")
        self.assertEqual(
            self.logged, [f"The script .../flows.py did not answer within 5 s (in flow){REFUSED}"]
        )

    def test_blocked(self) -> None:
        """If the process does not answer at all, the parent gives the fallback a second later."""
        remote = self.remote(WAITS)
        self.channel.silent = True
        (answer,) = self.waiting(remote)
        self.clock.advance(5.9)
        self.assertNoResult(answer)
        self.clock.advance(0.2)
        self.assertEqual(self.successResultOf(answer).to, "reject")
        self.assertEqual(
            self.logged, [f"The script .../flows.py did not answer within 5 s (in flow){REFUSED}"]
        )
        self.channel.pump()
        self.assertEqual(len(self.module()["cancelled"]), 1)

    def test_limit(self) -> None:
        """What the process has not answered is limited; ends count, and answers make room."""
        remote = self.remote(WAITS + "def ended(flow, end): pass\n")
        self.channel.silent = True
        self.waiting(remote, RUNNING_LIMIT - 1)
        remote.ended(Flow(), END)
        answer = remote.decide(Flow())
        assert isinstance(answer, ScriptAnswer)
        self.assertEqual(answer.to, "reject")
        remote.ended(Flow(), END)
        limit = f"The script .../flows.py has {RUNNING_LIMIT} calls under way, which is the limit"
        self.assertEqual(self.logged, [f"{limit} (in flow){REFUSED}", f"{limit} (in ended)."])
        self.channel.pump()
        self.assertEqual(len(self.waiting(remote)), 1)


class GoneTests(RemoteCase):
    """A process that ends, or answers nonsense."""

    def test_gone(self) -> None:
        """All that waits and all that comes gets the fallback; one line says how it ended."""
        for onError, to, then in (
            ("reject", "reject", "what it is asked about is refused from now on (scriptError)"),
            ("rules", "", "the rules decide from now on (scriptError)"),
        ):
            self.logged.clear()
            remote = self.remote(WAITS, onError)
            answer, query = remote.decide(Flow()), remote.query(Query("example.org"))
            assert isinstance(answer, Deferred)
            assert isinstance(query, Deferred)
            self.channel.close()
            self.assertEqual(self.successResultOf(answer).to, to)
            refused = ScriptReply(refused=onError == "reject")
            self.assertEqual(self.successResultOf(query), refused)
            later = remote.decide(Flow())
            assert isinstance(later, ScriptAnswer)
            self.assertEqual(later.to, to)
            self.assertIn(" has ended", later.reason)
            self.assertEqual(remote.query(Query("example.org")), refused)
            remote.ended(Flow(), END)
            line = "The process of the script .../flows.py has ended (status 1)"
            self.assertEqual(self.logged, [f"{line}; {then}."])
            self.assertEqual(self.ended, 1)
            self.assertEqual(remote.stop(), None)

    def test_nonsense(self) -> None:
        """What is no answer ends the channel, and is never taken for one."""
        valid: dict[str, object] = {"id": 1, "to": "office", "reason": "x", "values": []}
        for wrong in (
            b"\xff",
            b"7",
            b"[" * 60000,
            b"x" * (LINE_LIMIT + 1),
            *(
                json.dumps(each).encode()
                for each in (
                    valid | {"id": 2},
                    valid | {"id": [1]},
                    valid | {"to": "nowhere"},
                    valid | {"to": 7},
                    valid | {"to": "tor"},
                    valid | {"values": [["session", "x"]]},
                    valid | {"to": "tor", "values": [["session", []]]},
                    {"id": 1},
                    {"log": "loud", "text": "x"},
                )
            ),
        ):
            self.logged.clear()
            remote = self.remote(WAITS)
            answer = remote.decide(Flow())
            assert isinstance(answer, Deferred)
            self.channel.ends[0].dataReceived(wrong + b"\n" + json.dumps(valid).encode() + b"\n")
            self.assertEqual(self.successResultOf(answer).to, "reject", wrong[:80])
            self.assertIn("has ended (it sent what is no answer); what", self.logged[0])
            self.assertFalse(self.channel.open)

    def test_wrongReply(self) -> None:
        """Nor is a reply that the script could not have given."""
        remote = self.remote(WAITS)
        for reply in (7, "192.0.2", ["x"], "tcp://192.0.2.53", {"a": 1}):
            remote = self.remote(WAITS)
            answer = remote.query(Query("example.org"))
            assert isinstance(answer, Deferred)
            line = json.dumps({"id": 1, "reply": reply}).encode()
            self.channel.ends[0].dataReceived(line + b"\n")
            self.assertEqual(self.successResultOf(answer), ScriptReply(refused=True))

    def test_parentGone(self) -> None:
        """The process ends after the script's stop, whoever asks for it, and asks only once."""
        text = """
            from twisted.internet.defer import Deferred
            waits, stops = Deferred(), []
            def flow(flow): pass
            def stop():
                stops.append(1)
                return waits
            """
        for stopped in (True, False):
            remote = self.remote(text)
            served = self.channel.ends[1]
            assert isinstance(served, ServedScript)
            module = vars(served._script._loaded.module)
            done = None
            if stopped:
                done = remote.stop()
                assert done is not None
                self.assertNoResult(done)
                answer = remote.decide(Flow())
                self.assertEqual(answer, ScriptAnswer("reject", "nanotun stops"))
                self.assertEqual(remote.query(Query("x")), ScriptReply(refused=True))
            else:
                self.channel.close()
            self.assertEqual((self.ended, self.channel.open), (0, stopped))
            module["waits"].callback(None)
            self.assertEqual((self.ended, self.channel.open), (1, False))
            self.assertEqual(module["stops"], [1])
            if done is not None:
                self.successResultOf(done)
                self.assertEqual(self.logged, [])

    def test_neverStarted(self) -> None:
        """One that was never connected is stopped at once."""
        remote = self.remote("def flow(flow): pass\n")
        fresh = RemoteScript(
            remote.path,
            (True, True, True, True),  # type: ignore[arg-type]
            remote._options,
            self.clock,
            self.fail,
            str,
        )
        self.assertEqual(fresh.stop(), None)


class LogTests(RemoteCase):
    """What the process logs."""

    def test_log(self) -> None:
        """The parent logs its lines at their level; a long one is cut so that it fits."""
        self.remote("def flow(flow): pass\n")
        transport = StringTransport()
        observer = LogLines(transport.write)
        observer({"log_format": "a {b}", "b": "c\nd", "log_level": LogLevel.warn})
        observer({"log_format": "{b}", "b": "\U0001f600" * LINE_LIMIT, "log_level": LogLevel.info})
        lines = transport.value()
        self.assertLess(max(map(len, lines.split(b"\n"))), LINE_LIMIT)
        self.channel.ends[0].dataReceived(lines)
        self.assertEqual(self.logged[0], "a c\nd")
        self.assertEqual(len(self.logged), 2)
        self.assertTrue(self.channel.open)
