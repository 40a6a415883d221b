"""
The examples of docs/script.md in the daemon, with real programs.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.e2e.lab.badsocks import LogIns
from tests.e2e.lab.console import say
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.script import EXAMPLES, example
from tests.e2e.lab.topology import IPV4, IPV6
from tests.e2e.test_owners import tellPeer
from tests.e2e.test_script import UPDATER, ScriptCase

NOBODY = 65534


class ExampleTests(ScriptCase):
    """Examples of the page, with real programs."""

    def test_explain(self) -> None:
        """The daemon's own script is asked for an explanation."""
        daemon = self.scripted(UPDATER)
        words = ("explain", "tcp", f"{IPV4.world}:443", "--process")
        for name, lines in (
            (
                "updater",
                (
                    "  REJECT   refused; the app hears so at once",
                    "  rule     script",
                    f"  because  the script {self.folder.path}/flows.py says so",
                    f"  by       the daemon that runs (process {daemon.pid})",
                ),
            ),
            ("curl", ("  rule     default",)),
        ):
            done = say(*words, name, "--run-dir", f"{daemon.directory}/run")
            for line in lines:
                self.assertIn(line, done.stdout, done)

    def test_journal(self) -> None:
        """Every TCP connection becomes a row, with the sizes that curl has seen."""
        file = self.folder.path / "flows.db"
        web = self.webServer()
        daemon = self.scripted(example("journal.py", FILE=str(file)))
        form = "%{size_header} %{size_download} %{size_request}"
        told = []
        for family, size in (IPV4, 1000), (IPV6, 200_000):
            url = family.url(web.port, f"/bytes/{size}")
            done = self.runs("curl", "-qsS", "-o", "/dev/null", "-w", form, url).done()
            header, body, request = map(int, done.out.split())
            told.append((family.world, web.port, request, header + body))
        self.assertEndsWell(daemon)
        database = sqlite3.connect(file)
        self.addCleanup(database.close)
        names = "host, port, up, down"
        self.assertEqual(database.execute(f"SELECT {names} FROM flows").fetchall(), told)
        names = "DISTINCT user, process, upstream, rule, reason"
        rows = database.execute(f"SELECT {names} FROM flows").fetchall()
        self.assertEqual(rows, [("root", "curl", "proxy", "default", "closed")])

    def test_volume(self) -> None:
        """When the cheap uplink has carried its bytes, the costly one gets the connections."""
        cheap, costly = self.office(1082), self.office(1083)
        file = self.folder.path / "volume.json"
        web = self.webServer()
        text = example("volume.py", FILE=str(file), LIMIT=1_000_000)
        urls = {"cheap": cheap.url(), "costly": costly.url()}
        daemon = self.scripted(text, upstreams=urls)
        for size in (400_000, 700_000, 10, 10):
            done = self.runs("curl", "-qsS", IPV4.url(web.port, f"/bytes/{size}")).done()
            self.assertEqual(len(done.out), size, done.err)
        self.assertEqual((len(cheap.connects()), len(costly.connects())), (2, 2))
        self.assertEndsWell(daemon)
        (used,) = json.loads(file.read_text()).values()
        self.assertGreater(used, 1_100_000)

    def test_sessions(self) -> None:
        """Each program logs in by a name of its own; what has no program is refused."""
        logIns = LogIns(self.lab.proxy)
        proxy = self.peer(logIns.serve, self.lab.proxy, 60)
        port = self.peer(tellPeer).port
        url = f"socks5://{{session}}:x@{IPV4.proxy}:{proxy.port}"
        self.scripted(example("sessions.py"), upstreams={"tor": url})
        for prefix in (), ("setpriv", f"--reuid={NOBODY}", "--regid=65534", "--clear-groups"):
            done = self.runs(*prefix, "curl", "-qsS", IPV4.url(port, "/")).done()
            self.assertEqual((done.status, done.out), (0, IPV4.proxyOutside), done.err)
        # nanotun itself looks after the proxy by a name of its own.
        programs = [name for name in logIns.seen if name != "unknown"]
        self.assertEqual(programs, ["root-curl", "nobody-curl"])

    def test_ask(self) -> None:
        """
        A person is asked once about each program and host, by a terminal; while nobody is there,
        or somebody else is, what is new is refused.
        """
        web = self.webServer()
        text = example("ask.py", PERSON=NOBODY)
        daemon = self.scripted(text, scriptTimeout="1m")
        url, url6 = IPV4.url(web.port, "/peer"), IPV6.url(web.port, "/peer")
        self.assertEqual(self.runs("curl", "-qs", url).done().status, 7)
        stranger = self.asked(1)
        self.assertEqual(self.runs("curl", "-qs", url).done().status, 7)
        stranger.kill()
        self.assertIn("PermissionError: somebody else waits at nanotun-ask", daemon.log())
        person = self.asked(NOBODY)
        curl = self.runs("curl", "-qsS", url)
        question = f"{shutil.which('curl')} wants {IPV4.world}. Allow it? [y/n] "
        self.assertEqual(self.read(person, len(question)), question)
        self.write(person, "y\n")
        self.assertEqual(curl.done().out, IPV4.proxyOutside)
        self.assertEqual(self.runs("curl", "-qsS", url).done().out, IPV4.proxyOutside)
        curl = self.runs("curl", "-qs", url6)
        self.write(person, "n\n")
        self.assertEqual(curl.done().status, 7)
        self.assertEqual(self.runs("curl", "-qs", url6).done().status, 7)
        person.kill()

    def asked(self, uid: int) -> subprocess.Popen[bytes]:
        """Somebody who runs nanotun-ask in the app's namespace."""
        code = (
            "import contextlib, os, socket, subprocess, sys; text = open(sys.argv[1]).read(); "
            "os.setgroups([]); os.setuid(int(sys.argv[2])); exec(text)"
        )
        argv = [sys.executable, "-u", "-c", code, str(EXAMPLES / "nanotun-ask"), str(uid)]
        process = subprocess.Popen(
            self.lab.app.argv(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for each in (process.stdin, process.stdout):
            assert each is not None
            self.addCleanup(each.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        table = Path(f"/proc/{process.pid}/net/unix")
        # A flag says that it listens, which it does a moment after it has the name.
        listens = re.compile(r" 00010000 \S+ \S+ +\d+ @nanotun-ask$", re.MULTILINE)
        waitUntil(lambda: listens.search(table.read_text()), PATIENCE, "somebody to ask")
        return process

    def read(self, process: subprocess.Popen[bytes], count: int) -> str:
        """Read from a process."""
        assert process.stdout is not None
        return process.stdout.read(count).decode()

    def write(self, process: subprocess.Popen[bytes], text: str) -> None:
        """Type something."""
        assert process.stdin is not None
        process.stdin.write(text.encode())
        process.stdin.flush()
