"""
Schemes of other packages: how they are registered, and how they are found.

See C{docs/extending.md}.  Apart from such packages only an unknown scheme imports this:
with Twisted's plugins it takes several times as long as the table of schemes.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, globalLogPublisher
from twisted.plugin import IPlugin, getPlugins
from twisted.python.failure import Failure
from twisted.python.log import callWithContext
from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from nanotun.errors import ConfigError
from nanotun.interfaces import IScheme, IUpstream, ProxyURL, UpstreamContext
from nanotun.upstream.scheme import Scheme
from nanotun.upstream.url import SCHEME_NAME

#: Where Twisted looks for plugins.
PACKAGE = "twisted.plugins"

#: Characters; the text of an error may be long.
ERROR_LIMIT = 200

_log = Logger()


@implementer(IPlugin)
class SchemePlugin(Scheme):
    """
    A scheme of another package.  nanotun finds it by its name in a module of
    C{twisted.plugins}.
    """

    def make(self, url: ProxyURL, context: UpstreamContext) -> IUpstream:
        """See L{IScheme.make}; a mistake of the plugin's is one sentence, too."""
        try:
            return super().make(url, context)
        except ConfigError:
            raise
        except Exception as error:
            _log.debug("No upstream for {url}", url=str(url), log_failure=Failure())
            raise ConfigError(
                f"The plugin for {self.name}:// cannot make the upstream {url} "
                f"({_reason(error)}); correct the plugin."
            ) from None


class FoundSchemes(NamedTuple):
    """
    The outcome of a search.

    @ivar schemes: by name.
    @ivar troubles: what is wrong with other plugins, each the rest of a sentence.
    """

    schemes: dict[str, IScheme]
    troubles: tuple[str, ...]


def findSchemes(taken: Collection[str]) -> FoundSchemes:
    """
    Search for the schemes of other packages.

    @param taken: names that no plugin may use.
    """
    plugins, broken = loadPlugins()
    found = sortPlugins(plugins, taken)
    return found._replace(troubles=(*broken, *found.troubles))


def warnOf(troubles: Iterable[str]) -> None:
    """Log what is wrong with plugins where the search succeeded in spite of it."""
    for trouble in troubles:
        _log.warn("While schemes were looked for: {trouble}.", trouble=trouble)


def loadPlugins() -> tuple[list[object], list[str]]:
    """
    Load everything that claims to be a scheme.

    Twisted logs the traceback of a plugin that cannot be loaded as a critical error,
    which is printed where no log has begun yet.  Here it is logged for debugging.

    @return: the plugins, and what is wrong with those that cannot be loaded.
    """
    failures = _Failures()
    globalLogPublisher.addObserver(failures)
    try:
        context = {"log_level": LogLevel.debug, "nanotun_search": failures}
        plugins = callWithContext(context, lambda: list(getPlugins(IScheme)))
    finally:
        globalLogPublisher.removeObserver(failures)
    return plugins, failures.troubles


@implementer(ILogObserver)
class _Failures:
    """
    Hears of the plugins that Twisted cannot load.

    @ivar troubles: what is wrong with them.
    """

    def __init__(self) -> None:
        self.troubles: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        """See L{ILogObserver}."""
        # A plugin's failure is logged by the older of Twisted's two interfaces.
        failure = event.get("failure")
        if event.get("nanotun_search") is self and failure is not None:
            self.troubles.append(_loadTrouble(failure.value))


def sortPlugins(plugins: Iterable[Any], taken: Collection[str]) -> FoundSchemes:
    """Tell the schemes that can be used from those that cannot."""
    schemes: dict[str, IScheme] = {}
    troubles = []
    twice = set()
    for plugin in plugins:
        flaw = _flaw(plugin, taken)
        if flaw:
            troubles.append(f"the plugin {_homeOf(plugin)} {flaw}")
        elif plugin.name in schemes:
            twice.add(plugin.name)
        else:
            schemes[plugin.name] = plugin
    for name in sorted(twice):
        # Which of them was found first is an accident.
        home = _homeOf(schemes.pop(name))
        troubles.append(f"more than one plugin registers {name}://, {home} for one, so keep one")
    return FoundSchemes(schemes, tuple(troubles))


def _flaw(plugin: Any, taken: Collection[str]) -> str:
    """What is wrong with a plugin, or nothing."""
    try:
        verifyObject(IScheme, plugin)
    except Invalid:
        return "does not provide all of IScheme, so correct or remove it"
    name = plugin.name
    if not isinstance(name, str) or not re.fullmatch(SCHEME_NAME, name):
        return f"has the name {name!r}, which no scheme can have, so correct or remove it"
    if name in taken:
        return f"may not replace nanotun's own {name}://, so give it another name"
    return ""


def _loadTrouble(error: BaseException) -> str:
    folder = PACKAGE.replace(".", "/")
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    place = [file for file in files if folder in file][-1:] or files[-1:]
    return (
        f"the plugin {''.join(place)} cannot be loaded ({_reason(error)}), so correct or remove it"
    )


def _reason(error: BaseException) -> str:
    """An error's type and text, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:ERROR_LIMIT].rstrip(".")


def _homeOf(plugin: object) -> str:
    """The file of the module that holds a plugin; its type's name if none does."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{PACKAGE}.") and any(each is plugin for each in vars(module).values()):
            return str(module.__file__)
    return type(plugin).__name__
