"""Tests of L{nanotun.web.site}, with the guard, the calls and the forms."""

from __future__ import annotations

import json
import re
import tempfile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.test.requesthelper import DummyChannel

from nanotun.errors import RunningError
from nanotun.flow import Endpoint
from nanotun.web.calls import GETS, POSTS
from nanotun.web.guard import HEADERS
from nanotun.web.site import BODY_LIMIT, WebRequest
from tests.openapi import DESCRIPTION
from tests.unit.web.page_data import FLOW, PROCESS
from tests.unit.web.web_cases import TOKEN, WebCase


class WebGuardTests(WebCase):
    """Who gets an answer."""

    def test_token(self) -> None:
        """Without the token nothing is told, not even what there is."""
        for wrong in (None, "Bearer wrong", f"Basic {TOKEN}", TOKEN):
            for path in ("/", "/flows", "/x", "/static/page.css", "/api/v1/flows", "/api/v1/x"):
                answer = self.get(path, authorization=wrong)
                self.assertEqual(answer.status, 401, path)
            self.assertEqual(self.ask("POST /reload", authorization=wrong).status, 401)
        self.assertEqual(self.asked, [])
        self.assertEqual(self.get("/api/v1/status").status, 200)

    def test_cookie(self) -> None:
        """The link gives a cookie that no script sees, and leads to a page without the token."""
        answer = self.get(f"/flows?q=a%26b&token={TOKEN}", authorization=None)
        self.assertEqual((answer.status, answer.headers["location"]), (303, "/flows?q=a%26b"))
        cookie = answer.headers["set-cookie"]
        self.assertRegex(cookie, "; (?i:HttpOnly; SameSite=Strict)$")
        self.assertNotIn(TOKEN, cookie)
        got = self.get("/flows", authorization=None, cookie=cookie.partition(";")[0])
        self.assertEqual(got.status, 200)
        for wrong in ("nanotun-8198=", "nanotun-8198=x", f"nanotun-8198={TOKEN}", "other=1"):
            self.assertEqual(self.get("/", authorization=None, cookie=wrong).status, 401, wrong)

    def test_wrongLink(self) -> None:
        """A link with another token gives none; nor does one of the API, or one elsewhere."""
        for path in ("/?token=wrong", "/?token=", f"/api/v1/status?token={TOKEN}"):
            answer = self.get(path, authorization=None)
            self.assertEqual(answer.status, 401, path)
            self.assertNotIn("set-cookie", answer.headers)
        for slashes in ("//", "/\\", "/\\/", "\\\\"):
            answer = self.get(f"{slashes}evil.example/x?token={TOKEN}", authorization=None)
            self.assertEqual(answer.headers["location"], "/evil.example/x", slashes)

    def test_host(self) -> None:
        """A name is refused even with the token, and so is another address, whatever the port."""
        for host in (None, "evil.example:8198", "127.0.0.2:8198", "192.0.2.1", "[::1]:8198"):
            self.assertEqual(self.get("/api/v1/status", host=host).status, 403, host)
        self.assertEqual(self.asked, [])
        for host in ("127.0.0.1:8198", "localhost:8198", "LOCALHOST", "127.0.0.1:9000"):
            self.assertEqual(self.get("/api/v1/status", host=host).status, 200, host)

    def test_origin(self) -> None:
        """What another site's page asks for is refused, by any method."""
        for origin in ("http://evil.example", "null", "https://127.0.0.1:8198", "http://127.0.0.1"):
            for method in ("GET", "POST"):
                answer = self.ask(f"{method} /api/v1/status", origin=origin)
                self.assertEqual(answer.status, 403, origin)
        self.assertEqual(self.asked, [])
        own = self.get("/api/v1/status", origin="http://127.0.0.1:8198")
        self.assertEqual(own.status, 200)

    def test_meant(self) -> None:
        """With the cookie alone nothing is changed: it takes the header, or the form's secret."""
        right = f"csrf={self.guard.csrf}"
        for text in ("", "csrf=", "csrf=wrong", f"x={self.guard.csrf}"):
            for path in ("/reload", "/flows/close", "/explain", "/api/v1/reload"):
                self.assertEqual(self.form(path, text).status, 403, (path, text))
        self.assertEqual(self.asked, [])
        self.assertEqual(self.form("/reload", right).status, 303)
        self.assertEqual(self.form("/api/v1/reload", "", x_nanotun="1").status, 200)
        self.assertEqual(self.form("/api/v1/reload", "", x_nanotun="0").status, 403)
        self.assertEqual(self.form("/reload", right, content_type="text/plain").status, 403)

    def test_headers(self) -> None:
        """Every answer says what a browser may do with it, refusals included."""
        for answer in (
            self.get("/"),
            self.get("/api/v1/flows"),
            self.get("/static/page.js"),
            self.get("/", authorization=None),
            self.get("/", host="evil.example"),
            self.form("/reload", f"csrf={self.guard.csrf}"),
        ):
            for name, value in HEADERS.items():
                self.assertEqual(answer.headers[name.decode()], value.decode())

    def test_getChangesNothing(self) -> None:
        """GET has no effect, with whatever query."""
        for path in ("/flows/close", "/reload", "/explain/answer"):
            self.assertEqual(self.get(f"{path}?id=1&csrf={self.guard.csrf}").status, 405, path)
        for name in POSTS:
            answer = self.get(f"/api/v1/{name}")
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "POST"))
        for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
            self.assertEqual(self.ask(f"{method} /api/v1/flows").status, 405)
        self.get("/explain?destination=192.0.2.1:443")
        self.assertEqual(self.asked, [])


class AnyAddressGuardTests(WebCase):
    """A page that is served at all addresses."""

    where = Endpoint("0.0.0.0", 8198)

    def test_host(self) -> None:
        """Any address may be ours, and no name is."""
        for host in ("192.0.2.7:8198", "127.0.0.1", "[2001:db8::1]:8198", "localhost"):
            self.assertEqual(self.get("/api/v1/status", host=host).status, 200, host)
        self.assertEqual(self.get("/api/v1/status", host="evil.example").status, 403)


class WebCallsTests(WebCase):
    """The API."""

    def post(self, name: str, body: object) -> Any:
        """Call something that changes something."""
        return self.ask(f"POST /api/v1/{name}", body=json.dumps(body).encode())

    def test_described(self) -> None:
        """The description has all calls and no others, and is served."""
        described = {
            (method, path.lstrip("/"))
            for path, methods in DESCRIPTION["paths"].items()
            for method in methods
        }
        calls = {("get", name) for name in (*GETS, "events", "openapi.json")}
        self.assertEqual(described, calls | {("post", name) for name in POSTS})
        self.assertEqual(self.get("/api/v1/openapi.json").json(), DESCRIPTION)

    def test_flows(self) -> None:
        """Flows come in pages."""
        self.rows = [{"id": number, "up": 0} for number in range(1, 8)]
        answer = self.get("/api/v1/flows?after=2&limit=3")
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual([each["id"] for each in answer.json()["flows"]], [3, 4, 5])
        self.assertEqual(answer.json()["next"], 5)
        for query in ("after=x", "after=-1", "limit=0", "limit=1001", "after=" + "1" * 30):
            answer = self.get(f"/api/v1/flows?{query}")
            self.assertEqual((answer.status, [*answer.json()]), (400, ["error"]), query)

    def test_bodies(self) -> None:
        """What is told in a body reaches the daemon; what is no object is a sentence."""
        self.assertEqual(self.post("flows/close", {"ids": [4, 5]}).json(), {"closed": 1})
        self.assertEqual(self.post("explain", {"host": "a.example"}).status, 200)
        self.assertEqual(
            self.asked, [("close", {"ids": [4, 5]}), ("explain", {"host": "a.example"})]
        )
        wrong: tuple[object, ...] = ([], "x", 5, {"ids": "all"}, {})
        for body in wrong:
            self.assertEqual(self.post("flows/close", body).status, 400, body)
        deep = self.ask("POST /api/v1/explain", body=b"[" * 60000)
        self.assertEqual(deep.json(), {"error": "The body must be a JSON object."})
        self.assertEqual(len(self.asked), 2)

    def test_later(self) -> None:
        """An answer may take a while; whoever has gone meanwhile does no harm."""
        self.waiting = Deferred()
        wire, _ = self.connect("GET /api/v1/status")
        gone, protocol = self.connect("GET /api/v1/status")
        protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual((wire.value(), gone.value()), (b"", b""))
        self.waiting.callback({"well": True})
        self.assertIn(b'{"well": true}', wire.value())
        self.assertEqual(gone.value(), b"")

    def test_errors(self) -> None:
        """The daemon's refusal is a sentence; its fault is logged, and none of it is told."""
        self.waiting = Deferred()
        self.waiting.errback(RunningError("That cannot be done."))
        answer = self.get("/api/v1/status")
        self.assertEqual((answer.status, answer.json()["error"]), (400, "That cannot be done."))
        self.waiting = Deferred()
        self.waiting.errback(ValueError("/secret/path"))
        answer = self.get("/api/v1/status")
        self.assertEqual(answer.status, 500)
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_unknown(self) -> None:
        """What there is not is not found, and a call says so as JSON."""
        self.assertEqual(self.get("/api/v1/passwords").json(), {"error": "There is no such call."})
        for path in ("/x", "/static/../site.py", "/static/", "/static/%2e%2e/site.py"):
            self.assertEqual(self.get(path).status, 404, path)

    def test_head(self) -> None:
        """HEAD gets the head alone."""
        answer = self.ask("HEAD /api/v1/status")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len('{"well": true}')))

    def test_long(self) -> None:
        """A body that is too long is kept nowhere, announced or not."""
        opened: list[object] = []
        self.patch(tempfile, "TemporaryFile", lambda *_: opened.append(1))
        # What Twisted would make a file of.
        data = b"x" * 200_000
        self.assertEqual(self.ask("POST /api/v1/explain", body=data).status, 413)
        chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
        answer = self.ask(
            "POST /api/v1/explain", body=chunk, content_length=None, transfer_encoding="chunked"
        )
        self.assertEqual((answer.status, opened, self.asked), (413, [], []))

    def test_kept(self) -> None:
        """Of a body that turns out to be too long no more is kept than what fits."""
        request = WebRequest(DummyChannel())
        request.gotLength(None)
        for _ in range(10):
            request.handleContentChunk(b"x" * (BODY_LIMIT // 2))
        self.assertTrue(request.tooLong)
        content: Any = request.content
        self.assertEqual(content.tell(), BODY_LIMIT)


class WebFormsTests(WebCase):
    """The forms, which need no JavaScript."""

    def send(self, path: str, text: str) -> Any:
        """Send a form."""
        return self.form(path, f"csrf={self.guard.csrf}&{text}")

    def test_close(self) -> None:
        """Flows that were chosen are closed, and the page that follows says so, once."""
        answer = self.send("/flows/close", "id=4&id=5&back=/flows?q=a%2526b")
        self.assertEqual(self.asked, [("close", {"ids": [4, 5]})])
        self.assertEqual(
            (answer.status, answer.headers["location"]), (303, "/flows?q=a%26b&told=1")
        )
        self.assertIn(b"1 flow was closed.", self.get("/flows?told=1").body)
        self.assertNotIn(b"1 flow was closed.", self.get("/flows?told=1").body)

    def test_names(self) -> None:
        """A program whose name is no UTF-8 spoils no page, and is found by its link."""
        process = {**PROCESS, "name": "a\udcff", "path": "/tmp/a\udcff", "unit": "\udcfe.scope"}
        self.rows = [{**FLOW, "process": process}]
        programs = self.get("/programs")
        self.assertEqual(programs.status, 200)
        self.assertIn(rb"a\udcff", programs.body)
        (link,) = re.findall(rb'href="(/flows\?q=[^"]*)"', programs.body)
        for path in ("/flows", link.decode()):
            page = self.get(path)
            self.assertEqual(page.status, 200)
            self.assertIn(b'data-key="17"', page.body)

    def test_closeNothing(self) -> None:
        """A form without flows, or with what is none, closes nothing; it leads nowhere else."""
        for text in (
            "",
            "id=x",
            "id=4&id=" + "9" * 30,
            "back=//evil.example/&id=-1",
            "back=http://[x",
        ):
            answer = self.send("/flows/close", text)
            self.assertRegex(answer.headers["location"], r"^/flows\?told=[0-9]+$")
        self.assertEqual(self.asked, [])

    def test_reload(self) -> None:
        """The page after a reload says what has changed."""
        answer = self.send("/reload", "")
        self.assertEqual(answer.headers["location"], "/config?told=1")
        page = self.get("/config?told=1").body
        self.assertIn(b"changed: rules. Something is odd.", page)

    def test_reloadFails(self) -> None:
        """A configuration that is no good is told as well, and nothing of it can be HTML."""
        self.patch(self, "reloaded", self.breaks)
        self.send("/reload", "")
        page = self.get("/config?told=1").body
        self.assertIn(b"&lt;b&gt; is no good.", page)
        self.assertNotIn(b"<b> is", page)

    def breaks(self) -> Any:
        """The daemon finds fault with its configuration."""
        raise RunningError("<b> is no good.")

    def test_unknown(self) -> None:
        """There are no other forms."""
        self.assertEqual(self.send("/flows", "").status, 404)
