"""
Parses the text of a configuration file into values that know their line.

Errors name file and line.  The only text of the file that they repeat is the names of
keys, because a line may hold a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from nanotun.errors import ConfigError

ADVICE = "write one 'key: value' on each line"
QUOTES = "a value with [ ] { } * & ! or # in it needs quotes"


#: The keys and positions, from 0, that lead to a part of a value.
Path = tuple[str | int, ...]


class Given(NamedTuple):
    """
    A value that the user wrote.

    @ivar value: as it was in YAML, on the command line or in the environment; not checked
        yet.
    @ivar where: the beginning of an error's sentence, up to and including the name of the
        key, flag or variable.
    @ivar typed: whether it was on the command line.
    @ivar lines: the lines of the parts of a value from a file; a value's line is its key's.
    """

    value: object
    where: str
    typed: bool = False
    lines: Mapping[Path, int] = {}

    def at(self, path: Path) -> str:
        """
        The beginning of an error's sentence about a part of the value.

        @return: such as C{"FILE, line 9: upstreams.deep.via"} or C{"--rule, entry 3, to"}.
        """
        place = self.place(path)
        key = self.where.rpartition(": ")[2]
        text = place if place == key else f"{place}: {key}"
        # A flag has no keys of its own: what follows is what was written behind it.
        dot = " " if place == key else "."
        for step in path:
            text += f", entry {step + 1}" if isinstance(step, int) else f"{dot}{step}"
            dot = ", " if isinstance(step, int) else "."
        return text

    def place(self, path: Path = ()) -> str:
        """Where a part of the value was written: file and line, a flag or a variable."""
        start, _, key = self.where.rpartition(": ")
        if not start:
            return key
        # A part that is not there, such as a missing key, is to be added to what is around it.
        known = (path[:length] for length in range(len(path), 0, -1))
        line = next((self.lines[each] for each in known if each in self.lines), None)
        return start if line is None else f"{start.rpartition(', line ')[0]}, line {line}"


#: In libyaml's problem with what would have exceeded Python's stack.
_DEEP = "nesting depth"

_TYPES = ("null", "bool", "int", "float", "str", "seq", "map")


#: With libyaml, reading many networks takes a tenth of the time that the one in Python takes.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
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
        if _DEEP in _problem(error):
            raise ConfigError(f"{name}: this is nested too deeply; {ADVICE}.") from None
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ConfigError(
            f"{name}{line}: this is not valid YAML ({_problem(error)}); {ADVICE}; {QUOTES}."
        ) from None
    except RecursionError:
        raise ConfigError(f"{name}: this is nested too deeply; {ADVICE}.") from None


def _problem(error: yaml.YAMLError) -> str:
    # Not str(error), which quotes the line; a problem quotes at most a word.
    problem = getattr(error, "problem", None) or "a character that YAML forbids"
    problem = re.sub(r",? but (?:got|found)$", "", re.sub(r" '[^']{2,}'", "", problem))
    # libyaml says the same in other words.
    return problem.removeprefix("did not find ").replace(" in this context", " here")


def parseEntries(text: str, where: str, such: str) -> list[object]:
    """
    Read the text of a flag or a variable that is YAML: the entries of a list.

    @param text: one entry, or a list of some; several of those after a line C{---} each.
    @param where: the name of the flag or variable, for errors.
    @param such: an entry, as an example for errors.
    @raise ConfigError: for bad YAML, or a mapping that has a key twice.
    """
    advice = f"write it in quotes, such as '{such}'"
    entries: list[object] = []
    nodes: list[yaml.Node] = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node() or yaml.ScalarNode("", "")
            value = loader.construct_object(node, deep=True)  # type: ignore[no-untyped-call]
            entries += value if isinstance(value, list) else [value]
            nodes += node.value if isinstance(node, yaml.SequenceNode) else [node]
        _withLines(Given(entries, where), yaml.SequenceNode("", nodes))
    except (yaml.YAMLError, ValueError, KeyError) as error:
        problem = _problem(error) if isinstance(error, yaml.YAMLError) else "a wrong tag"
        if _DEEP in problem:
            raise ConfigError(f"{where} is nested too deeply; {advice}.") from None
        raise ConfigError(f"{where} is not valid YAML ({problem}); {advice}.") from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply; {advice}.") from None
    return entries


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
            raise ConfigError(_again(f"{where} {key}", lines[key]))
        try:
            value = loader.construct_object(valueNode, deep=True)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError):
            raise ConfigError(f"{where} {key} does not fit its YAML tag; remove the tag.") from None
        found[key] = _withLines(Given(value, f"{where} {key}"), valueNode)
        lines[key] = line
    return found


def _withLines(given: Given, root: yaml.Node) -> Given:
    """
    Fill in the lines of a value's parts.

    @raise ConfigError: a mapping in it has a key twice.
    """
    lines: dict[Path, int] = {}
    seen: set[int] = set()

    def walk(node: yaml.Node, path: Path) -> None:
        # What an alias repeats is walked through once: aliases of aliases grow without bound.
        if id(node) in seen:
            return
        seen.add(id(node))
        parts: Iterable[tuple[str | int, yaml.Node, yaml.Node]] = ()
        if isinstance(node, yaml.MappingNode):
            parts = ((str(key.value), key, value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            parts = ((number, each, each) for number, each in enumerate(node.value))
        for step, first, value in parts:
            below, line = (*path, step), first.start_mark.line + 1
            if below in lines:
                # It may be a URL, in the wrong place.
                shown = (*path, re.sub(r"[^\s/]*@", "***@", str(step)))
                where = given._replace(lines={shown: line}).at(shown)
                raise ConfigError(_again(where, lines[below] if ": " in given.where else 0))
            lines[below] = line
            walk(value, below)

    walk(root, ())
    return given._replace(lines=lines)


def _again(where: str, first: int) -> str:
    before = f", first on line {first}" if first else ""
    return f"{where} is set a second time{before}; remove one of the two."


def _unknown(key: str, known: Collection[str]) -> str:
    # A text that does not look like a key may be a URL that lost its key.
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,39}", key):
        return f"this is not a setting; {ADVICE}."
    byLower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(re.sub("[_-]", "", key.lower()), byLower, n=1)
    if near:
        return f"there is no setting {key}; did you mean {byLower[near[0]]}?"
    return f"there is no setting {key}; there are {', '.join(known)}."
