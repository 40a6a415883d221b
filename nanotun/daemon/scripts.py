"""
The user's script, as the settings name it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from nanotun.config.settings import Settings
from nanotun.config.upstreams import upstreamNames, withFields
from nanotun.linux.users import nameOf

if TYPE_CHECKING:
    from nanotun.scripting.script import Script, ScriptOptions


def scriptOptions(settings: Settings) -> ScriptOptions:
    """What the settings say of a script."""
    from nanotun.scripting.script import ScriptOptions

    fields = withFields(settings)
    names = {name: fields.get(name, frozenset()) for name in upstreamNames(settings)}
    return ScriptOptions(settings.scriptTimeout, settings.scriptError, names)


def scriptFor(
    settings: Settings,
    reactor: Any,
    before: Script | None = None,
    trusted: Collection[int] = (),
) -> Script | None:
    """
    The script of these settings: nothing of it is called yet.

    @param before: that of the settings in force, which is kept if its files are as they were.
    @param trusted: the users besides root who may be able to write it.
    @return: L{None} for none.
    @raise ConfigError: it is not there, not safe, or no script; with one sentence, and nothing of
        it is left.
    """
    if not settings.script:
        return None
    from nanotun.scripting.load import Guard, loadScript
    from nanotun.scripting.script import Script

    path = os.path.abspath(settings.script)
    if before is not None and before.path == path and before.isCurrent():
        return before
    loaded = loadScript(path, Guard(trusted, nameOf=nameOf))
    try:
        return Script(loaded, scriptOptions(settings), reactor)
    except BaseException:
        loaded.unload()
        raise


def describeScript(script: Script, settings: Settings) -> str:
    """
    What a script has and needs.

    @param settings: which name it.
    """
    functions = (
        ("flow", script.decides),
        ("ended", script.followsFlows),
        ("query", script.answersQueries),
    )
    found = ", ".join(name for name, there in functions if there)
    processes = "processes are looked up" if script.needsProcess else "no processes"
    return (
        f"{script.path}: {found}; {processes}; {settings.scriptTimeout:g} s, then "
        f"{settings.scriptError}"
    )
