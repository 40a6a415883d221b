"""Tests of L{nanotun.owners.claims}."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint, Protocol
from nanotun.owners.claims import dynamicPorts
from nanotun.owners.owners import Owners
from nanotun.owners.values import Made
from nanotun.policy.rules import LOCAL_PROXY
from tests.unit.owners.owners_cases import TCP, OwnersCase

#: Command lines, and the ports at which these listen.
LINES: tuple[tuple[str, set[int]], ...] = (
    ("ssh -D 1090 host", {1090}),
    ("ssh -D1090 host", {1090}),
    ("/usr/bin/ssh -ND1090 host", {1090}),
    ("ssh -fNTD 1090 user@host", {1090}),
    ("ssh -D localhost:1090 host", {1090}),
    ("ssh -D *:1090 host", {1090}),
    ("ssh -D [::1]:1090 host", {1090}),
    ("ssh -D ::1/1090 host", {1090}),
    ("ssh -D 1 -D 2 host", {1, 2}),
    ("ssh -p 2222 -i key -D 1090 host", {1090}),
    ("ssh host -D 1090", {1090}),
    ("ssh host -N -D 1090", {1090}),
    ("ssh -o DynamicForward=1090 host", {1090}),
    ("ssh -oDynamicForward=localhost:1090 host", {1090}),
    ("ssh -N -o dynamicforward=1090 host", {1090}),
    ("ssh host command -D 1090", set()),
    ("ssh -- host -D 1090", set()),
    ("ssh -p 1090 host", set()),
    ("ssh -L 1090:h:1 -R 1090 host", set()),
    # The value of another option, and options of the command.
    ("ssh -l -D1090 host", set()),
    ("ssh -o ProxyCommand=D host", set()),
    ("ssh -D host", set()),
    ("ssh -D", set()),
    ("ssh", set()),
)


class DynamicPortsTests(SynchronousTestCase):
    """Tests for L{dynamicPorts}."""

    def test_lines(self) -> None:
        """ssh's command line is read as ssh reads it."""
        for line, ports in LINES:
            self.assertEqual(dynamicPorts(line.split()), ports, line)

    def test_words(self) -> None:
        """An option in the form of a line of its file, with or without quotes."""
        for value in ("DynamicForward 1090", 'DynamicForward = "1090"', "  dynamicforward\t*:1090"):
            self.assertEqual(dynamicPorts(["ssh", "-o", value, "host"]), {1090}, value)
        self.assertEqual(dynamicPorts([]), set())
        self.assertEqual(dynamicPorts(["ssh", "", "-D", "1090"]), {1090})


class ClaimsTests(OwnersCase):
    """Tests for L{nanotun.owners.claims.Claims}, in the place where it is used."""

    proxy = "localhost:1090"

    def ssh(self, pid: int = 30, line: str = "ssh -D 1090 host", session: int = 30) -> int:
        """Start ssh, which connects; returns its socket's inode."""
        self.processes.spawn(
            pid, "/usr/bin/ssh", parent=1, session=session, arguments=tuple(line.split())
        )
        return self.connect(pid)

    def connect(self, pid: int) -> int:
        """Give a process the socket of the flow; returns its inode."""
        inode = self.sockets.add(Protocol.TCP, TCP.source, TCP.destination)
        self.processes.open(pid, inode)
        return inode

    def listen(self, pid: int, host: str = "127.0.0.1", port: int = 1090) -> None:
        """Let a process listen."""
        inode = self.sockets.add(Protocol.TCP, Endpoint(host, port), listens=True)
        self.processes.open(pid, inode)

    def text(self, owners: Owners) -> str:
        """By what the flow is excluded; empty if it is not."""
        # A new sample of listeners is due.
        self.clock.advance(0.02)
        owner = owners.ownerOf(TCP)
        assert owner is not None and not isinstance(owner, Deferred), owner
        return owner.excluded

    def test_before(self) -> None:
        """ssh -D is the proxy while nobody listens at its port, whichever started first."""
        self.ssh()
        owners = self.owners()
        self.assertEqual(self.text(owners), LOCAL_PROXY)

    def test_after(self) -> None:
        """One that is started later is recognised without a scan."""
        owners = self.owners()
        self.ssh()
        self.assertEqual(self.text(owners), LOCAL_PROXY)
        self.assertEqual(self.scans, [])

    def test_record(self) -> None:
        """With the kernel's record no descriptor is read for that."""
        owners = self.owners()
        self.ssh()
        self.sockets.open.clear()
        self.sockets.add(Protocol.TCP, TCP.source, TCP.destination, cookie=7)
        self.record[7] = Made(30, self.processes.now)
        self.processes.files[30] = {}
        self.assertEqual(self.text(owners), LOCAL_PROXY)

    def test_taken(self) -> None:
        """As soon as anybody listens at the port, on either address, ssh -D is like any other."""
        owners = self.owners()
        self.ssh()
        self.processes.spawn(31, "/usr/bin/microsocks", session=31)
        self.listen(31, "::1")
        self.assertEqual(self.text(owners), "")

    def test_itself(self) -> None:
        """When it listens itself, it is the proxy because of that."""
        owners = self.owners()
        self.ssh()
        self.assertEqual(self.text(owners), LOCAL_PROXY)
        self.listen(30)
        self.assertEqual(self.text(owners), LOCAL_PROXY)

    def test_others(self) -> None:
        """Other ports claim nothing, and neither do other programs with such arguments."""
        for pid, line, path in (
            (30, "ssh -D 1091 host", "/usr/bin/ssh"),
            (30, "ssh host", "/usr/bin/ssh"),
            (30, "curl -D 1090 host", "/usr/bin/curly"),
        ):
            owners = self.owners()
            self.processes.spawn(pid, path, session=30, arguments=tuple(line.split()))
            self.connect(pid)
            self.assertEqual(self.text(owners), "", line)
            self.stop(owners)
            self.processes.end(pid)
            self.sockets.open.clear()

    def test_command(self) -> None:
        """What ssh starts to reach its server (ProxyCommand, -J) belongs to it."""
        owners = self.owners()
        self.processes.spawn(
            30, "/usr/bin/ssh", session=30, arguments=("ssh", "-D", "1090", "-J", "jump", "host")
        )
        self.processes.spawn(31, "/bin/sh", parent=30, session=30)
        self.processes.spawn(
            32, "/usr/bin/ssh", parent=31, session=30, arguments=("ssh", "-W", "host:22", "jump")
        )
        self.connect(32)
        self.assertEqual(self.text(owners), LOCAL_PROXY)

    def test_session(self) -> None:
        """A process in a session of its own does not belong to the ssh that started it."""
        owners = self.owners()
        self.processes.spawn(30, "/usr/bin/ssh", session=30, arguments=("ssh", "-D", "1090", "h"))
        self.processes.spawn(31, "/usr/bin/nc", parent=30, session=31)
        self.connect(31)
        self.assertEqual(self.text(owners), "")

    def test_noProxy(self) -> None:
        """Without a proxy on this machine nothing is claimed."""
        self.proxy = "192.0.2.99:1090"
        owners = self.owners()
        self.ssh()
        self.assertEqual(self.text(owners), "")

    def test_established(self) -> None:
        """An ssh -D that is about to log in when the daemon starts keeps its connection."""
        inode = self.ssh()
        owners = self.owners()
        owners.established.keep()
        self.assertEqual(
            {each: pid for each, (pid, _) in owners.established.kept.items()}, {inode: 30}
        )
