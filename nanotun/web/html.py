"""
HTML, made so that no text becomes markup by accident.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias, Union

#: What can be inside an element; nothing is shown of L{None}.
Child: TypeAlias = Union["str", "int", "None", "Iterable[Child]"]

#: An attribute's value: L{None} and C{False} leave it out, C{True} is one without a value.
Value: TypeAlias = "str | int | bool | None"

#: The elements that have no content and no end.
VOID = ("br", "hr", "input", "link", "meta")


class Html(str):
    """Text that is HTML already.  Every other text is escaped where it is put in."""

    __slots__ = ()


def join(*children: Child) -> Html:
    """Children one after the other, without an element around them."""
    return Html("".join(map(_child, children)))


def tag(name: str, /, *children: Child, **attributes: Value) -> Html:
    """
    An element.

    @param attributes: an underscore stands for a hyphen, and one at the end for nothing, as in
        C{class_}.
    """
    begin = f"<{name}{''.join(map(_attribute, attributes, attributes.values()))}>"
    return Html(begin if name in VOID else f"{begin}{join(*children)}</{name}>")


def _child(child: Child) -> str:
    if isinstance(child, Html):
        return child
    if child is None:
        return ""
    if isinstance(child, str):
        return escape(child)
    if isinstance(child, Iterable):
        return join(*child)
    return str(child)


def _attribute(name: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
