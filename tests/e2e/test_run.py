"""
C{nanotun run}: a command that only the tunnel connects to the outside, by real runs.
"""

from __future__ import annotations

import os
import signal
import time

import psutil

from nanotun.flow import Endpoint
from tests.e2e.lab import badproxy, cell, udp
from tests.e2e.lab.cell import Done, Terminal
from tests.e2e.lab.process import PATIENCE, alive, waitUntil
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.run_case import NOWHERE, RunCase, callers

DEAD = f"socks5://{IPV4.proxy}:9"


class CarryChecks(RunCase):
    """Traffic that must get through."""

    def test_connections(self) -> None:
        """Over IPv4 and IPv6 the command reaches the world, which sees the proxy."""
        web, proxy = self.webServer(), self.dante().url()
        for family in FAMILIES:
            done = self.call("curl", "-qsS", family.url(web.port, "/bytes/100000"), proxy=proxy)
            self.assertEqual((done.status, len(done.out), done.err), (0, 100000, ""))
        self.assertEqual(web.peers(), [IPV4.proxyOutside, IPV6.proxyOutside])

    def test_datagrams(self) -> None:
        """UDP goes through the proxy, over both IP versions."""
        proxy = self.dante().url()
        for family in FAMILIES:
            server = self.udpServer(udp.echo, family)
            kind = "UDP6" if family is IPV6 else "UDP4"
            host = f"[{family.world}]" if family is IPV6 else family.world
            done = self.call(
                "socat", "-t2", "-", f"{kind}:{host}:{server.port}", proxy=proxy, text="hello"
            )
            self.assertEqual((done.status, done.out), (0, "hello"), done.err)
            self.assertEqual({host for host, _ in server.sources()}, {family.proxyOutside})

    def test_names(self) -> None:
        """With --dns-via direct the DNS relay asks the servers of the settings, and nobody else."""
        self.openDirectPath()
        server = self.nameServer(IPV4.world)
        watch = self.launch(["tcpdump", "-lnni", "up0", "-c", "100", "port", "53"])
        options = ("--dns", IPV4.world, "--dns-mode", "normal", "--dns-via", "direct")
        done = self.call("getent", "ahosts", "host.lab", options=options)
        self.assertIn("10.1.2.3", done.out, done.err)
        self.assertEqual(
            done.err,
            f"nanotun: open past the proxy: DNS queries to {IPV4.world}:53 (--dns-via direct).\n",
        )
        text = self.call("kdig", "+short", "host.lab", "AAAA", options=options).out
        self.assertEqual(text.strip(), "fd00::123")
        lost = self.call("kdig", "+time=1", "+retry=0", f"@{IPV4.app}", "x.lab", options=options)
        self.assertNotEqual(lost.status, 0)
        watch.send(signal.SIGINT)
        seen = watch.done().out
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.app})
        for line in filter(None, seen.splitlines()):
            self.assertIn(f"{IPV4.world}.53", line)
        self.assertIn("host.lab", seen)
        self.assertNotIn("x.lab", seen)

    def test_namesByProxy(self) -> None:
        """Without fake-ip names are asked of the DNS relay only, which asks through the proxy."""
        self.openDirectPath()
        server = self.nameServer(IPV4.world)
        watch = Tcpdump(self.lab.app, self.directory, "up0", "port", "53")
        self.addCleanup(watch.stop)
        proxy = self.dante().url()
        options = ("--dns", IPV4.world, "--dns-mode", "normal")
        for command in (("getent", "ahosts", "host.lab"), ("kdig", "+short", "+tcp", "host.lab")):
            done = self.call(*command, proxy=proxy, options=options)
            self.assertIn("10.1.2.3", done.out, done.err)
            self.assertEqual(done.err, "")
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.proxyOutside})
        self.assertEqual(watch.destinations(), {})

    def test_fakeNames(self) -> None:
        """A proxy that takes names gets them: none is looked up."""
        self.openDirectPath()
        server = self.nameServer(IPV4.world)
        options = ("--dns", IPV4.world)
        done = self.call("getent", "ahosts", "host.lab", proxy=DEAD, options=options)
        self.assertIn("198.19.", done.out)
        self.assertEqual(server.queries(), [])

    def test_truthful(self) -> None:
        """A closed port looks closed, and a proxy that is down is reported."""
        done = self.call("curl", "-qsS", IPV4.url(9, "/"), proxy=self.dante().url())
        self.assertEqual(done.status, 7, done.err)
        done = self.call("curl", "-qsS", IPV4.url(9, "/"), proxy=DEAD)
        self.assertEqual(done.status, 7)
        self.assertRegex(done.err, r"(?m)^nanotun: .*10\.77\.1\.1:9.*$")

    def test_forbidden(self) -> None:
        """What the proxy says when it refuses a destination is shown, and nothing else."""
        answer = b"HTTP/1.1 403 Not\x1b[2J here\r\nContent-Length: 0\r\n\r\n"
        peer = self.peer(badproxy.answers(badproxy.HTTP, answer), self.lab.proxy)
        proxy = f"http://{IPV4.proxy}:{peer.port}"
        for family in FAMILIES:
            done = self.call("curl", "-qs", family.url(22, "/"), proxy=proxy)
            self.assertEqual(done.status, 7)
            self.assertEqual(
                done.err,
                f"nanotun: The proxy {proxy} does not allow connections to "
                f"{Endpoint(family.world, 22)} (status 403 'Not\\x1b[2J here').\n",
            )

    def test_lastBytes(self) -> None:
        """What the command sent just before it ended arrives."""

        def collect(connection: object) -> int:
            total = 0
            while data := connection.recv(65536):  # type: ignore[attr-defined]
                total += len(data)
            return total

        peer = self.peer(collect)
        line = f"head -c 3000000 /dev/zero > /dev/tcp/{IPV4.world}/{peer.port}"
        done = self.call("bash", "-c", line, proxy=self.dante().url())
        self.assertEqual((done.status, done.err), (0, ""))
        self.assertEqual(peer.result(), 3000000)

    def test_noOtherWay(self) -> None:
        """The command has no interface, address or route except the tunnel's."""
        done = self.call("sh", "-c", "ip -o link; ls /sys/class/net; ip route; ip -6 route")
        self.assertNotIn("up0", done.out)
        self.assertRegex(done.out, "(?s)lo.*nano0.*lo\nnano0\n")
        self.assertRegex(done.out, r"default via 198\.18\.0\.1 dev nano0(?s:.*)default via fdfe")
        lost = self.call("ping", "-c1", "-W1", IPV4.proxy)
        self.assertNotEqual(lost.status, 0)

    def test_proxyHere(self) -> None:
        """The proxy may be on this machine, on the loopback that the command does not see."""
        web = self.webServer()
        self.lab.app.ip(f"route add {IPV4.world}/32 via {IPV4.proxy}")
        self.lab.proxy.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
        local = self.launch(["microsocks", "-i", "127.0.0.1", "-p", "1080"])
        waitUntil(lambda: self.lab.app.listening(1080), PATIENCE, "microsocks listens")
        url = IPV4.url(web.port, "/bytes/100")
        done = self.call("curl", "-qsS", url, proxy="socks5://127.0.0.1")
        self.assertEqual((done.status, len(done.out)), (0, 100), done.err)
        inside = self.call("curl", "-qsS", "http://127.0.0.1:1080/", proxy="socks5://127.0.0.1")
        self.assertEqual(inside.status, 7)
        local.kill()

    def test_sideBySide(self) -> None:
        """Several runs at a time work, each with a proxy of its own."""
        web = self.webServer()
        good = self.start(
            "sh", "-c", f"echo up; read go; exec curl -qsS {IPV4.url(web.port, '/bytes/100')}",
            proxy=self.dante().url(),
        )  # fmt: skip
        bad = self.start(
            "sh", "-c", f"echo up; read go; exec curl -qsS {IPV4.url(web.port, '/bytes/100')}"
        )
        self.assertEqual((good.line(), bad.line()), ("up", "up"))
        self.assertEqual(bad.done("go\n").status, 7)
        done = good.done("go\n")
        self.assertEqual((done.status, len(done.out)), (0, 100), done.err)


class TraceChecks(RunCase):
    """What is left behind: nothing."""

    def test_machineUntouched(self) -> None:
        """Nothing of the machine changes while a command runs or afterwards."""
        before = cell.traces(self.lab.app)
        running = self.start("sh", "-c", "echo $$; read go")
        namespaces = cell.inside(int(running.line()))
        during = cell.traces(self.lab.app)
        self.assertEqual(running.done("go\n").status, 0)
        cell.waitForNobody(str(self.directory))
        self.assertEqual(cell.traces(self.lab.app), before)
        self.assertEqual(during, before)
        self.assertEqual(namespaces & cell.inside(os.getpid()), set())

    def test_killed(self) -> None:
        """
        After kill -9 of nanotun the command cannot reach the outside, ends, and nothing is
        left.
        """
        before = cell.traces(self.lab.app)
        running = self.start(
            "bash", "-c", "trap 'ip -o link >traces; ip route >>traces; exit' TERM; echo $$;"
            "while :; do sleep 0.05; done",
        )  # fmt: skip
        pid = int(running.line())
        running.send(signal.SIGKILL)
        waitUntil(lambda: not alive(pid), PATIENCE, "the command ends")
        cell.waitForNobody(str(self.directory))
        self.assertEqual(cell.traces(self.lab.app), before)
        seen = (self.directory / "traces").read_text()
        self.assertNotIn("nano0", seen)
        self.assertNotIn("default via", seen)
        self.assertEqual(self.lab.app.processes(), [])

    def test_killedEarly(self) -> None:
        """Nothing is left either if nanotun is killed at any moment of its start."""
        before = cell.traces(self.lab.app)
        for tenths in range(8):
            running = self.start("sleep", "61")
            time.sleep(tenths / 10)
            running.send(signal.SIGKILL)
            running.kill()
            cell.waitForNobody(str(self.directory))
        self.assertEqual(cell.traces(self.lab.app), before)

    def test_helperKilled(self) -> None:
        """After kill -9 of the helper nanotun says so, and the command is ended."""
        before = cell.traces(self.lab.app)
        running = self.start("sh", "-c", "echo $PPID $$; exec sleep 60")
        helper, pid = map(int, running.line().split())
        os.kill(helper, signal.SIGKILL)
        done = running.done()
        self.assertEqual(done.status, 125)
        self.assertIn("nanotun: the process beside the command was killed", done.err)
        self.assertFalse(alive(pid))
        cell.waitForNobody(str(self.directory))
        self.assertEqual(cell.traces(self.lab.app), before)

    def test_leftovers(self) -> None:
        """Processes that the command leaves behind end with it, and are named."""
        done = self.call("sh", "-c", "trap '' TERM; sleep 60 & echo $!")
        self.assertEqual(done.status, 0)
        self.assertFalse(alive(int(done.out)))
        # The new process may not have executed sleep yet.
        named = rf"nanotun: the command left (sleep|sh) \(pid {int(done.out)}\), "
        self.assertRegex(done.err, named)

    def test_deviceLost(self) -> None:
        """
        A command of root's that removes its device is ended, and the reason is given; an
        ordinary user's cannot.
        """
        if not self.byRoot:
            done = self.call("sh", "-c", "ip link del nano0; ip -br addr")
            self.assertIn("Operation not permitted", done.err)
            self.assertIn("nano0", done.out)
            return
        done = self.call("sh", "-c", "ip link del nano0; exec sleep 60")
        self.assertEqual(done.status, 125)
        self.assertIn("nanotun: The device nano0 is gone", done.err)


class CommandChecks(RunCase):
    """The command as a process."""

    def test_statuses(self) -> None:
        """Its exit status is passed on; a signal becomes 128 plus its number, as in a shell."""
        for script, status in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)):
            self.assertEqual(self.call("sh", "-c", script)[::2], (status, ""))

    def test_notFound(self) -> None:
        """A missing command has status 127, one that cannot be executed 126."""
        done = self.call("no-such-command")
        self.assertEqual(done.status, 127)
        self.assertIn("nanotun: no-such-command: command not found", done.err)
        done = self.call("/etc/passwd")
        self.assertEqual(done.status, 126)
        self.assertIn("/etc/passwd: it cannot be executed (Permission denied)", done.err)
        script = self.directory / "script"
        script.write_text("#!/no/such/shell\n")
        script.chmod(0o755)
        done = self.call(str(script))
        self.assertEqual(done.status, 127)
        self.assertIn("its interpreter is missing", done.err)

    def test_streams(self) -> None:
        """Standard input and outputs are the command's, without any text of ours."""
        done = self.call("sh", "-c", "cat; echo words >&2", text="a\nb\n")
        self.assertEqual(done, Done(0, "a\nb\n", "words\n"))

    def test_inherited(self) -> None:
        """Directory, environment, files, limits and ignored signals are those of the caller."""
        script = 'pwd; echo "$X"; cat <&7; ulimit -Sn; grep SigIgn: /proc/self/status'
        call = " ".join(f"'{word}'" for word in self.argv(["sh", "-c", script]))
        (self.directory / "seven").write_text("seven\n")
        outer = f"trap '' HUP; ulimit -Sn 333; X=1 exec {call} 7<seven"
        done = self.launch(["bash", "-c", outer]).done()
        lines = done.out.splitlines()
        self.assertEqual(lines[:4], [str(self.directory), "1", "seven", "333"], done)
        # Signals above 31 are glibc's own, which posix_spawn(3) ignores.
        self.assertEqual(int(lines[-1].split()[1], 16) & 0x7FFFFFFF, 1 << signal.SIGHUP - 1)

    def test_nothingOfOurs(self) -> None:
        """The command has no open file of ours, and no password of ours in its environment."""
        self.launch(["true"]).done()
        argv = self.argv(["sh", "-c", "ls /proc/self/fd; env"], "socks5://me@10.77.1.1:9")
        done = self.launch(["env", "NANOTUN_PROXY_PASSWORD=secret", *argv]).done()
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(done.out.split()[:4], ["0", "1", "2", "3"])  # 3 is the directory.
        self.assertNotIn("secret", done.out)

    def test_user(self) -> None:
        """C{--user} runs it as another user, with that user's groups, HOME and privileges."""
        script = (
            "id -u; id -G; echo $HOME $USER; grep CapEff /proc/self/status; head -1 /etc/shadow"
        )
        done = self.call("sh", "-c", script, options=("--user", "nobody"))
        lines = done.out.splitlines()
        self.assertEqual(lines[:3], ["65534", "65534", "/nonexistent nobody"])
        self.assertEqual(int(lines[3].split()[1], 16), 0)
        self.assertIn("Permission denied", done.err)
        self.assertEqual(self.call("id", "-u", options=("-u", "65534")).out.strip(), "65534")
        done = self.call("true", options=("-u", "root"))
        if self.byRoot:
            self.assertEqual((done.status, done.err), (0, ""))
        else:
            self.assertEqual(done.status, 125)
            self.assertIn("nanotun: --user: nobody cannot run COMMAND as another user", done.err)

    def test_signals(self) -> None:
        """A signal to nanotun reaches the command once, and nanotun ends with the command."""
        for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2"):
            running = self.start(
                "bash", "-c",
                f"trap 'n=$((n+1))' {name}; echo up; until ((n)); do sleep 0.02; done;"
                "sleep 0.2; echo $n; exit 9",
            )  # fmt: skip
            self.assertEqual(running.line(), "up")
            running.send(getattr(signal, f"SIG{name}"))
            done = running.done()
            self.assertEqual((done.status, done.out), (9, "1\n"), name)
        running = self.start("sh", "-c", "echo up; exec sleep 60")
        self.assertEqual(running.line(), "up")
        running.send(signal.SIGTERM)
        self.assertEqual(running.done().status, 128 + signal.SIGTERM)


def isStopped(line: str) -> bool:
    """Whether the shell that runs this line has stopped."""
    return any(
        each.info["cmdline"] == ["sh", "-c", line] and each.info["status"] == psutil.STATUS_STOPPED
        for each in psutil.process_iter(["cmdline", "status"])
    )


class TerminalChecks(RunCase):
    """At a terminal."""

    def setUp(self) -> None:
        """A shell, in whose PATH is C{run}."""
        super().setUp()
        self.terminal = Terminal(self.lab.app, self.directory)
        self.addCleanup(self.terminal.close)
        call = " ".join(self.argv([], NOWHERE)[:-1])
        self.terminal.command(f'run() {{ {call} -- "$@"; }}')

    def test_interrupt(self) -> None:
        """Ctrl-C reaches the command once, and nanotun ends only when the command does."""
        script = self.directory / "count.py"
        script.write_text(
            "import signal, sys, time\n"
            "got = []\n"
            "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
            "print('up', flush=True)\n"
            "while not got: time.sleep(0.01)\n"
            "end = time.monotonic() + 0.5\n"
            "while time.monotonic() < end: time.sleep(0.01)\n"
            "print('caught', len(got))\n"
            "sys.exit(4)\n"
        )
        self.terminal.type(f"run python3 {script}\n")
        self.terminal.read("\nup")
        self.terminal.type("\x03")
        self.assertIn("caught 1", self.terminal.read("ready> "))
        self.assertIn("\n4\n", self.terminal.command("echo $?"))
        self.terminal.type("run sh -c 'echo u''p; exec sleep 60'\n")
        self.terminal.read("up")
        self.terminal.type("\x03")
        self.terminal.read("ready> ")
        self.assertIn("\n130\n", self.terminal.command("echo $?"))

    def test_interruptEarly(self) -> None:
        """Ctrl-C during the start, or just after, ends it as at any other time."""
        for tenths in range(2, 8):
            self.terminal.type("run sleep 60\n")
            self.terminal.read("sleep 60")
            time.sleep(tenths / 10)
            self.terminal.type("\x03")
            said = self.terminal.read("ready> ")
            status = self.terminal.command("echo $?")
            # On a busy machine Python itself is not up yet, and ends with 1.
            if "init_import_site" not in said:
                self.assertRegex(status, "\n130\n", tenths)

    def test_suspend(self) -> None:
        """Ctrl-Z stops all of it, and fg continues it."""
        self.terminal.type("run sh -c 'echo u''p; read x; echo got $x'\n")
        self.terminal.read("up")
        self.terminal.type("\x1a")
        self.assertIn("Stopped", self.terminal.read("ready> "))
        # The shell waits for its own child alone; the other one would still take a byte.
        waitUntil(lambda: isStopped("echo up; read x; echo got $x"), PATIENCE, "all has stopped")
        self.terminal.type("fg\n")
        self.terminal.read("run")
        self.terminal.type("word\n")
        self.assertIn("got word", self.terminal.read("ready> "))

    def test_shell(self) -> None:
        """A shell inside has job control, and the terminal is in order afterwards."""
        inner = "PS1='in''ner> ' run bash --norc --noprofile --noediting -i"
        self.terminal.type(f"{inner}\n")
        self.assertNotIn("no job control", self.terminal.read("inner> "))
        job = "sh -c 'echo u''p; exec sleep 60'\n"
        self.terminal.type(job)
        self.terminal.read("up\r")
        self.terminal.type("\x1a")
        self.assertIn("Stopped", self.terminal.read("inner> "))
        self.terminal.type(f"kill %1; {job}")
        self.terminal.read("up\r")
        self.terminal.type("\x03")
        self.terminal.read("inner> ")
        self.terminal.type("tty; exit 5\n")
        self.assertIn("/dev/pts/", self.terminal.read("ready> "))
        self.assertIn("\n5\n", self.terminal.command("echo $?"))

    def test_shellSuspended(self) -> None:
        """A shell inside that suspends itself returns the terminal, and fg continues it."""
        self.terminal.type("PS1='in''ner> ' run bash --norc --noprofile --noediting -i\n")
        self.terminal.read("inner> ")
        self.terminal.type("suspend\n")
        self.assertIn("Stopped", self.terminal.read("ready> "))
        self.assertIn("outside", self.terminal.command("echo out''side"))
        self.terminal.type("fg\n")
        self.terminal.type("echo in''side\n")
        self.terminal.read("inside")
        self.terminal.type("exit 5\n")
        self.terminal.read("ready> ")
        self.assertIn("\n5\n", self.terminal.command("echo $?"))

    def test_pipe(self) -> None:
        """In a pipe, the other side keeps the terminal."""
        text = self.terminal.command("run echo wo''rds | (read x </dev/tty; cat; echo $x)\nkeys\n")
        self.assertRegex(text, "(?s)words\nkeys\n")


callers(globals(), CarryChecks, TraceChecks, CommandChecks, TerminalChecks)
del CarryChecks, TraceChecks, CommandChecks, TerminalChecks
