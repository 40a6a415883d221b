"""
The protocol of the control socket: a request and its response, each one line of JSON.

A request is C{{"version": 1, "request": NAME}}; one that is about something also has
C{"arguments"}, an object.  A response is
C{{"version": 1, "ok": true, "result": ANY}}, or C{{"version": 1, "ok": false,
"error": SENTENCE}}.  A connection may carry several requests, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from nanotun.errors import RunningError

VERSION = 1

#: Bytes of a request's line: a name and its arguments, which may hold the path of a program.
REQUEST_LIMIT = 1 << 15

#: Bytes of a response's line: a status report has a few kilobytes, and some hundred bytes more for
#: each of the user's rules, of which there may be 4096.
RESPONSE_LIMIT = 1 << 22

NO_RESPONSE = "The daemon's answer makes no sense; it may be of another version: restart it."


class Request(NamedTuple):
    """A request: its name, and what it is about."""

    name: str
    arguments: dict[str, Any]


def requestLine(name: str, arguments: Mapping[str, Any] | None = None) -> bytes:
    """Encode a request, without the newline."""
    message: dict[str, Any] = {"version": VERSION, "request": name}
    if arguments:
        message["arguments"] = dict(arguments)
    return json.dumps(message).encode()


def readRequest(line: bytes) -> Request:
    """
    Decode a request.

    @raise RunningError: this is no request, or one of another version; with one sentence.
    """
    try:
        message = json.loads(line)
        version, name = message["version"], message["request"]
        arguments = message.get("arguments") or {}
        if not isinstance(arguments, dict):
            raise TypeError(arguments)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RunningError("This is no request.") from None
    if version != VERSION:
        raise RunningError(
            f"The daemon speaks version {VERSION} of the control protocol and was asked in "
            "another; restart it with the nanotun that is installed now."
        )
    return Request(str(name), arguments)


def resultLine(result: Any) -> bytes:
    """Encode the response to a request that succeeded, without the newline."""
    return json.dumps({"version": VERSION, "ok": True, "result": result}).encode()


def errorLine(sentence: str) -> bytes:
    """Encode the response to a request that failed, without the newline."""
    return json.dumps({"version": VERSION, "ok": False, "error": sentence}).encode()


def readResponse(line: bytes) -> Any:
    """
    Decode a response.

    @return: the result.
    @raise RunningError: the request failed, with the daemon's sentence; or this is no
        response.
    """
    try:
        message = json.loads(line)
        good = message["version"] == VERSION and message["ok"] is True
        found = message["result"] if good else str(message["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RunningError(NO_RESPONSE) from None
    if not good:
        raise RunningError(found)
    return found
