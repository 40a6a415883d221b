"""
Tests of L{nanotun.web.pages}: what is on the pages, and that nothing leaves its place.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import RunningError
from nanotun.web import flowpages
from nanotun.web.api import Api, DaemonSide
from nanotun.web.explainpage import FIELDS
from nanotun.web.html import VOID
from nanotun.web.pages import EXPLAINED, TITLES, Page, document, render
from tests import ROOT
from tests.unit.web.page_data import (
    ANSWER,
    CSRF,
    FLOW,
    HOSTILE,
    PROCESS,
    WAITING,
    hostile,
    makeApi,
)

STATIC = Path(ROOT, "nanotun", "web", "static")


class Shape(HTMLParser):
    """
    What a page is made of.

    @ivar tags: the elements, each with its attributes.
    @ivar wrong: ends that do not fit.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong.append(tag)

    def names(self) -> list[str]:
        """The elements' names, in order."""
        return [name for name, _ in self.tags]


class PagesCase(SynchronousTestCase):
    """A test of pages."""

    def page(
        self,
        path: str,
        api: Api | None = None,
        fields: Mapping[str, str] | None = None,
        **query: str,
    ) -> Page:
        """A page, made at once."""
        found = render(path, {**(fields or {}), **query}, api or makeApi())
        return found if isinstance(found, Page) else self.successResultOf(found)

    def whole(
        self,
        path: str,
        api: Api | None = None,
        fields: Mapping[str, str] | None = None,
        **query: str,
    ) -> str:
        """All of its HTML."""
        return document(self.page(path, api, fields, **query), path)

    def text(
        self,
        path: str,
        api: Api | None = None,
        fields: Mapping[str, str] | None = None,
        **query: str,
    ) -> str:
        """Its text, without the elements."""
        return re.sub("<[^>]*>", " ", self.page(path, api, fields, **query).body)


class PageTests(PagesCase):
    """All pages."""

    paths = (*TITLES, EXPLAINED)

    def test_wellFormed(self) -> None:
        """Every element of every page has its end, and no id is there twice."""
        for path in self.paths:
            shape = Shape(self.whole(path))
            self.assertEqual(shape.wrong, [], path)
            ids = [attributes["id"] for _, attributes in shape.tags if "id" in attributes]
            self.assertEqual(len(ids), len(set(ids)), ids)

    def test_policy(self) -> None:
        """No page has what the Content-Security-Policy forbids: styles and scripts of its own."""
        for path in self.paths:
            for name, attributes in Shape(self.whole(path)).tags:
                self.assertNotEqual(name, "style", path)
                self.assertNotIn("style", attributes, path)
                self.assertEqual([key for key in attributes if key.startswith("on")], [], path)
                if name == "script":
                    self.assertEqual(attributes["src"], "/static/page.js")

    def test_hostile(self) -> None:
        """Whatever a name, a path, a URL or a line of the log says, it makes no element."""
        for path in self.paths:
            query = {"q": "script", "destination": HOSTILE, "name": HOSTILE}
            page = self.whole(path, makeApi(change=hostile), query)
            self.assertEqual(Shape(page).wrong, [], path)
            self.assertEqual(Shape(page).names().count("script"), 1, path)
            self.assertNotIn("<script>", page, path)

    def test_hostileQuery(self) -> None:
        """What a link asks for makes no element either."""
        for name in ("q", "sort", "told", *FIELDS):
            for path in self.paths:
                self.assertNotIn("<script>", self.whole(path, None, {name: HOSTILE}), (path, name))

    def test_current(self) -> None:
        """The bar of links says which page this is, also for the answer to a form."""
        for path in self.paths:
            shape = Shape(self.whole(path))
            (link,) = [each for _, each in shape.tags if each.get("aria-current")]
            self.assertEqual(link["href"], path.removesuffix("/answer"))

    def test_forms(self) -> None:
        """Every form that changes something has the secret; one that searches has it not."""
        for path in self.paths:
            page = self.page(path).body
            for form in re.findall("<form.*?</form>", page, re.S):
                self.assertEqual(CSRF in form, 'method="post"' in form, form)

    def test_told(self) -> None:
        """What came of a form is said once."""
        api = makeApi()
        key = api.tell("Closed 1 flow <3.")
        self.assertIn("Closed 1 flow &lt;3.", self.page("/flows", api, told=key).body)
        self.assertNotIn("Closed", self.page("/flows", api, told=key).body)

    def test_unknown(self) -> None:
        """There is no other page."""
        self.assertEqual(self.page("/nothing").status, 404)

    def test_error(self) -> None:
        """An error of the daemon is a sentence on the page, and not a page of that kind."""

        def broken() -> Any:
            raise RunningError("It <does> not work.")

        daemon = DaemonSide(**dict.fromkeys(DaemonSide._fields, broken))  # type: ignore[arg-type]
        page = self.page("/rules", Api(daemon, CSRF))
        self.assertEqual(page.status, 500)
        self.assertIn("It &lt;does&gt; not work.", page.body)


class FlowPageTests(PagesCase):
    """The pages about flows."""

    def test_row(self) -> None:
        """A flow is shown with its program, name, upstream, rule, bytes, mean rate and button."""
        page = self.page("/flows").body
        row = re.search('<tr data-key="17".*?</tr>', page)
        assert row is not None
        text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", row.group()))
        self.assertEqual(
            text.strip(),
            "curl 4711 example.com:443 tcp office #2 open 10 s 2.0 KiB 10.0 MiB 1.0 MiB/s Close",
        )
        self.assertIn('<button name="id" value="17"', row.group())

    def test_undecided(self) -> None:
        """A flow of which nothing is known yet has dashes."""
        page = self.text("/flows", makeApi([WAITING]))
        self.assertRegex(page, r"(?s)–\s+93\.184\.216\.34:443\s+tcp\s+–\s+waiting")  # noqa: RUF001

    def test_search(self) -> None:
        """All words of a search must be found, wherever, in any case; the field keeps them."""
        for words, found in (
            ("CURL", True),
            ("example office", True),
            ("4711 a.service", True),
            ("curl firefox", False),
            ("waiting", False),
        ):
            page = self.page("/flows", q=words).body
            self.assertEqual('data-key="17"' in page, found, words)
            self.assertIn(f'value="{words}"', page)
        self.assertIn("2 flows are open, 1 found", self.text("/flows", q="curl"))

    def test_nothing(self) -> None:
        """An empty list says why it is empty."""
        self.assertIn("No flow is open.", self.text("/flows", makeApi([])))
        self.assertIn("No flow has “a &lt; b”.", self.text("/flows", q="a < b"))

    def test_sorted(self) -> None:
        """The busiest are first, or what the link in a column's head says."""
        quick = {**FLOW, "id": 1, "rateUp": 0, "rateDown": 100 << 20, "domain": "b", "down": 1}
        slow = {**FLOW, "id": 2, "domain": "a"}
        for sort, first in (("", 1), ("rate", 1), ("down", 2), ("destination", 2), ("what", 1)):
            page = self.page("/flows", makeApi([slow, quick]), sort=sort).body
            self.assertEqual(re.findall('<tr data-key="(.)"', page)[0], str(first), sort)
        self.assertIn('aria-sort="descending"', page)

    def test_many(self) -> None:
        """Of very many, the first are shown, and the page says so."""
        many = [{**FLOW, "id": each} for each in range(flowpages.SHOWN + 1)]
        page = self.page("/flows", makeApi(many)).body
        self.assertEqual(page.count("<tr data-key"), flowpages.SHOWN)
        self.assertIn(f"the first {flowpages.SHOWN} are shown", page)

    def test_programs(self) -> None:
        """Programs have the sums of their flows, and those not known are one line."""
        other = {**FLOW, "id": 3, "process": {**PROCESS, "pid": 4712}}
        page = re.sub(r"\s+", " ", self.text("/programs", makeApi([FLOW, other, WAITING])))
        self.assertIn("curl /usr/bin/curl 2 2 4.0 KiB 20.0 MiB 2.0 MiB/s", page)
        self.assertIn("not known – 1 0 B 0 B 0 B/s", page)  # noqa: RUF001


class OtherPageTests(PagesCase):
    """The other pages."""

    def told(self, path: str, *texts: str) -> None:
        """A page has these texts."""
        page = re.sub(r"\s+", " ", self.text(path))
        for text in texts:
            self.assertIn(text, page)

    def test_overview(self) -> None:
        """The overview has the totals and the proxies' health."""
        self.told("/", "Open TCP flows 14", "Dropped packets 5", "Running for 1 min 1 s")
        self.told("/", "office socks5://10.0.0.5:1080 down The proxy refuses connections. 13 ms")
        self.told("/", "proxy 1,000")

    def test_lackingSections(self) -> None:
        """The overview is there though the report lacks every section."""
        found = render("/", {}, makeApi(change=lambda value: dict.fromkeys(value)))
        assert isinstance(found, Deferred)
        self.assertIn("There is no upstream.", self.successResultOf(found).body)

    def test_upstreams(self) -> None:
        """The page about upstreams has the policy, the way and the pool."""
        self.told("/upstreams", "13 ms failover proxy – 2")  # noqa: RUF001

    def test_rules(self) -> None:
        """The user's rules are told from those built in."""
        self.told("/rules", "#1 domains a.org office n.yaml:3 5", "default 7", "leave by proxy")

    def test_dns(self) -> None:
        """A query has its answer and who gave it."""
        self.told("/dns", "example.org AAAA NXDOMAIN 192.0.2.53:53 20 ms")
        self.told("/dns", "example.net A – cache –")  # noqa: RUF001

    def test_log(self) -> None:
        """A line of the log has its level."""
        self.told("/log", "warn Oh dear.")

    def test_config(self) -> None:
        """A setting has its value, its place, and when a change of it takes effect."""
        self.told("/config", "proxy socks5://h line 1 at a reload")
        self.told("/config", "dns [&quot;a&quot;, 1] default at the next start waits for it")

    def test_explain(self) -> None:
        """A question gets the verdict, the rules in their order, and the notes."""
        asked: list[Mapping[str, Any]] = []
        form = {"destination": " example.org:443 ", "protocol": "udp", "csrf": CSRF}
        page = self.text(EXPLAINED, makeApi(asked=asked), form)
        self.assertIn("proxy : through office", page)
        self.assertRegex(page, r"#1\s+n.yaml:3\s+office\s+holds\s+its name")
        self.assertIn("A name could change this.", page)
        question = {"destination": "example.org:443", "protocol": "udp"}
        self.assertEqual(asked, [{**dict.fromkeys(FIELDS, ""), **question}])

    def test_explainAddresses(self) -> None:
        """Of a name whose addresses have several answers, each is shown."""
        one = {**ANSWER, "addresses": ["192.0.2.1", "192.0.2.2"]}
        other = {**ANSWER, "addresses": ["192.0.2.3"], "verdict": "direct", "meaning": "past it"}
        api = makeApi(explained=lambda: {**one, "answers": [one, other]})
        page = re.sub(r"\s+", " ", self.text(EXPLAINED, api))
        self.assertRegex(page, "At 192.0.2.1, 192.0.2.2 proxy .* At 192.0.2.3 direct : past it")

    def test_explainWrong(self) -> None:
        """An error of the daemon is a sentence between the form, which stays, and nothing."""

        def later() -> Any:
            return fail(RunningError("This is no question."))

        def atOnce() -> Any:
            raise RunningError("This is no question.")

        for broken in (later, atOnce):
            page = self.page(EXPLAINED, makeApi(explained=broken), destination="me")
            self.assertIn("This is no question.", page.body)
            self.assertIn('value="me"', page.body)
            self.assertEqual(page.status, 200)


#: Runs page.js on a page with a log and nothing else, loses the events, and gets them back; prints
#: how often the page was loaded again, before and after.
RECONNECTING = """
const [file] = process.argv.slice(1);
const told = {};
let loads = 0;
const list = { dataset: { offset: 0 } };
const state = { classList: { toggle() {} } };
const found = { "#lines": list, "#link": state, main: { querySelectorAll: () => [] } };
class EventSource { addEventListener(name, act) { told[name] = act; } }
require("vm").runInNewContext(require("fs").readFileSync(file, "utf8"), {
  EventSource,
  document: { querySelector: (selector) => found[selector] || null, body: { scrollHeight: 0 } },
  location: { hash: "", reload() { loads += 1; } },
  addEventListener() {}, scrollTo() {}, setInterval() {}, setTimeout() {},
});
told.open();
told.error();
const before = loads;
told.open();
console.log(before, loads);
"""


class StaticTests(SynchronousTestCase):
    """The files that a page loads."""

    def test_reconnected(self) -> None:
        """A log whose events were lost is loaded anew: a new daemon counts its lines anew."""
        node = shutil.which("node")
        if node is None:
            self.skipTest("node is not installed")
        command = [node, "-e", RECONNECTING, str(STATIC / "page.js")]
        self.assertEqual(subprocess.check_output(command, timeout=30), b"0 1\n")

    def test_nothingForeign(self) -> None:
        """They load nothing from elsewhere, and make no markup out of text."""
        script = (STATIC / "page.js").read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            self.assertNotIn(word, script)
        for name in ("page.js", "page.css"):
            self.assertNotRegex((STATIC / name).read_text(), r"https?://|@import|url\(")
