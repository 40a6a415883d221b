"""
What a browser shows: HTML made here, good without JavaScript.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from nanotun.web.api import Api

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

#: The pages, by path.
TITLES = {
    "/": "Overview",
    "/flows": "Flows",
    "/programs": "Programs",
    "/upstreams": "Upstreams",
    "/rules": "Rules",
    "/dns": "DNS",
    "/log": "Log",
    "/explain": "Explain",
    "/config": "Configuration",
}

#: The answer to the form on C{/explain}; it has no page of its own.
EXPLAINED = "/explain/answer"


class Page(NamedTuple):
    """
    A page.

    @ivar title: text.
    @ivar body: HTML, of the part that is not the same on every page.
    @ivar status: of HTTP.
    """

    title: str
    body: str
    status: int = 200


def render(path: str, query: Mapping[str, str], api: Api) -> Page | Deferred[Page]:
    """
    Make a page.

    @param path: of the URL, or L{EXPLAINED} with the form's fields in the place of the query.
    @param query: of the URL; of several values of a name the last.
    @return: an error's page where there is none of that path.
    """
    title = TITLES.get("/explain" if path == EXPLAINED else path)
    if title is None:
        return Page("Not found", "<p>There is no such page.</p>", 404)
    told = api.told(query.get("told", ""))
    return Page(title, f"<p role=status>{escape(told)}</p>" if told else "")


def document(page: Page, path: str) -> str:
    """
    The whole HTML of a page.

    @param path: where it is.
    """
    links = "".join(
        f'<li><a href="{each}"{" aria-current=page" if each == path else ""}>{escape(title)}</a>'
        for each, title in TITLES.items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(page.title)} - nanotun</title>"
        '<link rel="stylesheet" href="/static/page.css">'
        '<script src="/static/page.js" defer></script>'
        f"<nav><ul>{links}</ul></nav><main><h1>{escape(page.title)}</h1>{page.body}</main></html>"
    )
