"""
The values of a rule's C{domains}: names, wildcards, regular expressions and lists in files.
"""

from __future__ import annotations

import enum
import re
from ipaddress import ip_network
from typing import NamedTuple

import idna

from nanotun.errors import ConfigError

NAME_LIMIT = 253  #: Characters; RFC 1035, section 2.3.4, without the length bytes.


class PatternKind(enum.Enum):
    """How a pattern is compared with a name; the values are the signs of each."""

    BELOW = ""  #: The name itself, and every name below it.
    EXACTLY = "="  #: That name only.
    LIKE = "*"  #: The whole name, where each C{*} stands for one or more characters.
    MATCHES = "~"  #: A regular expression that is found somewhere in the name; no case.
    FILE = "file:"  #: A name in a list.


class Pattern(NamedTuple):
    """
    One value of C{domains}.

    Names that it is compared with are in lower case, in their ASCII form, without dots at
    the ends.

    @ivar value: a name in that form for BELOW and EXACTLY; the same with C{*} in it for LIKE;
        an expression that compiles for MATCHES; an absolute path for FILE.
    @ivar text: as the user wrote it.
    """

    kind: PatternKind
    value: str
    text: str


def pattern(text: str, addresses: str = "write it under networks") -> Pattern:
    """
    Parse one value.

    @param addresses: what to do with an address or a network, for the error.
    @raise ConfigError: with the end of a sentence; it is known what was meant.
    @raise ValueError: for anything else that is no such value.
    """
    if text.startswith("file:"):
        return Pattern(PatternKind.FILE, listPath(text), text)
    if text.startswith("~"):
        return Pattern(PatternKind.MATCHES, _expression(text[1:]), text)
    if text.startswith("="):
        return Pattern(PatternKind.EXACTLY, _name(text[1:], addresses), text)
    if "*" in text:
        # One letter in the place of each: what is around them has to be a name's.
        _name(text.replace("*", "x"), addresses, ascii=True)
        return Pattern(PatternKind.LIKE, text.strip(".").lower(), text)
    return Pattern(PatternKind.BELOW, _name(text, addresses), text)


def listPath(text: str) -> str:
    """
    The path in C{file:/PATH}.

    @raise ConfigError: it does not begin with a slash.
    """
    path = text.removeprefix("file:")
    if not path.startswith("/") or not path.isprintable():
        raise ConfigError(f": {ascii(text[:60])[1:-1]} has no absolute path; write file:/PATH")
    return path


def _expression(text: str) -> str:
    try:
        re.compile(text, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        shown = ascii(f"~{text[:40]}")[1:-1]
        raise ConfigError(
            f": {shown} is not a regular expression ({error}); in YAML it may need quotes"
        ) from None
    if not text:
        raise ValueError("matches every name")
    return text


def _name(text: str, addresses: str, ascii: bool = False) -> str:
    """
    A name as it is compared.

    @param addresses: see L{pattern}.
    @param ascii: whether it has to be in its ASCII form already.
    """
    if _isAddress(text):
        raise ConfigError(f": {text} is about addresses; {addresses}")
    name = text.strip(".").lower() if ascii else comparable(text)
    if len(name) > NAME_LIMIT or not re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", name):
        raise ValueError("not a name")
    return name


def comparable(text: str) -> str:
    """
    A name in lower case, in its ASCII form, without dots at the ends.

    @raise ValueError: it has letters that no name has.
    """
    name = text.strip(".").lower()
    if name.isascii() or len(name) > NAME_LIMIT:
        return name
    return idna.encode(name, uts46=True).decode()  # An IDNAError is a ValueError.


def _isAddress(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True
