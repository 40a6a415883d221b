"""
Tests for what is pure in L{nanotun.owners}: names, matching, kinship, messages,
time, mounts and proxies' addresses.
"""

from __future__ import annotations

import struct

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.selectors import selectors
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint, Protocol
from nanotun.linux.users import uidOf
from nanotun.owners.budget import BURST, LEAST, LOOKUP_LIMIT, SHARE, LookupBudget
from nanotun.owners.inheritance import propagate
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.matching import Matcher
from nanotun.owners.names import namesOf
from nanotun.owners.sockdiag import Answer, answers, askForOne, leaves, packAddress, sends, takes
from nanotun.owners.values import Excluded, FlowSocket, Process, ProcStat, Program
from nanotun.policy.rules import LOCAL_PROXY
from nanotun.testing import FakeSockets
from nanotun.upstream.schemes.table import parseProxyURL


class NameTests(SynchronousTestCase):
    """Tests for L{namesOf}."""

    def test_executable(self) -> None:
        """A program has its file's name, and the kernel's name for it."""
        self.assertEqual(namesOf("/usr/bin/Curl", "Curl", ["curl"]), {"curl"})
        self.assertEqual(namesOf("/bin/busybox", "wget", ["wget"]), {"busybox", "wget"})
        self.assertEqual(namesOf("", "kworker/0:1", []), {"kworker/0:1"})

    def test_exe(self) -> None:
        """A program under Wine has its name from Windows, with or without .exe."""
        names = namesOf("/usr/bin/wine64-preloader", "C:\\x\\Game.EXE", ["Game.EXE"])
        self.assertEqual(names, {"wine64-preloader", "game"})

    def test_script(self) -> None:
        """A script has its file's name, however its interpreter was started."""
        for arguments in (
            ["python3", "/opt/foo.py", "-v"],
            ["python3", "-u", "foo.py"],
            ["/usr/bin/python3.11", "-I", "-u", "dir/foo.py", "bar.py"],
        ):
            self.assertIn("foo.py", namesOf("/usr/bin/python3.11", "python3", arguments))
        self.assertIn("foo", namesOf("/usr/bin/dash", "sh", ["sh", "foo"]))

    def test_noScript(self) -> None:
        """A program's text on the command line is no name, nor are other programs' arguments."""
        self.assertEqual(
            namesOf("/usr/bin/python3.11", "python3", ["python3", "-c", "curl"]),
            {"python3.11", "python3"},
        )
        self.assertEqual(namesOf("/usr/bin/tail", "tail", ["tail", "curl"]), {"tail"})
        self.assertEqual(namesOf("/usr/bin/dash", "dash", ["dash"]), {"dash"})


def stat(started: int = 5, session: int = 1, parent: int = 1) -> ProcStat:
    """The stat of some process."""
    return ProcStat(started, 7, b"x", session, parent)


def process(
    pid: int = 9, path: str = "/usr/bin/curl", uid: int = 1000, group: str = "/"
) -> Process:
    """Some process."""
    name = path.rpartition("/")[2]
    return Process(pid, stat(), (uid,) * 3, namesOf(path, name, []), name, path, group)


class MatcherTests(SynchronousTestCase):
    """Tests for L{Matcher}."""

    def matcher(self, text: str, children: bool = False, sought: str = "") -> Matcher:
        """A matcher that knows a user and a link."""
        return Matcher(
            selectors(text),
            children,
            lambda text: uidOf(text, {"alice": 1000}.__getitem__),
            lambda path: {"/usr/bin/py": "/usr/bin/py3"}.get(path, path),
            dict.fromkeys(selectors(sought), "rules"),
        )

    def test_name(self) -> None:
        """A name matches the executable's name, in upper or lower case."""
        matcher = self.matcher("Curl.EXE, wget")
        self.assertEqual(matcher.processText(process(path="/opt/CURL")), "curl")
        self.assertEqual(matcher.processText(process(path="/opt/curl7")), "")
        self.assertTrue(matcher.byProcesses)
        self.assertFalse(matcher.bySockets)

    def test_path(self) -> None:
        """A path matches the file itself, and the target of a link."""
        matcher = self.matcher("/usr/bin/py, /opt/curl")
        matcher.resolvePaths()
        self.assertEqual(matcher.processText(process(path="/usr/bin/py3")), "/usr/bin/py")
        self.assertEqual(matcher.processText(process(path="/opt/curl")), "/opt/curl")
        self.assertEqual(matcher.processText(process(path="/usr/bin/curl")), "")

    def test_pid(self) -> None:
        """A pid matches the process that had it at the start, and no other."""
        matcher = self.matcher("pid:9, pid:10")
        self.assertEqual(matcher.processText(process(9)), "")
        nobody = "excludedProcesses: there is no process pid:10."
        self.assertEqual(matcher.bindPids({9: 5}.get), [nobody])
        self.assertEqual(matcher.processText(process(9)), "pid:9")
        self.assertEqual(matcher.processText(process(10)), "")
        later = process(9)._replace(stat=stat(started=6))
        self.assertEqual(matcher.processText(later), "")

    def test_uid(self) -> None:
        """Users match by number and by name, by their sockets alone."""
        matcher = self.matcher("uid:alice, uid:7")
        self.assertEqual(matcher.socketText(1000, ""), "uid:alice")
        self.assertEqual(matcher.socketText(7, "/"), "uid:7")
        self.assertEqual(matcher.socketText(0, "/"), "")
        self.assertFalse(matcher.byProcesses)
        self.assertEqual(matcher.processText(process()), "")
        self.assertIn("no user bob", str(self.assertRaises(ConfigError, self.matcher, "uid:bob")))
        error = self.assertRaises(ConfigError, self.matcher, "uid:roott")
        self.assertEqual(
            str(error),
            "excludedProcesses names uid:roott, but this machine has no user roott; did you mean "
            "root?",
        )

    def test_cgroup(self) -> None:
        """A cgroup matches all below it, but not a path that merely begins alike."""
        matcher = self.matcher("cgroup:/a/b")
        for path, text in (("/a/b", "cgroup:/a/b"), ("/a/b/c", "cgroup:/a/b"), ("/a/bc", "")):
            self.assertEqual(matcher.socketText(0, path), text, path)
        self.assertEqual(matcher.socketText(0, ""), "")
        self.assertEqual(self.matcher("cgroup:/").socketText(0, "/x"), "cgroup:/")

    def test_sought(self) -> None:
        """Rules' selectors all count, and exclude nothing; excluded ones are no rule's."""
        texts = "curl, /usr/bin/py, /usr/bin/py3, pid:9, uid:alice, uid:1000, unit:x.service"
        matcher = self.matcher("wget", sought=texts)
        matcher.resolvePaths()
        matcher.bindPids({9: 5}.get)
        running = Program(frozenset({"curl", "python"}), "/usr/bin/py3")
        self.assertEqual(
            matcher.selected(9, 5, running), {"curl", "/usr/bin/py", "/usr/bin/py3", "pid:9"}
        )
        self.assertEqual(matcher.selected(9, 6, Program(frozenset({"wget"}), "")), set())
        users = {"uid:alice", "uid:1000"}
        self.assertEqual(matcher.selectedBySocket(1000, ""), users)
        self.assertEqual(matcher.selectedBySocket(1000, "/x.service/y"), {*users, "unit:x.service"})
        self.assertEqual(matcher.socketText(1000, "/x.service"), "")
        self.assertEqual(matcher.processText(process(path="/opt/curl")), "")
        self.assertTrue(matcher.seeks and matcher.seeksPrograms and matcher.seeksCgroups)
        self.assertEqual(matcher.bindPids(lambda pid: None), ["rules: there is no process pid:9."])

    def test_soughtBySockets(self) -> None:
        """For rules about users and control groups no process has to be examined."""
        matcher = self.matcher("", children=True, sought="uid:alice, cgroup:/x")
        self.assertFalse(matcher.byProcesses or matcher.seeksPrograms or matcher.byFamilies)
        self.assertTrue(matcher.seeks and matcher.bySockets)

    def test_unit(self) -> None:
        """A unit matches anywhere in the path, by its whole name."""
        matcher = self.matcher("unit:x.service")
        for path in ("/system.slice/x.service", "/user.slice/x.service/y"):
            self.assertEqual(matcher.socketText(0, path), "unit:x.service")
        self.assertEqual(matcher.socketText(0, "/system.slice/xx.service"), "")

    def test_children(self) -> None:
        """With children, the processes of users and cgroups are matched as well."""
        matcher = self.matcher("uid:alice, unit:x.service", children=True)
        self.assertTrue(matcher.byProcesses)
        self.assertEqual(matcher.processText(process(uid=1000)), "uid:alice")
        self.assertEqual(matcher.processText(process(uid=0, group="/x.service")), "unit:x.service")


class SpreadTests(SynchronousTestCase):
    """Tests for L{propagate}."""

    family = {
        1: stat(0, parent=0),
        10: stat(10, session=10, parent=1),
        11: stat(11, session=10, parent=10),
        12: stat(12, session=12, parent=11),
        13: stat(13, session=13, parent=1),
    }

    def test_alone(self) -> None:
        """Without children only the process itself is excluded."""
        self.assertEqual(propagate({10: "x"}, self.family, False, {}), {10: ("x", False)})

    def test_descendants(self) -> None:
        """With children all descendants are excluded, and no other process."""
        self.assertEqual(
            propagate({10: "x"}, self.family, True, {}),
            {10: ("x", False), 11: ("x", True), 12: ("x", True)},
        )

    def test_proxy(self) -> None:
        """Children in the proxy's session are the proxy; those in sessions of their own are not."""
        self.assertEqual(
            propagate({10: LOCAL_PROXY}, self.family, True, {}),
            {10: (LOCAL_PROXY, False), 11: (LOCAL_PROXY, True)},
        )

    def test_orphan(self) -> None:
        """A child stays excluded when its parent dies, as do its own children."""
        before = {11: Excluded(process(11)._replace(stat=self.family[11]), "x", inherited=True)}
        family = {
            1: self.family[1],
            11: self.family[11]._replace(parent=1),
            12: self.family[12],
        }
        self.assertEqual(propagate({}, family, True, before), {11: ("x", True), 12: ("x", True)})
        family[11] = family[11]._replace(started=99)
        self.assertEqual(propagate({}, family, True, before), {})

    def test_orphanOfProxy(self) -> None:
        """Children of a proxy that has ended are no proxy."""
        before = {
            11: Excluded(process(11)._replace(stat=self.family[11]), LOCAL_PROXY, inherited=True)
        }
        self.assertEqual(propagate({}, self.family, True, before), {})

    def test_newPid(self) -> None:
        """A process older than its parent is not its child: the pid was reused."""
        family = {10: stat(20), 11: stat(11, parent=10)}
        self.assertEqual(propagate({10: "x"}, family, True, {}), {10: ("x", False)})

    def test_circle(self) -> None:
        """Pids that were reused while they were read do not cause an endless loop."""
        family = {10: stat(parent=11), 11: stat(parent=10)}
        self.assertEqual(
            propagate({10: "x"}, family, True, {}), {10: ("x", False), 11: ("x", True)}
        )


HERE, THERE = Endpoint("192.0.2.1", 4000), Endpoint("192.0.2.2", 443)


class MessageTests(SynchronousTestCase):
    """Tests for L{nanotun.owners.sockdiag}."""

    def test_mapped(self) -> None:
        """An IPv4-mapped address is asked for as IPv4, and a scope is left out."""
        self.assertEqual(packAddress("::ffff:192.0.2.1"), packAddress("192.0.2.1"))
        self.assertEqual(packAddress("fe80::1%eth0"), packAddress("fe80::1"))

    def test_swapped(self) -> None:
        """A request for TCP has our end first, one for UDP the other end."""
        tcp = askForOne(1, Protocol.TCP, HERE, THERE, 3)
        udp = askForOne(1, Protocol.UDP, HERE, THERE, 3)
        self.assertEqual(len(tcp), 72)
        self.assertEqual(tcp[24:28], struct.pack("!HH", 4000, 443))
        self.assertEqual(udp[24:28], struct.pack("!HH", 443, 4000))
        self.assertEqual(tcp[28:44], udp[44:60])

    def test_broken(self) -> None:
        """Messages that are cut off, too short, or answer another request are ignored."""
        answer = struct.pack("=IHHII", 88, 20, 0, 5, 0) + b"\2\1" + b"\0" * 70
        self.assertEqual(len(list(answers(answer, 5))), 1)
        self.assertEqual(list(answers(answer, 6)), [])
        for length in range(len(answer)):
            self.assertEqual(list(answers(answer[:length], 5)), [])
        self.assertEqual(list(answers(struct.pack("=IHHII", 4, 20, 0, 5, 0), 5)), [])
        short = struct.pack("=IHHII", 20, 20, 0, 5, 0) + b"\0" * 4
        self.assertEqual(next(answers(short + answer, 5)), next(answers(answer, 5)))

    def test_badAttribute(self) -> None:
        """An attribute that claims no length ends the reading of attributes."""
        answer = struct.pack("=IHHII", 96, 20, 0, 5, 0) + b"\2\1" + b"\0" * 70
        self.assertEqual(len(list(answers(answer + b"\0" * 8, 5))), 1)

    def test_refusal(self) -> None:
        """A refusal is raised, unless it says that there is no such socket."""
        error = struct.pack("=IHHIIi", 20, 2, 0, 5, 0, -1)
        self.assertRaises(PermissionError, list, answers(error, 5))
        absent = struct.pack("=IHHIIi", 20, 2, 0, 5, 0, -2)
        self.assertEqual(list(answers(absent, 5)), [None])

    def answer(self, remotePort: int = 443, inode: int = 8) -> Answer:
        """An answer about a socket on HERE's port."""
        found = FlowSocket(inode, 0, 0, 0, remotePort != 0)
        return Answer(2, packAddress(HERE.host)[1], 4000, remotePort, found)

    def test_sends(self) -> None:
        """Sockets that listen, have another peer, or are no file do not send the flow."""
        for protocol in Protocol:
            self.assertTrue(sends(self.answer(), protocol, HERE, THERE))
            self.assertFalse(sends(self.answer(inode=0), protocol, HERE, THERE))
            self.assertFalse(sends(self.answer(80), protocol, HERE, THERE))
            self.assertFalse(sends(self.answer(), protocol, THERE, THERE))
        self.assertFalse(sends(self.answer(0), Protocol.TCP, HERE, THERE))
        self.assertTrue(sends(self.answer(0), Protocol.UDP, HERE, THERE))

    def test_takes(self) -> None:
        """A socket receives packets to its address, or to any address if it has none."""
        answer = self.answer(0)
        self.assertTrue(takes(answer, HERE.host))
        self.assertFalse(takes(answer, THERE.host))
        self.assertTrue(takes(answer._replace(local=b"\0" * 16), THERE.host))
        mapped = answer._replace(family=10, local=b"\0" * 10 + b"\xff\xff" + b"\xc0\0\2\1")
        self.assertTrue(takes(mapped, HERE.host))
        self.assertFalse(takes(mapped, THERE.host))

    def test_leaves(self) -> None:
        """Sockets talk to others, unless from a loopback address or our own."""
        for host, expected in (
            ("192.0.2.1", True), ("2001:db8::1", True), ("0.0.0.0", True), ("::", True),
            ("127.0.0.2", False), ("::1", False), ("198.18.0.2", False), ("198.19.0.2", False),
            ("fdfe:dcba:9876::2", False),
        ):  # fmt: skip
            family, local = packAddress(host)
            answer = self.answer()._replace(family=family, local=local)
            self.assertEqual(leaves(answer), expected, host)
            if family == 2:
                mapped = b"\0" * 10 + b"\xff\xff" + local[:4]
                self.assertEqual(leaves(answer._replace(family=10, local=mapped)), expected, host)
        self.assertFalse(leaves(self.answer(inode=0)))


class LookupBudgetTests(SynchronousTestCase):
    """Tests for L{LookupBudget}."""

    def test_spent(self) -> None:
        """Lookups in a burst share its time, and each has a minimum."""
        clock, spent = Clock(), Clock()
        budget = LookupBudget(clock.seconds, spent.seconds)
        for limit in (LOOKUP_LIMIT, BURST - LOOKUP_LIMIT, LEAST, LEAST):
            granted = budget.begin() - spent.seconds()
            self.assertAlmostEqual(granted, limit)
            spent.advance(granted)
            budget.end()

    def test_saved(self) -> None:
        """Spent time is saved up again, up to the limit."""
        clock, spent = Clock(), Clock()
        budget = LookupBudget(clock.seconds, spent.seconds)
        for _ in range(5):
            spent.advance(budget.begin() - spent.seconds())
            budget.end()
        clock.advance(0.004 / SHARE)
        self.assertAlmostEqual(budget.begin() - spent.seconds(), 0.004)
        clock.advance(1000)
        self.assertAlmostEqual(budget.begin() - spent.seconds(), LOOKUP_LIMIT)

    def test_waits(self) -> None:
        """Waiting for a processor costs nothing."""
        clock, spent = Clock(), Clock()
        clock.advance(1000)
        budget = LookupBudget(clock.seconds, spent.seconds)
        budget.begin()
        clock.advance(5)
        budget.end()
        self.assertAlmostEqual(budget.begin(), LOOKUP_LIMIT)


class LocalProxyTests(SynchronousTestCase):
    """Tests for L{nanotun.owners.localproxy}."""

    def setUp(self) -> None:
        """Sockets, and addresses that the test changes."""
        self.sockets = FakeSockets()
        self.sockets.start()
        self.addresses = frozenset({"127.0.0.1", "::1"})

    def own(self) -> frozenset[str]:
        """This machine's addresses."""
        return self.addresses

    def proxies(self, *texts: str) -> LocalProxies:
        """The local proxies of these URLs."""
        return LocalProxies(tuple(map(parseProxyURL, texts)), self.sockets, self.own)

    def test_any(self) -> None:
        """Loopback addresses, localhost, own addresses and unix sockets are on this machine."""
        self.addresses |= {"192.0.2.1"}
        for text, expected in (
            ("127.0.0.1:1080", True), ("127.1.2.3:1080", True), ("[::1]:1080", True),
            ("localhost:1080", True), ("LocalHost:1080", True), ("x.localhost:1080", True),
            ("192.0.2.1:1080", True), ("socks5:///run/proxy", True), ("192.0.2.9:1080", False),
            ("proxy.example:1080", False), ("direct://", False), ("reject://", False),
        ):  # fmt: skip
            proxies = self.proxies(text)
            proxies.readAddresses()
            self.assertEqual(proxies.any, expected, text)

    def test_listeners(self) -> None:
        """Sockets that listen at the address, or at localhost in either family, are found."""
        proxies = self.proxies("127.0.0.1:1080", "localhost:1081", "socks5:///run/x%20y")
        self.assertEqual(proxies.listeners(), frozenset())
        self.assertEqual(proxies.sample(), frozenset())
        expected = {
            self.sockets.add(Protocol.TCP, Endpoint("0.0.0.0", 1080), listens=True),
            self.sockets.add(Protocol.TCP, Endpoint("::1", 1081), listens=True),
        }
        self.sockets.add(Protocol.TCP, Endpoint("::1", 1080), listens=True)
        self.assertEqual({found.inode for found in proxies.sample()}, expected)
        self.sockets.paths["/run/x y"] = [77]
        self.assertEqual(proxies.listeners(), expected | {77})

    def test_addressComes(self) -> None:
        """A proxy's address counts only while it is this machine's."""
        proxies = self.proxies("192.0.2.1:1080")
        inode = self.sockets.add(Protocol.TCP, Endpoint("0.0.0.0", 1080), listens=True)
        for addresses, expected in ((set(), set()), ({"192.0.2.1"}, {inode}), (set(), set())):
            self.addresses = frozenset(addresses)
            proxies.readAddresses()
            self.assertEqual(proxies.listeners(), expected)
