"""
Routes requests: to the API, to the files and to the pages, each after the guard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import (
    BAD_REQUEST,
    FORBIDDEN,
    INTERNAL_SERVER_ERROR,
    NOT_ALLOWED,
    NOT_FOUND,
    REQUEST_ENTITY_TOO_LARGE,
    SEE_OTHER,
    UNAUTHORIZED,
)
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from nanotun.errors import NanotunError
from nanotun.httpd.site import TEXT, answer
from nanotun.web import pages
from nanotun.web.api import Api
from nanotun.web.calls import GETS, POSTS, PREFIX, Call
from nanotun.web.events import EventStreams
from nanotun.web.forms import FORMS, Fields, first
from nanotun.web.guard import HEADERS, WebGuard
from nanotun.web.text import UNENCODABLE

HTML = "text/html; charset=utf-8"
JSON = "application/json"

#: The files of the page, and of the API.
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": JSON,
}
FILES = "/static/"
DESCRIPTION = f"{PREFIX}openapi.json"
EVENTS = f"{PREFIX}events"

#: Bytes of a request's body: the ids of all flows that may be closed at a time.
BODY_LIMIT = 1 << 16

FAILED = "The daemon failed at this because of an internal error; see its log."


class WebRequest(Request):
    """
    A request whose body is kept in memory, as far as that is short.

    @ivar tooLong: whether it is not.
    @ivar contentType: of the body, in lower case and without parameters.
    """

    tooLong = False
    contentType = b""
    _left = BODY_LIMIT

    def gotLength(self, length: int | None) -> None:
        """See L{Request.gotLength}.  What is announced as long would become a file."""
        self.tooLong = length is not None and length > BODY_LIMIT
        super().gotLength(0 if self.tooLong else length or 0)

    def handleContentChunk(self, data: bytes) -> None:
        """See L{Request.handleContentChunk}."""
        self._left -= len(data)
        if self._left < 0:
            self.tooLong = True
        if not self.tooLong:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """See L{Request.requestReceived}, which would parse forms in several ways."""
        kept = self.requestHeaders.getRawHeaders(b"content-type")
        self.requestHeaders.removeHeader(b"content-type")
        self.contentType = (kept or [b""])[0].partition(b";")[0].strip().lower()
        super().requestReceived(command, path, version)


class WebRoot(Resource):
    """
    All that there is.

    @param api: answers.
    @param streams: those who are told what happens.
    """

    isLeaf = True

    _log = Logger()

    def __init__(self, guard: WebGuard, api: Api, streams: EventStreams) -> None:
        super().__init__()
        self._guard = guard
        self._api = api
        self._streams = streams
        self._files = _read()

    def render(self, request: Any) -> Any:
        """See L{Resource.render}."""
        for name, value in HEADERS.items():
            request.responseHeaders.setRawHeaders(name, [value])
        path = request.path.decode("latin-1")
        guard, host = self._guard, request.getHeader(b"host")
        if not guard.isHost(host):
            return _refuse(request, FORBIDDEN, "Ask for our address, or localhost, not for a name.")
        if not guard.isOurs(request.getHeader(b"origin"), host):
            return _refuse(request, FORBIDDEN, "Another site may not ask.")
        query = request.uri.partition(b"?")[2].decode("latin-1")
        pairs = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=None))
        if request.method in (b"GET", b"HEAD"):
            if "token" in pairs and not path.startswith(PREFIX):
                return self._enter(request, path, pairs)
            act = self._get
        elif request.method == b"POST":
            act = self._post
        else:
            return _notAllowed(request, b"GET, HEAD, POST")
        if not guard.knows(request):
            request.responseHeaders.setRawHeaders(b"www-authenticate", [b"Bearer"])
            return _refuse(
                request, UNAUTHORIZED, "Open the link that 'nanotun web' prints, or send its token."
            )
        return act(request, path, pairs)

    def _enter(self, request: Any, path: str, query: dict[str, str]) -> Any:
        """Take the token from the URL, so that it stays in no history."""
        if not self._guard.isToken(query.pop("token")):
            return _refuse(
                request, UNAUTHORIZED, "This is not the token; 'nanotun web' prints the link."
            )
        self._guard.giveCookie(request)
        # Two slashes would lead to another site, and browsers take a backslash for one.
        path = "/" + path.lstrip("/\\")
        return _seeOther(request, f"{path}?{urlencode(query)}" if query else path)

    def _get(self, request: Any, path: str, query: dict[str, str]) -> Any:
        name = path.removeprefix(PREFIX)
        if path == EVENTS:
            return self._streams.open(request, query)
        if path == DESCRIPTION:
            return answer(request, *self._files["openapi.json"])
        if path.startswith(PREFIX):
            if name in POSTS:
                return _notAllowed(request, b"POST")
            return self._call(request, GETS.get(name), Call(query))
        if path.startswith(FILES):
            found = self._files.get(path.removeprefix(FILES))
            if found is None:
                return _refuse(request, NOT_FOUND, "There is no such file.")
            return answer(request, *found)
        if path in FORMS or path == pages.EXPLAINED:
            return _notAllowed(request, b"POST")
        return self._show(request, path, path, query)

    def _post(self, request: Any, path: str, query: dict[str, str]) -> Any:
        if request.tooLong:
            return _refuse(request, REQUEST_ENTITY_TOO_LARGE, "That is too long.")
        body = request.content.read()
        fields: Fields = {}
        if request.contentType == b"application/x-www-form-urlencoded":
            fields = parse_qs(body.decode("latin-1"), keep_blank_values=True)
        if not self._guard.isMeant(request, first(fields, "csrf")):
            return _refuse(
                request, FORBIDDEN, "Send the header X-Nanotun: 1, or the form's field csrf."
            )
        if path.startswith(PREFIX):
            name = path.removeprefix(PREFIX)
            if name in GETS:
                return _notAllowed(request, b"GET, HEAD")
            return self._call(request, POSTS.get(name), Call(query, body))
        if path == "/explain":
            given = {key: values[-1] for key, values in fields.items()}
            return self._show(request, path, pages.EXPLAINED, given)
        form = FORMS.get(path)
        if form is None:
            return _refuse(request, NOT_FOUND, "There is no such form.")
        return self._later(request, lambda: form(fields, self._api), _seeOther)

    def _call(self, request: Any, act: Any, call: Call) -> Any:
        if act is None:
            return _refuse(request, NOT_FOUND, "There is no such call.")
        return self._later(
            request,
            lambda: act(self._api, call),
            lambda request, found: answer(request, json.dumps(found).encode(), JSON),
        )

    def _show(self, request: Any, path: str, shown: str, query: Mapping[str, str]) -> Any:
        def show(request: Any, page: pages.Page) -> bytes:
            request.setResponseCode(page.status)
            text = pages.document(page, path).encode("utf-8", UNENCODABLE)
            return answer(request, text, HTML)

        return self._later(request, lambda: pages.render(shown, query, self._api), show)

    def _later(
        self, request: Any, act: Callable[[], Any], write: Callable[[Any, Any], bytes]
    ) -> Any:
        """
        Answer when something is known.

        @param act: returns it, or a Deferred.
        @param write: makes the answer of it.
        """
        gone: list[object] = []

        def finish(body: bytes) -> None:
            if not gone:
                request.write(body)
                request.finish()

        done = maybeDeferred(act).addCallback(lambda found: write(request, found))
        done.addErrback(self._failed, request)
        request.notifyFinish().addErrback(gone.append)
        done.addCallback(finish)
        return NOT_DONE_YET

    def _failed(self, reason: Failure, request: Any) -> bytes:
        if reason.check(NanotunError):
            return _refuse(request, BAD_REQUEST, str(reason.value))
        self._log.failure("A request failed because of an internal error", failure=reason)
        return _refuse(request, INTERNAL_SERVER_ERROR, FAILED)


def _read() -> dict[str, tuple[bytes, str]]:
    """The files of the page and their types, by name."""
    folder = files("nanotun.web").joinpath("static")
    return {
        each.name: (each.read_bytes(), KINDS[f".{each.name.rpartition('.')[2]}"])
        for each in folder.iterdir()
    }


def _refuse(request: Any, status: int, sentence: str) -> bytes:
    """The answer to a request that gets nothing else: an object from the API, else text."""
    request.setResponseCode(status)
    if request.path.startswith(PREFIX.encode()):
        return answer(request, json.dumps({"error": sentence}).encode(), JSON)
    return answer(request, f"{sentence}\n".encode(), TEXT)


def _notAllowed(request: Any, methods: bytes) -> bytes:
    request.responseHeaders.setRawHeaders(b"allow", [methods])
    return _refuse(request, NOT_ALLOWED, f"Here it takes {methods.decode()}.")


def _seeOther(request: Any, url: str) -> bytes:
    request.responseHeaders.setRawHeaders(b"location", [url.encode("ascii", "replace")])
    request.setResponseCode(SEE_OTHER)
    return answer(request, b"", TEXT)
