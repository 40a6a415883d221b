"""
Tests for C{--confirm} in L{nanotun.routing.routes}.
"""

from __future__ import annotations

from nanotun.routing.follower import CHECK, SETTLE
from nanotun.routing.values import Rule
from tests.unit.routing.routing_cases import RoutesCase


class ConfirmTests(RoutesCase):
    """C{--confirm}."""

    def test_confirmed(self) -> None:
        """If confirmed in time, everything is kept, and the kill switch is put in force."""
        routes = self.routes(confirm=60, killSwitch=True)
        routes.start()
        self.assertFalse(self.unreachable())
        self.clock.advance(59)
        self.assertTrue(routes.confirm())
        self.assertFalse(routes.confirm())
        self.clock.advance(SETTLE)
        self.assertTrue(self.unreachable())
        self.clock.advance(120)
        self.assertEqual(self.statuses, [])
        self.assertTrue(self.kernel.rules())
        routes.stop()

    def test_notConfirmed(self) -> None:
        """If not confirmed, everything is undone, and the daemon ends with status 1."""
        routes = self.routes(confirm=60)
        routes.start()
        self.clock.advance(60)
        self.assertEqual(self.kernel.rules() + self.kernel.routes(), [])
        self.assertEqual(self.statuses, [1])
        self.assertFalse(routes.confirm())
        self.clock.advance(CHECK * 3)
        self.assertEqual(self.kernel.rules(), [])
        # The daemon's end.
        routes.stop()
        self.assertEqual(self.written(), [])

    def test_stopped(self) -> None:
        """A stop before the confirmation undoes everything."""
        routes = self.routes(confirm=60)
        routes.start()
        routes.stop()
        self.clock.advance(120)
        self.assertEqual(self.statuses, [])

    def test_notAsked(self) -> None:
        """Without --confirm there is nothing to confirm."""
        routes = self.routes()
        routes.start()
        self.assertFalse(routes.confirm())
        routes.stop()

    def unreachable(self) -> list[Rule]:
        """The rules of a kill switch."""
        return [rule for rule in self.kernel.rules() if rule.action == "unreachable"]
