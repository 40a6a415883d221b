"""Tests of L{nanotun.config.change}."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.change import LIVE, RESTART, ROUTED, changeTo
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings

SETTINGS = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "socks5://h:1")}, None)


def other(name: str, settings: Settings = SETTINGS) -> Settings:
    """Settings with another value; what kind of value does not matter here."""
    value: Any = ("another",)
    return replace(settings, **{name: value})


class ChangeTests(SynchronousTestCase):
    """L{changeTo}."""

    def test_everyKey(self) -> None:
        """Each setting either is applied live or needs a restart."""
        self.assertEqual(LIVE | RESTART, set(KEYS))
        self.assertEqual(LIVE & RESTART, set())
        self.assertEqual(ROUTED - LIVE, set())

    def test_live(self) -> None:
        """What is live is named and taken over."""
        for name in LIVE:
            change = changeTo(other(name), SETTINGS)
            self.assertEqual((change.live, change.restart), ((name,), ()))
            self.assertEqual(change.settings, other(name))

    def test_restart(self) -> None:
        """What needs a restart is named, and stays as it is."""
        for name in RESTART:
            change = changeTo(other(name), SETTINGS)
            self.assertEqual((change.live, change.restart), ((), (name,)))
            self.assertEqual(change.settings, SETTINGS)

    def test_both(self) -> None:
        """One does not keep the other from being taken over."""
        change = changeTo(replace(SETTINGS, mtu=1400, lan="proxy"), SETTINGS)
        self.assertEqual(change, (replace(SETTINGS, lan="proxy"), ("lan",), ("mtu",)))

    def test_nothing(self) -> None:
        """The same configuration changes nothing."""
        self.assertEqual(changeTo(SETTINGS, SETTINGS), (SETTINGS, (), ()))

    def test_routes(self) -> None:
        """What the routes are made of as well needs a restart under autoDefaultRoute."""
        routed = replace(SETTINGS, autoDefaultRoute=True)
        for name in LIVE:
            change = changeTo(other(name, routed), routed)
            self.assertEqual(change.restart, (name,) if name in ROUTED else ())

    def test_kept(self) -> None:
        """What cannot be taken over this time needs a restart too."""
        change = changeTo(other("proxy"), SETTINGS, {"proxy", "excludedProcesses"})
        self.assertEqual(change, (SETTINGS, (), ("proxy",)))
