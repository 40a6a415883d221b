"""
C{nanotun capture}: tshark finds the packets of the device in its file, and whose they are.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path

from tests.e2e.case import GVisor, Over4, Over6, Simple
from tests.e2e.lab.capture import NanotunCapture, Shown, packets
from tests.e2e.lab.console import nanotun, say
from tests.e2e.lab.daemon import Daemon, environment
from tests.e2e.lab.ordinary import needReadable
from tests.e2e.lab.process import PATIENCE, Child, waitUntil
from tests.e2e.lab.topology import IPV4
from tests.e2e.lab.udp import Address, UDPServer
from tests.e2e.schemes import ProgramsCase

WEB = 8080

#: Bytes of a download that is larger than what fits into one packet, even with offload.
LENGTH = 300_000


def echo(server: UDPServer, payload: bytes, sender: Address) -> None:
    """Send a datagram back."""
    server.sock.sendto(payload, sender)


class CaptureCase(ProgramsCase):
    """A daemon whose packets are captured."""

    programs = ("tshark", "capinfos", "setpriv")

    def ready(self, **settings: object) -> Daemon:
        """A daemon with a rule about the web server's port."""
        office = self.dante()
        return self.daemon(
            proxy="direct://",
            upstreams={"office": office.url()},
            rules=[{"to": "office", "lan": True, "ports": WEB}, {"to": "office", "lan": True}],
            **settings,
        )

    def capture(self, daemon: Daemon, *words: str) -> NanotunCapture:
        """Begin to capture."""
        capture = NanotunCapture(self.lab.app, self.directory, daemon, *words)
        self.addCleanup(capture.stop)
        return capture

    def end(self, capture: NanotunCapture, number: int = signal.SIGINT) -> list[Shown]:
        """End it, as with Ctrl-C; return what is in the file."""
        capture.send(number)
        self.assertEqual(capture.wait(), 0, capture.output())
        return packets(capture.path)

    def fetch(self, length: int = LENGTH, *options: str) -> int:
        """Download with curl; return its pid."""
        url = self.family.url(WEB, f"/bytes/{length}")
        log = self.directory / "curl.log"
        argv = ["curl", "-q", "-sS", "-m", "60", "-o", os.devnull, "--noproxy", "*", *options, url]
        child = Child(self.lab.app.argv(argv), log)
        self.addCleanup(child.stop)
        self.assertEqual(child.wait(40), 0, log.read_text())
        return child.pid


class CaptureChecks(CaptureCase):
    """What is in the file."""

    def test_comment(self) -> None:
        """
        All packets of a download are there, and the first of them says which program it is, which
        rule has decided, and where it leaves.
        """
        self.webServer()
        capture = self.capture(self.ready())
        # The program is looked up while it runs, which takes its time on a busy machine.
        pid = self.fetch(LENGTH, "--limit-rate", "200k")
        found = [each for each in self.end(capture) if WEB in each.ports]
        self.assertEqual(found[0].comment, f"program curl (pid {pid}), rule #1, by office")
        self.assertEqual([each.comment for each in found if each.comment], [found[0].comment])
        self.assertNotEqual(found[0].source, self.family.world)
        down = b"".join(each.payload for each in found if each.source == self.family.world)
        up = b"".join(each.payload for each in found if each.source != self.family.world)
        self.assertIn(f"GET /bytes/{LENGTH} ".encode(), up)
        body = down.partition(b"\r\n\r\n")[2]
        self.assertGreaterEqual(len(body), LENGTH)
        self.assertIn("The kernel dropped none.", capture.output())

    def test_short(self) -> None:
        """Flows that are over in milliseconds say at their first packet what was decided, too."""
        self.webServer()
        capture = self.capture(self.ready())
        for _ in range(10):
            self.fetch(10)
        found = [each for each in self.end(capture) if WEB in each.ports]
        begun = {each.ports[0]: each for each in reversed(found) if each.ports[1] == WEB}
        self.assertEqual(len(begun), 10)
        for each in begun.values():
            self.assertRegex(each.comment, r"rule #1, by office$")

    def test_datagrams(self) -> None:
        """Datagrams have the comment of their flow, too."""
        server = self.udpServer(echo, self.family)
        capture = self.capture(self.ready())
        with self.datagrams(server.port) as sock:
            self.assertEchoes(sock)
            found = [each for each in self.end(capture) if server.port in each.ports]
        self.assertEqual(len(found), 2)
        self.assertRegex(
            found[0].comment, rf"^program .* \(pid {os.getpid()}\), rule #2, by office$"
        )
        self.assertEqual((found[1].comment, found[1].payload), ("", found[0].payload))

    def test_filter(self) -> None:
        """With a filter there are only packets of the flows that meet it."""
        self.webServer()
        peer = self.peer(lambda sock: sock.sendall(sock.recv(100)))
        daemon = self.ready()
        capture = self.capture(daemon, "--process", "curl")
        byRule = self.capture(daemon, "--rule", "2")
        self.fetch(LENGTH, "--limit-rate", "200k")
        self.assertEchoes(self.connect(peer.port))
        self.assertEqual({WEB in each.ports for each in self.end(capture)}, {True})
        self.assertIn("The filters left out", capture.output())
        self.assertEqual({peer.port in each.ports for each in self.end(byRule)}, {True})

    def test_open(self) -> None:
        """A flow that was open before has a comment at the first packet that is captured."""
        peer = self.peer(lambda sock: sock.sendall(sock.recv(100)))
        daemon = self.ready()
        sock = self.connect(peer.port)
        capture = self.capture(daemon)
        self.assertEchoes(sock)
        found = [each for each in self.end(capture) if peer.port in each.ports]
        self.assertRegex(found[0].comment, rf" \(pid {os.getpid()}\), rule #2, by office$")


class CaptureOver4Tests(Over4, GVisor, CaptureChecks):
    """IPv4."""


class CaptureOver6Tests(Over6, Simple, CaptureChecks):
    """IPv6."""


del CaptureChecks


class CaptureEndTests(CaptureCase):
    """How it ends, and who may capture."""

    def test_size(self) -> None:
        """It ends when the file has the size, and the file is whole."""
        self.webServer()
        capture = self.capture(self.ready(), "--limit", "64KiB")
        self.fetch(1_000_000)
        self.assertEqual(capture.wait(), 0, capture.output())
        self.assertIn("The file is as large as --limit says.", capture.output())
        self.assertTrue(0 < capture.path.stat().st_size <= 65536)
        self.assertTrue(packets(capture.path))

    def test_interrupted(self) -> None:
        """Ctrl-C and SIGTERM in the middle of a download leave a file that is whole."""
        self.webServer()
        daemon = self.ready()
        url = IPV4.url(WEB, "/bytes/2000000000")
        argv = ["curl", "-q", "-sS", "--limit-rate", "20M", "-o", os.devnull, url]
        download = Child(self.lab.app.argv(argv), self.directory / "curl.log")
        self.addCleanup(download.stop)
        for number in (signal.SIGINT, signal.SIGTERM):
            capture = self.capture(daemon)
            self.fills(capture)
            self.assertTrue(self.end(capture, number))
        self.assertIn("SIGTERM has ended it.", capture.output())

    def fills(self, capture: NanotunCapture) -> None:
        """Wait until there is much in the file."""
        waitUntil(lambda: capture.path.stat().st_size > 1 << 20, PATIENCE, "the file fills")

    def test_stop(self) -> None:
        """When nanotun stops, it ends, and says so; what there was is in the file."""
        peer = self.peer(lambda sock: sock.sendall(sock.recv(100)))
        daemon = self.ready()
        capture = self.capture(daemon)
        self.assertEchoes(self.connect(peer.port))
        daemon.stop()
        self.assertEqual(capture.wait(), 0, capture.output())
        self.assertIn(f"The device {daemon.name} is gone", capture.output())
        self.assertTrue([each for each in packets(capture.path) if peer.port in each.ports])

    def test_down(self) -> None:
        """That the device was set down first makes no difference."""
        daemon = self.ready()
        capture = self.capture(daemon)
        self.lab.app.ip(f"link set {daemon.name} down")
        daemon.stop()
        self.assertEqual(capture.wait(), 0, capture.output())
        self.assertIn(f"The device {daemon.name} is gone", capture.output())

    def test_output(self) -> None:
        """Another program can read the packets while they come."""
        daemon = self.ready()
        log = self.directory / "tshark.log"
        words = nanotun("capture", "-w", "-", "--run-dir", str(daemon.directory / "run"))
        argv = ["sh", "-c", 'out=$1; shift; "$@" | tshark -n -l -i - -c 1 >"$out"', "sh"]
        child = Child(
            self.lab.app.argv([*argv, str(log), *words]), self.directory / "sh.log", environment()
        )
        self.addCleanup(child.stop)
        waitUntil(lambda: "Capturing the packets" in child.output(), PATIENCE, "it captures")
        target = self.lab.app.makeSocket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(target.close)

        def ended() -> bool:
            target.sendto(b"x", (IPV4.world, 9))
            return child.status() is not None

        waitUntil(ended, PATIENCE, "tshark has one packet and ends, and so does nanotun")
        self.assertIn(IPV4.world, log.read_text())
        self.assertIn("Nobody reads the output any more.", child.output())

    def test_otherUser(self) -> None:
        """Another user gets no packets, but a sentence."""
        needReadable()
        runDir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, runDir, True)
        os.chmod(runDir, 0o755)
        self.ready(runDir=runDir)
        path = Path(runDir, "x.pcapng")
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        done = say(
            "capture", "-w", str(path), "--run-dir", runDir, prefix=self.lab.app.argv(prefix)
        )
        self.assertEqual(done.returncode, 1)
        sentence = f"nanotun: Only root may ask the nanotun of {runDir}; try it again with sudo.\n"
        self.assertEqual((done.stdout, done.stderr), ("", sentence))
        self.assertFalse(path.exists())

    def test_refused(self) -> None:
        """A file that exists is kept, and so is the order to look where the device is."""
        daemon = self.ready()
        path = self.directory / "kept.pcapng"
        path.write_text("precious")
        words = ("capture", "-w", str(path), "--run-dir", str(daemon.directory / "run"))
        done = say(*words, prefix=self.lab.app.argv([]))
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{path} exists; choose another name", done.stderr)
        self.assertEqual(path.read_text(), "precious")
        done = say(*words, "--force")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"'nsenter --net --target {daemon.pid}'", done.stderr)
        self.assertEqual(path.read_text(), "precious")
