"""
What several pages are made of.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanotun.web.html import Child, Html, join, tag
from nanotun.web.text import NOTHING

#: The field of a form that tells it from one of a foreign page.
CSRF = "csrf"

#: How a proxy is, in a word, and the badge's class.
HEALTH = {"up": ("up", "good"), "down": ("down", "bad"), "unknown": ("not asked yet", "plain")}


def heading(title: str, *more: Child) -> Html:
    """A page's title, and what is beside it."""
    return tag("div", tag("h1", title), *more, class_="heading")


def section(title: str, *children: Child, live: str = "") -> Html:
    """
    A part of a page.

    @param live: its id, if C{page.js} shall fetch it again and again.
    """
    inner = (tag("h2", title) if title else None, *children)
    return tag("section", *inner, id=live or None, data_live=bool(live))


def cell(label: str, *children: Child, kind: str = "", title: str = "") -> Html:
    """
    A cell of a table.

    @param label: its column, which narrow screens show beside it.
    @param kind: its class.
    @param title: more about it.
    """
    return tag("td", *children, data_label=label or None, class_=kind or None, title=title or None)


def number(label: str, text: Child) -> Html:
    """A cell with a number."""
    return cell(label, text, kind="number")


def table(
    columns: Sequence[Child], rows: Iterable[Html], nothing: str, id: str = "", kind: str = ""
) -> Html:
    """
    A table, or a sentence where it would be empty.

    @param columns: the heads; one that is HTML is a head already.
    @param nothing: the sentence.
    """
    found = list(rows)
    heads = [each if isinstance(each, Html) else tag("th", each, scope="col") for each in columns]
    return join(
        tag(
            "table",
            tag("thead", tag("tr", heads)),
            tag("tbody", found, id=id or None),
            hidden=not found,
            class_=kind or None,
        ),
        tag("p", nothing, class_="nothing", hidden=bool(found), id=f"{id}-nothing" if id else None),
    )


def numberHead(text: str) -> Html:
    """The head of a column of numbers."""
    return tag("th", text, scope="col", class_="number")


def badge(text: str, kind: str) -> Html:
    """
    A word that stands out.

    @param kind: C{good}, C{bad}, C{warn} or C{plain}.
    """
    return tag("span", text, class_=f"badge {kind}")


def healthBadge(health: str) -> Html:
    """How a proxy is."""
    return badge(*HEALTH.get(health, (health, "plain")))


def tiles(values: Iterable[tuple[str, Child]]) -> Html:
    """Numbers that matter, each with its name."""
    return tag(
        "dl",
        (tag("div", tag("dt", name), tag("dd", value)) for name, value in values),
        class_="tiles",
    )


def secret(csrf: str) -> Html:
    """The field of a form that is posted."""
    return tag("input", type="hidden", name=CSRF, value=csrf)


def orNothing(value: Child) -> Child:
    """A value, or a dash."""
    return NOTHING if value is None or value == "" else value
