"""Tests of L{nanotun.daemon.current}."""

from __future__ import annotations

import os
import time

from twisted.trial.unittest import SynchronousTestCase

from nanotun.daemon.current import localTime


class LocalTimeTests(SynchronousTestCase):
    """L{localTime}."""

    def zone(self, zone: str | None) -> None:
        """Set the time zone of this process."""
        os.environ.pop("TZ", None)
        if zone is not None:
            os.environ["TZ"] = zone
        time.tzset()

    def test_zone(self) -> None:
        """The time is that of the machine's time zone."""
        self.addCleanup(self.zone, os.environ.get("TZ"))
        # A Sunday, 22:30 UTC.
        seconds = 1_764_541_800.0
        local = time.localtime
        self.patch(time, "localtime", lambda: local(seconds))
        for zone, expected in (
            ("UTC", (6, 22 * 60 + 30)),
            ("XXX-3", (0, 60 + 30)),
            ("XXX+5:30", (6, 17 * 60)),
        ):
            self.zone(zone)
            self.assertEqual(localTime(), expected, zone)
