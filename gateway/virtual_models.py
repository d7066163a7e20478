"""The virtual models of this server: what is known of their members, and where each request for one goes.

A request for any other model costs one lookup; without `--config` there is none of this.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from random import random

from eventstore.catalogue import decode
from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import GenerationCompleted, GenerationFailed
from eventstore.catalogue.request import RouteSelected
from eventstore.catalogue.values import Usage
from eventstore.reader import Reader
from gateway.circuits import Circuits
from gateway.configuration import Configuration
from gateway.discovery import Discovery
from gateway.errors import GatewayError, InvalidRequest, NotFound, NotOffered, Unauthorized, UnsupportedParameter
from gateway.examples import Examples
from gateway.exchange.decide import Price
from gateway.exchange.inputs import Submission
from gateway.exchange.policy import Policy, policy_of
from gateway.exchange.render import dialect
from gateway.exchange.running import Running
from gateway.routing.chosen import Chosen, chosen
from gateway.routing.complexity import facts_of
from gateway.routing.needs import asked_of
from gateway.routing.order import Asked, View
from gateway.routing.speed import Speed, failed, observed
from gateway.routing.virtual import Virtual
from gateway.upstreams.upstream import Provider

ASK_S = 10.0
"""How often it is seen to that what the members' providers say is fresh."""
RECENT = 20_000
"""So many positions back the log is read at start, for the speeds that were seen before."""
ENDED = frozenset({GenerationCompleted.type, GenerationFailed.type})
MOST_SPEEDS = 4096
"""Models whose speed is kept, those that answered last."""
SAMPLE = Usage(input_tokens=1000, output_tokens=1000)
"""Members' prices are compared by this, times a thousand; long prompts can have other prices."""
NOT_HERE = (NotFound, Unauthorized, UnsupportedParameter, NotOffered)
"""What is wrong with a member, and not with the request, when it cannot be planned."""
NOT_HERE_CODES = frozenset({"no_vision", "no_price", "cost_cap"})
NOT_HERE_PARAMS = frozenset({"base_url"})


class VirtualModels:
    """`examples` are those of routes; `usual` is the server's policy, `able`: (provider, model) -> what it can;
    `hears`: models get sound as it is."""

    def __init__(
        self,
        configuration: Configuration,
        examples: Examples,
        providers: Mapping[str, Provider],
        discovery: Discovery,
        able: Callable[[str, str], Collection[str]],
        price: Price,
        usual: Policy,
        hears: bool,
        now_us: Callable[[], int],
        circuits: Circuits | None,
    ) -> None:
        self.configuration, self._examples = configuration, examples
        self._providers, self._discovery, self._able, self._price = providers, discovery, able, price
        self._usual, self._hears, self._now_us, self._circuits = usual, hears, now_us, circuits
        self._speeds: dict[tuple[str, str], Speed] = {}

    def restore(self, reader: Reader) -> None:
        """The speeds, as the end of the log says."""
        after = max(reader.head() - RECENT, reader.sealed())
        elsewhere = set()
        for event in reader.events(after):
            if event.type == RouteSelected.type and event.body["inputs"].get("callers_url"):
                elsewhere.add(event.stream)
            elif event.type in ENDED and event.stream not in elsewhere:
                self.saw([decode(event)])

    async def ask(self) -> None:
        """For ever: keep what the members' providers say of their models."""
        while True:
            members = {
                m.model.partition("/")[0] for virtual in self.configuration.models.values() for m in virtual.members
            }
            await self._discovery.listings(members)
            await asyncio.sleep(ASK_S)

    def saw(self, events: Iterable[Event]) -> None:
        """These were recorded, of a call to a provider of ours: its answers and failures say how fast a model is."""
        for event in events:
            if isinstance(event, GenerationCompleted | GenerationFailed):
                self._keep((event.provider, event.model), event)

    def _keep(self, key: tuple[str, str], event: GenerationCompleted | GenerationFailed) -> None:
        before = self._speeds.pop(key, None)
        speed = observed(before, event) if isinstance(event, GenerationCompleted) else failed(before, event)
        if speed is not None:
            self._speeds[key] = speed
        if len(self._speeds) > MOST_SPEEDS:
            del self._speeds[next(iter(self._speeds))]

    async def begin(self, submission: Submission, open_: Iterable[Running]) -> Routing | None:
        """The way of a request for a virtual model; None for any other. Raises `GatewayError`."""
        loaded = self.configuration.loaded
        virtual = loaded.models.get(submission.model)
        if virtual is None:
            return None
        if submission.api_key is not None or submission.base_url is not None:
            given = "base_url" if submission.api_key is None else "api_key"
            raise InvalidRequest(
                f"{given} is for a provider that the request names, not for {virtual.name}.", param=given
            )
        asked = await self._asked(submission, virtual)
        views = self._views(virtual, open_)
        return Routing(submission, virtual, loaded.digest, asked, views, random(), self._usual)

    async def _asked(self, submission: Submission, virtual: Virtual) -> Asked:
        spoken = dialect(submission.wire, submission.renderer)
        if not spoken.as_chat:
            return Asked()
        chat = spoken.chat(submission.body)
        asked = asked_of(chat, self._hears)
        if virtual.strategy == "complexity":
            return replace(asked, facts=facts_of(chat))
        if virtual.examples:
            likeness, unlike = await self._examples.compare(virtual, chat)
            return replace(asked, likeness=likeness, unlike=unlike)
        return asked

    def _views(self, virtual: Virtual, open_: Iterable[Running]) -> dict[str, View]:
        calls = _calls(open_) if virtual.strategy == "least_busy" else Counter()
        return {member.model: self._view(member.model, calls) for member in virtual.members}

    def _view(self, name: str, calls: Counter[str]) -> View:
        provider, _, model = name.partition("/")
        if provider not in self._providers:
            return View(refused="no_provider")
        now_us, speed = self._now_us(), self._speeds.get((provider, model))
        cost, _ = self._price(provider, model, SAMPLE, None, None, now_us)
        listed = self._discovery.info(provider, model)
        return View(
            price=None if cost is None else cost * 1000,
            ttft_ms=None if speed is None else speed.ttft_ms,
            tokens_per_s=None if speed is None else speed.tokens_per_s,
            open_calls=calls[provider],
            context=None if listed is None else listed.context_length,
            able=tuple(self._able(provider, model)),
            left_alone=self._circuits is not None and self._circuits.left_alone(self._providers[provider], now_us),
        )


class Routing:
    """The way of one request through the members of its virtual model."""

    def __init__(
        self,
        submission: Submission,
        virtual: Virtual,
        configuration: str,
        asked: Asked,
        views: Mapping[str, View],
        draw: float,
        usual: Policy,
    ) -> None:
        self._submission, self._virtual, self._configuration = submission, virtual, configuration
        self._asked, self._views, self._draw, self._usual = asked, dict(views), draw, usual
        self._first: GatewayError | None = None
        self._chosen = self._choose()

    def submission(self) -> Submission:
        """The request on its way to the first that can take it, the others behind as what it falls back on. Raises
        `GatewayError` where there is none."""
        if not self._chosen.models:
            raise self._first or self._none_can()
        given, virtual = self._submission, self._virtual
        usual = replace(
            self._usual,
            retries=self._usual.retries if virtual.retries is None else virtual.retries,
            fallback=self._chosen.models[1:],
            deadline_s=self._usual.deadline_s if virtual.deadline_s is None else virtual.deadline_s,
        )
        body = dialect(given.wire, given.renderer).common(given.body)
        caps = [most for most in (given.most_cost, virtual.most_cost) if most is not None]
        return replace(given, virtual=self._chosen, policy=policy_of(body, usual), most_cost=min(caps, default=None))

    def refused(self, error: GatewayError) -> None:
        """The first cannot take it. Raises the error where that is the request's own fault."""
        here = isinstance(error, NOT_HERE) or error.error_code in NOT_HERE_CODES or error.param in NOT_HERE_PARAMS
        if not here:
            raise error
        self._first = self._first or error
        model = self._chosen.models[0]
        self._views[model] = replace(self._views[model], refused=error.error_code or type(error).__name__)
        self._chosen = self._choose()

    def _choose(self) -> Chosen:
        return chosen(self._virtual, self._configuration, self._asked, self._views, self._draw)

    def _none_can(self) -> InvalidRequest:
        why = ", ".join(f"{each.model} ({each.skipped})" for each in self._chosen.candidates)
        return InvalidRequest(
            f"No model of {self._virtual.name} can take this request: {why}.", param="model", code="no_capable_model"
        )


def _calls(open_: Iterable[Running]) -> Counter[str]:
    """Provider -> requests that are with it, or on their way there."""
    found: Counter[str] = Counter()
    for running in open_:
        way = running.submission.virtual
        if (provider := running.exchange.provider) is not None:
            found[provider] += 1
        elif way is not None:
            found[way.models[0].partition("/")[0]] += 1
    return found
