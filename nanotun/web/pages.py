"""
What a browser shows: HTML made here, good without JavaScript.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from twisted.internet.defer import Deferred

from nanotun.errors import NanotunError
from nanotun.web import explainpage, flowpages, recordpages, shell, statepages
from nanotun.web.api import Answer, Api, Coming
from nanotun.web.html import Html, join, tag

#: The pages, by path.
TITLES = {path: name for path, name, _ in shell.PAGES}

#: The answer to the form on C{/explain}; it has no page of its own.
EXPLAINED = "/explain/answer"

#: Makes the part of a page that is its own.
Make = Callable[[Mapping[str, str], Api], Awaitable[Html]]


class Page(NamedTuple):
    """
    A page.

    @ivar title: text.
    @ivar body: HTML, of the part that is not the same on every page.
    @ivar status: of HTTP.
    """

    title: str
    body: str
    status: int = 200


def render(path: str, query: Mapping[str, str], api: Api) -> Page | Deferred[Page]:
    """
    Make a page.

    @param path: of the URL, or L{EXPLAINED} with the form's fields in the place of the query.
    @param query: of the URL; of several values of a name the last.
    @return: an error's page where there is none of that path.
    """
    if path not in _MAKERS:
        body = tag("p", "There is no such page.", class_="error")
        return Page("Not found", join(tag("h1", "Not found"), body), 404)
    return Deferred.fromCoroutine(_page(path, query, api))


def document(page: Page, path: str) -> str:
    """
    The whole HTML of a page.

    @param path: where it is.
    """
    return shell.document(path.removesuffix("/answer"), page.title, page.body)


async def _page(path: str, query: Mapping[str, str], api: Api) -> Page:
    told = api.told(query.get("told", ""))
    said = tag("p", told, class_="said", role="status") if told else None
    title = TITLES[path.removesuffix("/answer")]
    try:
        return Page(title, join(said, await _MAKERS[path](query, api)))
    except NanotunError as error:
        text = tag("p", str(error), class_="error", role="alert")
        return Page(title, join(said, tag("h1", title), text), 500)


async def _overview(query: Mapping[str, str], api: Api) -> Html:
    return statepages.overviewPage(await _come(api.status()))


async def _flows(query: Mapping[str, str], api: Api) -> Html:
    found = flowpages.FlowSearch(query.get("q", ""))
    await api.eachFlow(found.take)
    return flowpages.flowsPage(found, query, api.csrf)


async def _programs(query: Mapping[str, str], api: Api) -> Html:
    programs = flowpages.ProgramSums()
    await api.eachFlow(programs.take)
    return flowpages.programsPage(programs)


async def _upstreams(query: Mapping[str, str], api: Api) -> Html:
    return statepages.upstreamsPage(api.upstreams()["upstreams"])


async def _rules(query: Mapping[str, str], api: Api) -> Html:
    return statepages.rulesPage(api.rules())


async def _dns(query: Mapping[str, str], api: Api) -> Html:
    return recordpages.dnsPage(api.dns())


async def _log(query: Mapping[str, str], api: Api) -> Html:
    return recordpages.logPage(api.log())


async def _config(query: Mapping[str, str], api: Api) -> Html:
    return recordpages.configPage(api.config(), api.csrf)


async def _explain(query: Mapping[str, str], api: Api) -> Html:
    return explainpage.explainPage(query, None, "", api.csrf)


async def _explained(form: Mapping[str, str], api: Api) -> Html:
    asked = {name: form.get(name, "").strip() for name in explainpage.FIELDS}
    answer: Answer | None = None
    error = ""
    try:
        answer = await _come(api.explain(asked))
    except NanotunError as reason:
        error = str(reason)
    return explainpage.explainPage(asked, answer, error, api.csrf)


async def _come(answer: Coming) -> Answer:
    """An answer, perhaps later."""
    return await answer if isinstance(answer, Deferred) else answer


_MAKERS: Mapping[str, Make] = {
    "/": _overview,
    "/flows": _flows,
    "/programs": _programs,
    "/upstreams": _upstreams,
    "/rules": _rules,
    "/dns": _dns,
    "/log": _log,
    "/explain": _explain,
    EXPLAINED: _explained,
    "/config": _config,
}
