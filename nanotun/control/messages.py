"""
The protocol of the control socket: a request and its response, each one line of JSON.

A request is C{{"version": 1, "request": NAME}}.  A response is
C{{"version": 1, "ok": true, "result": ANY}}, or C{{"version": 1, "ok": false,
"error": SENTENCE}}.  A connection may carry several requests, one after the other.
"""

from __future__ import annotations

import json
from typing import Any

from nanotun.errors import RunningError

VERSION = 1

#: Bytes of a request's line: a name, with ample room.
REQUEST_LIMIT = 4096

#: Bytes of a response's line: the longest status report has a few kilobytes.
RESPONSE_LIMIT = 1 << 20

NO_RESPONSE = "The daemon's answer makes no sense; it may be of another version: restart it."


def requestLine(name: str) -> bytes:
    """Encode a request, without the newline."""
    return json.dumps({"version": VERSION, "request": name}).encode()


def readRequest(line: bytes) -> str:
    """
    Decode a request.

    @return: its name.
    @raise RunningError: this is no request, or one of another version; with one sentence.
    """
    try:
        message = json.loads(line)
        version, name = message["version"], message["request"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RunningError("This is no request.") from None
    if version != VERSION:
        raise RunningError(
            f"The daemon speaks version {VERSION} of the control protocol and was asked in "
            "another; restart it with the nanotun that is installed now."
        )
    return str(name)


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
