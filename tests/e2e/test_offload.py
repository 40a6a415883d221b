"""
Segmentation offload: the same bytes arrive with it and without it.
"""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab import curl
from tests.e2e.lab.console import say
from tests.e2e.lab.process import waitUntil
from tests.e2e.lab.topology import FAMILIES

LENGTH = 32 * 1024 * 1024 + 7


#: In this time the kernel would have repeated an unanswered FIN several times.
IDLE_SECONDS = 5.0


class OffloadChecks(TunnelCase):
    """The C{offload} setting."""

    def _transfers(self, offload: str) -> str:
        """Transfer in both directions over both IP versions; return the log."""
        web = self.webServer()
        daemon = self.tunnel(offload=offload)
        for family in FAMILIES:
            down = curl.download(self.lab.app, family.url(web.port, f"/bytes/{LENGTH}"), LENGTH)
            self.assertEqual((down.whole, down.error), (True, ""), family.name)
            up = curl.upload(self.lab.app, family.url(web.port, "/upload"), LENGTH)
            self.assertEqual((up.whole, up.error), (True, ""), family.name)
        return daemon.log()

    def test_off(self) -> None:
        """C{off} carries whole bodies, and the log says that offload is off."""
        self.assertRegex(self._transfers("off").lower(), "offload.*off")

    def test_on(self) -> None:
        """C{on} carries whole bodies."""
        self._transfers("on")

    def test_auto(self) -> None:
        """C{auto} carries whole bodies, and the log says which was chosen."""
        self.assertRegex(self._transfers("auto").lower(), "offload")

    def test_idle(self) -> None:
        """A daemon that nobody uses drops nothing: the trial of offload leaves nothing behind."""
        daemon = self.tunnel(offload="auto")
        reports: list[Any] = []

        def old() -> bool:
            done = say("status", "--json", "--run-dir", str(daemon.directory / "run"))
            reports.append(json.loads(done.stdout))
            return bool(reports[-1]["daemon"]["uptime"] > IDLE_SECONDS)

        waitUntil(old, IDLE_SECONDS + 10, "the daemon is old enough")
        self.assertEqual({name for name, n in reports[-1]["engine"]["drops"].items() if n}, set())


engines(globals(), OffloadChecks)
# Otherwise trial would run the base class, too.
del OffloadChecks
