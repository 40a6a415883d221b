"""
The laboratory itself, without the daemon: the foundation of the other tests.
"""

from __future__ import annotations

import contextlib
import errno
import os

from tests.e2e.case import LabCase
from tests.e2e.lab import curl, udp
from tests.e2e.lab.namespace import Namespace, removeLeftovers
from tests.e2e.lab.process import PATIENCE, LabError, run, waitUntil
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, MARK
from tests.e2e.test_datagram_lab import Associated


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

    def test_goneAlready(self) -> None:
        """A namespace that somebody else has removed has no processes, and is removed again."""
        namespace = Namespace(f"nt{os.getpid()}-gone")
        run(["ip", "netns", "del", namespace.name])
        self.assertEqual(namespace.processes(), [])
        namespace.remove()

    def test_leftoversGo(self) -> None:
        """A namespace whose maker is dead is removed at the next start; others stay."""
        dead = run(["sh", "-c", "echo $$"]).stdout.strip()
        left = f"nt{dead}x1-app"
        # Another module that starts just now may be first, and end what is in it.
        with contextlib.suppress(LabError):
            Namespace(left)
        mine = Namespace(f"nt{os.getpid()}x999-app")
        self.addCleanup(mine.remove)
        self.assertLessEqual(set(removeLeftovers()), {left})
        gone = f"/run/netns/{left}"
        waitUntil(lambda: not os.path.exists(gone), PATIENCE, f"{left} is removed")
        self.assertTrue(os.path.exists(f"/run/netns/{mine.name}"))


class StandInTests(LabCase):
    """What takes the place of dante where a release has none, also where one has."""

    def setUp(self) -> None:
        """There is no dante."""
        super().setUp()
        self.patch(Dante, "installed", staticmethod(lambda: False))

    def test_connects(self) -> None:
        """SOCKS 5 with a password, and SOCKS 4, reach the world by name and by address."""
        web = self.webServer()
        hosts = {"world.lab": [IPV4.world]}
        locked, open_ = self.dante(auth=True, hosts=hosts), self.dante(hosts=hosts, port=1082)
        named = IPV4.url(web.port, "/peer", "world.lab")
        for url in (
            locked.url(),
            locked.url().replace("socks5:", "socks5h:"),
            open_.url().replace("socks5:", "socks4:"),
            open_.url().replace("socks5:", "socks4a:"),
        ):
            there = named if "h:" in url or "a:" in url else IPV4.url(web.port, "/peer")
            self.assertEqual(curl.get(self.lab.app, there, "-x", url), IPV4.proxyOutside)
        there = IPV6.url(web.port, "/peer")
        self.assertEqual(curl.get(self.lab.app, there, "-x", locked.url()), IPV6.proxyOutside)
        self.assertEqual((len(locked.connects()), len(open_.connects())), (3, 2))
        with self.assertRaisesRegex(Exception, "rejected"):
            curl.get(self.lab.app, there, "-x", locked.url(password="wrong"))
        for family in FAMILIES:
            with self.assertRaisesRegex(Exception, r"\(5\)|refused"):
                curl.get(self.lab.app, family.url(9, "/"), "-x", open_.url())

    def test_datagrams(self) -> None:
        """Two servers see one address, which is the proxy's, and the journal has associations."""
        dante = self.dante()
        for family in FAMILIES:
            servers = [self.udpServer(udp.mirror, family) for _ in range(2)]
            with contextlib.closing(Associated(self.lab.app, dante.port, family)) as made:
                seen = {made.ask((family.world, each.port), b"who?")[1] for each in servers}
            (one,) = seen
            self.assertEqual(one.decode().split()[0], family.proxyOutside)
        self.assertEqual(dante.journal.read_text().count("udpassociate [:"), 2)
