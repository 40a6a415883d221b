"""
etc/systemd/nanotun.service under a real systemd, with all of its restrictions.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.e2e.case import LabCase
from tests.e2e.endings_case import Senders, echo
from tests.e2e.lab.daemon import twistd
from tests.e2e.lab.host import HOST4, HOST6, UPLINK, Seen, Witness
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, PROJECT_ROOT, waitUntil
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.systemd import Systemd, missing

UNIT = PROJECT_ROOT / "etc" / "systemd" / "nanotun.service"
CONFIG = """
proxy: https://127.0.0.1:1?insecure=1
logDir: /var/log/nanotun
excludedProcesses: curl
logLevel: debug
autoDefaultRoute: false
"""

#: The differences from an installed unit: the checkout in its place, no network to wait for,
#: and an impatient watchdog.
DROPIN = f"""
[Unit]
Wants=
[Service]
Environment=PYTHONPATH={PROJECT_ROOT}:/etc/nanotun-hangs
WatchdogSec=2
"""

#: Makes a daemon that hangs at SIGUSR2, whatever signal follows.
HANGS = """
import signal, time
signal.signal(signal.SIGUSR2, lambda number, frame: time.sleep(1000))
"""


LATER = "/etc/systemd/system/nanotun.service.d/later.conf"


class UnitCase(LabCase):
    """
    A machine with the unit.

    @ivar machine: has booted.
    """

    seconds = 120

    def setUp(self) -> None:
        """Boot a machine that has the unit."""
        super().setUp()
        reason = missing()
        if reason:
            raise SkipTest(reason)
        if PROJECT_ROOT.is_relative_to("/tmp"):
            raise SkipTest("the unit has a /tmp of its own, without this checkout")
        nanotun = Path(sys.executable).with_name("nanotun")
        unit = UNIT.read_text()
        unit = unit.replace("/usr/local/lib/nanotun/bin/twistd", twistd())
        unit = unit.replace("/usr/local/lib/nanotun/bin/nanotun", str(nanotun))
        self.machine = Systemd(
            self.directory / "systemd",
            {
                "/etc/systemd/system/nanotun.service": unit,
                "/etc/systemd/system/nanotun.service.d/lab.conf": DROPIN,
                "/etc/nanotun.yaml": CONFIG,
                "/etc/nanotun-hangs/sitecustomize.py": HANGS,
            },
        )
        self.addCleanup(self.machine.remove)

    def systemctl(self, action: str) -> int:
        """Do it, and wait for it; return the exit status."""
        return self.machine.run("systemctl", action, "nanotun")[0]

    def pid(self) -> str:
        """The daemon's pid, in the machine."""
        return self.machine.show("nanotun", "MainPID")

    def log(self) -> str:
        """The daemon's log."""
        return self.machine.run("sh", "-c", "cat /var/log/nanotun/*.log")[1]

    def carries(self) -> bool:
        """Whether the gateway answers."""
        return self.machine.run("ping", "-c1", "-W1", "198.18.0.1")[0] == 0

    def restarted(self, times: str) -> bool:
        """Whether systemd has restarted it that many times."""
        return self.machine.show("nanotun", "NRestarts") == times

    def kill(self, number: signal.Signals) -> None:
        """Send the daemon a signal."""
        self.assertEqual(self.machine.run("kill", f"-{number.value}", self.pid())[0], 0)

    def state(self) -> str:
        """Rules, routes and firewall of the machine."""
        looks = ("ip rule", "ip -6 rule", "ip route show table all", "nft list ruleset")
        # The kernel's own routes of a link that appears and disappears do not matter.
        return "".join(self.machine.run(*look.split())[1] for look in looks)


class UnitTests(UnitCase):
    """The unit's life."""

    def test_life(self) -> None:
        """With all restrictions it starts, works, reports its state, and stops."""
        self.assertEqual(self.systemctl("start"), 0, self.machine.console())
        self.assertTrue(self.carries())
        self.assertEqual(self.machine.show("nanotun", "StatusText"), "nano0 is up")
        status = self.machine.run("cat", f"/proc/{self.pid()}/status")[1]
        found = dict(re.findall(r"^(CapEff|CapPrm|NoNewPrivs|Seccomp):\t(\w+)$", status, re.M))
        kept = f"{1 << 12 | 1 << 19 | 1 << 2:016x}"
        self.assertEqual(found, {"CapEff": kept, "CapPrm": kept, "NoNewPrivs": "1", "Seccomp": "2"})
        # The device's own IPv6 settings are under /proc/sys, which it may write.
        shown = self.machine.run("cat", "/proc/sys/net/ipv6/conf/nano0/accept_ra")[1]
        self.assertEqual(shown, "0\n")
        first = self.pid()
        self.assertEqual(self.systemctl("reload"), 0, self.log())
        self.machine.run("sed", "-i", "$a mtuu: 5", "/etc/nanotun.yaml")
        self.assertNotEqual(self.systemctl("reload"), 0)
        self.machine.run("sed", "-i", "/^mtuu/d", "/etc/nanotun.yaml")
        self.assertTrue(self.carries())
        self.assertEqual(self.pid(), first)
        self.assertEqual(self.systemctl("restart"), 0)
        self.assertNotEqual(self.pid(), first)
        self.assertEqual(self.systemctl("stop"), 0)
        self.assertEqual(self.machine.show("nanotun", "Result"), "success")
        self.assertNotIn("nano0", self.machine.run("ip", "link")[1])
        # Nobody is at the proxy's address, and a reload had a mistake.
        known = ("mtuu", "[nanotun.upstream] The proxy ")
        lines = self.log().splitlines(True)
        log = "".join(line for line in lines if not any(each in line for each in known))
        for sign in ("Traceback", "error [", "Permission", "not permitted"):
            self.assertNotIn(sign, log)

    def test_watchdog(self) -> None:
        """A daemon that hangs is restarted, and so is one that is killed."""
        self.assertEqual(self.systemctl("start"), 0, self.machine.console())
        for number, times in ((signal.SIGSTOP, "1"), (signal.SIGKILL, "2")):
            self.kill(number)
            waitUntil(partial(self.restarted, times), PATIENCE, "a restart")
            waitUntil(self.carries, PATIENCE, "the gateway answers")
        self.assertEqual(self.systemctl("stop"), 0)

    def connect(self) -> None:
        """Give the machine an uplink, and have the daemon change its routes."""
        for command in (
            "sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
            "ip link add up0 type veth peer name up1",
            "ip link set up1 up",
            "ip address add 10.9.9.2/24 dev up0",
            "ip link set up0 up",
            "ip route add default via 10.9.9.1",
            "sed -i s/^autoDefaultRoute:.*/autoDefaultRoute:\\x20true/ /etc/nanotun.yaml",
        ):
            self.assertEqual(self.machine.run(*command.split()), (0, ""), command)

    def test_oldIptables(self) -> None:
        """Without nft, it loads and removes the rules of the old iptables."""
        self.connect()
        self.machine.run("rm", "/usr/sbin/nft")
        for name in ("iptables", "ip6tables"):
            for command in ("", "-save", "-restore"):
                place = f"/usr/sbin/{name}{command}"
                self.machine.run("ln", "-sf", f"{name}-legacy{command}", place)
        self.assertEqual(self.systemctl("start"), 0, self.log())
        self.assertIn("NANOTUN_", self.machine.run("iptables-save")[1])
        self.kill(signal.SIGKILL)
        waitUntil(partial(self.restarted, "1"), PATIENCE, "a restart")
        self.assertEqual(self.systemctl("stop"), 0)
        for tables in ("iptables-save", "ip6tables-save"):
            self.assertNotIn("NANOTUN_", self.machine.run(tables)[1])

    def test_routes(self) -> None:
        """
        With all restrictions it changes routes and firewall; what a crash leaves behind is
        undone, except for a kill switch.
        """
        self.connect()
        before = self.state()
        self.assertEqual(self.systemctl("start"), 0, self.machine.console())
        changed = self.state()
        self.assertNotEqual(changed, before)
        self.kill(signal.SIGKILL)
        waitUntil(partial(self.restarted, "1"), PATIENCE, "a restart")
        waitUntil(lambda: self.state() == changed, PATIENCE, "the routes are there again")
        self.assertEqual(self.systemctl("stop"), 0)
        self.assertEqual(self.state(), before)
        # Now nothing restarts it, and only the kill switch is left.
        self.machine.run("sh", "-c", f"printf '[Service]\nRestart=no\n' >>{LATER}")
        self.machine.run("systemctl", "daemon-reload")
        for switch, left in (("false", False), ("true", True)):
            self.machine.run("sh", "-c", f"echo 'killSwitch: {switch}' >>/etc/nanotun.yaml")
            self.assertEqual(self.systemctl("start"), 0, self.machine.console())
            self.kill(signal.SIGKILL)
            waitUntil(
                lambda: self.machine.show("nanotun", "ActiveState") == "failed", PATIENCE, "its end"
            )
            self.assertEqual(self.state() != before, left)
            self.machine.run("sed", "-i", "/^killSwitch/d", "/etc/nanotun.yaml")
        self.assertEqual(self.systemctl("start"), 0, self.machine.console())
        self.assertEqual(self.systemctl("stop"), 0)
        self.assertEqual(self.state(), before)
        log = self.log()
        for sign in ("Traceback", "Permission", "not permitted"):
            self.assertNotIn(sign, log)

    def test_mistake(self) -> None:
        """A mistake in the configuration fails the start a few times and no more."""
        self.machine.run("sh", "-c", "echo 'mtuu: 5' >>/etc/nanotun.yaml")
        self.assertNotEqual(self.systemctl("start"), 0)
        waitUntil(
            lambda: self.machine.show("nanotun", "ActiveState") == "failed", PATIENCE, "it gives up"
        )
        self.assertEqual(self.machine.show("nanotun", "NRestarts"), "5")


class SwitchTests(UnitCase):
    """
    A unit with killSwitch, on a machine that sends to the world all the time and serves an
    SSH session, while a witness watches its uplink.
    """

    def setUp(self) -> None:
        """Connect the machine with a world, open the session, and start the unit."""
        super().setUp()
        self.space = self.machine.space()
        self.addCleanup(self.space.remove)
        self.outside = Namespace(f"nt{os.getpid()}x0-outside")
        self.addCleanup(self.outside.remove)
        self.outside.ip(
            f"link add up1 type veth peer name {UPLINK} netns {self.space.name}",
            "link set up1 up",
            "addr add 10.9.9.1/24 dev up1",
            "addr add 2a77:9::1/64 dev up1 nodad",
            f"addr add {HOST4.world}/32 dev lo",
            f"addr add {HOST6.world}/128 dev lo nodad",
        )
        for command in (
            "sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
            f"ip address add 10.9.9.2/24 dev {UPLINK}",
            f"ip address add 2a77:9::2/64 dev {UPLINK} nodad",
            f"ip link set {UPLINK} up",
            "ip route add default via 10.9.9.1",
            "ip route add default via 2a77:9::1",
            "sed -i s/^autoDefaultRoute:.*/autoDefaultRoute:\\x20true/ /etc/nanotun.yaml",
            "sed -i $akillSwitch:\\x20true /etc/nanotun.yaml",
        ):
            self.assertEqual(self.machine.run(*command.split()), (0, ""), command)
        server = Peer(self.space, echo, 22, timeout=100)
        self.addCleanup(server.stop)
        self.sessions = [self.session(each) for each in ("10.9.9.2", "2a77:9::2")]
        environment = f"SSH_CONNECTION={HOST4.world} 50000 10.9.9.2 22"
        line = f"printf '[Service]\\nEnvironment=\"{environment}\"\\n' >>{LATER}"
        self.assertEqual(self.machine.run("sh", "-c", line)[0], 0)
        self.machine.run("systemctl", "daemon-reload")
        waitUntil(lambda: "local fe80::" in self.state(), PATIENCE, "the link has its own address")
        self.before = self.state()
        self.assertEqual(self.systemctl("start"), 0, self.machine.console())
        self.witness = Witness(self.space)
        self.addCleanup(self.witness.stop)
        self.senders = Senders(self.space)
        self.addCleanup(self.senders.stop)

    def session(self, address: str) -> socket.socket:
        """Open a session from the world."""
        opened = self.outside.connect((address, 22), 5)
        self.addCleanup(opened.close)
        return opened

    def leaked(self) -> list[Seen]:
        """What has left for the world, other than the sessions' packets."""
        seen = self.witness.to(HOST4.world, HOST6.world)
        return [each for each in seen if each.ports[0] != 22]

    def assertClosed(self) -> None:
        """Nothing has left, and the sessions live."""
        self.senders.wait()
        for session in self.sessions:
            session.sendall(b"still here")
            self.assertEqual(session.recv(100), b"still here")
        self.assertEqual(self.leaked(), [])

    def test_restart(self) -> None:
        """A restart of any kind keeps it closed; a stop opens it and undoes everything."""
        for action in ("restart", "try-restart", "reload-or-restart"):
            pid = self.pid()
            if action == "reload-or-restart":
                # A unit that cannot be reloaded, so that it is restarted.
                self.machine.run("sh", "-c", f"echo 'ExecReload=' >>{LATER}")
                self.machine.run("systemctl", "daemon-reload")
            self.assertEqual(self.systemctl(action), 0, self.log())
            self.assertNotEqual(self.pid(), pid)
            self.assertClosed()
        self.assertIn("The kill switch stays closed until the next start.", self.log())
        self.assertEqual(self.systemctl("stop"), 0)
        self.senders.wait()
        self.assertNotEqual(self.leaked(), [])
        self.assertEqual(self.state(), self.before)

    def test_watchdog(self) -> None:
        """It stays closed when the watchdog or a lack of memory kills it, until it is back."""
        for number, times in ((signal.SIGSTOP, "1"), (signal.SIGKILL, "2")):
            self.kill(number)
            self.assertClosed()
            waitUntil(partial(self.restarted, times), PATIENCE, "a restart")
            waitUntil(self.carries, PATIENCE, "the gateway answers")
            self.assertClosed()

    def test_deviceDeleted(self) -> None:
        """It stays closed when somebody deletes the device, and systemd brings that back."""
        self.assertEqual(self.machine.run("ip", "link", "del", "nano0")[0], 0)
        self.assertClosed()
        waitUntil(partial(self.restarted, "1"), PATIENCE, "a restart")
        waitUntil(self.carries, PATIENCE, "the gateway answers")
        self.assertClosed()

    def test_hangs(self) -> None:
        """It stays closed if the daemon hangs in its stop, and recover opens it."""
        # Not SIGSTOP, which systemd would undo.
        self.kill(signal.SIGUSR2)
        self.systemctl("stop")
        self.assertClosed()
        nanotun = str(Path(sys.executable).with_name("nanotun"))
        path = f"PYTHONPATH={PROJECT_ROOT}"
        recover = ("env", path, nanotun, "recover", "--run-dir", "/run/nanotun")
        self.assertEqual(self.machine.run(*recover)[0], 0)
        self.senders.wait()
        self.assertNotEqual(self.leaked(), [])
        self.assertEqual(self.state(), self.before)

    def test_established(self) -> None:
        """
        An excluded process's connection that is open at the start goes on, and over restarts.
        """
        self.assertEqual(self.systemctl("stop"), 0)
        ticks: list[bytes] = []

        def listen(connection: socket.socket) -> None:
            while data := connection.recv(100):
                ticks.append(data)

        port = self.peer(listen, self.outside, timeout=100).port
        talk = (
            'cp "$(command -v socat)" /run/curl && while sleep 0.1; do echo tick; done | '
            f"/run/curl -u - TCP:{HOST4.world}:{port}"
        )
        # The first redirection makes run() return.
        self.machine.run("sh", "-c", f"exec </dev/null >/dev/null 2>&1; ({talk}) &")
        waitUntil(lambda: ticks, PATIENCE, "the connection")
        for action in ("start", "restart", "stop"):
            self.assertEqual(self.systemctl(action), 0, self.log())
            ticks.clear()
            waitUntil(lambda: len(ticks) > 3, PATIENCE, f"the connection after {action}")

    def test_shutdown(self) -> None:
        """It stays closed until the end when the machine goes down."""
        self.machine.run("systemctl", "--no-block", "poweroff")
        waitUntil(self.machine.isDown, 60, "the machine is down")
        # The namespace, its uplink and its senders are still there.
        self.senders.wait()
        self.assertEqual(self.leaked(), [])
