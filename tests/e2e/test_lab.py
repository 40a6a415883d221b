"""
The laboratory itself, without the daemon: the foundation of the other tests.
"""

from __future__ import annotations

import errno
import os

from tests.e2e.case import LabCase
from tests.e2e.lab import curl
from tests.e2e.lab.namespace import Namespace, removeLeftovers
from tests.e2e.lab.process import PATIENCE, run, waitUntil
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.topology import FAMILIES, MARK


class LabTests(LabCase):
    """What the laboratory promises."""

    def test_worldIsOutOfReach(self) -> None:
        """Without tunnel and proxy, the app cannot reach the world, marked or not."""
        web = self.webServer()
        for family in FAMILIES:
            for mark in (0, MARK):
                with self.assertRaises(OSError) as caught:
                    self.lab.app.connect((family.world, web.port), 2, mark)
                self.assertEqual(caught.exception.errno, errno.ENETUNREACH)

    def test_worldThroughProxies(self) -> None:
        """Each proxy reaches the world over both IP versions, and the world sees the proxy."""
        web = self.webServer()
        proxies = [
            self.dante(),
            Dante(self.lab.proxy, self.directory, auth=True, port=1090),
            Microsocks(self.lab.proxy, self.directory),
            Microsocks(self.lab.proxy, self.directory, auth=True, port=1091),
        ]
        for proxy in proxies:
            self.addCleanup(proxy.stop)
            for family in FAMILIES:
                seen = curl.get(self.lab.app, family.url(web.port, "/peer"), "-x", proxy.url())
                self.assertEqual(seen, family.proxyOutside)

    def test_wrongPassword(self) -> None:
        """A proxy with a password accepts no other."""
        web = self.webServer()
        proxy = self.dante(auth=True)
        with self.assertRaisesRegex(Exception, "rejected"):
            curl.get(
                self.lab.app, FAMILIES[0].url(web.port, "/peer"), "-x", proxy.url(password="wrong")
            )

    def test_directPath(self) -> None:
        """The direct path is open to marked packets, and to the world's second address."""
        web = self.webServer()
        self.lab.openDirectPath()
        for family in FAMILIES:
            self.lab.app.connect((family.world, web.port), 2, MARK).close()
            self.assertEqual(
                curl.get(self.lab.app, family.url(web.port, "/peer", family.direct)), family.app
            )
            with self.assertRaises(OSError):
                self.lab.app.connect((family.world, web.port), 2)

    def test_transfers(self) -> None:
        """The helpers that transfer and hash bodies tell a whole one from a damaged one."""
        web = self.webServer()
        proxy = ("-x", self.dante().url())
        for family in FAMILIES:
            length = 20_000_001
            fetched = curl.download(
                self.lab.app, family.url(web.port, f"/bytes/{length}"), length, *proxy
            )
            self.assertEqual((fetched.whole, fetched.error), (True, ""))
            self.assertTrue(
                curl.upload(self.lab.app, family.url(web.port, "/upload"), length, *proxy).whole
            )
            short = curl.download(self.lab.app, family.url(web.port, "/bytes/9"), length, *proxy)
            self.assertFalse(short.whole)

    def test_leftoversGo(self) -> None:
        """A namespace whose maker is dead is removed at the next start; others stay."""
        dead = run(["sh", "-c", "echo $$"]).stdout.strip()
        left = Namespace(f"nt{dead}x1-app")
        mine = Namespace(f"nt{os.getpid()}x999-app")
        self.addCleanup(mine.remove)
        # Another module that starts just now may have been first.
        self.assertLessEqual(set(removeLeftovers()), {left.name})
        gone = f"/run/netns/{left.name}"
        waitUntil(lambda: not os.path.exists(gone), PATIENCE, f"{left.name} is removed")
        self.assertTrue(os.path.exists(f"/run/netns/{mine.name}"))
