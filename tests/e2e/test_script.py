"""
The user's script in the daemon: what it decides, how long it may take, and what happens when it
fails or changes.
"""

from __future__ import annotations

import errno
import json
import shutil
import signal
import socket
import threading
from typing import Any

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.cell import Running
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.nameserver import Answer, ask
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.script import Folder
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.lab.udp import echo
from tests.e2e.test_owners import tellPeer

REFUSED = (errno.EHOSTUNREACH, errno.EACCES, errno.ECONNREFUSED)

#: Versions that each connection load goes through.
RELOADS = 40

#: The first one of the page, with a port for those who cannot choose their name.
UPDATER = """
    from nanotun.script import Flow

    def flow(flow: Flow) -> str | None:      # or async def
        if flow.process and flow.process.name == "updater" and not flow.isBelow("example.org"):
            return "reject"
        if flow.port == 81:
            return "reject"
        if flow.port == 82:
            return "office"
        return None                          # let the rules decide
    """

#: Port 81 waits until a file is there.
LATER = """
    import os
    from twisted.internet import reactor
    from twisted.internet.defer import CancelledError
    from twisted.internet.task import deferLater

    HERE = os.path.dirname(__file__)

    async def flow(flow):
        if flow.port == 81:
            try:
                while not os.path.exists(HERE + "/go"):
                    await deferLater(reactor, 0.05, lambda: None)
            except CancelledError:
                with open(HERE + "/said", "a") as file:
                    print("cancelled", file=file)
                raise
        return "proxy"
    """


class ScriptCase(TunnelCase):
    """What all tests need."""

    seconds = 90

    def setUp(self) -> None:
        """Make a laboratory, and a directory for scripts."""
        super().setUp()
        self.folder = Folder()
        self.addCleanup(self.folder.remove)

    def scripted(self, text: str, **settings: object) -> Daemon:
        """A daemon with a script, and a dante as the proxy."""
        path = self.folder.write(text)
        return self.tunnel(script=str(path), **settings)

    def office(self, port: int = 1082) -> Dante:
        """Another dante."""
        return self.dante(port=port)

    def again(self, daemon: Daemon, text: str) -> str:
        """
        Write another version, and send SIGHUP.

        @return: what the daemon logs.
        """
        self.folder.write(text)
        return self.hangUp(daemon)

    def hangUp(self, daemon: Daemon) -> str:
        """Send SIGHUP; see L{again}."""
        before = len(daemon.log())
        signs = ("The configuration was read again", "so nothing changes")
        daemon.send(signal.SIGHUP)
        waitUntil(lambda: any(x in daemon.log()[before:] for x in signs), PATIENCE, "a reload")
        return daemon.log()[before:]

    def status(self, daemon: Daemon) -> Any:
        """The daemon's report on the script."""
        done = say("status", "--json", "--run-dir", f"{daemon.directory}/run")
        return json.loads(done.stdout)["script"]

    def runs(self, *argv: str) -> Running:
        """Start a program of the app's."""
        running = Running(self.lab.app, argv, self.directory)
        self.addCleanup(running.kill)
        return running


class DecidesChecks(ScriptCase):
    """What a script decides about."""

    def test_example(self) -> None:
        """The script of the page refuses one program, and no other, over both IP versions."""
        updater = shutil.copy(str(shutil.which("curl")), str(self.directory / "updater"))
        web = self.webServer()
        self.scripted(UPDATER)
        for family in FAMILIES:
            url = family.url(web.port, "/peer")
            done = self.runs(updater, "-qsS", url).done()
            self.assertEqual((done.status, done.out), (7, ""), done.err)
            done = self.runs("curl", "-qsS", url).done()
            self.assertEqual((done.status, done.out), (0, family.proxyOutside), done.err)
        assert self._tunnelDante is not None
        # What was refused has never reached the proxy.
        self.assertEqual(len(self._tunnelDante.connects()), 2)
        self.assertEqual(web.peers(), [IPV4.proxyOutside, IPV6.proxyOutside])

    def test_answers(self) -> None:
        """Each kind of answer, for TCP and UDP over both IP versions."""
        office = self.office()
        daemon = self.scripted(UPDATER, upstreams={"office": office.url()})
        assert self._tunnelDante is not None
        self.peer(tellPeer, port=82)
        for self.family in FAMILIES:
            self.assertIn(self.connectError(81)[0], REFUSED)
            with self.connect(82) as sock:
                sock.send(b"?")
                self.assertIn(self.family.proxyOutside, sock.recv(1000).decode())
            self.udpServer(echo, self.family, port=82)
            self.assertEchoes(self.datagrams(82))
            refused = self.datagrams(81)
            refused.send(b"?")
            with self.assertRaises(OSError) as raised:
                refused.recv(10)
            self.assertIn(raised.exception.errno, REFUSED)
        self.assertEqual(len(office.connects()), 2)
        self.assertEqual(self._tunnelDante.connects(), [])
        report = self.status(daemon)
        self.assertEqual((report["asked"] >= 8, report["failed"]), (True, 0), report)
        self.assertEndsWell(daemon)

    def test_later(self) -> None:
        """An answer may take its time: one connection waits for it, and no other does."""
        web, slow = self.webServer(), self.peer(tellPeer, port=81)
        daemon = self.scripted(LATER, scriptTimeout="1m")
        waits = self.runs("curl", "-qsS", IPV4.url(slow.port, "/"))
        waitUntil(lambda: self.status(daemon)["waiting"] == 1, PATIENCE, "a question")
        done = self.runs("curl", "-qsS", IPV4.url(web.port, "/peer")).done()
        self.assertEqual((done.status, done.out), (0, IPV4.proxyOutside), done.err)
        self.assertEqual(self.status(daemon)["waiting"], 1)
        (self.folder.path / "go").touch()
        done = waits.done()
        self.assertEqual((done.status, done.out), (0, IPV4.proxyOutside), done.err)

    def test_givesUp(self) -> None:
        """
        A kernel that stops trying says nothing.  When the program uses its port again, the
        coroutine for the old connection is cancelled, and asked about the new one.
        """
        daemon = self.scripted(LATER, scriptTimeout="1m")
        for number in (1, 2):
            with self.lab.app.makeSocket(socket.AF_INET) as sock:
                sock.bind(("", 40000))
                sock.setblocking(False)
                sock.connect_ex((IPV4.world, 81))
                waitUntil(lambda: self.status(daemon)["asked"] >= number, PATIENCE, "a question")  # noqa: B023
        waitUntil(
            lambda: self.folder.lines() == ["cancelled"], PATIENCE, "the coroutine is cancelled"
        )
        (self.folder.path / "go").touch()
        waitUntil(lambda: self.status(daemon)["waiting"] == 0, PATIENCE, "nothing waits")
        report = self.status(daemon)
        self.assertEqual((report["asked"], report["failed"], report["late"]), (2, 0, 0))


class FailsTests(ScriptCase):
    """Scripts that fail."""

    def test_fails(self) -> None:
        """Fifty failures are refusals, and one line that says where; rules let the rules decide."""
        port = self.peer(tellPeer).port
        text = "def flow(flow):\n    return {}[flow.protocol]\n"
        daemon = self.scripted(text)
        assert self._tunnelDante is not None
        for _ in range(50):
            self.assertIn(self.connectError(port)[0], REFUSED)
        self.assertEqual(self._tunnelDante.connects(), [])
        path = self.folder.path / "flows.py"
        line = (
            f"The script {path} failed at line 2, in flow (KeyError: 'tcp'); what it is asked "
            "about is refused meanwhile (scriptError)."
        )
        # Once in each of the logs, standard output and the file.
        self.assertEqual(daemon.log().count(line), 2, daemon.log())
        self.assertEqual(self.status(daemon)["failed"], 50)
        config = daemon.directory / "nanotun.yaml"
        config.write_text(f"{config.read_text()}scriptError: rules\n")
        self.assertIn("changed: scriptError", self.hangUp(daemon))
        with self.connect(port) as sock:
            sock.send(b"?")
            self.assertIn(IPV4.proxyOutside, sock.recv(1000).decode())
        self.assertIn("(KeyError: 'tcp'); the rules decide meanwhile", daemon.log())

    def test_late(self) -> None:
        """An answer that takes too long is a refusal when the time is over, with the line."""
        text = """\
            from twisted.internet.defer import Deferred
            async def flow(flow):
                await Deferred()
            """
        daemon = self.scripted(text, scriptTimeout="700ms")
        number, seconds = self.connectError(80)
        self.assertIn(number, REFUSED)
        self.assertGreater(seconds, 0.6)
        self.assertIn("did not answer within 0.7 s (line 3, in flow); what", daemon.log())
        report = self.status(daemon)
        self.assertEqual((report["late"], report["waiting"]), (1, 0), report)

    def test_blocks(self) -> None:
        """The line that blocks is named."""
        text = "import time\ndef flow(flow):\n    time.sleep(0.3)\n    return 'reject'\n"
        daemon = self.scripted(text)
        self.connectError(80)
        line = "blocks nanotun for more than 50 ms at line 3, in flow, and everything else waits"
        waitUntil(lambda: line in daemon.log(), PATIENCE, "the line about it")
        self.assertEqual(self.status(daemon)["blocked"], 1)

    def test_unsafe(self) -> None:
        """A script that somebody else could write starts no daemon, and says who and where."""
        path = self.folder.write("def flow(flow): pass\n")
        for change, back, what in (
            (
                lambda: path.chmod(0o664),
                lambda: path.chmod(0o644),
                "it can be written by its group",
            ),
            (
                lambda: self.folder.path.chmod(0o777),
                lambda: self.folder.path.chmod(0o755),
                f"the directory {self.folder.path} can be written by everybody",
            ),
        ):
            change()
            done = say("check", "--proxy", "direct://", "--script", str(path))
            back()
            self.assertEqual(done.returncode, 1, done)
            self.assertIn(what, done.stderr)
        done = say("check", "--proxy", "direct://", "--script", str(path))
        self.assertEqual(done.returncode, 0, done)
        self.assertIn(f"{path}: flow; no processes; 5 s, then reject", done.stdout)


class PlaceTests(ScriptCase):
    """What a script in the daemon may do, and what becomes of its own connections."""

    def test_rights(self) -> None:
        """It is root's, but can neither become another user nor write others' files."""
        other = Folder(1)
        self.addCleanup(other.remove)
        text = f"""
            import os
            def attempt(what, *arguments):
                try:
                    what(*arguments)
                except PermissionError:
                    return "refused"
                return "done"
            def flow(flow):
                with open(os.path.dirname(__file__) + "/said", "a") as file:
                    print(os.getuid(), file=file)
                    print(attempt(os.setresuid, 1, 1, 0), file=file)
                    print(attempt(open, "{other.write("x", "theirs")}", "a"), file=file)
                return "reject"
            """
        self.scripted(text)
        self.connectError(80)
        self.assertEqual(self.folder.lines(), ["0", "refused", "refused"])

    def test_ownConnections(self) -> None:
        """Its own connections are asked about like any other, and leave through the proxy."""
        text = f"""
            import os
            from twisted.internet import reactor
            from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
            from twisted.internet.protocol import Protocol

            def flow(flow):
                with open(os.path.dirname(__file__) + "/said", "a") as file:
                    print(flow, file=file)
                if flow.port == 81:
                    endpoint = TCP4ClientEndpoint(reactor, "{IPV4.world}", 82)
                    connectProtocol(endpoint, Protocol()).addErrback(print)
                    return "reject"
                return "proxy"
            """
        peer = self.peer(lambda connection: connection.getpeername()[0], port=82)
        self.scripted(text)
        self.connectError(81)
        self.assertIn(IPV4.proxyOutside, str(peer.result()))
        asked = [f"tcp {IPV4.world}:{port}" for port in (81, 82)]
        self.assertEqual(self.folder.lines(), asked)


class ReloadTests(ScriptCase):
    """A script that changes."""

    def test_versions(self) -> None:
        """
        Under a load of connections none fails, whichever version is asked; a broken version
        changes nothing, and the answer says why.
        """
        port = self.peer(lambda connection: connection.recv(1)).port
        office = self.office()
        version = "# {}\ndef flow(flow): return {!r}\n"
        daemon = self.scripted(version.format(0, "office"), upstreams={"office": office.url()})
        over = threading.Event()
        failed: list[object] = []
        made = [0]

        def load() -> None:
            while not over.is_set():
                try:
                    self.lab.app.connect((IPV4.world, port)).close()
                    made[0] += 1
                except OSError as error:
                    failed.append(error)
                over.wait(0.02)

        threads = [threading.Thread(target=load) for _ in range(2)]
        for each in threads:
            each.start()
        try:
            for number in range(1, RELOADS):
                upstream = "office" if number % 2 == 0 else "proxy"
                said = self.again(daemon, version.format(number, upstream))
                self.assertIn("changed: script", said)
                if number % 10 == 0:
                    said = self.again(daemon, "def flow(flow)\n")
                    self.assertIn("is not Python (line 1: expected ':').", said)
                    self.assertIn("so nothing changes", said)
        finally:
            over.set()
            for each in threads:
                each.join()
        self.assertEqual(failed, [])
        # A busy machine makes fewer.
        self.assertGreater(made[0], RELOADS / 2)
        assert self._tunnelDante is not None
        self.assertNotEqual(office.connects(), [])
        self.assertNotEqual(self._tunnelDante.connects(), [])
        self.assertEqual(self.status(daemon)["failed"], 0)
        self.assertEndsWell(daemon)

    def test_state(self) -> None:
        """
        Unchanged, it goes on with its variables; the new one is started before the old one is
        stopped, and one whose start fails changes nothing.
        """
        text = """
            import os
            VERSION = 1
            asked = []
            def say(*words):
                with open(os.path.dirname(__file__) + "/said", "a") as file:
                    print(VERSION, *words, file=file)
            def flow(flow):
                asked.append(flow)
                say("asked", len(asked))
                return "reject"
            def start():
                say("start")
            def stop():
                say("stop")
            """
        daemon = self.scripted(text)
        self.connectError(80)
        self.assertIn("changed: nothing", self.hangUp(daemon))
        self.connectError(80)
        second = text.replace("VERSION = 1", "VERSION = 2")
        self.assertIn("changed: script", self.again(daemon, second))
        self.connectError(80)
        broken = second.replace('say("start")', "1 / 0")
        said = self.again(daemon, broken)
        self.assertIn("failed in start: line 13: ZeroDivisionError", said)
        self.connectError(80)
        self.assertEndsWell(daemon)
        expected = ["1 start", "1 asked 1", "1 asked 2", "2 start", "1 stop"]
        self.assertEqual(self.folder.lines(), [*expected, "2 asked 1", "2 asked 2", "2 stop"])

    def test_neighbour(self) -> None:
        """A module beside the script is read again with it."""
        self.folder.write("ANSWER = 'reject'\n", "beside.py")
        port = self.peer(tellPeer).port
        daemon = self.scripted("import beside\ndef flow(flow): return beside.ANSWER\n")
        self.assertIn(self.connectError(port)[0], REFUSED)
        self.folder.write("ANSWER = 'proxy'\n", "beside.py")
        self.assertIn("changed: script", self.hangUp(daemon))
        self.connect(port)


class QueryTests(ScriptCase):
    """A script that answers DNS queries."""

    def test_query(self) -> None:
        """It refuses, gives addresses, has another server asked, or lets all go on."""
        self.nameServer(IPV4.world)
        text = f"""
            def query(query):
                if query.name == "no.lab": return "refuse"
                if query.name == "own.lab": return ["192.0.2.7", "2001:db8::7"]
                if query.name == "host.lab": return "udp://{IPV4.world}"
            """
        daemon = self.scripted(text, dns=["10.77.2.99"], dnsMode="normal")

        def asks(*words: str) -> Answer:
            return ask(self.lab.app, IPV4.gateway, *words)

        self.assertEqual(asks("no.lab", "A").status, "REFUSED")
        self.assertEqual(asks("own.lab", "A").data, ["192.0.2.7"])
        self.assertEqual(asks("own.lab", "AAAA").data, ["2001:db8::7"])
        answer = asks("own.lab", "MX")
        # The only record is one that says that there are none.
        self.assertEqual((answer.status, [x.kind for x in answer.records]), ("NOERROR", ["SOA"]))
        self.assertEqual(asks("host.lab", "A").data, ["10.1.2.3"])
        self.assertEqual(self.status(daemon)["asked"], 5)


engines(globals(), DecidesChecks)
del DecidesChecks
