"""
C{nanotun run} by an ordinary user: what the command is, and whose script may decide about it.
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

from tests.e2e.lab.cell import Running
from tests.e2e.lab.ordinary import GROUP, NOBODY
from tests.e2e.lab.script import Folder
from tests.e2e.lab.topology import IPV4
from tests.e2e.run_case import RunCase

OTHER = 1
"""Another user than the one who runs it."""

ALL_CAPABILITIES = struct.pack("<5I", 0x02000001, 0x3FF, 0, 0, 0)
"""The first ten capabilities, permitted and effective (linux/capability.h, vfs_cap_data)."""

BY_PORT = """
    import os

    def say(*words):
        with open(os.environ["SAID"], "a") as file:
            print(*words, file=file)

    def start():
        say("start", os.getuid())

    def flow(flow):
        say("flow", flow.port)
        return "reject" if flow.port == 81 else None

    def stop():
        say("stop")
"""


class UserTests(RunCase):
    """The command as a process."""

    byRoot = False

    def test_rights(self) -> None:
        """It is the same user, with the same rights to files, and has no capability."""
        (self.directory / "ours").write_text("group's\n")
        (self.directory / "ours").chmod(0o040)
        os.chown(self.directory / "ours", 0, GROUP)
        script = "id -u; id -g; grep -h ^Cap /proc/self/status; cat ours; touch made; ls /root"
        done = self.call("sh", "-c", script)
        uid, gid, *sets, text = done.out.splitlines()[:8]
        self.assertEqual((uid, gid, text), (str(NOBODY), str(NOBODY), "group's"), done)
        found = {line.split(":")[0]: int(line.split()[1], 16) for line in sets}
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(found[kind], 0, kind)
        status = (self.directory / "made").stat()
        self.assertEqual((status.st_uid, status.st_gid), (NOBODY, NOBODY))

    def outside(self) -> Running:
        """A process of the same user's in the machine's network."""
        running = self.launch([self.program[0], "sh", "-c", "echo up; exec sleep 60"])
        self.assertEqual(running.line(), "up")
        return running

    def test_confined(self) -> None:
        """It can neither look into the user's programs outside nor enter their network."""
        pid = self.outside().pid
        # Outside, this user can.
        look = f"cat /proc/{pid}/environ >/dev/null && readlink /proc/{pid}/ns/net >/dev/null"
        self.assertEqual(self.launch([self.program[0], "sh", "-c", look]).done().status, 0)
        helper = "cat /proc/$PPID/environ"
        for command in (look, helper, f"nsenter -t {pid} -n true", f"nsenter -t {pid} -U true"):
            done = self.call("sh", "-c", command)
            self.assertNotEqual(done.status, 0, command)
            self.assertRegex(done.err, "Permission denied|Operation not permitted")

    def test_network(self) -> None:
        """It can change nothing of its network, and no new user namespace helps."""
        for prefix in ([], ["unshare", "--user", "--map-root-user"]):
            for command in (
                "ip link del nano0",
                "ip addr add 192.0.2.1/32 dev lo",
                "umount /etc/resolv.conf",
            ):
                done = self.call(
                    *prefix, "sh", "-c", f"{command}; ip -br link; cat /etc/resolv.conf"
                )
                self.assertIn("nano0", done.out)
                self.assertIn("198.18.0.1", done.out)
                self.assertNotEqual(done.err, "")

    def test_noGain(self) -> None:
        """A program with the setuid bit runs as the user, and one with capabilities has none."""
        for name in ("id", "grep"):
            shutil.copy(shutil.which(name) or name, self.directory)
        (self.directory / "id").chmod(0o4755)
        os.setxattr(self.directory / "grep", "security.capability", ALL_CAPABILITIES)
        script = "./id -u; ./grep -hE '^Cap(Prm|Eff)' /proc/self/status"
        # Outside, both have what they were given.
        outside = self.launch([self.program[0], "sh", "-c", script]).done()
        self.assertEqual(outside.out.split()[0], "0", outside)
        self.assertNotEqual(int(outside.out.split()[-1], 16), 0)
        done = self.call("sh", "-c", script)
        uid, *sets = done.out.splitlines()
        self.assertEqual((uid, [int(line.split()[1], 16) for line in sets]), (str(NOBODY), [0, 0]))

    def test_ping(self) -> None:
        """The gateway answers ping, which has no need of privileges."""
        done = self.call("ping", "-c1", "-W5", "198.18.0.1")
        self.assertIn(" 0% packet loss", done.out, done)


class UserScriptTests(RunCase):
    """A script, which runs in nanotun itself."""

    byRoot = False

    def flags(self, owner: int) -> tuple[Path, list[str]]:
        """A script of a user's, and the options that name it."""
        folder = Folder(owner)
        self.addCleanup(folder.remove)
        path = folder.write(BY_PORT)
        said = self.directory / "said"
        self.patch(os, "environ", {**os.environ, "SAID": str(said)})
        return said, ["--script", str(path)]

    def test_decides(self) -> None:
        """Root's or the user's decides, with the user's rights; a line warns of the latter."""
        web, proxy = self.webServer(), self.dante().url()
        for owner in (0, NOBODY):
            said, flags = self.flags(owner)
            url, closed = IPV4.url(web.port, "/bytes/7"), IPV4.url(81, "/")
            command = f"curl -qsS {url} | wc -c; curl -qs {closed}; echo $?"
            done = self.call("sh", "-c", command, proxy=proxy, options=flags)
            self.assertEqual(done.out, "7\n7\n", done.err)
            lines = said.read_text().splitlines()
            said.unlink()
            self.assertEqual(lines, [f"start {NOBODY}", f"flow {web.port}", "flow 81", "stop"])
            warned = "COMMAND runs as nobody, who can change the script" in done.err
            self.assertEqual(warned, owner == NOBODY, done.err)

    def test_refused(self) -> None:
        """Another user's is refused."""
        _, flags = self.flags(OTHER)
        done = self.call("echo", "ran", options=flags)
        self.assertEqual((done.status, done.out), (125, ""))
        self.assertIn("and only root could run it with such rights", done.err)
