"""Tests of L{nanotun.daemon.flowrequests}."""

from __future__ import annotations

from typing import Any

from nanotun.daemon.flowrequests import PAGE_LIMIT, closeHandler, flowsHandler
from nanotun.errors import RunningError
from tests.unit.router.test_listing import ListingCase


class FlowRequestsTests(ListingCase):
    """The handlers, with the listing of a router."""

    def setUp(self) -> None:
        """Three flows."""
        super().setUp()
        self.ids = [self.join() for _ in range(3)]
        self.flows = flowsHandler(self.router.listing, lambda: 1_795_000_000.5)
        self.close = closeHandler(self.router.listing)

    def idsOf(self, **arguments: Any) -> tuple[list[int], int | None]:
        """The ids that a request is answered with, and where it goes on."""
        answer = self.flows(arguments)
        self.assertEqual(set(answer), {"flows", "next", "now"})
        self.assertEqual(answer["now"], 1_795_000_000.5)
        return [each["id"] for each in answer["flows"]], answer["next"]

    def test_flows(self) -> None:
        """Flows are told in pages, or those of some ids."""
        first, second, third = self.ids
        self.assertEqual(self.idsOf(), (self.ids, None))
        self.assertEqual(self.idsOf(limit=2), ([first, second], second))
        self.assertEqual(self.idsOf(after=second, limit=2), ([third], None))
        self.assertEqual(self.idsOf(what={"ids": [third, first, 99]}), ([first, third], None))
        self.assertEqual(self.idsOf(what={"ids": [third]}, limit=2), ([], second))
        self.assertEqual(self.idsOf(what={"ids": []}), ([], None))

    def test_close(self) -> None:
        """Flows are ended by their ids, and those that were there are counted."""
        self.assertEqual(self.close({"ids": [*self.ids[:2], 99]}), {"closed": 2})
        self.assertEqual(self.idsOf(), (self.ids[2:], None))
        self.assertEqual(self.close({"ids": []}), {"closed": 0})

    def test_wrong(self) -> None:
        """What makes no sense is one sentence, and ends nothing."""
        requests: tuple[dict[str, Any], ...] = (
            {"after": -1},
            {"after": "1"},
            {"after": True},
            {"after": 1 << 64},
            {"limit": 0},
            {"limit": PAGE_LIMIT + 1},
            {"limit": 1.5},
            {"what": []},
            {"what": {"domain": "a.example"}},
            {"what": {"ids": [None]}},
        )
        for arguments in requests:
            self.assertRaises(RunningError, self.flows, arguments)
        for ids in (None, 5, ["1"], [1] * (PAGE_LIMIT + 1)):
            self.assertRaises(RunningError, self.close, {"ids": ids})
        self.assertEqual(self.idsOf(), (self.ids, None))
