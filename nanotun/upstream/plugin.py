"""
Schemes of other packages: how they are registered, and how they are found.

See C{docs/extending.md}.  Apart from such packages only an unknown scheme imports this:
with Twisted's plugins it takes several times as long as the table of schemes.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, globalLogPublisher
from twisted.plugin import IPlugin, getPlugins
from twisted.python.failure import Failure
from twisted.python.log import callWithContext
from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from nanotun.errors import ConfigError
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Authentication,
    IHealthCheck,
    IPlanned,
    IScheme,
    IUpstream,
    NeededFiles,
    Option,
    ProxyURL,
    UpstreamContext,
)
from nanotun.upstream.scheme import Scheme, canChain, sendsNamesWith
from nanotun.upstream.url import SCHEME_NAME

#: Where Twisted looks for plugins.
PACKAGE = "twisted.plugins"

#: Characters; the text of an error may be long.
ERROR_LIMIT = 200

_log = Logger()

_Found = TypeVar("_Found")


@implementer(IPlugin)
class SchemePlugin(Scheme):
    """
    A scheme of another package.  nanotun finds it by its name in a module of
    C{twisted.plugins}.
    """


class GuardedScheme(Scheme):
    """
    The scheme of a plugin for everybody else: whatever a mistake of the plugin's raises
    becomes one sentence.

    @param plugin: a good L{IScheme}, see L{sortPlugins}; it sees URLs with itself as their
        scheme.
    """

    def __init__(self, plugin: IScheme) -> None:
        super().__init__(
            plugin.name,
            plugin.make,
            defaultPort=plugin.defaultPort,
            authentication=plugin.authentication,
            credentialLimit=plugin.credentialLimit,
            forbidden=plugin.forbidden,
            options={
                name: option._replace(check=self._guardedOption(option.check))
                for name, option in plugin.options.items()
            },
            unixSocket=plugin.unixSocket,
            sendsNames=plugin.sendsNames,
            takesNames=sendsNamesWith(plugin, True),
            carriesDatagrams=plugin.carriesDatagrams,
            dialsDestination=plugin.dialsDestination,
            chains=canChain(plugin),
        )
        self._plugin = plugin

    def __eq__(self, other: object) -> bool:
        """The next search finds the same plugin, and its URLs are the same then."""
        return isinstance(other, GuardedScheme) and self._plugin is other._plugin

    def __hash__(self) -> int:
        return hash(self._plugin)

    def check(self, url: ProxyURL) -> None:
        """See L{IScheme.check}."""
        own = url._replace(scheme=self._plugin)
        self._guard(partial(self._plugin.check, own), self._unfit, url)

    def files(self, url: ProxyURL) -> NeededFiles:
        """See L{IScheme.files}."""
        own = url._replace(scheme=self._plugin)
        tell = partial(self._sentence, "cannot tell the files of", url)
        return self._guard(partial(_filesOf, self._plugin, own), tell, url)

    def notices(self, url: ProxyURL) -> tuple[str, ...]:
        """See L{IScheme.notices}."""
        own = url._replace(scheme=self._plugin)
        tell = partial(self._sentence, "cannot tell the notices of", url)
        return self._guard(partial(_noticesOf, self._plugin, own), tell, url)

    def make(self, url: ProxyURL, context: UpstreamContext) -> IUpstream:
        """
        See L{IScheme.make}.  Files and notices are tried first: they are asked for when it
        is too late for an error.
        """
        self.files(url)
        self.notices(url)
        own = url._replace(scheme=self._plugin)
        tell = partial(self._sentence, "cannot make the upstream", url)
        return self._guard(partial(_upstreamOf, self._plugin, own, context), tell, url)

    def _guardedOption(self, check: Callable[[str, str], str]) -> Callable[[str, str], str]:
        def guarded(name: str, text: str) -> str:
            def checked() -> str:
                found = check(name, text)
                if not isinstance(found, str):
                    raise TypeError(f"the check of {name} returned {found!r}, which is no text")
                return found

            return self._guard(checked, self._unfit)

        return guarded

    def _guard(
        self, call: Callable[[], _Found], tell: Callable[[str], str], url: ProxyURL | None = None
    ) -> _Found:
        """
        @param tell: makes the text of a L{ConfigError} from another error's text.
        @param url: its password is kept out of that.
        """
        try:
            return call()
        except ConfigError:
            raise
        except Exception as error:
            _log.debug("The plugin for {name}:// fails", name=self.name, log_failure=Failure())
            secret = url.password if url is not None else None
            raise ConfigError(tell(_reason(error, secret))) from None

    def _unfit(self, reason: str) -> str:
        """The end of a sentence, as from L{IScheme.check}."""
        return (
            f"must do without {self.name}://, whose plugin cannot check the URL ({reason}), "
            "until the plugin is corrected"
        )

    def _sentence(self, what: str, url: ProxyURL, reason: str) -> str:
        return f"The plugin for {self.name}:// {what} {url} ({reason}); correct the plugin."


def _filesOf(plugin: IScheme, url: ProxyURL) -> NeededFiles:
    found = plugin.files(url)
    if not isinstance(found, NeededFiles):
        raise TypeError(f"files returned {found!r}, which is no NeededFiles")
    return found


def _noticesOf(plugin: IScheme, url: ProxyURL) -> tuple[str, ...]:
    found = plugin.notices(url)
    if not isinstance(found, tuple) or not all(isinstance(each, str) for each in found):
        raise TypeError(f"notices returned {found!r}, which is no tuple of texts")
    return found


def _upstreamOf(plugin: IScheme, url: ProxyURL, context: UpstreamContext) -> IUpstream:
    made = plugin.make(url, context)
    for interface in (IUpstream, IHealthCheck):
        try:
            verifyObject(interface, made)
        except Invalid:
            kind, missed = type(made).__name__, interface.__name__
            raise TypeError(f"{kind} does not provide all of {missed}") from None
    if IPlanned.providedBy(made) and _connectsOtherwise(type(made)):
        made.plan = _noPlan  # type: ignore[method-assign]
    return made


def _connectsOtherwise(kind: type) -> bool:
    """
    Whether a class has a C{connect} of its own, but the C{plan} of one of nanotun's that it is
    derived from: the engine would not do what that C{connect} does.
    """
    connects, plans = (
        # What no class has, the object has.
        next((each for each in kind.__mro__ if name in vars(each)), kind)
        for name in ("connect", "plan")
    )
    return connects is not plans and issubclass(connects, plans)


def _noPlan(destination: Endpoint) -> None:
    """In place of L{IPlanned.plan}."""


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
    # A module may have two names for one object.
    for plugin in {id(plugin): plugin for plugin in plugins}.values():
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
    guarded: dict[str, IScheme] = {name: GuardedScheme(each) for name, each in schemes.items()}
    return FoundSchemes(guarded, tuple(troubles))


def _flaw(plugin: Any, taken: Collection[str]) -> str:
    """What is wrong with a plugin, or nothing."""
    try:
        verifyObject(IScheme, plugin)
        for attribute, isGood in _ATTRIBUTES.items():
            value = getattr(plugin, attribute)
            if not isGood(value):
                shown = repr(value)[:ERROR_LIMIT]
                return (
                    f"has the {attribute} {shown}, which no scheme can have, so correct or "
                    "remove it"
                )
        if plugin.name in taken:
            return f"may not replace nanotun's own {plugin.name}://, so give it another name"
    except Invalid:
        return "does not provide all of IScheme, so correct or remove it"
    except Exception as error:
        return f"cannot be asked for its attributes ({_reason(error)}), so correct or remove it"
    return ""


def _isInteger(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _isPattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _areOptions(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(option, Option) and callable(option.check)
        for name, option in value.items()
    )


#: What others rely on in a scheme's attributes, in the order in which they are looked at.
_ATTRIBUTES: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and bool(re.fullmatch(SCHEME_NAME, value)),
    "defaultPort": lambda value: value is None or (_isInteger(value) and 1 <= value <= 65535),
    "authentication": lambda value: isinstance(value, Authentication),
    "credentialLimit": lambda value: _isInteger(value) and value >= 0,
    "forbidden": _isPattern,
    "options": _areOptions,
}


def _loadTrouble(error: BaseException) -> str:
    folder = PACKAGE.replace(".", "/")
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    place = [file for file in files if folder in file][-1:] or files[-1:]
    return (
        f"the plugin {''.join(place)} cannot be loaded ({_reason(error)}), so correct or remove it"
    )


def _reason(error: BaseException, secret: str | None = None) -> str:
    """An error's type and text, on one line, without a password."""
    text = f"{type(error).__name__}: {error}"
    if secret:
        text = text.replace(secret, "***")
    return " ".join(text.split())[:ERROR_LIMIT].rstrip(".")


def _homeOf(plugin: object) -> str:
    """The file of the module that holds a plugin; its type's name if none does."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{PACKAGE}.") and any(each is plugin for each in vars(module).values()):
            return str(module.__file__)
    return type(plugin).__name__
