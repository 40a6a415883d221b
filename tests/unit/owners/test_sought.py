"""
Tests for L{nanotun.owners.owners} with processes that rules name.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from nanotun.flow import Endpoint, Owner, Protocol
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.handover import HANDOVER_TRIES
from nanotun.owners.lookup import OwnerLookup
from nanotun.owners.owners import Owners
from nanotun.owners.values import Made
from nanotun.owners.waiting import ROUND_INTERVAL
from nanotun.policy.rules import LOCAL_PROXY
from tests.unit.owners.owners_cases import OWN, SOURCE, TARGET, TCP, UDP, OwnersCase

OTHER = TCP._replace(source=Endpoint("192.0.2.1", 4001))


class SoughtTests(OwnersCase):
    """Tests for L{Owner.selected}."""

    def selected(self, owners: Owners, flow: object = TCP) -> set[str]:
        """The rules' selectors that a flow's owner matches; it is not excluded."""
        owner = owners.ownerOf(flow)  # type: ignore[arg-type]
        assert isinstance(owner, Owner)
        self.assertEqual(owner.excluded, "")
        return set(owner.selected)

    def test_program(self) -> None:
        """A process that a rule names is told with its name; of others it is known who it is."""
        self.program(60, "/usr/bin/curl")
        self.program(61, "/usr/bin/wget", OTHER)
        owners = self.owners("", sought="curl")
        selected = frozenset({"curl"})
        expected = Owner(60, 1000, "curl", "/usr/bin/curl", "/", selected=selected)
        self.assertEqual(owners.ownerOf(TCP), expected)
        self.assertEqual(owners.ownerOf(OTHER), Owner(61, 1000, cgroup="/"))

    def test_all(self) -> None:
        """Every selector counts, be it of the program, the user or the control group."""
        self.cgroups.paths[77] = "/system.slice/x.service"
        self.program(60, "/usr/bin/curl", uid=7, cgroup=77)
        sought = "curl, /usr/bin/curl, uid:alice, uid:7, unit:x.service, cgroup:/system.slice, wget"
        every = set(sought.split(", ")) - {"wget"}
        self.assertEqual(self.selected(self.owners("", sought=sought)), every)

    def test_bySocket(self) -> None:
        """For users and control groups alone no process is ever examined."""
        owners = self.owners("", sought="uid:7")
        self.patch(self.processes, "newest", lambda: self.fail("it looks"))
        self.program(60, "/usr/bin/curl", uid=7)
        self.program(61, "/usr/bin/curl", OTHER)
        self.assertEqual(self.selected(owners), {"uid:7"})
        self.assertEqual(self.selected(owners, OTHER), set())

    def test_newcomer(self) -> None:
        """A process that starts after the scan is told at its first flow."""
        owners = self.owners("", sought="curl")
        self.program(60, "/usr/bin/curl")
        self.assertEqual(self.selected(owners), {"curl"})

    def test_executes(self) -> None:
        """A shell that becomes the program counts as that, and no longer once it is another."""
        owners = self.owners("", sought="curl")
        self.program(60, "/bin/sh")
        self.assertEqual(self.selected(owners), set())
        self.processes.execute(60, "/usr/bin/curl")
        self.assertEqual(self.selected(owners), {"curl"})
        self.processes.execute(60, "/usr/bin/wget")
        self.processes.open(60, self.sockets.add(Protocol.TCP, OTHER.source, TARGET))
        self.assertEqual(self.selected(owners, OTHER), set())

    def test_recorded(self) -> None:
        """With the record no files are searched."""
        owners = self.owners("", sought="curl")
        self.patch(self.processes, "descriptors", lambda pid: self.fail("it searches"))
        self.record[11] = Made(60, self.processes.now)
        self.program(60, "/usr/bin/curl", cookie=11)
        self.assertEqual(self.selected(owners), {"curl"})

    def test_children(self) -> None:
        """What a named process starts is not named, though it would be excluded."""
        self.processes.spawn(60, "/usr/bin/git")
        self.processes.spawn(61, "/usr/bin/curl", parent=60)
        self.processes.open(61, self.sockets.add(Protocol.TCP, SOURCE, TARGET))
        owners = self.owners("wget", children=True, sought="git")
        self.assertEqual(self.selected(owners), set())
        self.processes.spawn(62, "/usr/bin/curl", parent=60)
        self.processes.open(62, self.sockets.add(Protocol.TCP, OTHER.source, TARGET))
        self.assertEqual(self.selected(owners, OTHER), set())

    def test_alsoExcluded(self) -> None:
        """A process may be excluded and named: the rules decide which counts."""
        self.program(60, "/usr/bin/curl")
        self.program(61, "/usr/bin/wget", OTHER, uid=7)
        owners = self.owners("curl, uid:7", sought="/usr/bin/curl, wget")
        selected = frozenset({"/usr/bin/curl"})
        expected = Owner(60, 1000, "curl", "/usr/bin/curl", "/", "curl", selected)
        self.assertEqual(owners.ownerOf(TCP), expected)
        named = frozenset({"wget"})
        expected = Owner(61, 7, "wget", "/usr/bin/wget", "/", "uid:7", named)
        self.assertEqual(owners.ownerOf(OTHER), expected)

    def test_kept(self) -> None:
        """Open sockets of excluded processes stay outside of the tunnel, unless a rule decides."""
        self.processes.spawn(60, "/usr/bin/curl")
        self.processes.spawn(61, "/usr/bin/wget")
        self.processes.spawn(62, "/usr/bin/git")
        owners = self.owners("curl, wget", sought="wget, git")
        self.assertEqual(owners._lookup.excluded(), [60])
        self.processes.spawn(63, "/usr/bin/wget")
        self.processes.spawn(64, "/usr/bin/curl")
        self.assertEqual(owners._lookup.excluded(), [64, 60])

    def test_oneControlGroup(self) -> None:
        """Where all processes of a control group are named, it still matters which one it is."""
        self.cgroups.paths[77] = "/x"
        self.cgroups.processes["/x"] = [60, 61]
        self.processes.spawn(60, "/usr/bin/curl", cgroup="/x")
        self.processes.spawn(61, "/usr/bin/git", cgroup="/x")
        self.processes.open(61, self.sockets.add(Protocol.TCP, SOURCE, TARGET, cgroup=77))
        owners = self.owners("", sought="curl, git")
        self.assertEqual(self.selected(owners), {"git"})

    def test_sharedPort(self) -> None:
        """If processes that rules treat differently share a UDP port, nobody knows which it is."""
        self.processes.spawn(60, "/usr/bin/curl")
        self.processes.open(60, self.sockets.add(Protocol.UDP, SOURCE))
        owners = self.owners("", sought="curl")
        self.assertEqual(self.selected(owners, UDP), {"curl"})
        self.processes.spawn(61, "/usr/bin/wget")
        self.processes.open(61, self.sockets.add(Protocol.UDP, SOURCE))
        self.assertEqual(owners.ownerOf(UDP), Owner(0, 1000, whole=False))

    def test_sharedByProxy(self) -> None:
        """A proxy's flows are the proxy's, whichever of its processes rules name."""
        self.proxy = "127.0.0.1:1080"
        inode = self.sockets.add(Protocol.TCP, Endpoint("127.0.0.1", 1080), listens=True)
        for pid, path in ((60, "/usr/bin/danted"), (61, "/usr/bin/helper")):
            self.processes.spawn(pid, path)
            self.processes.open(pid, inode)
            self.processes.open(pid, self.sockets.add(Protocol.UDP, SOURCE))
        owners = self.owners("", sought="danted", overruled=True)
        owner = owners.ownerOf(UDP)
        assert isinstance(owner, Owner)
        self.assertEqual(owner.excluded, LOCAL_PROXY)

    def test_lostControlGroup(self) -> None:
        """
        If the control group of a socket is not known, the one of its process counts; without that,
        neither a rule about control groups nor its opposite holds.
        """
        owners = self.owners("", sought="curl, unit:x.service")
        self.processes.spawn(60, "/usr/bin/curl", cgroup="/x.service")
        self.processes.open(60, self.sockets.add(Protocol.TCP, SOURCE, TARGET, cgroup=99))
        self.assertEqual(self.selected(owners), {"curl", "unit:x.service"})
        self.sockets.add(Protocol.TCP, OTHER.source, TARGET, cgroup=99)
        self.assertEqual(owners.ownerOf(OTHER), Owner(0, 1000, whole=False))

    def test_ended(self) -> None:
        """
        Of a socket that no process has, or one that is ending and can be read in part only, it is
        not known that no rule names it.
        """
        unknown = Owner(0, 1000, cgroup="/", whole=False)
        owners = self.owners("", sought="other.py")
        self.sockets.add(Protocol.TCP, SOURCE, TARGET)
        self.assertEqual(owners.ownerOf(TCP), unknown)
        self.record[11] = Made(61, self.processes.now)
        self.program(61, "/usr/bin/python3", OTHER, cookie=11)
        self.assertEqual(owners.ownerOf(OTHER), Owner(61, 1000, cgroup="/"))
        self.processes.execute(61, "")
        self.assertEqual(owners.ownerOf(OTHER), unknown._replace(pid=61))

    def test_leftAlone(self) -> None:
        """The only process of a control group does not count for one that has ended there."""
        self.cgroups.paths[77] = "/x"
        self.cgroups.processes["/x"] = [60]
        self.processes.spawn(60, "/usr/bin/curl", cgroup="/x")
        owners = self.owners("", sought="curl")
        self.sockets.add(Protocol.TCP, SOURCE, TARGET, cgroup=77)
        self.assertEqual(owners.ownerOf(TCP), Owner(0, 1000, cgroup="/x", whole=False))

    def test_ourselves(self) -> None:
        """A socket of a library in our own process is like any other's, and is no loop."""
        self.processes.open(OWN, self.sockets.add(Protocol.TCP, SOURCE, TARGET))
        owners = self.owners("", sought="python3")
        owner = owners.ownerOf(TCP)
        assert isinstance(owner, Owner)
        self.assertEqual((owner.pid, owner.selected), (0, {"python3"}))

    def test_late(self) -> None:
        """If the process cannot be found in time, what its socket says still counts."""
        self.program(60, "/usr/bin/curl", uid=7)
        for everybody in (False, True):
            owners = self.owners("", sought="wget, uid:7", everybody=everybody)
            with self.slow(owners):
                waiting = self.wait(owners)
                for _ in range(200):
                    self.clock.advance(ROUND_INTERVAL)
                    if self.scans:
                        self.finish()
                found = self.successResultOf(waiting)
                self.assertEqual(found, Owner(0, 7, "", "", "/", "", frozenset({"uid:7"}), False))
            self.assertEqual(owners.misses, 1)
            owners.stop()


class OverruledTests(OwnersCase):
    """Tests for L{Owners} with a proxy on this machine, and rules that come before exclusions."""

    proxy = "127.0.0.1:1080"

    def listen(self, pid: int) -> None:
        """Let a process listen on the proxy's address."""
        place = Endpoint("127.0.0.1", 1080)
        self.processes.open(pid, self.sockets.add(Protocol.TCP, place, listens=True))

    def excluded(self, owners: Owners) -> str:
        """The selector by which the flow's owner is excluded."""
        owner = owners.ownerOf(TCP)
        assert isinstance(owner, Owner)
        return owner.excluded

    def test_user(self) -> None:
        """
        The proxy is the proxy also if its user is excluded: a rule might send it to itself.
        Without rules its user is enough, and no process is examined.
        """
        self.program(60, "/usr/bin/proxy", uid=7)
        self.program(61, "/usr/bin/curl", OTHER, uid=7)
        self.listen(60)
        owners = self.owners("uid:7", overruled=True)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)
        other = owners.ownerOf(OTHER)
        assert isinstance(other, Owner)
        self.assertEqual(other.excluded, "uid:7")
        owners.stop()
        owners = self.owners("uid:7")
        self.patch(OwnerLookup, "_holder", lambda *what: self.fail("it looks"))
        self.assertEqual(self.excluded(owners), "uid:7")

    def test_begins(self) -> None:
        """Excluded flows wait, too, while it is not known who listens."""
        self.program(60, "/usr/bin/curl")
        owners = self.owners("curl", overruled=True)
        self.sockets.add(Protocol.TCP, Endpoint("127.0.0.1", 1080), listens=True)
        self.wait(owners)

    def test_claims(self) -> None:
        """An ssh that will be the proxy is the proxy, also if it is excluded or named."""
        arguments = ("ssh", "-D", "1080", "host")
        for pid, excluded, sought in ((60, "ssh", ""), (61, "", "ssh"), (62, "ssh", "ssh")):
            owners = self.owners(excluded, sought=sought, overruled=True)
            self.processes.spawn(pid, "/usr/bin/ssh", arguments=arguments)
            inode = self.sockets.add(Protocol.TCP, SOURCE, TARGET)
            self.processes.open(pid, inode)
            self.clock.advance(1)
            self.assertEqual(self.excluded(owners), LOCAL_PROXY, (excluded, sought))
            self.processes.end(pid)
            self.sockets.open.clear()
            owners.stop()

    def test_asked(self) -> None:
        """What an excluded process's flow asks the proxy for may come back in a handover."""
        for pid in (60, 61):
            self.processes.spawn(pid, "/usr/bin/danted")
            self.listen(pid)
        self.program(62, "/usr/bin/curl")
        owners = self.owners("curl", overruled=True)
        self.assertEqual(self.excluded(owners), "curl")
        self.sockets.open = [each for each in self.sockets.open if each.listens]
        self.sockets.add(Protocol.TCP, SOURCE, TARGET)
        self.assertGreater(HANDOVER_TRIES, 0)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)


class EverybodyTests(OwnersCase):
    """Tests for L{Owners} where the process of every flow is wanted."""

    WGET = Owner(60, 1000, "wget", "/usr/bin/wget", "/")

    def outOfTime(self, owners: Owners) -> Any:
        """No search has enough time."""
        return mock.patch.object(owners._lookup._search, "_among", side_effect=OutOfTime)

    def test_searched(self) -> None:
        """Without the record all processes are searched, old and new ones."""
        self.program(60, "/usr/bin/wget")
        self.processes.now += 100
        owners = self.owners("", everybody=True)
        self.assertEqual(owners.ownerOf(TCP), self.WGET)
        self.program(61, "/usr/bin/curl", OTHER)
        expected = Owner(61, 1000, "curl", "/usr/bin/curl", "/")
        self.assertEqual(owners.ownerOf(OTHER), expected)
        self.assertEqual(owners.misses, 0)

    def test_recorded(self) -> None:
        """With the record no files are searched, and a program is read once."""
        owners = self.owners("", everybody=True)
        self.patch(self.processes, "descriptors", lambda pid: self.fail("it searches"))
        self.record[11] = Made(60, self.processes.now)
        self.program(60, "/usr/bin/wget", cookie=11)
        self.assertEqual([owners.ownerOf(TCP) for _ in range(3)], [self.WGET] * 3)
        self.assertEqual(self.processes.looks, [60])
        self.processes.execute(60, "/usr/bin/curl")
        expected = Owner(60, 1000, "curl", "/usr/bin/curl", "/")
        self.assertEqual(owners.ownerOf(TCP), expected)

    def test_excludedUser(self) -> None:
        """An excluded user's process is told as well."""
        self.program(60, "/usr/bin/wget", uid=7)
        owners = self.owners("uid:7", everybody=True)
        self.assertEqual(owners.ownerOf(TCP), self.WGET._replace(uid=7, excluded="uid:7"))

    def test_swept(self) -> None:
        """What takes long is found by the thread, which searches all processes."""
        self.program(60, "/usr/bin/wget")
        self.processes.now += 100
        owners = self.owners("", everybody=True)
        self.assertIsNone(owners._lookup._search.suspects())
        with self.outOfTime(owners):
            owner = self.wait(owners)
            self.clock.advance(ROUND_INTERVAL)
            self.finish()
            self.assertEqual(self.successResultOf(owner), self.WGET)

    def test_nobody(self) -> None:
        """A socket that no process has is its user's, and is not swept for again."""
        self.sockets.add(Protocol.TCP, SOURCE, TARGET, uid=7)
        owners = self.owners("", everybody=True)
        with self.outOfTime(owners):
            owner = self.wait(owners)
            self.clock.advance(ROUND_INTERVAL)
        self.finish()
        self.assertEqual(self.successResultOf(owner), Owner(0, 7, cgroup="/"))
        self.assertEqual(owners.ownerOf(TCP), Owner(0, 7, cgroup="/"))

    def test_late(self) -> None:
        """If the process cannot be found in time, its user and control group are still known."""
        self.program(60, "/usr/bin/wget", uid=7)
        owners = self.owners("", sought="uid:7", everybody=True)
        with self.slow(owners):
            owner = self.wait(owners)
            for _ in range(200):
                self.clock.advance(ROUND_INTERVAL)
                if self.scans:
                    self.finish()
        expected = Owner(0, 7, cgroup="/", selected=frozenset({"uid:7"}))
        self.assertEqual(self.successResultOf(owner), expected)
        self.assertEqual(owners.misses, 1)

    def test_sharedPort(self) -> None:
        """If several programs share a UDP port, only what holds of all of them is told."""
        self.processes.spawn(60, "/usr/bin/wget")
        self.processes.open(60, self.sockets.add(Protocol.UDP, SOURCE))
        owners = self.owners("", everybody=True)
        self.assertEqual(owners.ownerOf(UDP), self.WGET)
        self.processes.spawn(61, "/usr/bin/wget")
        self.processes.open(61, self.sockets.add(Protocol.UDP, SOURCE))
        self.assertEqual(owners.ownerOf(UDP), self.WGET)
        self.processes.spawn(62, "/usr/bin/curl")
        self.processes.open(62, self.sockets.add(Protocol.UDP, SOURCE))
        self.assertEqual(owners.ownerOf(UDP), Owner(0, 1000))

    def test_sharedByUsers(self) -> None:
        """If several users share one, nothing is known."""
        for pid, uid in ((60, 7), (61, 8)):
            self.processes.spawn(pid, "/usr/bin/wget")
            self.processes.open(pid, self.sockets.add(Protocol.UDP, SOURCE, uid=uid))
        self.assertIsNone(self.owners("", everybody=True).ownerOf(UDP))
