"""
The forms of the pages, which work without JavaScript.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from nanotun.errors import NanotunError
from nanotun.web.api import Api

#: A form's fields, all values of each name.
Fields = Mapping[str, Sequence[str]]

#: Characters of a flow's id.
_DIGITS = 20


def first(fields: Fields, name: str) -> str:
    """The first value of a field; empty if there is none."""
    return next(iter(fields.get(name, ())), "")


def closeFlows(fields: Fields, api: Api) -> Deferred[str]:
    """
    The form on C{/flows}: the fields C{id}, and C{back}, the query of the page to return to.

    @return: the URL of the next page.
    """

    def act() -> str:
        given = fields.get("id", ())
        ids = [int(each) for each in given if each.isascii() and each.isdigit()]
        if not ids or any(len(each) > _DIGITS for each in given):
            return "No flow was chosen."
        closed = api.close(ids)["closed"]
        return f"{closed} flow{' was' if closed == 1 else 's were'} closed."

    back = first(fields, "back").partition("?")[2].partition("#")[0]
    return maybeDeferred(act).addErrback(_sentence).addCallback(_next, "/flows", back, api)


def reload(fields: Fields, api: Api) -> Deferred[str]:
    """
    The form that has the configuration read again.

    @return: the URL of the next page.
    """
    done: Deferred[str] = maybeDeferred(api.reload).addCallback(_reloaded)
    return done.addErrback(_sentence).addCallback(_next, "/config", "", api)


def _reloaded(answer: Any) -> str:
    changed = ", ".join(answer["changed"]) or "nothing"
    sentences = [f"The configuration was read again; changed: {changed}."]
    if answer["restart"]:
        sentences.append(f"These wait for a restart: {', '.join(answer['restart'])}.")
    return " ".join([*sentences, *answer["warnings"]])


def _sentence(reason: Failure) -> str:
    reason.trap(NanotunError)
    return str(reason.value)


def _next(sentence: str, path: str, query: str, api: Api) -> str:
    told = urlencode({"told": api.tell(sentence)})
    return f"{path}?{query}&{told}" if query else f"{path}?{told}"


FORMS = {"/flows/close": closeFlows, "/reload": reload}
