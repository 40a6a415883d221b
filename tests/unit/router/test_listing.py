"""
Tests for L{nanotun.router.listing}, by way of the router, and of what docs/flows.md says of it.
"""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from twisted.internet.defer import Deferred

from nanotun.control.messages import RESPONSE_LIMIT, resultLine
from nanotun.daemon.flowrequests import PAGE_LIMIT
from nanotun.flow import Decision, Endpoint, Owner, Refusal, Verdict
from nanotun.router.listing import TEXTS_LIMIT
from nanotun.testing import FakeOwners, FakeUpstream, FakeUpstreams
from tests import ROOT
from tests.unit.router.dial_cases import PlannedCase
from tests.unit.router.test_router import RouterCase

PLACE = Endpoint("192.0.2.7", 443)
FAKE = Endpoint("198.19.0.1", 443)
CURL = Owner(4711, 1000, "curl", "/usr/bin/curl", "/system.slice/ssh.service")
OFFICE = Decision(Verdict.PROXY, "#2", "rule 2 says so", upstream="office", name="example.com")

#: The types of JSON, by their names in the table.
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "null": (type(None),),
}


def documented() -> dict[str, tuple[type, ...]]:
    """The types of each field, by docs/flows.md."""
    text = (ROOT / "docs" / "flows.md").read_text()
    _, _, table = text.partition("## The JSON of a flow")
    rows = re.findall(
        r"^\| ((?:`[\w.]+`(?:, )?)+) \| ([\w ]+) \|", table.partition("\n## ")[0], re.M
    )
    return {
        name: tuple(each for word in types.split(" or ") for each in TYPES[word])
        for names, types in rows
        for name in re.findall(r"`([\w.]+)`", names)
    }


class ListingCase(RouterCase):
    """A router with an upstream office, and a rule for it."""

    def setUp(self) -> None:
        """Everything to one place is the office's."""
        super().setUp()
        self.office = FakeUpstream("socks5://10.0.0.5:1080")
        self.judge.decisions[PLACE.host] = OFFICE
        self.configure()

    def configure(self) -> None:
        """Read the configuration again."""
        upstreams = FakeUpstreams(self.upstream, self.direct)
        upstreams.byName["office"] = self.office
        self.router.configure(self.judge, upstreams, False)

    def join(self, destination: Endpoint = PLACE) -> int:
        """A flow that is joined; returns its id."""
        request = self.engine.request(destination)
        upstream = self.office if destination == PLACE else self.upstream
        self.addCleanup(upstream.answer().close)
        return request.flow.id

    @property
    def listed(self) -> list[dict[str, Any]]:
        """What is listed in one page."""
        return self.router.listing.page(0, 1000).flows


class ListingTests(ListingCase):
    """What is told of each flow."""

    def test_open(self) -> None:
        """Of an open flow everything is told that is known."""
        number = self.join()
        self.engine.carried[number] = 1234, 56789
        self.engine.ages[number] = 12.5004, 0.25
        (flow,) = self.listed
        self.assertEqual(
            flow,
            {
                "id": number,
                "protocol": "tcp",
                "state": "open",
                "age": 12.5,
                "idle": 0.25,
                "source": "198.18.0.2:40000",
                "destination": "192.0.2.7:443",
                "domain": "example.com",
                "verdict": "proxy",
                "rule": "#2",
                "upstream": "office",
                "by": "socks5://10.0.0.5:1080",
                "process": None,
                "up": 1234,
                "down": 56789,
            },
        )

    def test_states(self) -> None:
        """A flow that the router dials is told as dialled, with its rule; others as they are."""
        waits = self.engine.request(PLACE).flow.id
        half = self.join(Endpoint("192.0.2.8", 80))
        self.engine.halfClosed.add(half)
        self.assertEqual(
            [(each["id"], each["state"], each["rule"]) for each in self.listed],
            [(waits, "dialling", "#2"), (half, "half-closed", "default")],
        )

    def test_undecided(self) -> None:
        """Of a flow that waits for its decision, nothing but its ends is known."""
        self.patch(self.judge, "judge", lambda flow, sniff=None: Deferred())
        self.engine.request(PLACE)
        (told,) = self.listed
        self.assertEqual(told["state"], "waiting")
        for name in ("domain", "verdict", "rule", "upstream", "by", "process"):
            self.assertIs(told[name], None, name)

    def test_datagrams(self) -> None:
        """Datagrams that are sent are open."""
        self.engine.requestDatagrams(PLACE)
        self.office.answerDatagrams()
        (flow,) = self.listed
        self.assertEqual((flow["protocol"], flow["state"], flow["rule"]), ("udp", "open", "#2"))

    def test_names(self) -> None:
        """A fake address has its name; what a real one may be called is not told."""
        self.names.known[FAKE.host] = "fake.example"
        self.names.known["192.0.2.8"] = "guess.example"
        self.join(FAKE)
        self.join(Endpoint("192.0.2.8", 80))
        self.assertEqual([each["domain"] for each in self.listed], ["fake.example", None])

    def test_process(self) -> None:
        """The process is that which a rule needed, or which was looked up since."""
        self.judge.decisions[PLACE.host] = OFFICE._replace(owner=CURL)
        self.join()
        owners = FakeOwners()
        owners.known[40000] = CURL._replace(pid=17, cgroup="")
        self.router.programs.use(owners)
        self.join(Endpoint("192.0.2.8", 80))
        self.clock.advance(0)
        self.assertEqual(
            [each["process"] for each in self.listed],
            [
                {
                    "pid": 4711,
                    "uid": 1000,
                    "name": "curl",
                    "path": "/usr/bin/curl",
                    "unit": "ssh.service",
                },
                {"pid": 17, "uid": 1000, "name": "curl", "path": "/usr/bin/curl", "unit": None},
            ],
        )

    def test_served(self) -> None:
        """What nanotun answers itself leaves by no upstream."""
        self.judge.decisions[PLACE.host] = Decision(Verdict.SERVE, "gateway", "it is")
        request = self.engine.request(PLACE)
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        request.join(near.detach(), note=self.gateway.note)
        (flow,) = self.listed
        told = flow["verdict"], flow["rule"], flow["upstream"], flow["by"]
        self.assertEqual(told, ("serve", "gateway", None, None))

    def test_reload(self) -> None:
        """Of a flow it is told what was decided then, whatever the rules say now."""
        self.join()
        self.judge.decisions[PLACE.host] = OFFICE._replace(rule="#1")
        self.office = FakeUpstream("socks5://10.0.0.6:1080")
        self.configure()
        (flow,) = self.listed
        self.assertEqual((flow["rule"], flow["by"]), ("#2", "socks5://10.0.0.5:1080"))

    def test_documented(self) -> None:
        """Every field is there and of the type that docs/flows.md says, in all states."""
        fields = documented()
        self.assertEqual(fields["by"], (str, type(None)))
        self.judge.decisions[PLACE.host] = OFFICE._replace(owner=CURL)
        self.join()
        self.join(Endpoint("2001:db8::7", 80))
        self.engine.request(PLACE)
        self.engine.requestDatagrams(PLACE)
        flows = json.loads(json.dumps(self.listed))
        self.assertEqual(len(flows), 4)
        for flow in flows:
            inside = {f"process.{key}": value for key, value in (flow["process"] or {}).items()}
            told = {**flow, **inside}
            wanted = {each for each in fields if flow["process"] or "." not in each}
            self.assertEqual(set(told), wanted)
            for name, value in told.items():
                self.assertIs(type(value) in fields[name], True, (name, value))


class PageTests(ListingCase):
    """Listings in pages."""

    def test_pages(self) -> None:
        """Pages have all flows, each once and in order; the last one says so."""
        ids = [self.join() for _ in range(7)]
        found, after, pages = [], 0, 0
        while True:
            page = self.router.listing.page(after, 3)
            found += [each["id"] for each in page.flows]
            pages += 1
            if page.next is None:
                break
            after = page.next
        self.assertEqual((found, pages), (ids, 3))
        self.assertEqual(self.router.listing.page(ids[-1], 3), ([], None))

    def test_long(self) -> None:
        """A page whose texts are long ends early, so that a response has room for it."""
        path = "/" + "ü" * 4000
        for number in range(100):
            owner = CURL._replace(pid=number + 1, path=path)
            self.judge.decisions[PLACE.host] = OFFICE._replace(owner=owner)
            self.join()
        whole = [each["id"] for each in self.router.listing.page(0, 10).flows]
        self.assertEqual(len(whole), 10)
        found: list[int] = []
        after: int | None = 0
        sizes = []
        for _ in range(200):
            assert after is not None
            page = self.router.listing.page(after, PAGE_LIMIT)
            found += [each["id"] for each in page.flows]
            sizes.append(len(resultLine(page._asdict())))
            after = page.next
            if after is None:
                break
        self.assertEqual(len(found), 100)
        self.assertGreater(len(sizes), 1)
        self.assertLess(max(sizes), RESPONSE_LIMIT)

    def test_room(self) -> None:
        """As many flows as a page may have, with as much text as that, fit into a response."""
        longest = {
            "id": (1 << 64) - 1,
            "protocol": "tcp",
            "state": "half-closed",
            "age": 123456789.123,
            "idle": 123456789.123,
            "source": f"[{'ffff:' * 7}ffff]:65535",
            "destination": f"[{'ffff:' * 7}ffff]:65535",
            **dict.fromkeys(("domain", "rule", "upstream", "by"), ""),
            "verdict": "direct",
            "process": {"pid": 1 << 22, "uid": 1 << 32, "name": "", "path": "", "unit": ""},
            "up": (1 << 64) - 1,
            "down": (1 << 64) - 1,
        }
        room = RESPONSE_LIMIT - PAGE_LIMIT * (len(json.dumps(longest)) + 2)
        self.assertLess(TEXTS_LIMIT, room)

    def test_ids(self) -> None:
        """Pages leave out what is not wanted, and go on behind it."""
        ids = [self.join() for _ in range(5)]
        wanted = [ids[1], ids[4], 99]
        found, after = [], 0
        for _ in range(3):
            page = self.router.listing.page(after, 2, wanted)
            found.append([each["id"] for each in page.flows])
            after = page.next or 0
        self.assertEqual((found, after), ([[ids[1]], [], [ids[4]]], 0))


class EndTests(ListingCase):
    """Flows that are ended."""

    def test_end(self) -> None:
        """Open flows are reset, and the dial of one that waits is given up."""
        joined = self.join()
        waits = self.engine.request(PLACE).flow.id
        self.engine.requestDatagrams(PLACE)
        self.office.answerDatagrams()
        ids = [each["id"] for each in self.listed]
        self.assertEqual(self.router.listing.end([*ids, 99]), 3)
        self.assertEqual(self.listed, [])
        self.assertEqual(self.engine.refused, {waits: Refusal.RESET})
        self.assertEqual((self.office.cancelled, self.router.pending), (1, 0))
        self.assertEqual(self.router.listing.end([joined]), 0)


class StandingListingTests(PlannedCase):
    """Flows that began without Python."""

    def test_standing(self) -> None:
        """They are listed with the rule that has decided about their destination."""
        self.upstream.standing = True
        self.judge.standing[PLACE.host] = 60.0
        self.judge.decisions[PLACE.host] = OFFICE._replace(upstream="")
        ids = [self.engine.request(PLACE).flow.id for _ in range(3)]
        judged = len(self.judge.judged)
        self.openDial(ids[2])
        flow = self.router.listing.page(ids[1], 10).flows[0]
        self.assertEqual((judged, flow["rule"], flow["state"]), (2, "#2", "open"))
        self.assertEqual(self.router.listing.end([ids[2]]), 1)
