"""
Values from flags, environment and file in, one frozen L{Settings} out.

Every setting is declared once, in L{nanotun.config.keys}.  Nothing here opens a file or
looks at the machine; L{nanotun.config.options} does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from nanotun.config.askedservers import checkServers
from nanotun.config.dnsrules import DNS_RULE_EXAMPLE
from nanotun.config.entry import Key
from nanotun.config.file import Given, parseEntries
from nanotun.config.flowrules import RULE_EXAMPLE
from nanotun.config.keys import KEYS, Settings
from nanotun.config.rulecheck import checkRules
from nanotun.config.upstreams import checkUpstreams
from nanotun.errors import ConfigError, EntryError, WrongOption

__all__ = ["Settings", "flagValue", "makeSettings", "strayVariables", "variableValues"]

#: The checks of settings together, in this order, once each by itself is good.  A check
#: raises L{EntryError}, which names the setting that is to blame.
TOGETHER: tuple[Callable[[Settings], None], ...] = (
    checkUpstreams,
    checkServers,
    checkRules,
)


def flagValue(key: Key, text: str) -> Given:
    """
    Make a flag's text comparable to a value from the file.

    @raise WrongOption: it should be YAML, and is not.
    """
    try:
        return _textValue(key, text, f"--{key.flag}")._replace(typed=True)
    except ConfigError as error:
        raise WrongOption(str(error)) from None


def variableValues(
    environment: Mapping[str, str], places: Mapping[str, str] | None = None
) -> dict[str, Given]:
    """
    The settings that environment variables give, by key.

    An empty variable counts as not set.

    @param places: what to call a variable in an error, if not by its name.
    @raise ConfigError: one should be YAML, and is not.
    """
    return {
        key.name: _textValue(key, text, (places or {}).get(key.variable, key.variable))
        for key in KEYS.values()
        if (text := environment.get(key.variable, ""))
    }


#: An entry of each setting that is structured, for errors.
_ENTRIES = {"rules": RULE_EXAMPLE, "dnsRules": DNS_RULE_EXAMPLE}


def _textValue(key: Key, text: str, where: str) -> Given:
    """As in the file, where numbers are numbers and several values are a list."""
    if key.structured:
        return Given(parseEntries(text, where, _ENTRIES[key.name]), where)
    if key.repeats:
        return Given([each.strip() for each in text.split(",")], where)
    number = isinstance(key.default, int) and re.fullmatch(r"[0-9]{1,9}", text)
    return Given(int(text) if number else text, where)


def strayVariables(environment: Mapping[str, str], others: Collection[str]) -> tuple[str, ...]:
    """
    Find variables that look like a setting's and are none.

    @param others: the names of variables that mean something else to nanotun.
    @return: at most one sentence for the user.  It shows no value: that may be a password.
    """
    meant = {*others, *(key.variable for key in KEYS.values())}
    known = {_plain(name): name for name in others}
    for key in KEYS.values():
        known[_plain(key.flag)] = key.variable
    for key in KEYS.values():
        known[_plain(key.variable)] = key.variable
    found = []
    for name in sorted(environment):
        if not name.upper().startswith("NANOTUN_") or name in meant:
            continue
        near = difflib.get_close_matches(_plain(name), known, n=1, cutoff=0.8)
        hint = f" (did you mean {known[near[0]]}?)" if near else ""
        found.append(ascii(name[:60])[1:-1] + hint)
    if not found:
        return ()
    return (
        f"No setting has the environment variable {', '.join(found)}; "
        "a setting's variable is NANOTUN_ and its name in capitals.",
    )


def _plain(name: str) -> str:
    """What is compared: no prefix, no case, and nothing between the words."""
    return re.sub("^NANOTUN_|[_-]", "", name.upper())


def makeSettings(
    fileValues: Mapping[str, Given],
    given: Mapping[str, Given],
    fileName: str | None,
    defaultFile: str = "",
) -> Settings:
    """
    Merge and check: C{given} wins over the file, and the file over the default.

    @param fileValues: by key, from L{nanotun.config.file.parseFile}.
    @param given: by key: what L{variableValues} and L{flagValue} return.
    @param fileName: the file's name, for errors; L{None} without a file.
    @param defaultFile: the file that would have been read if it were there, for errors.
    @raise ConfigError: with one sentence for the user; L{WrongOption} if the command line
        is to blame.
    """
    merged = {**fileValues, **given}
    values: dict[str, Any] = {}
    missing: list[Key] = []
    for key in KEYS.values():
        one = merged.get(key.name)
        if one is None:
            if key.default is None:
                missing.append(key)
                continue
            one = Given(key.default, f"The default of {key.name}")
        try:
            values[key.name] = key.check(one.value)
        except ConfigError as error:
            raise _wrong(one, error) from None
        if key.structured:
            placed = enumerate(values[key.name])
            values[key.name] = tuple(each._replace(where=one.place((n,))) for n, each in placed)
    # Last, since a value that is there and wrong is what its author wants to hear of.
    for key in missing:
        # Without a file, an option is missing.
        kind = WrongOption if fileName is None else ConfigError
        raise kind(_missing(key, fileName, defaultFile))
    settings = Settings(**values)
    for check in TOGETHER:
        try:
            check(settings)
        except EntryError as error:
            blamed = merged.get(error.key, Given(None, f"The default of {error.key}"))
            raise _wrong(blamed, error) from None
    return settings


def _wrong(given: Given, error: ConfigError) -> ConfigError:
    """
    The whole sentence about a value that is wrong.

    @param error: with the end of the sentence.
    """
    text = str(error)
    where = given.at(error.path) if isinstance(error, EntryError) else given.where
    blank = "" if text.startswith((":", ",")) else " "
    stop = "" if text.endswith("?") else "."
    return (WrongOption if given.typed else ConfigError)(f"{where}{blank}{text}{stop}")


def _missing(key: Key, fileName: str | None, defaultFile: str) -> str:
    line = f"'{key.name}: {key.metavar}'"
    flag = f"--{key.flag} {key.metavar}"
    if fileName is None:
        more = f", or write it into {defaultFile}" if defaultFile else ""
        return f"No {key.name} is set: give {flag}, or --config FILE with the line {line}{more}."
    return (
        f"{fileName}: no {key.name} is set; add the line {line}, set the variable {key.variable}, "
        f"or give {flag}."
    )
