"""Tests of L{nanotun.daemon.lately}."""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from nanotun.daemon.lately import INTEREST, KEPT, PAGE_LIMIT, LatelyEnded
from nanotun.errors import RunningError
from nanotun.interfaces import IEndObserver
from tests.unit.router.test_ends import EndsCase


class LatelyEndedTests(EndsCase):
    """L{LatelyEnded}, with the flows of a router."""

    def setUp(self) -> None:
        """Nobody has asked yet."""
        super().setUp()
        self.lately = LatelyEnded(self.router.ends, self.clock)
        verifyObject(IEndObserver, self.lately)

    def ask(self, **arguments: Any) -> tuple[list[int], int]:
        """The ids of the flows of an answer, and what to ask next."""
        answer = self.lately(arguments)
        return [each["id"] for each in answer["flows"]], answer["next"]

    def test_told(self) -> None:
        """A flow is told once it has ended, with what was decided, and only once."""
        flows, next = self.ask()
        self.assertEqual(flows, [])
        number, other = self.join(), self.send()
        self.assertEqual(self.ask(after=next), ([], next))
        self.engine.end(number)
        self.engine.endDatagrams(other)
        answer = self.lately({"after": next})
        self.assertEqual([each["id"] for each in answer["flows"]], [number, other])
        flow, _ = answer["flows"]
        told = flow["state"], flow["rule"], flow["domain"], flow["destination"]
        self.assertEqual(told, ("ended", "#2", "a.example", "192.0.2.7:443"))
        self.assertEqual(self.ask(after=answer["next"]), ([], answer["next"]))

    def test_nobody(self) -> None:
        """Nothing is kept before somebody asks, nor when nobody has asked for a while."""
        self.engine.end(self.join())
        self.assertFalse(self.router.ends.active)
        _, next = self.ask()
        self.assertTrue(self.router.ends.active)
        self.clock.advance(INTEREST - 1)
        self.ask(after=next)
        self.clock.advance(INTEREST - 1)
        self.engine.end(self.join())
        self.clock.advance(1)
        self.assertFalse(self.router.ends.active)
        self.assertEqual(self.ask(after=next), ([], next + 1))

    def test_bounded(self) -> None:
        """Of more than are kept the oldest are lost; of the others all are told, page by page."""
        _, next = self.ask()
        self.engine.end(self.join())
        ((end, note),) = self.lately._kept
        for number in range(KEPT + 5):
            self.lately.flowEnded(end._replace(flow=end.flow._replace(id=number)), note)
        found: list[int] = []
        while (answer := self.ask(after=next))[0]:
            self.assertLessEqual(len(answer[0]), PAGE_LIMIT)
            found += answer[0]
            next = answer[1]
        self.assertEqual(found, list(range(5, KEPT + 5)))

    def test_older(self) -> None:
        """A number of a daemon that ran before is no error."""
        self.assertEqual(self.ask(after=1000), ([], 0))

    def test_wrong(self) -> None:
        """What makes no sense is one sentence."""
        for after in (-1, "1", True, None):
            self.assertRaises(RunningError, self.lately, {"after": after})
