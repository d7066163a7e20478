"""Prices at start: what the log lacks of the packaged prices is published, and the table is read from the log."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from eventstore.catalogue import decode
from eventstore.catalogue.control import PricePublished
from eventstore.catalogue.values import Usage, Usd
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.log import Log
from eventstore.reader import Reader
from gateway.prices.package import missing, table_id
from gateway.prices.rules import NO_CONTEXT
from gateway.prices.table import PriceTable
from gateway.upstreams.upstream import Provider


def stream_of(provider: str) -> str:
    """The log's stream of a provider's prices."""
    return f"price-{provider}"


async def load_prices(log: Log, providers: Mapping[str, Provider]) -> PriceTable:
    """The price table of these providers, as it stands in the log once the packaged prices are in it."""
    names = _names(providers)
    known = await _published(log, names)
    new = missing(names, PriceTable.from_events(known).tables)
    for provider, events in groupby(new, key=lambda event: event.provider):
        parts = tuple(event.new() for event in events)
        await log.append(StreamWrite(stream_of(provider), ANY_VERSION, parts))  # whole or not at all
    return PriceTable.from_events([*known, *new])


def lacks_prices(reader: Reader, providers: Mapping[str, Provider]) -> bool:
    """Whether `load_prices` publishes any: the last event of a provider's prices is of another table."""
    for name in _names(providers):
        last = reader.read_stream(stream_of(name), reader.version(stream_of(name)) - 1)
        if not last or last[-1].body["table"] != table_id():
            return True
    return False


def _names(providers: Mapping[str, Provider]) -> list[str]:
    """Those that the price data knows these providers by."""
    return sorted({provider.prices for provider in providers.values() if provider.prices})


async def _published(log: Log, names: list[str]) -> list[PricePublished]:
    events = [decode(recorded) for name in names for recorded in await log.read_stream(stream_of(name))]
    return [event for event in events if isinstance(event, PricePublished)]


class Prices:
    """The view that `decide` takes of the table of these providers; of an empty one, until it is loaded."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers, self._table = providers, PriceTable({}, {})

    async def load(self, log: Log) -> None:
        """Publish what the log lacks, and go by what it has (`load_prices`)."""
        self._table = await load_prices(log, self._providers)

    def __call__(
        self, provider: str, model: str, usage: Usage, reported: str | None, tier: str | None, at_us: int
    ) -> tuple[Usd | None, str | None]:
        """As `decide.Price`."""
        found = self._providers.get(provider)
        if found is None:
            return None, None
        booked = self._table.book(
            usage,
            prices=found.prices,
            model=model,
            at=at_us,
            local=found.local,
            reported=reported,
            context={"service_tier": tier} if tier else NO_CONTEXT,
        )
        return booked.cost, booked.rule
