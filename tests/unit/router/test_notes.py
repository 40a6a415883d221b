"""
Tests for L{nanotun.router.notes}, and for what the engine is given of it.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Decision, Endpoint, Note, Owner, Verdict
from nanotun.interfaces import DialEnd, DialEndKind, PlainHttp
from nanotun.router.notes import NoteTable
from nanotun.testing import FakeUpstream, FakeUpstreams, NamedFakeUpstream
from tests.unit.router.dial_cases import PlannedCase
from tests.unit.router.test_router import RouterCase

OWNER = Owner(5, 1000, "curl", "/usr/bin/curl")
OFFICE = Decision(Verdict.PROXY, "#2", "rule 2 says so", upstream="office", name="a.example")
RULED = OFFICE._replace(upstream="")
SERVED = Decision(Verdict.SERVE, "gateway", "it is the gateway's")
PLACE = Endpoint("192.0.2.7", 443)


class NoteTableTests(SynchronousTestCase):
    """L{NoteTable}."""

    def setUp(self) -> None:
        """A table with small generations."""
        self.table = NoteTable(3)
        self.upstream = FakeUpstream("socks5://10.0.0.5:1080")

    def number(self, rule: str) -> int:
        """The number of a decision by a rule."""
        return self.table.numberOf(OFFICE._replace(rule=rule), self.upstream)

    def test_note(self) -> None:
        """A number stands for all that is told of a decision."""
        decision = OFFICE._replace(owner=OWNER)
        number = self.table.numberOf(decision, self.upstream)
        self.assertEqual(
            self.table.of(number),
            Note(
                Verdict.PROXY,
                "#2",
                "office",
                "socks5://10.0.0.5:1080",
                "a.example",
                "rule 2 says so",
                OWNER,
            ),
        )
        served = self.table.of(self.table.numberOf(SERVED, None))
        self.assertEqual(served, Note(Verdict.SERVE, "gateway", "", "", "", "it is the gateway's"))
        self.assertIs(self.table.of(0), None)
        self.assertIs(self.table.of(77), None)

    def test_shared(self) -> None:
        """Flows of which the same is told share a number, and others have one of their own."""
        number = self.table.numberOf(OFFICE, self.upstream)
        self.assertNotEqual(number, 0)
        # The user is told of trouble elsewhere, and of what a script has given nowhere.
        same = OFFICE._replace(trouble="Beware.", values=(("user", "ann"),))
        self.assertEqual(self.table.numberOf(same, self.upstream), number)
        others = [
            self.table.numberOf(OFFICE._replace(rule="#3"), self.upstream),
            self.table.numberOf(OFFICE._replace(name="b.example"), self.upstream),
            self.table.numberOf(OFFICE._replace(owner=OWNER), self.upstream),
            self.table.numberOf(OFFICE._replace(upstream="home"), self.upstream),
            self.table.numberOf(OFFICE, FakeUpstream()),
        ]
        self.assertEqual(len({number, *others}), 6)

    def test_generations(self) -> None:
        """Those that nobody has asked for are forgotten, and no number is used again."""
        first, second = self.number("1"), self.number("2")
        for rule in ("3", "4", "5"):
            self.number(rule)
        # They are in the old generation by now, and the first is asked for.
        self.assertEqual(self.number("1"), first)
        seen = {first, second, *(self.number(str(rule)) for rule in range(6, 9))}
        note = self.table.of(first)
        assert note is not None
        self.assertEqual(note.rule, "1")
        self.assertIs(self.table.of(second), None)
        self.assertNotIn(self.number("2"), seen)

    def test_asked(self) -> None:
        """A note that is asked for again and again is never forgotten."""
        first = self.number("1")
        for rule in range(2, 50):
            self.number(str(rule))
            self.assertIsNot(self.table.of(first), None)

    def test_forgetUpstreams(self) -> None:
        """After a reload numbers mean what they meant, and no upstream is held for their sake."""
        number = self.table.numberOf(OFFICE, self.upstream)
        self.table.forgetUpstreams()
        self.assertNotEqual(self.table.numberOf(OFFICE, self.upstream), number)
        note = self.table.of(number)
        assert note is not None
        self.assertEqual(note.upstream, "office")


class NotedTests(RouterCase):
    """What the engine is given with each decision."""

    def setUp(self) -> None:
        """A rule has decided about one place."""
        super().setUp()
        self.judge.decisions[PLACE.host] = RULED

    def noteOf(self, flowID: int) -> Note:
        """What was decided about a flow, as the engine can tell it."""
        note = self.router.notes.of(self.engine.notes[flowID])
        assert note is not None
        return note

    def test_joined(self) -> None:
        """A flow whose leg the upstream opens is joined with its note."""
        request = self.engine.request(PLACE)
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.noteOf(request.flow.id)[:3], (Verdict.PROXY, "#2", "proxy"))

    def test_plainHttp(self) -> None:
        """So is one whose requests are translated."""
        request = self.engine.request(PLACE)
        http = PlainHttp("http://10.77.1.1:3128", b"", lambda: None)
        self.addCleanup(self.upstream.answer(http=http).close)
        self.assertEqual(self.noteOf(request.flow.id).rule, "#2")

    def test_datagrams(self) -> None:
        """Datagrams are attached with it."""
        request = self.engine.requestDatagrams(PLACE)
        self.upstream.answerDatagrams()
        self.assertEqual(self.noteOf(request.flow.id).rule, "#2")

    def test_redirected(self) -> None:
        """So are those to fake addresses, by name or by the address of their name."""
        fake = Endpoint("198.19.0.1", 443)
        self.judge.decisions[fake.host] = RULED
        self.names.known[fake.host] = "a.example"
        request = self.engine.requestDatagrams(fake)
        self.upstream.answerDatagrams()
        self.names.answer("192.0.2.7")
        self.assertEqual(self.noteOf(request.flow.id).rule, "#2")
        self.assertIn(request.flow.id, self.engine.redirected)

    def test_named(self) -> None:
        """So are those that an upstream sends by name."""
        upstreams = FakeUpstreams(NamedFakeUpstream(), self.direct)
        self.router.configure(self.judge, upstreams, False)
        fake = Endpoint("198.19.0.1", 443)
        self.judge.decisions[fake.host] = RULED
        self.names.known[fake.host] = "a.example"
        request = self.engine.requestDatagrams(fake)
        named = upstreams.byName["proxy"]
        assert isinstance(named, NamedFakeUpstream)
        named.answerDatagrams()
        self.assertEqual(self.noteOf(request.flow.id).rule, "#2")
        self.assertNotIn(request.flow.id, self.engine.redirected)

    def test_reload(self) -> None:
        """A reload lets go of the upstreams that are gone."""
        self.engine.request(PLACE)
        self.assertEqual(len(self.router.notes._numbers), 1)
        self.router.configure(self.judge, FakeUpstreams(self.upstream, self.direct), False)
        self.assertEqual(self.router.notes._numbers, {})

    def test_served(self) -> None:
        """What nanotun answers itself has one as well, which names no upstream."""
        self.judge.decisions[PLACE.host] = SERVED
        self.engine.request(PLACE)
        note = self.router.notes.of(self.gateway.note)
        assert note is not None
        self.assertEqual((note.verdict, note.upstream), (Verdict.SERVE, ""))


class NotedDialTests(PlannedCase):
    """The same of flows whose legs the engine opens."""

    def setUp(self) -> None:
        """A rule has decided about one place, and stands."""
        super().setUp()
        self.upstream.standing = True
        self.judge.standing[PLACE.host] = 60.0
        self.judge.decisions[PLACE.host] = RULED
        self.ids = [self.engine.request(PLACE).flow.id for _ in range(3)]
        self.assertEqual(len(self.engine.standing), 1)

    def test_dialled(self) -> None:
        """A dial begins with its note, and so does one of a standing decision."""
        (number,) = {self.engine.notes[each] for each in self.ids}
        note = self.router.notes.of(number)
        assert note is not None
        self.assertEqual(note.rule, "#2")

    def test_resumed(self) -> None:
        """A flow whose dial the upstream goes on with keeps it, whoever began the dial."""
        for each in self.ids:
            number = self.engine.notes.pop(each)
            self.engine.endDial(each, DialEnd(DialEndKind.GENERAL, 0))
            self.addCleanup(self.upstream.answer().close)
            self.assertEqual(self.engine.notes[each], number)
