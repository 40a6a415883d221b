"""Tests of L{nanotun.config.notices}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import Given
from nanotun.config.notices import unmetNeeds
from nanotun.config.settings import Settings, makeSettings

#: Settings that need autoDefaultRoute, and how the sentence about each begins.
NEEDY = (
    ("killSwitch", True, "killSwitch does nothing without autoDefaultRoute: nothing keeps"),
    ("ipv6", "block", "ipv6: block does nothing without autoDefaultRoute: IPv6 is not blocked;"),
    ("ipv6", "capture", "ipv6: capture does nothing without autoDefaultRoute: IPv6 takes the"),
    ("dnsMode", "fake-ip", "dnsMode: fake-ip without autoDefaultRoute needs two things"),
)


def settings(**values: object) -> Settings:
    """Settings as from a file."""
    given = {"proxy": "h", **values}
    return makeSettings({key: Given(value, key) for key, value in given.items()}, {}, "file")


class UnmetNeedsTests(SynchronousTestCase):
    """L{unmetNeeds}."""

    def test_without(self) -> None:
        """Each setting that needs autoDefaultRoute has one sentence with its cure."""
        for name, value, start in NEEDY:
            (notice,) = unmetNeeds(settings(**{name: value}))
            self.assertTrue(notice.startswith(start), notice)
            self.assertRegex(notice, r"^[^;]*; set autoDefaultRoute: true[^;]*\.$")

    def test_with(self) -> None:
        """With it there is none."""
        for name, value, _ in NEEDY:
            self.assertEqual(unmetNeeds(settings(**{name: value}, autoDefaultRoute=True)), ())

    def test_several(self) -> None:
        """Several settings have a sentence each, and the defaults have none."""
        wanted = {"killSwitch": True, "ipv6": "block", "dnsMode": "fake-ip"}
        self.assertEqual(len(unmetNeeds(settings(**wanted))), 3)
        self.assertEqual(unmetNeeds(settings()), ())

    def test_fakeAddresses(self) -> None:
        """What has to be routed by hand is named: both networks, the device, the gateway."""
        (notice,) = unmetNeeds(settings(dnsMode="fake-ip", tunName="x0"))
        self.assertIn(
            "routes for 198.19.0.0/16 and fdfe:dcba:9876:1::/64 to x0, and programs that ask "
            "198.18.0.1 for names",
            notice,
        )
