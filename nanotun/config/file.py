"""
Parses the text of a configuration file into values that know their line.

Errors name file and line.  The only text of the file that they repeat is the names of
keys, because a line may hold a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Any, NamedTuple

import yaml

from nanotun.errors import ConfigError

ADVICE = "write one 'key: value' on each line"
QUOTES = "a value with [ ] { } * & ! or # in it needs quotes"


class Given(NamedTuple):
    """
    A value that the user wrote.

    @ivar value: as it was in YAML, on the command line or in the environment; not checked
        yet.
    @ivar where: the beginning of an error's sentence, up to and including the name of the
        key, flag or variable.
    @ivar typed: whether it was on the command line.
    """

    value: object
    where: str
    typed: bool = False


_TYPES = ("null", "bool", "int", "float", "str", "seq", "map")


class _Loader(yaml.SafeLoader):
    """
    SafeLoader with YAML 1.2's rules for what is not text: C{offload: on} is a word and not
    true, and C{01500} is not an octal number.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}
    yaml_constructors = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _TYPES
    }


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]+", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )


def parseFile(text: str, name: str, known: Collection[str]) -> dict[str, Given]:
    """
    Read a configuration file.

    @param text: the whole text.
    @param name: the file's name, for errors.
    @param known: the valid keys.
    @return: the values by key.
    @raise ConfigError: for bad YAML, an unknown key or a key that is set twice.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None or root.tag == "tag:yaml.org,2002:null":
            return {}
        return _readMapping(loader, root, name, known)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        # Not str(error), which quotes the line; a problem quotes at most a word.
        problem = getattr(error, "problem", None) or "a character that YAML forbids"
        problem = re.sub(r" '[^']{2,}'", "", problem)
        raise ConfigError(
            f"{name}{line}: this is not valid YAML ({problem}); {ADVICE}; {QUOTES}."
        ) from None
    except RecursionError:
        raise ConfigError(f"{name}: this is nested too deeply; {ADVICE}.") from None


def _readMapping(
    loader: _Loader, root: yaml.Node, name: str, known: Collection[str]
) -> dict[str, Given]:
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        raise ConfigError(f"{name}, line {line}: this is not a mapping of settings; {ADVICE}.")
    found: dict[str, Given] = {}
    lines: dict[str, int] = {}
    for keyNode, valueNode in root.value:
        line = keyNode.start_mark.line + 1
        where = f"{name}, line {line}:"
        key = keyNode.value if isinstance(keyNode, yaml.ScalarNode) else ""
        if key not in known:
            raise ConfigError(f"{where} {_unknown(key, known)}")
        if key in found:
            raise ConfigError(
                f"{where} {key} is set a second time, first on line {lines[key]}; "
                "remove one of the two."
            )
        try:
            value = loader.construct_object(valueNode, deep=True)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError):
            raise ConfigError(f"{where} {key} does not fit its YAML tag; remove the tag.") from None
        found[key] = Given(value, f"{where} {key}")
        lines[key] = line
    return found


def _unknown(key: str, known: Collection[str]) -> str:
    # A text that does not look like a key may be a URL that lost its key.
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,39}", key):
        return f"this is not a setting; {ADVICE}."
    byLower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(re.sub("[_-]", "", key.lower()), byLower, n=1)
    if near:
        return f"there is no setting {key}; did you mean {byLower[near[0]]}?"
    return f"there is no setting {key}; there are {', '.join(known)}."
