"""
The frame of every page.

Pure.
"""

from __future__ import annotations

from nanotun.web.html import Html, tag

#: The pages: path, name, and the key that goes there after C{g}.
PAGES = (
    ("/", "Overview", "o"),
    ("/flows", "Flows", "f"),
    ("/programs", "Programs", "p"),
    ("/upstreams", "Upstreams", "u"),
    ("/rules", "Rules", "r"),
    ("/dns", "DNS", "d"),
    ("/explain", "Explain", "e"),
    ("/log", "Log", "l"),
    ("/config", "Configuration", "c"),
)

#: An icon that no server is asked for.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M2 14V8a6 6 0 0 1 12 0v6h-3V8a3 3 0 0 0-6 0v6z' fill='%231d6fb8'/%3E%3C/svg%3E"
)


def document(path: str, title: str, body: str) -> str:
    """
    A whole page.

    @param path: its own.
    @param body: HTML.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – nanotun"),  # noqa: RUF001
        tag("link", rel="icon", href=ICON),
        tag("link", rel="stylesheet", href="/static/page.css"),
        tag("script", src="/static/page.js", defer=True),
    )
    links = (
        tag(
            "li",
            tag(
                "a",
                name,
                href=where,
                aria_current="page" if where == path else None,
                data_key=key,
                title=f"Keys: g {key}",
            ),
        )
        for where, name, key in PAGES
    )
    content = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag(
            "header",
            tag("a", "nanotun", href="/", class_="name"),
            tag("nav", tag("ul", links), aria_label="Pages"),
            tag("span", id="link", class_="link", role="status"),
        ),
        tag("main", Html(body), id="content", tabindex="-1"),
    )
    return f"<!doctype html>\n{tag('html', head, content, lang='en')}\n"
