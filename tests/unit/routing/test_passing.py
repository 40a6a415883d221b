"""
Tests of L{nanotun.routing.routes.Routes.letsPast}.
"""

from __future__ import annotations

from tests.unit.routing.routing_cases import RoutesCase


class LetsPastTests(RoutesCase):
    """Flows that come from a proxy's other address."""

    def test_letsPast(self) -> None:
        """
        Another address of a proxy's has its rule at once when a flow comes from there, as long as
        the routes are set; an address that is none of those has none.
        """
        routes = self.routes()
        routes.passBack({"172.17.0.2"})
        routes.start()
        self.assertTrue(routes.letsPast("172.17.0.2"))
        self.assertFalse(routes.letsPast("fd17::2"))
        self.relatives = ("fd17::2",)
        self.assertTrue(routes.letsPast("fd17::2"))
        self.assertIn("fd17::2/128", {rule.source for rule in self.kernel.rules()})
        self.assertFalse(routes.letsPast("fd17::3"))
        routes.stop()
        self.assertFalse(routes.letsPast("fd17::2"))
