"""
Rules about processes, with real programs and two proxies that tell what they were asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any

import yaml

from tests.e2e.case import TunnelCase, enginesAndFamilies
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.record import whyNoRecord
from tests.e2e.lab.udp import mirror
from tests.e2e.schemes import ProgramsCase
from tests.e2e.test_owners import SCRIPT, cgroupRoot, tellFirst, tellPeer

AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups")

#: A program that sends one datagram and has ended before anybody looks.
SHOT = f"""#!{sys.executable} -I
import os, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
sock.sendto(b"?", (host, port))
os._exit(0)
"""


def unrecorded(case: TunnelCase) -> None:
    """Have the daemon run without the capabilities that the kernel's record takes."""
    app: Any = case.lab.app
    without = ("--inh-caps=-bpf,-sys_admin", "--bounding-set=-bpf,-sys_admin")
    prefix = ("nsenter", f"--net=/run/netns/{app.name}", "setpriv", *without)
    case.patch(app, "argv", lambda argv: [*prefix, *argv])


class ProcessRuleChecks(ProgramsCase):
    """Rules with C{processes}, a default proxy, and an office that rules send flows to."""

    seconds = 90

    programs = ("curl", "git", "setpriv", "wget")

    def setUp(self) -> None:
        """Start both proxies, and a server that returns the client's address."""
        super().setUp()
        self.lab.openDirectPath()
        self.port = self.peer(tellPeer).port
        self.proxies = {"proxy": self.dante(), "office": self.dante(port=1090)}
        # `ip netns exec` would hide the machine's cgroups from the daemon.
        app = self.lab.app
        self.patch(app, "argv", lambda argv: ["nsenter", f"--net=/run/netns/{app.name}", *argv])

    def ruled(self, *rules: dict[str, object], **settings: object) -> Daemon:
        """A daemon with these rules, which scans at its start only."""
        return self.daemon(
            proxy=self.proxies["proxy"].url(),
            upstreams={"office": self.proxies["office"].url()},
            # All addresses of the laboratory are local ones.
            rules=[{"lan": True, **rule} for rule in rules],
            excludeRefresh="1h",
            **settings,
        )

    def program(self, name: str, of: str = "curl") -> str:
        """A copy of a program under another name."""
        path = shutil.which(of)
        assert path is not None
        return shutil.copy(os.path.realpath(path), str(self.directory / name))

    def script(self, name: str, text: str = SCRIPT) -> str:
        """A program that is a script."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def curl(self, path: str = "curl") -> tuple[str, ...]:
        """The command that asks the server by curl, or by a copy of it."""
        return (path, "-q", "-s", "-m", "60", self.family.url(self.port, "/"))

    def wget(self) -> tuple[str, ...]:
        """The command that asks it by wget."""
        url = self.family.url(self.port, "/")
        return ("wget", "--no-config", "-q", "-T", "60", "-t", "1", "-O", "-", url)

    def asked(self) -> dict[str, int]:
        """How many connections each proxy was asked for."""
        return {name: len(proxy.connects()) for name, proxy in self.proxies.items()}

    def assertGoes(self, to: str, *argv: str, times: int = 1) -> None:
        """
        A program's connections go by C{to}, says that proxy's log, and by no other way.

        @param to: a proxy's name, or C{direct}.
        """
        before = self.asked()
        seen = self.family.app if to == "direct" else self.family.proxyOutside
        for _ in range(times):
            self.assertEqual(self.lab.app.run(argv).stdout.strip(), seen, argv)
        expected = {name: n + (times if name == to else 0) for name, n in before.items()}
        waitUntil(
            lambda: sum(self.asked().values()) >= sum(expected.values()), PATIENCE, "it is logged"
        )
        self.assertEqual(self.asked(), expected, argv)

    def recorded(self, daemon: Daemon) -> bool:
        """Whether the kernel tells the daemon who makes a socket."""
        told = json.loads(say("status", "--json", "--run-dir", f"{daemon.directory}/run").stdout)
        return bool(told["processes"]["recorded"])

    def test_programs(self) -> None:
        """Programs go where the rule says that names them, others where default says."""
        mine = self.program("one")
        daemon = self.ruled(
            {"to": "direct", "processes": [mine]}, {"to": "office", "processes": ["Curl", "other"]}
        )
        self.assertIs(self.recorded(daemon), not whyNoRecord())
        for _ in range(3):
            self.assertGoes("office", *self.curl())
            self.assertGoes("proxy", *self.wget())
            self.assertGoes("direct", *self.curl(mine))
            self.assertGoes("office", *self.curl(self.program("other")))
        self.assertEndsWell(daemon)

    def test_git(self) -> None:
        """What git starts to fetch is a program of its own: a child is not its parent."""
        self.ruled(
            {"to": "reject", "processes": ["git"]},
            {"to": "office", "processes": ["git-remote-http"]},
        )
        before = self.asked()
        url = self.family.url(self.port, "/x.git")
        # It is no repository.
        self.lab.app.run(["sh", "-c", 'git ls-remote "$0"; true', url])
        waitUntil(
            lambda: self.asked()["office"] > before["office"], PATIENCE, "the office was asked"
        )
        self.assertEqual(self.asked()["proxy"], before["proxy"])

    def test_notRecorded(self) -> None:
        """Without the kernel's record the programs' open files tell the same."""
        unrecorded(self)
        mine = self.program("one")
        daemon = self.ruled(
            {"to": "direct", "processes": [mine]}, {"to": "office", "processes": ["curl"]}
        )
        self.assertFalse(self.recorded(daemon))
        for _ in range(3):
            self.assertGoes("office", *self.curl())
            self.assertGoes("proxy", *self.wget())
            self.assertGoes("direct", *self.curl(mine))

    def test_users(self) -> None:
        """A user's connections go where the user's rule says, by whichever program."""
        self.ruled({"to": "office", "processes": ["uid:nobody"]})
        for argv in (self.curl(), self.wget()):
            self.assertGoes("office", *AS_NOBODY, *argv)
            self.assertGoes("proxy", *argv)

    def test_units(self) -> None:
        """A control group or a unit that is made later is recognized, and those below it."""
        name = f"nanotun-test-{os.getpid()}"
        root = cgroupRoot()
        self.ruled({"to": "office", "processes": [f"cgroup:/{name}", "unit:x.service"]})
        for path, to in (
            (name, "office"),
            (f"{name}/below", "office"),
            (f"{name}-other", "proxy"),
            (f"{name}-other/x.service", "office"),
        ):
            directory = root / path
            directory.mkdir()
            self.addCleanup(directory.rmdir)
            enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
            self.assertGoes(to, "sh", "-c", enter, str(directory), *self.curl(), times=2)

    def test_not(self) -> None:
        """
        A rule's not excepts a program.  Whose flow another machine's is, is not known, so neither
        the rule nor its opposite holds.
        """
        self.ruled({"to": "office", "lan": True, "not": {"processes": ["curl"]}})
        self.assertGoes("proxy", *self.curl())
        self.assertGoes("office", *self.wget())
        before = self.asked()
        machines = self.lab.plugMachines()
        with machines.connect((self.family.world, self.port)) as machine:
            machine.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.assertIn(b"200 OK", machine.recv(1000))
        waitUntil(lambda: self.asked() != before, PATIENCE, "a proxy was asked")
        self.assertEqual(self.asked(), {**before, "proxy": before["proxy"] + 1})

    def test_shortLived(self) -> None:
        """Programs that connect as soon as they run, and end at once, are all told apart."""
        self.ruled({"to": "direct", "processes": ["quick"]})
        mine, other = self.program("quick", "bash"), self.program("other", "bash")
        port = self.peer(tellFirst).port
        command = f"exec 3<>/dev/tcp/{self.family.world}/{port}; read -r line <&3; echo $line"
        loop = 'for i in $(seq 40); do "$1" -c "$0"; "$2" -c "$0"; done'
        lines = self.lab.app.run(["sh", "-c", loop, command, mine, other]).stdout.split()
        self.assertEqual(lines, [self.family.app, self.family.proxyOutside] * 40)

    def test_gone(self) -> None:
        """
        Of a program that has ended before anybody could look nothing is known: its datagrams are
        never sent past the proxy by a rule that excepts other programs.
        """
        self.ruled({"to": "direct", "not": {"processes": ["other"]}})
        sources: list[str] = []
        server = self.udpServer(lambda server, data, source: sources.append(source[0]), self.family)
        shot = self.script("other", SHOT)
        for _ in range(20):
            self.lab.app.run([shot, self.family.world, str(server.port)])
        waitUntil(lambda: sources, PATIENCE, "a datagram arrives")
        self.assertNotIn(self.family.app, sources)

    def test_datagrams(self) -> None:
        """Datagrams of sockets without a peer go by their program as well."""
        server = self.udpServer(mirror, self.family)
        self.ruled({"to": "direct", "processes": ["fetch.py"]}, {"to": "drop", "processes": ["no"]})
        where = (self.family.world, str(server.port), "unconnected")
        seen = [
            self.lab.app.run([self.script(name), *where]).stdout.strip()
            for name in ("fetch.py", "other.py", "fetch.py")
        ]
        app, proxied = self.family.app, self.family.proxyOutside
        self.assertEqual(seen, [app, proxied, app])

    def test_excludedToo(self) -> None:
        """A rule comes before excludedProcesses, which decides where no rule holds."""
        other = self.peer(tellPeer).port
        self.ruled(
            {"to": "office", "processes": ["curl"], "ports": [self.port]},
            excludedProcesses=["curl"],
        )
        self.assertGoes("office", *self.curl())
        self.assertGoes("direct", "curl", "-q", "-s", "-m", "60", self.family.url(other, "/"))
        self.assertGoes("proxy", *self.wget())

    def test_reload(self) -> None:
        """A reload that names other programs looks for those from then on."""
        # A daemon that never needed to look for processes has given up the right to.
        daemon = self.ruled({"to": "office", "processes": ["git"]})
        self.assertGoes("proxy", *self.curl())
        for program, argv, others in (
            ("curl", self.curl(), self.wget()),
            ("wget", self.wget(), self.curl()),
        ):
            path = daemon.directory / "nanotun.yaml"
            text = yaml.safe_load(path.read_text())
            text["rules"] = [{"to": "office", "processes": [program], "lan": True}]
            path.write_text(yaml.safe_dump(text))
            done = say("reload", "--run-dir", f"{daemon.directory}/run")
            self.assertEqual((done.stdout, done.stderr), ("Changed: rules.\n", ""))
            self.assertGoes("office", *argv)
            self.assertGoes("proxy", *others)

    def test_ownProxy(self) -> None:
        """
        A proxy on this machine keeps its own connections, though its user is excluded and a rule
        sends everybody's to the proxy: none comes back.
        """
        proxy = Dante(
            self.lab.app,
            self.directory,
            port=1100,
            internal=("127.0.0.1",),
            external=(self.family.app,),
        )
        self.addCleanup(proxy.stop)
        self.daemon(
            proxy=f"socks5://127.0.0.1:{proxy.port}",
            rules=[{"to": "proxy", "ports": ["1-65535"], "lan": True}],
            excludedProcesses=["uid:root", "uid:nobody"],
            excludeRefresh="1h",
        )
        self.proxies = {"proxy": proxy}
        for _ in range(5):
            told = self.lab.app.run(self.curl()).stdout.strip()
            self.assertEqual(told, self.family.app)
        self.assertEqual(len(proxy.connects()), 5)


enginesAndFamilies(globals(), ProcessRuleChecks)
# Otherwise trial would run the base class, too.
del ProcessRuleChecks
