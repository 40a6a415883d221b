"""Tests of L{nanotun.web.scan}."""

from __future__ import annotations

from typing import Any

from nanotun.errors import RunningError
from nanotun.web import scan
from nanotun.web.scan import FlowRates, eachFlow
from tests.unit.web.web_cases import WebCase, flowRow


class EachFlowTests(WebCase):
    """L{eachFlow}."""

    def test_steps(self) -> None:
        """All flows are seen once, and no turn of the reactor sees more than a few."""
        self.patch(scan, "STEP", 10)
        self.rows = [flowRow(number) for number in range(1, 36)]
        seen: list[int] = []
        turns: list[Any] = []
        self.patch(self.clock, "callLater", lambda _, *call: turns.append(call))
        done = eachFlow(self.flows, self.clock, lambda row: seen.append(row["id"]))
        for turn in range(1, 4):
            self.assertEqual(len(seen), 10 * turn)
            self.assertNoResult(done)
            act, *arguments = turns.pop()
            act(*arguments)
        self.successResultOf(done)
        self.assertEqual((seen, turns), (list(range(1, 36)), []))

    def test_none(self) -> None:
        """Without flows it is over at once."""
        self.successResultOf(eachFlow(self.flows, self.clock, self.fail))

    def test_fails(self) -> None:
        """What goes wrong ends it."""
        self.rows = [flowRow(1)]
        self.failureResultOf(eachFlow(self.flows, self.clock, self.fail), RunningError)
        self.failureResultOf(eachFlow(self.fail, self.clock, id), RunningError)


class FlowRatesTests(WebCase):
    """L{FlowRates}."""

    def look(self, rates: FlowRates, now: float, *rows: dict[str, Any]) -> list[tuple[int, ...]]:
        """Scan, and say of each flow that is told of how fast it is."""
        found = rates.begin(now)
        for row in rows:
            found.take(dict(row))
        self.assertEqual(len(found), len(rows))
        return [(each["id"], each["rateUp"], each["rateDown"]) for each in found.fastest()]

    def test_rates(self) -> None:
        """Rates are since the last look; a flow that was not there has its own mean."""
        rates = FlowRates(5)
        first = self.look(rates, 100.0, flowRow(1, 1000, 50, age=10), flowRow(2, 0, 0))
        self.assertEqual(first, [(1, 100, 5), (2, 0, 0)])
        second = self.look(
            rates, 102.0, flowRow(1, 1000, 50), flowRow(2, 400, 20), flowRow(3, 9, 0, age=1)
        )
        self.assertEqual(second, [(2, 200, 10), (3, 9, 0), (1, 0, 0)])
        rates.forget()
        self.assertEqual(self.look(rates, 104.0, flowRow(1, 1000, 50)), [(1, 100, 5)])

    def test_fastest(self) -> None:
        """Only the fastest are told of, of equal ones the newest."""
        rows = [flowRow(number, number % 3 * 100, age=1) for number in range(9)]
        self.assertEqual([each[0] for each in self.look(FlowRates(4), 1.0, *rows)], [8, 5, 2, 7])

    def test_young(self) -> None:
        """A flow that has just begun is not infinitely fast."""
        self.assertEqual(self.look(FlowRates(1), 1.0, flowRow(1, 7, age=0.0)), [(1, 7000, 0)])
