"""Tests of L{nanotun.daemon.reload}: what is told and kept of flows."""

from __future__ import annotations

from tests.unit.daemon.test_reload import LiveCase


class FlowReloadTests(LiveCase):
    """Another C{logFlows} and C{flowLog}."""

    def test_logFlows(self) -> None:
        """Lines about flows begin and end with a reload; their record waits for a restart."""
        self.write("proxy: h\nlogFlows: true\nflowLog: /var/lib/nanotun/flows.db")
        answer = self.live.reload()
        self.assertEqual((answer["changed"][-1], answer["restart"]), ("logFlows", ["flowLog"]))
        self.assertIs(self.router.calls[-1][-1], True)
        self.write("proxy: h")
        self.assertEqual(self.live.reload()["changed"], ["logFlows"])
        self.assertIs(self.router.calls[-1][-1], False)
