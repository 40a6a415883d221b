"""FTP through the tunnel: the passive mode works, and the active mode cannot."""

from __future__ import annotations

from tests.e2e.case import TunnelCase, enginesAndFamilies
from tests.e2e.lab import curl
from tests.e2e.lab.ftp import TEXT, FTPServer
from tests.e2e.lab.process import LabError
from tests.e2e.routes_case import FAMILIES, RoutesCase


class FtpChecks(TunnelCase):
    """A client of an FTP server in the world."""

    def setUp(self) -> None:
        """Start the server."""
        super().setUp()
        self.server = FTPServer(self.lab.world)
        url = self.family.url(self.peer(self.server).port, "/file")
        self.url = f"ftp{url.removeprefix('http')}"

    def get(self, *options: str) -> str:
        """Fetch the file."""
        return curl.get(self.lab.app, self.url, *options)

    def test_passive(self) -> None:
        """Passive FTP works."""
        self.tunnel()
        self.assertEqual(self.get(), TEXT.decode())
        self.assertEqual(self.get("--disable-epsv"), TEXT.decode())
        self.assertEqual(self.server.told, [])

    def test_active(self) -> None:
        """
        Active FTP fails, because the server is told the tunnel's own address; that it is one
        of excludedIPs changes nothing.
        """
        self.lab.openDirectPath()
        dante = self.dante()
        for excluded in ([], [self.family.world]):
            daemon = self.daemon(proxy=dante.url(), excludedIPs=excluded)
            self.assertEqual(self.get(), TEXT.decode())
            self.assertRaises(LabError, self.get, "--ftp-port", "-")
            self.assertEqual(self.server.told.pop(), self.family.kernel)
            daemon.stop()


class PastTheTunnelTests(RoutesCase):
    """A client whose packets do not enter the tunnel."""

    def test_active(self) -> None:
        """Active FTP of an excluded user works."""
        server = FTPServer(self.lab.world)
        port = self.peer(server, self.lab.world).port
        self.daemon(self.socks(), excludedProcesses="uid:65534")
        argv = ["setpriv", "--reuid=65534", "--clear-groups", "curl", "-q", "-sS", "-m", "60"]
        for family in FAMILIES:
            url = f"ftp{family.url(port, '/file').removeprefix('http')}"
            done = self.lab.host.run([*argv, "--ftp-port", "-", url])
            self.assertEqual(done.stdout, TEXT.decode())
            self.assertEqual(server.told.pop(), family.app)


enginesAndFamilies(globals(), FtpChecks)
# Otherwise trial would run the base class, too.
del FtpChecks
