"""
Variables whose values are in files, as containers are given their secrets: C{NANOTUN_PROXY_FILE}
names a file that holds what C{NANOTUN_PROXY} would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from nanotun.config.keys import KEYS
from nanotun.config.values import listed
from nanotun.errors import ConfigError
from nanotun.upstream.url import PASSWORD_VARIABLE

#: What is added to a variable's name.
SUFFIX = "_FILE"

#: The variables that may hold a password, and those that name a file instead.
FILE_VARIABLES = {
    name: name + SUFFIX
    for name in (*(key.variable for key in KEYS.values() if key.secret), PASSWORD_VARIABLE)
}


def secretPaths(environment: Mapping[str, str]) -> list[str]:
    """The files that variables name."""
    return [path for name in FILE_VARIABLES.values() if (path := environment.get(name))]


def fileSentence(quote: str = "") -> str:
    """
    The sentence of the help and of documents about these variables.

    @param quote: what to put around each name.
    """
    names = [f"{quote}{each}{quote}" for each in FILE_VARIABLES.values()]
    return (
        f"{listed(names)} each name a file with the value of the variable without "
        f"{quote}{SUFFIX}{quote}."
    )


class Secrets(NamedTuple):
    """
    The environment with what the files hold.

    @ivar environment: with the values in the place of the files' names.
    @ivar places: for each variable that was read from a file, what to call it in an error.
    """

    environment: dict[str, str]
    places: dict[str, str]


def readSecrets(environment: Mapping[str, str], read: Callable[[str, str], str]) -> Secrets:
    """
    Read the files that variables name.

    A file may have several values, a line each, where the variable has commas between them.

    @param read: reads a file; takes its path, and what to do if that cannot be done.  Raises
        L{ConfigError}.
    @raise ConfigError: a file cannot be read or is empty, or a variable is set in both ways.
    """
    secrets = Secrets(dict(environment), {})
    for name, fileName in FILE_VARIABLES.items():
        path = environment.get(fileName, "")
        if not path:
            continue
        if environment.get(name):
            raise ConfigError(f"{name} and {fileName} are both set; remove one of the two.")
        text = read(path, f"check the path in {fileName}")
        if name != PASSWORD_VARIABLE:
            text = ",".join(filter(None, map(str.strip, text.splitlines())))
        if not text.strip():
            raise ConfigError(
                f"The file {path} that {fileName} names is empty; write into it what {name} would "
                "hold."
            )
        secrets.environment[name] = text
        secrets.places[name] = f"{fileName} ({path})"
    return secrets
