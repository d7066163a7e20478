"""What a submission comes to, before anything is recorded or called. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from eventstore.value import value
from gateway.errors import InvalidRequest, UnsupportedParameter
from gateway.exchange.continuation import continued as continued_answer
from gateway.exchange.inputs import Submission
from gateway.exchange.render import dialect
from gateway.redaction import Redactor, Scrubber, credentials_in
from gateway.routing.choose import Route, choose, credential, unlisted
from gateway.routing.offered import not_offered, offering
from gateway.tools.loop import FIELD, Loop, Looping, continued
from gateway.upstreams.natives import NATIVES
from gateway.upstreams.prompted import PromptedTools
from gateway.upstreams.upstream import Call, Provider, Speech, Upstream
from gateway.wire.dialect import Dialect
from gateway.wire.responses.custom import CUSTOM_TOOLS
from gateway.wire.responses.sealed import BLOCKS, unsigned
from gateway.wire.structure import Structure, corrected, prompted, wanted
from gateway.wire.tooltext.models import Choice, ToolModes
from gateway.wire.tooltext.prompt import speaks_of_tools
from gateway.wire.values import Fold, Undirected, Unsupported, WireError

UNPROMPTED: Set[str] = frozenset({CUSTOM_TOOLS})
"""Traits whose words a prompt has not: it has functions only."""
NOTHING = Scrubber([])
"""For a call without a credential."""


@value
class Plan:
    """Where a request goes, in which words, with which credential (which is never recorded). `speech` said `body` as
    `call`, and reads its answer. `structure` is what the answer must be, where nobody but us sees to that; `loop` the
    tools that the server runs for it; `lent_to` the provider that its caller's own key and URL are for."""

    route: Route
    provider: Provider
    upstream: Upstream
    speech: Speech
    call: Call
    api_key: str | None
    scrubber: Scrubber
    body: dict[str, Any]
    lent_to: str
    structure: Structure | None = None
    loop: Loop | None = None

    @property
    def as_chat(self) -> bool:
        """Whether the upstream was asked in chat; else it got the request as it came, and its answer passes so."""
        return self.speech is self.upstream or isinstance(self.speech, PromptedTools)

    @property
    def callers_url(self) -> bool:
        """Whether it goes where its caller said."""
        return "callers_url" in self.provider.traits

    def problem(self, answer: Fold) -> str | None:
        """What is wrong with a whole answer, in words for the model. One that calls tools is not looked at."""
        if self.structure is None:
            return None
        message = text_of(answer)
        return None if message.get("tool_calls") else self.structure.problem(message.get("content") or "")

    def continued(self, answer: Fold, results: Sequence[tuple[str, str]]) -> Plan:
        """The next round, which sees what the tools gave."""
        assert self.loop is not None
        body = continued(self.body, text_of(answer), results)
        call = self.speech.encode(self.provider, self.route.model, body)
        return replace(self, body=body, call=call, loop=self.loop.next())

    def resumed(self, text: str) -> Plan:
        """The next attempt, which goes on behind this text of the answer."""
        body = continued_answer(self.body, text)
        return replace(self, body=body, call=self.speech.encode(self.provider, self.route.model, body))

    def again(self, answer: Fold, problem: str) -> Plan:
        """The next attempt, which sees what was wrong."""
        body = corrected(self.body, text_of(answer).get("content") or "", problem)
        return replace(self, body=body, call=self.speech.encode(self.provider, self.route.model, body))


def text_of(answer: Fold) -> dict[str, Any]:
    """The message of the first choice."""
    message: dict[str, Any] = (answer.choices() or [{"message": {}}])[0]["message"]
    return message


class Planner:
    """Plans by the configured `providers` (by name) and `upstreams` (by family). `listed`: provider -> models, as last
    discovered; `tools`: which models are told of tools in their prompt."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        upstreams: Mapping[str, Upstream],
        redactor: Redactor,
        default_provider: str | None,
        listed: Callable[[], Mapping[str, Collection[str]]],
        natives: Mapping[tuple[str, str], Speech] = NATIVES,
        tools: ToolModes = ToolModes(),  # noqa: B008  a value, that nobody can change
        looping: Looping | None = None,
    ) -> None:
        self._looping = looping
        self._providers, self._upstreams, self._redactor = providers, upstreams, redactor
        self._default_provider, self._listed, self._natives = default_provider, listed, natives
        self._tools = tools
        self._own: dict[str, Scrubber] = {}

    def unlisted(self, submission: Submission) -> bool:
        """Whether nobody is known to have its model, which it names without a provider."""
        known = (self._providers, self._default_provider, self._listed())
        return submission.virtual is None and unlisted(submission.model, *known)

    def plan(self, submission: Submission) -> Plan:
        """Raises `GatewayError`: no such model, no key, a field that the family cannot carry."""
        route = self._routed(submission)
        provider = route.provider
        callers_key, callers_url = _lent(submission, provider)
        if callers_url is not None:
            provider = at_url(provider, callers_url)
        if not provider.base_url:
            raise InvalidRequest(
                f"{provider.name} has no URL: send one as base_url, or configure it.", param="base_url"
            )
        upstream = self._upstreams[provider.family]
        speech, body = self._speech(submission, provider, upstream)
        api_key = credential(provider, callers_key, callers_url)
        if submission.most_cost is not None and speech is upstream:
            body = _in_pieces(body)
        body, loop = self._looped(submission, body)
        try:
            untold = speech
            route, speech, (call, body, structure) = self._called(submission, route, untold, provider, body)
            if structure is None and dialect(submission.wire, submission.renderer).checked:
                structure = wanted(body)
            words = provider.traits if speech is untold else provider.traits - UNPROMPTED
            if more := self._left_out(submission, provider, words):
                call = replace(call, ignored=(*call.ignored, *more))
        except Unsupported as error:
            raise UnsupportedParameter(str(error), param=error.param) from error
        except WireError as error:
            raise InvalidRequest(str(error), param="messages") from error
        if loop is not None and structure is not None:
            raise UnsupportedParameter(
                f"{provider.name} cannot answer in a 'response_format' while the server runs tools.",
                param="response_format",
            )
        scrubber = self._scrubber(route.provider, api_key, submission.body)
        lent_to = submission.lent_to or provider.name
        return Plan(route, provider, upstream, speech, call, api_key, scrubber, body, lent_to, structure, loop)

    def as_chat(self, submission: Submission) -> tuple[Route, dict[str, Any]] | None:
        """Where the request goes, and its body as chat; None where it goes as it came. Raises `GatewayError`: there is
        no such model, or no key for it."""
        route = self._routed(submission)
        credential(route.provider, *_lent(submission, route.provider))
        spoken = dialect(submission.wire, submission.renderer)
        if not spoken.as_chat or (route.provider.family, submission.wire) in self._natives:
            return None
        return route, _chat(submission, route.provider)

    def _routed(self, submission: Submission) -> Route:
        """By the model that it names, or by what a virtual one came to."""
        known, virtual = (self._providers, self._default_provider, self._listed()), submission.virtual
        if virtual is None:
            if not submission.model:
                self._somebody_for(submission)
            return choose(submission.model, *known)
        return replace(choose(virtual.models[0], *known), reason="virtual", inputs=virtual.inputs)

    def _somebody_for(self, submission: Submission) -> None:
        """Raises `NotOffered` where no model that a request could name would do."""
        spoken = dialect(submission.wire, submission.renderer)
        if not spoken.as_chat and not self._offering(spoken.wire):
            raise not_offered(spoken.wire, None, [])

    def _offering(self, wire: str) -> list[str]:
        return offering(wire, self._providers.values(), self._natives)

    def _speech(self, submission: Submission, provider: Provider, upstream: Upstream) -> tuple[Speech, dict[str, Any]]:
        """Who says which body: the one that came, where the family speaks its caller's protocol; else chat."""
        speech = self._natives.get((provider.family, submission.wire))
        if speech is not None:
            return speech, submission.body
        spoken = dialect(submission.wire, submission.renderer)
        if not spoken.as_chat:
            raise not_offered(spoken.wire, provider.name, self._offering(spoken.wire))
        return upstream, _chat(submission, provider)

    def _looped(self, submission: Submission, body: dict[str, Any]) -> tuple[dict[str, Any], Loop | None]:
        """The body with the tools that the server runs, where it runs any."""
        if self._looping is None or submission.options is None or not submission.options.get(FIELD):
            return body, None
        body, loop = self._looping.begin(body)
        return body, loop and replace(loop, done=submission.rounds)

    def _left_out(self, submission: Submission, provider: Provider, words: Set[str]) -> tuple[str, ...]:
        """What the caller's protocol says and chat, or chat in these words, does not."""
        if (provider.family, submission.wire) in self._natives:
            return ()
        spoken = dialect(submission.wire, submission.renderer)
        return (*spoken.ignored(submission.body), *spoken.unfit(submission.body, words))

    def _called(
        self, submission: Submission, route: Route, speech: Speech, provider: Provider, body: dict[str, Any]
    ) -> tuple[Route, Speech, Encoded]:
        """The call, and who says it. Tools go into the prompt where the model has none, or its API no word for how they
        are to be used; the route says so."""
        if (provider.family, submission.wire) in self._natives or not speaks_of_tools(body):
            return route, speech, _encoded(speech, provider, route.model, body)
        choice = self._tools.choose(body.get("tool_mode"), provider.name, route.model, provider.local)
        told = _telling(speech, choice, submission)
        try:
            encoded = _encoded(told, provider, route.model, _fitted(told, submission, provider, body))
        except Undirected as error:
            instead = choice.instead(error.param, route.model)
            if instead is None:
                raise
            choice, told = instead, _telling(speech, instead, submission)
            encoded = _encoded(told, provider, route.model, _fitted(told, submission, provider, body))
        if choice.by != "default":
            route = replace(route, inputs={**route.inputs, **choice.said()})
        return route, told, encoded

    def _scrubber(self, provider: Provider, api_key: str | None, body: dict[str, Any]) -> Scrubber:
        """Cuts the call's credentials out of what comes back; that of our own keys is made once."""
        if carried := credentials_in(body):
            return self._redactor.scrubber([*carried, api_key or ""])
        if not api_key:
            return NOTHING
        if api_key != provider.api_key:
            return self._redactor.scrubber([api_key])
        made = self._own.get(api_key)
        if made is None:
            made = self._own[api_key] = self._redactor.scrubber([api_key])
        return made


def _telling(speech: Speech, choice: Choice, submission: Submission) -> Speech:
    """The speech that tells of tools so."""
    return speech if choice.format is None else PromptedTools(speech, choice.format, submission.request_id)


def _fitted(told: Speech, submission: Submission, provider: Provider, body: dict[str, Any]) -> dict[str, Any]:
    """The body in words that a prompt has, where tools go into one."""
    if not isinstance(told, PromptedTools):
        return body
    return dialect(submission.wire, submission.renderer).fitted(body, provider.traits - UNPROMPTED)


Encoded = tuple[Call, dict[str, Any], Structure | None]
"""A call, the body that it says, and what the answer must be, where nobody but us sees to that."""


def _encoded(speech: Speech, provider: Provider, model: str, body: dict[str, Any]) -> Encoded:
    """The call. A structured answer that the family knows nothing of is asked for in the prompt, and we see to it."""
    try:
        return speech.encode(provider, model, body), body, None
    except Unsupported as error:
        structure = wanted(body) if error.param == "response_format" else None
        if structure is None:
            raise
    if body.get("n") not in (None, 1):
        raise Unsupported("n", f"{provider.name} gives one answer at a time where it must be structured.")
    told = prompted(body, structure)
    return speech.encode(provider, model, told), told, structure


def _lent(submission: Submission, provider: Provider) -> tuple[str | None, str | None]:
    """The caller's own key and URL, where they are for this provider."""
    if submission.lent_to not in (None, provider.name):
        return None, None
    return submission.api_key, submission.base_url


def _in_pieces(body: dict[str, Any]) -> dict[str, Any]:
    """An answer that may end at a cap is streamed to us, however its client gets it. Sound in one is not: in a stream
    providers take other formats of it."""
    return body if body.get("audio") else {**body, "stream": True}


def said_to(spoken: Dialect, body: dict[str, Any], provider: Provider) -> dict[str, Any]:
    """The request as chat, in words that the provider has. Raises `GatewayError`."""
    said = spoken.fitted(spoken.chat(body), provider.traits)
    return unsigned(said) if spoken.signs and BLOCKS not in provider.traits else said


def _chat(submission: Submission, provider: Provider) -> dict[str, Any]:
    """The same of a submission, whose chat may be made ready. Signed thinking that we put there, from a session or
    from rounds of tools, goes to no provider that would refuse it; what a client of chat says itself is left as it is.
    """
    spoken = dialect(submission.wire, submission.renderer)
    if submission.chat is None and submission.turn is None:
        return said_to(spoken, submission.body, provider)
    said = spoken.fitted(submission.chat or spoken.chat(submission.body), provider.traits)
    return said if BLOCKS in provider.traits else unsigned(said)


def at_url(provider: Provider, url: str) -> Provider:
    """The provider at a URL that the caller named: without our key, and its error texts are not shown."""
    return replace(provider, base_url=url.rstrip("/"), api_key=None, traits=provider.traits | {"callers_url"})
