"""
C{nanotun run --script}: whose rights the script has, and what it may open.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import time
from pathlib import Path

from tests.e2e.case import engines
from tests.e2e.lab import udp
from tests.e2e.lab.cell import Done, Running
from tests.e2e.lab.process import PATIENCE, alive, waitUntil
from tests.e2e.lab.script import Folder, example
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.run_case import NOWHERE, RunCase
from tests.e2e.test_owners import tellPeer

#: The script's owner, and the user that COMMAND runs as: both exist on any machine.
OWNER = 1
NOBODY = 65534

#: Says each time who it is, and refuses one port.
BY_PORT = """
    import os

    def say(*words):
        with open(os.path.dirname(__file__) + "/said", "a") as file:
            print(*words, file=file)

    def start():
        say("start", os.getuid())

    def flow(flow):
        say("flow", flow, flow.process)
        return {81: "reject", 82: "direct"}.get(flow.port)

    def ended(flow, end):
        say("ended", flow, end.upstream, end.bytesDown, end.reason)

    def stop():
        say("stop")
"""


def childOf(pid: int) -> int:
    """The process of the script that C{nanotun run} has started; 0 if there is none."""
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"scripthelper" in Path(f"/proc/{each}/cmdline").read_bytes():
            return int(each)
    return 0


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not os.path.exists(f"/proc/{pid}")


class ScriptRunCase(RunCase):
    """What all tests need."""

    stackMode = "gvisor"

    def folder(self, uid: int = 0) -> Folder:
        """A directory for scripts."""
        folder = Folder(uid)
        self.addCleanup(folder.remove)
        return folder

    def flags(self, script: Path, *more: str) -> list[str]:
        """The options of a run with a script, as nobody."""
        return ["--stack", self.stackMode, "--script", str(script), "-u", str(NOBODY), *more]

    def curl(self, url: str, *flags: str, proxy: str = NOWHERE) -> Done:
        """Have curl run as COMMAND."""
        return self.call("curl", "-qsS", url, proxy=proxy, options=flags)


class WhoseChecks(ScriptRunCase):
    """Whose rights a script has."""

    def test_roots(self) -> None:
        """One of root's decides in nanotun itself; what it refuses never reaches the proxy."""
        folder, dante = self.folder(), self.dante()
        flags = self.flags(folder.write(BY_PORT))
        web = self.webServer()
        for family in FAMILIES:
            done = self.curl(family.url(web.port, "/bytes/7"), *flags, proxy=dante.url())
            self.assertEqual((done.status, len(done.out), done.err), (0, 7, ""))
            done = self.curl(family.url(81, "/"), *flags, proxy=dante.url())
            self.assertEqual(done.status, 7)
            self.assertIn("Failed to connect", done.err)
        self.assertEqual(web.peers(), [IPV4.proxyOutside, IPV6.proxyOutside])
        self.assertEqual(len(dante.connects()), 2, dante.connects())
        said = folder.lines()
        self.assertEqual((said[0], said[-1]), ("start 0", "stop"))
        self.assertIn(f"flow tcp {IPV4.world}:81 None", said)
        self.assertIn(f"ended tcp [{IPV6.world}]:{web.port} proxy", "\n".join(said))

    def test_owners(self) -> None:
        """
        One of an ordinary user's decides in a process that has this user's rights and no others,
        and no variable of nanotun's that could be a secret.  COMMAND can neither see nor end it.
        """
        folder = self.folder(OWNER)
        flags = self.flags(folder.write(BY_PORT))
        url = f"socks5://user:s3cret-word@{IPV4.proxy}:9"
        command = "echo up; read pid; kill -0 $pid; echo $?; cat /proc/$pid/environ; echo $?; cat"
        self.patch(os, "environ", {**os.environ, "NANOTUN_PROXY": url, "TOKEN": "s3cret-word"})
        running = self.start("sh", "-c", command, options=flags)
        self.assertEqual(running.line(), "up")
        child = childOf(running.pid)
        self.assertTrue(child)
        status = Path(f"/proc/{child}/status").read_text()
        found = dict(line.split(":", 1) for line in status.splitlines())
        self.assertEqual(found["Uid"].split(), [str(OWNER)] * 4)
        self.assertNotIn("0", found["Gid"].split() + found["Groups"].split())
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(found[kind], 16), 0, kind)
        for what in ("environ", "cmdline"):
            told = Path(f"/proc/{child}/{what}").read_text()
            self.assertNotIn("s3cret-word", told)
            self.assertNotIn("NANOTUN_PROXY", told)
        done = running.done(f"{child}\n")
        self.assertEqual(done.out, "1\n1\n", done.err)
        self.assertTrue(gone(child))
        self.assertEqual(folder.lines(), [f"start {OWNER}", "stop"])

    def test_ownersFlows(self) -> None:
        """It is asked about TCP and UDP over both IP versions, and hears how flows end."""
        folder, proxy = self.folder(OWNER), self.dante().url()
        flags = self.flags(folder.write(BY_PORT))
        web = self.webServer()
        for family in FAMILIES:
            done = self.curl(family.url(web.port, "/bytes/7"), *flags, proxy=proxy)
            self.assertEqual((done.status, len(done.out), done.err), (0, 7, ""))
            self.assertEqual(self.curl(family.url(81, "/"), *flags, proxy=proxy).status, 7)
            server = self.udpServer(udp.echo, family)
            kind, host = ("UDP6", f"[{family.world}]") if family is IPV6 else ("UDP4", family.world)
            argv = ("socat", "-t2", "-", f"{kind}:{host}:{server.port}")
            done = self.call(*argv, proxy=proxy, options=flags, text="hello")
            self.assertEqual((done.status, done.out), (0, "hello"), done.err)
            said = folder.lines()
            self.assertIn(f"flow tcp {host}:81 None", said)
            self.assertIn(f"flow udp {host}:{server.port} None", said)
            ends = [each for each in said if each.startswith(f"ended tcp {host}:{web.port} proxy")]
            self.assertEqual(len(ends), 1, said)
            self.assertRegex(ends[0], r" proxy \d+ closed$")
        self.assertEqual(web.peers(), [IPV4.proxyOutside, IPV6.proxyOutside])

    def test_direct(self) -> None:
        """What the script sends direct is refused; with a flag, the world sees this machine."""
        self.lab.openDirectPath()
        script = self.folder(OWNER).write(BY_PORT)
        flags = self.flags(script)
        proxy = self.dante().url()
        self.peer(tellPeer, port=82)
        witness = Tcpdump(self.lab.app, self.directory, "up0", "port", "82")
        self.addCleanup(witness.stop)
        for family in FAMILIES:
            done = self.curl(family.url(82, "/"), *flags, proxy=proxy)
            self.assertEqual(done.status, 7)
            self.assertIn(
                "nanotun: Connections that the script sends past the proxy are refused, because "
                "'nanotun run' was not given --allow-direct.\n",
                done.err,
            )
        self.assertEqual(witness.destinations(), {})
        for family in FAMILIES:
            done = self.curl(family.url(82, "/"), *flags, "--allow-direct", proxy=proxy)
            self.assertEqual((done.status, done.out), (0, family.app), done.err)
            line = "open past the proxy: what the script sends direct (--allow-direct)."
            self.assertIn(f"nanotun: {line}\n", done.err)


class RefusedTests(ScriptRunCase):
    """Scripts that do not run."""

    def test_command(self) -> None:
        """A script that COMMAND could change is refused before COMMAND runs."""
        own = self.folder(NOBODY).write(BY_PORT)
        other = self.folder(OWNER).write(BY_PORT)
        for argv, what in (
            (("--script", str(own), "-u", str(NOBODY)), "as whom COMMAND runs, so COMMAND could"),
            (("--script", str(other)), "but COMMAND runs as root and could change it as well"),
            (("--script", "/nowhere.py"), "The script /nowhere.py cannot be read (No such file"),
        ):
            done = self.call("echo", "ran", options=argv)
            self.assertEqual((done.status, done.out), (125, ""))
            self.assertIn(what, done.err)
            self.assertEqual(done.err.count("\n"), 1, done.err)

    def test_root(self) -> None:
        """With a script of root's, COMMAND may be root's, too; one line says what that means."""
        script = self.folder().write(BY_PORT)
        done = self.call("echo", "ran", options=("--script", str(script)))
        self.assertEqual((done.status, done.out), (0, "ran\n"))
        self.assertRegex(
            done.err, r"\Ananotun: COMMAND runs as root, who can change the script .*\n\Z"
        )

    def test_broken(self) -> None:
        """A script that cannot be imported, or fails in start, is one sentence, and status 125."""
        for uid in (0, OWNER):
            for text, what in (
                ("flow(\n", "is not Python (line 1: '(' was never closed)."),
                ("1 / 0\n", "cannot be imported: line 1: ZeroDivisionError: division by zero."),
                ("x = 1\n", "does nothing: it has no function flow, ended or query."),
                (
                    "def flow(flow): pass\ndef start(): open('/nowhere')\n",
                    "line 2: FileNotFoundError",
                ),
                ("raise SystemExit(3)\n", "cannot be imported: line 1: SystemExit: 3."),
            ):
                done = self.call("echo", "ran", options=self.flags(self.folder(uid).write(text)))
                self.assertEqual((done.status, done.out), (125, ""), done.err)
                self.assertIn(what, done.err)
                self.assertEqual(done.err.count("\n"), 1, done.err)

    def test_imports(self) -> None:
        """A script of an ordinary user's may import what this user can write, and no other's."""
        folder = self.folder(OWNER)
        script = folder.write("import beside\ndef flow(flow): return beside.ANSWER\n")
        beside = folder.write("ANSWER = 'reject'\n", "beside.py")
        flags = self.flags(script)
        self.assertEqual(self.curl(IPV4.url(80, "/"), *flags, proxy="direct://").status, 7)
        os.chown(beside, NOBODY, -1)
        done = self.call("echo", "ran", options=flags)
        self.assertEqual((done.status, done.out), (125, ""))
        self.assertIn(f"{beside}, which the script imports, could be changed by", done.err)

    def test_waits(self) -> None:
        """A script whose process ends at once is one sentence, too."""
        script = self.folder(OWNER).write("import os\nos._exit(3)\n")
        done = self.call("echo", "ran", options=self.flags(script))
        self.assertEqual(done.status, 125)
        self.assertIn("ended before the script was imported (status 3).", done.err)


class TroubleTests(ScriptRunCase):
    """A process that does not do as it should."""

    def running(self, text: str, *flags: str, proxy: str = NOWHERE) -> Running:
        """Start a shell as COMMAND that runs what it reads."""
        script = self.folder(OWNER).write(text)
        running = self.start(
            "sh", "-c", "echo up; exec sh", options=self.flags(script, *flags), proxy=proxy
        )
        self.assertEqual(running.line(), "up")
        return running

    def test_killed(self) -> None:
        """When the process is killed, one line says so, and everything is refused from then on."""
        web, dante = self.webServer(), self.dante()
        running = self.running("def flow(flow): pass\n", proxy=dante.url())
        child = childOf(running.pid)
        os.kill(child, signal.SIGKILL)
        waitUntil(lambda: not alive(child), PATIENCE, "the script's process ends")
        line = f"curl -qs {IPV4.url(web.port, '/bytes/7')}; echo $?\n"
        done = running.done(line * 2)
        self.assertEqual(done.out, "7\n7\n")
        self.assertRegex(
            done.err,
            r"\Ananotun: The process of the script \S+ has ended \(signal 9\); what it is asked "
            r"about is refused from now on \(scriptError\)\.\n\Z",
        )
        self.assertEqual(dante.connects(), [])

    def test_killedRules(self) -> None:
        """With scriptError: rules, the rules decide then."""
        web, proxy = self.webServer(), self.dante().url()
        text = "def flow(flow): return 'reject'\n"
        running = self.running(text, "--script-error", "rules", proxy=proxy)
        child = childOf(running.pid)
        os.kill(child, signal.SIGKILL)
        waitUntil(lambda: not alive(child), PATIENCE, "the script's process ends")
        done = running.done(f"curl -qs {IPV4.url(web.port, '/bytes/7')} | wc -c\n")
        self.assertEqual(done.out.strip(), "7")
        self.assertIn("; the rules decide from now on (scriptError).", done.err)

    def test_blocked(self) -> None:
        """If it never answers, the connection is refused in time, and nothing is left behind."""
        text = "def flow(flow):\n    while True: pass\n"
        running = self.running(text, "--script-timeout", "500ms")
        child = childOf(running.pid)
        started = time.monotonic()
        done = running.done(f"curl -qs {IPV4.url(80, '/')}; echo $?\n")
        self.assertEqual(done.out, "7\n")
        # Half a second, the script's two to end, and much in reserve.
        self.assertLess(time.monotonic() - started, 30)
        self.assertRegex(done.err, r"The script \S+ did not answer within 0\.5 s \(in flow\)")
        self.assertTrue(gone(child))

    def test_nanotunKilled(self) -> None:
        """When nanotun itself is killed, the script's process ends after the script's stop."""
        folder = self.folder(OWNER)
        running = self.start("sleep", "50", options=self.flags(folder.write(BY_PORT)))
        waitUntil(lambda: folder.lines() == [f"start {OWNER}"], PATIENCE, "the script has started")
        child = childOf(running.pid)
        running.send(signal.SIGKILL)
        running.done()
        waitUntil(lambda: gone(child), PATIENCE, "the script's process ends")
        self.assertEqual(folder.lines()[-1], "stop")

    def test_signals(self) -> None:
        """A terminal's Ctrl-C reaches COMMAND, not the script, whose stop is called at the end."""
        folder = self.folder(OWNER)
        running = self.start(
            "sh", "-c", "echo up; exec sleep 50", options=self.flags(folder.write(BY_PORT))
        )
        self.assertEqual(running.line(), "up")
        child = childOf(running.pid)
        running.sendGroup(signal.SIGINT)
        self.assertEqual(running.done().status, 130)
        self.assertTrue(gone(child))
        self.assertEqual(folder.lines(), [f"start {OWNER}", "stop"])

    def test_prints(self) -> None:
        """What a script prints or logs is not mixed with COMMAND's output."""
        text = """
            from twisted.logger import Logger
            log = Logger()
            def flow(flow):
                print("printed")
                log.error("logged {port}", port=flow.port)
                return "reject"
            """
        for uid in (0, OWNER):
            flags = self.flags(self.folder(uid).write(text))
            done = self.curl(IPV4.url(80, "/"), *flags)
            self.assertEqual((done.status, done.out), (7, ""))
            self.assertRegex(done.err, r"(?m)^printed$")
            self.assertRegex(done.err, r"(?m)^nanotun: logged 80$")


class AgentTests(ScriptRunCase):
    """The example of an agent, with real names."""

    def test_agent(self) -> None:
        """
        It reaches its hosts by their names and nothing else, and looks up no other name:
        neither the proxy nor a name server hears of it.  Whether its own names exist, servers
        are asked through the proxy only.
        """
        self.lab.openDirectPath()
        names = ("api.anthropic.com", "pypi.org")
        hosts = {name: [IPV4.world, IPV6.world] for name in names}
        dante = self.dante(hosts=hosts)
        server = self.nameServer(IPV4.world)
        self.peer(tellPeer, port=443)
        commands = [f"curl -qs http://{name}:443/; echo ,$?" for name in names]
        commands += [
            "curl -qs http://api.anthropic.com:80/; echo ,$?",
            "curl -qs http://host.lab:443/; echo ,$?",
            f"curl -qs {IPV4.url(443, '/')}; echo ,$?",
            "kdig +time=2 +retry=0 secret.host.lab TXT",
            "kdig +time=2 +retry=0 secret.api.anthropic.com",
        ]
        script = self.folder().write(example("agent.py"))
        flags = self.flags(script, "--dns", IPV4.world)
        done = self.call("sh", "-c", "\n".join(commands), proxy=dante.url(), options=flags)
        lines = re.findall(r"(?m)^(\S*),(\d+)$", done.out)
        self.assertEqual([status for _, status in lines], ["0", "0", "7", "6", "7"], done)
        outside = {IPV4.proxyOutside, IPV6.proxyOutside}
        self.assertLessEqual({peer for peer, _ in lines[:2]}, outside)
        self.assertEqual(done.out.count("status: REFUSED"), 2, done.out)
        flows = [line for line in dante.connects() if f"{IPV4.world}.53" not in line]
        self.assertEqual(len(flows), 2)
        asked = {(IPV4.proxyOutside, name) for name in names}
        self.assertLessEqual(set(server.queries()), asked)

    def test_noProxy(self) -> None:
        """With direct:// as the proxy, "proxy" is this machine's own network."""
        self.lab.openDirectPath()
        self.nameServer(IPV4.world)
        self.lab.world.ip("addr add 10.1.2.3/32 dev lo")
        self.lab.proxy.ip(f"route add 10.1.2.3/32 via {IPV4.world}")
        self.peer(tellPeer, port=443)
        script = self.folder().write(example("agent.py").replace("pypi.org", "host.lab"))
        flags = self.flags(script, "--dns-mode", "fake-ip", "--dns", IPV4.world)
        urls = ("http://host.lab:443/", "http://short.lab:443/", IPV4.url(443, "/"))
        command = ";".join(f"curl -qs4 {shlex.quote(url)}; echo ,$?" for url in urls)
        done = self.call("sh", "-c", command, proxy="direct://", options=flags)
        self.assertRegex(done.out, r"\A\d[\d.]+,0\n,6\n,7\n\Z", done.err)
        self.assertIn("open past the proxy: everything (direct:// is no proxy)", done.err)


engines(globals(), WhoseChecks)
del WhoseChecks
