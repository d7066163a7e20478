"""The route table, and the web application around it: one line an endpoint. What they are given is put together in
`gateway/server.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from gateway.api import (
    circuits,
    docs,
    events,
    generate_content,
    health,
    messages,
    metrics,
    models,
    multi,
    operations,
    providers,
    requests,
    responses,
    session_turns,
    sessions,
    status,
    stop,
    stream_socket,
    tickets,
    tools,
    usage,
)
from gateway.api.chat_completions import chat_completions
from gateway.api.exchange import DESK, Desk
from gateway.docs.document import Document
from gateway.edge import Edge
from gateway.services import SERVICES, Services
from gateway.tools.service import ToolService
from gateway.wire import dialects
from gateway.wire.dialect import Dialect

ROUTES = (
    web.post("/v1/chat/completions", chat_completions),
    web.post("/{provider}/v1/chat/completions", operations.chat_completions_of),
    web.post("/v1/responses", responses.create),
    web.post("/v1/responses/input_tokens", responses.input_tokens),
    web.get("/v1/responses/{id}", responses.retrieve),
    web.delete("/v1/responses/{id}", responses.delete),
    web.post("/v1/responses/{id}/cancel", responses.cancel),
    web.get("/v1/responses/{id}/input_items", responses.input_items),
    web.post("/v1/messages", messages.messages),
    web.post("/v1/messages/count_tokens", messages.count_tokens),
    web.post("/v1beta/models/{model:(?s:.+)}:generateContent", generate_content.generate),
    web.post("/v1beta/models/{model:(?s:.+)}:streamGenerateContent", generate_content.stream),
    web.post("/v1beta/models/{model:(?s:.+)}:countTokens", generate_content.count_tokens),
    web.post("/v1/models/{model:(?s:.+)}:generateContent", generate_content.generate),
    web.post("/v1/models/{model:(?s:.+)}:streamGenerateContent", generate_content.stream),
    web.post("/v1/models/{model:(?s:.+)}:countTokens", generate_content.count_tokens),
    web.get("/v1beta/models", generate_content.list_models),
    web.get("/v1beta/models/{model:(?s:.+)}", generate_content.one_model),
    web.post("/v1/completions", operations.completions),
    web.post("/v1/generate/structured", operations.structured),
    web.post("/v1/generate/multi", multi.multi),
    web.get("/v1/generate/multi/{id}", multi.one),
    web.post("/v1/embeddings", operations.embeddings),
    web.post("/v1/images/generations", operations.image_generations),
    web.post("/v1/images/edits", operations.image_edits),
    web.post("/v1/audio/transcriptions", operations.transcriptions),
    web.post("/v1/audio/translations", operations.translations),
    web.post("/v1/audio/speech", operations.speech),
    web.post("/v1/moderations", operations.moderations),
    web.post("/v1/rerank", operations.rerank),
    web.post("/v1/sessions", sessions.create),
    web.get("/v1/sessions", sessions.list_all),
    web.get("/v1/sessions/{id}", sessions.one),
    web.delete("/v1/sessions/{id}", sessions.delete),
    web.post("/v1/sessions/{id}/chat", session_turns.chat),
    web.post("/v1/sessions/{id}/chat/completions", session_turns.chat),
    web.post("/v1/sessions/{id}/compact", session_turns.compact),
    web.post("/v1/sessions/{id}/fork", sessions.fork),
    web.post("/v1/sessions/{id}/clear", sessions.clear),
    web.get("/v1/sessions/{id}/turns", sessions.turns),
    web.get("/v1/sessions/{id}/messages", sessions.messages),
    web.get("/v1/tools", tools.list_all),
    web.post("/v1/tools/register", tools.register),
    web.post("/v1/tools/execute", tools.execute),
    web.delete("/v1/tools/{name}", tools.remove),
    web.get("/v1/models", models.list_models),
    web.get("/v1/models/{id:.+}", models.one_model),
    web.get("/v1/providers", providers.list_all),
    web.post("/v1/providers/test", providers.test),
    web.get("/v1/providers/{name}", providers.status),
    web.put("/v1/providers/{name}", providers.configure),
    web.delete("/v1/providers/{name}", providers.remove),
    web.get("/v1/providers/{name}/status", providers.status),
    web.get("/v1/providers/{name}/models", providers.models),
    web.get("/providers", providers.list_providers),
    web.get("/v1/stream", stream_socket.stream, allow_head=False),  # without an end, they have no HEAD either
    web.get("/v1/events/stream", events.event_stream(), allow_head=False),
    web.post("/v1/tickets", tickets.issue_ticket),
    web.get("/v1/requests", requests.list_all),
    web.get("/v1/requests/{id}", requests.one),
    web.get("/v1/requests/{id}/events", requests.events),
    web.get("/v1/requests/{id}/stream", requests.stream),
    web.post("/v1/requests/{id}/stop", stop.stop),
    web.get("/v1/usage", usage.usage),
    web.get("/v1/metrics", metrics.metrics),
    web.get("/metrics", metrics.metrics),
    web.get("/v1/status", status.status),
    web.get("/v1/circuit-breakers", circuits.list_all),
    web.get("/health", health.health),
    web.get("/", docs.index),
    web.get("/docs", docs.swagger),
    web.get("/redoc", docs.redoc),
    web.get("/docs/assets/{name}", docs.asset),
    web.get("/openapi.json", docs.openapi),
)

EXCHANGES: Mapping[str, Dialect] = {
    "/v1/chat/completions": dialects.CHAT,
    "/{provider}/v1/chat/completions": dialects.CHAT,
    "/v1/sessions/{id}/chat": dialects.CHAT,
    "/v1/sessions/{id}/chat/completions": dialects.CHAT,
    "/v1/sessions/{id}/compact": dialects.CHAT,
    "/v1/responses": dialects.RESPONSES,
    "/v1/responses/input_tokens": dialects.RESPONSES,  # no exchange, but who was not let in is recorded
    "/v1/messages": dialects.MESSAGES,
    "/v1/messages/count_tokens": dialects.MESSAGES,  # like input_tokens
    **{
        f"/{version}/models/{{model}}:{method}": dialects.GENERATE_CONTENT
        for version in ("v1", "v1beta")
        for method in generate_content.METHODS  # countTokens is like input_tokens
    },
    "/v1beta/models": dialects.GENERATE_CONTENT,  # this and the next are read only: for the shape of their errors
    "/v1beta/models/{model}": dialects.GENERATE_CONTENT,
    "/v1/completions": dialects.COMPLETIONS,
    "/v1/generate/structured": dialects.STRUCTURED,
    "/v1/generate/multi": dialects.CHAT,  # a group of exchanges; one that was refused is an exchange itself
    "/v1/embeddings": dialects.EMBEDDINGS,
    "/v1/images/generations": dialects.IMAGES,
    "/v1/images/edits": dialects.IMAGE_EDITS,
    "/v1/audio/transcriptions": dialects.TRANSCRIPTIONS,
    "/v1/audio/translations": dialects.TRANSLATIONS,
    "/v1/audio/speech": dialects.SPEECH,
    "/v1/moderations": dialects.MODERATIONS,
    "/v1/rerank": dialects.RERANK,
}
"""The routes whose POST requests are exchanges, and their dialects: what happens to each is in the log."""

PROTOCOLS: Mapping[str, Dialect] = {
    "/v1/messages/": dialects.MESSAGES,
    "/v1beta/": dialects.GENERATE_CONTENT,
}
"""Where paths begin that belong to one protocol: it says too that there is no such route, or not with this method."""


def make_app(services: Services, desk: Desk, edge: Edge, running: ToolService) -> web.Application:
    """The application, its routes answered with these services."""
    edged = edge.logged if services.settings.log_level == "debug" else edge.middleware
    app = web.Application(middlewares=[edged], client_max_size=0)  # json_guard has the limit
    app[SERVICES], app[DESK], app[events.CLOSING] = services, desk, asyncio.Event()
    app[docs.DOCUMENT] = Document(ROUTES)
    app[tools.TOOLS] = running
    app[sessions.CONVERSATIONS] = sessions.Conversations(services)
    app[stream_socket.SOCKETS] = set()
    app.on_shutdown.append(events.close_feeds)
    app.on_shutdown.append(stream_socket.close_sockets)
    app.add_routes(ROUTES)
    return app
