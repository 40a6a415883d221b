"""Tests of L{nanotun.doctor.local}, C{machine} and C{neighbours}."""

from __future__ import annotations

import fcntl
import json
import os

from nanotun.doctor.checks import resolverChecks
from nanotun.doctor.finding import Level
from nanotun.doctor.local import (
    ClockCheck,
    ConfigurationCheck,
    DescriptorCheck,
    DeviceNodeCheck,
    PrivilegeCheck,
    ProgramCheck,
)
from nanotun.doctor.machine import Machine
from nanotun.doctor.neighbours import (
    DaemonCheck,
    FirewallCheck,
    ManagerCheck,
    ResolverCheck,
    cureOf,
)
from nanotun.errors import EngineError
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.doctor.doctor_cases import HOME, CheckCase, link, settings


class ProgramTests(CheckCase):
    """L{ProgramCheck}."""

    def test_well(self) -> None:
        """A library that loads is fine."""
        self.assertFinds(ProgramCheck(lambda: None), Level.OK, "Python 3", "library fits")

    def test_old(self) -> None:
        """The finding about an old Python says which version is needed."""
        check = ProgramCheck(lambda: None, (3, 9, 2))
        self.assertFinds(check, Level.FAIL, "3.9.2", "3.11 or newer", "make build PYTHON=")

    def test_library(self) -> None:
        """The error of a library that does not load is passed on."""

        def load() -> None:
            raise EngineError("not built; run make.")

        self.assertRaises(EngineError, ProgramCheck(load).run)


class PrivilegeTests(CheckCase):
    """L{PrivilegeCheck}."""

    def can(self, *capabilities: int) -> None:
        """Set the process's capabilities."""
        value = sum(1 << each for each in capabilities)
        self.write("proc/self/status", f"Name:\tx\nCapEff:\t{value:016x}\nThreads:\t1\n")

    def test_levels(self) -> None:
        """No root, and root without what the daemon or run needs, are told apart."""
        self.can(12, 21)
        self.assertFinds(PrivilegeCheck(self.machine), Level.OK)
        self.can(12)
        self.assertFinds(PrivilegeCheck(self.machine), Level.INFO, "CAP_SYS_ADMIN", "nanotun run")
        self.can(21)
        self.assertFinds(PrivilegeCheck(self.machine), Level.FAIL, "CAP_NET_ADMIN", "--cap-add")
        self.uid = 1000
        self.assertFinds(PrivilegeCheck(self.machine), Level.FAIL, "not root", "sudo")


class NodeTests(CheckCase):
    """L{DeviceNodeCheck}."""

    def test_missing(self) -> None:
        """A missing node is told apart from one that does not open."""
        self.assertFinds(DeviceNodeCheck(self.machine), Level.FAIL, "There is no", "modprobe tun")
        self.write("dev/net/tun", "")
        self.assertFinds(DeviceNodeCheck(self.machine), Level.FAIL, "does not open (no device)")

    def test_there(self) -> None:
        """A character device that opens is fine."""
        (self.root / "dev/net").mkdir(parents=True)
        (self.root / "dev/net/tun").symlink_to("/dev/null")
        self.assertFinds(DeviceNodeCheck(self.machine), Level.OK)


class SmallTests(CheckCase):
    """Checks of a single value."""

    def test_files(self) -> None:
        """A low limit of open files is a warning; a high one or none is not."""
        for limit, level in ((1024, Level.WARN), (4096, Level.OK), (-1, Level.OK)):
            self.files = (1024, limit)
            self.assertFinds(DescriptorCheck(self.machine), level)

    def test_clock(self) -> None:
        """A clock behind the program's build time is a warning."""
        self.assertFinds(ClockCheck(lambda: 1e9, 1e9 + 1e6), Level.WARN, "behind", "set-ntp")
        self.assertFinds(ClockCheck(lambda: 1e9, 1e9 + 1000), Level.OK)
        self.assertFinds(ClockCheck(lambda: 1e9, 0.0), Level.OK)

    def test_configuration(self) -> None:
        """Each notice is a warning."""
        self.assertFinds(ConfigurationCheck(()), Level.OK)
        found = self.findings(ConfigurationCheck(("a; do b.", "c; do d.")))
        self.assertEqual([each.level for each in found], [Level.WARN, Level.WARN])
        found = self.findings(ConfigurationCheck(("a; do b.",), "no list; make one."))
        self.assertEqual([each.level for each in found], [Level.FAIL, Level.WARN])
        self.assertEqual(found[0].text, "no list; make one.")


class MachineTests(CheckCase):
    """L{Machine}."""

    def test_locked(self) -> None:
        """A lock that another process holds is noticed, and not taken."""
        self.write("lock", "")
        here = Machine()
        path = str(self.root / "lock")
        self.assertFalse(here.locked(path))
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assertTrue(here.locked(path))
        self.assertFalse(here.locked(path))
        self.assertFalse(here.locked("/no/such/file"))

    def test_files(self) -> None:
        """An unreadable file is empty, and a missing one has time 0."""
        self.write("a", " x\n")
        self.assertEqual((self.machine.read("/a"), self.machine.read("/b")), ("x", ""))
        self.assertGreater(self.machine.modified("/a"), 0)
        self.assertEqual(self.machine.modified("/b"), 0)
        self.assertEqual(self.machine.missing("CAP_NET_ADMIN"), ["CAP_NET_ADMIN"])

    def test_real(self) -> None:
        """The real machine can be examined."""
        here = Machine()
        self.assertEqual(here.geteuid(), os.geteuid())
        self.assertEqual(len(here.fileLimits()), 2)
        self.assertTrue(here.program("sh").endswith("/sh"))


class DaemonTests(CheckCase):
    """L{DaemonCheck}."""

    def setUp(self) -> None:
        """Set the ID of this boot."""
        super().setUp()
        self.check = DaemonCheck(self.machine, settings("--run-dir", "/run/x"))
        self.write("proc/sys/kernel/random/boot_id", "this\n")

    def test_none(self) -> None:
        """Without lock and journal all is well."""
        self.assertFinds(self.check, Level.OK)

    def test_running(self) -> None:
        """A held lock means that a nanotun runs."""
        self.write("run/x/lock", "")
        self.write("run/x/journal.json", "{}")
        status = os.stat(self.root / "run/x/lock")
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        self.write("proc/locks", f"1: FLOCK  ADVISORY  WRITE 77 {device} 0 EOF\n")
        self.assertFinds(self.check, Level.INFO, "runs already", "/run/x", "nanotun status")

    def test_leftovers(self) -> None:
        """A journal of this boot, or an unreadable one, is left from a crash."""
        for text in (json.dumps({"boot": "this"}), "{", "[]", "{}"):
            self.write("run/x/journal.json", text)
            self.assertFinds(self.check, Level.WARN, "/run/x/journal.json", "nanotun recover")

    def test_killSwitch(self) -> None:
        """An active kill switch is told apart from other remains of a crash."""
        self.write("run/x/journal.json", json.dumps({"boot": "this", "killSwitch": True}))
        self.assertFinds(self.check, Level.WARN, "keeps this machine's traffic in", "let traffic")
        self.write("run/x/journal.json", json.dumps({"boot": "former", "killSwitch": True}))
        self.assertFinds(self.check, Level.OK)

    def test_otherBoot(self) -> None:
        """A journal from before this boot is ignored: the reboot undid its changes."""
        self.write("run/x/journal.json", json.dumps({"boot": "former"}))
        self.assertFinds(self.check, Level.OK)


class CureTests(CheckCase):
    """L{cureOf}."""

    def cure(self, proxy: str) -> str:
        """The advice if this proxy cannot be reached."""
        return cureOf(self.machine, parseProxyURL(proxy))

    def test_ssh(self) -> None:
        """Only where ssh runs, and may be the proxy, its command line matters."""
        self.assertEqual(self.cure("127.0.0.1:1090"), "")
        self.write("proc/10/comm", "ssh\n")
        for proxy in ("127.0.0.1:1090", "socks5h://localhost:1090", "socks4://[::1]:1090"):
            self.assertIn("start it with -D 1090 on", self.cure(proxy))
        for proxy in ("192.0.2.1:1090", "http://127.0.0.1:1090", "socks5:///run/x", "direct://"):
            self.assertEqual(self.cure(proxy), "", proxy)


class FirewallTests(CheckCase):
    """L{FirewallCheck}."""

    def program(self, name: str) -> None:
        """Install a program."""
        (self.root / "bin" / name).touch(0o755)

    def test_levels(self) -> None:
        """No program is a failure only if one is needed; iptables suffices; nft is better."""
        with_, without = settings("--auto-route"), settings()
        self.assertFinds(FirewallCheck(self.machine, with_), Level.FAIL, "neither", "nftables")
        self.assertFinds(FirewallCheck(self.machine, without), Level.INFO, "neither")
        self.program("iptables")
        self.assertFinds(FirewallCheck(self.machine, with_), Level.INFO, "iptables serves")
        self.program("nft")
        self.assertFinds(FirewallCheck(self.machine, with_), Level.OK)


class ResolverTests(CheckCase):
    """L{ResolverCheck}, and when there is one."""

    def test_findings(self) -> None:
        """Each resolver whose queries leave in the clear is a warning."""
        self.assertFinds(ResolverCheck(lambda: ()), Level.OK)
        found = self.findings(ResolverCheck(lambda: ("One; stop it.", "Two; stop it.")))
        self.assertEqual(
            [(each.level, each.text) for each in found],
            [(Level.WARN, "One; stop it."), (Level.WARN, "Two; stop it.")],
        )

    def test_needed(self) -> None:
        """It is made where only some programs enter the tunnel."""
        for flags, count in (
            ((), 0),
            (("--auto-route",), 0),
            (("--only", "uid:5"), 0),
            (("--auto-route", "--only", "uid:5"), 1),
        ):
            self.assertEqual(len(resolverChecks(settings(*flags))), count)


class ManagerTests(CheckCase):
    """L{ManagerCheck}."""

    def test_none(self) -> None:
        """Without other managers, none is reported."""
        self.assertFinds(ManagerCheck(lambda: HOME, self.machine, settings()), Level.OK)

    def test_each(self) -> None:
        """NetworkManager, systemd-resolved and Docker are reported, with their consequences."""
        self.write("run/NetworkManager/x", "")
        self.write("run/systemd/resolve/stub-resolv.conf", "")
        for name in ("docker0", "br-0123"):
            home = HOME._replace(links=(*HOME.links, link(3, name, "bridge")))
            found = self.findings(ManagerCheck(lambda home=home: home, self.machine, settings()))  # type: ignore[misc]
            self.assertEqual([each.level for each in found], [Level.INFO] * 3)
        texts = " ".join(f"{each.text} {each.cure}" for each in found)
        for word in ("interface-name:nano0", "systemd-resolved", "Docker"):
            self.assertIn(word, texts)
