"""Tests of L{nanotun.daemon.health}."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.settings import Settings
from nanotun.daemon.health import healthOf
from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from tests.unit.daemon.test_upstreams import settingsOf

HERE = "198.18.0.2"
FLOW = Flow(1, Protocol.TCP, Endpoint(HERE, 40000), Endpoint("203.0.113.7", 443))


class HealthTests(SynchronousTestCase):
    """L{healthOf}."""

    def health(
        self, settings: Settings, decision: Decision, **reports: Any
    ) -> list[dict[str, Any]]:
        """The report on the proxies by which the flow would leave."""
        return healthOf(settings, decision, FLOW, HERE.__eq__, reports)

    def test_nothing(self) -> None:
        """Without a daemon nothing is known but what the settings say; direct has no proxy."""
        settings = settingsOf("h", upstreams="office=http://a,office=socks5://b")
        found = self.health(settings, Decision(Verdict.PROXY, "#1", upstream="office"))
        self.assertEqual([each.pop("url") for each in found], ["http://a:80", "socks5://b:1080"])
        for each in found:
            self.assertEqual(set(each.values()), {None})
        self.assertEqual(self.health(settings, Decision(Verdict.DIRECT, "#1")), [])

    def test_login(self) -> None:
        """The log-in is the flow's own, and no password is shown."""
        settings = settingsOf("h", upstreams="tor=socks5://{process}:secret@t")
        decision = Decision(Verdict.PROXY, "#1", upstream="tor", owner=Owner(5, 0, "curl"))
        (found,) = self.health(settings, decision)
        self.assertEqual(found["login"], "curl")
        self.assertNotIn("secret", repr(found))
        (found,) = self.health(settings, decision._replace(owner=None))
        self.assertEqual(found["login"], "unknown")

    def test_chain(self) -> None:
        """A chain says through which upstream it is dialled, and carries no UDP."""
        settings = settingsOf("h", upstreams="tor=socks5://t")
        (tor,) = settings.upstreams
        settings = replace(settings, upstreams=(tor._replace(via="proxy"),))
        known = {"health": "up", "trouble": "", "latency": 0.1, "udp": None}
        (found,) = self.health(
            settings,
            Decision(Verdict.PROXY, "#1", upstream="tor"),
            tor={"proxies": [known]},
        )
        self.assertEqual((found["via"], found["udp"], found["health"]), ("proxy", False, "up"))
