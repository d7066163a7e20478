"""The floor: a relay of chat completions in aiohttp that does what any gateway must, and records nothing.

    python -m tests.benchmarks.floor http://127.0.0.1:9100/v1

It parses the request, changes the model's name, calls the upstream and passes its answer on, chunk by chunk where it is
streamed, with aiohttp's own defaults. It is the relay that the goals were set against: a leaner one would be another
measure. Prints its port on a line of its own once it listens.
"""

from __future__ import annotations

import asyncio
import sys

import orjson
import uvloop
from aiohttp import ClientConnectionResetError, ClientSession, TCPConnector, web

from gateway.__main__ import raise_open_files

JSON = {"content-type": "application/json"}


class Floor:
    """Relays to one upstream."""

    def __init__(self, base_url: str) -> None:
        self._url = f"{base_url}/chat/completions"
        self._session = ClientSession(connector=TCPConnector(limit=0))

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        body["model"] = body["model"].split("/", 1)[-1]
        async with self._session.post(self._url, data=orjson.dumps(body), headers=JSON) as upstream:
            if body.get("stream"):
                response = web.StreamResponse(headers={"content-type": "text/event-stream"})
                try:
                    await response.prepare(request)
                    async for piece in upstream.content.iter_any():
                        await response.write(piece)
                    await response.write_eof()
                except ClientConnectionResetError:
                    pass  # the run is over, and the generator left in the middle of an answer
                return response
            answer = await upstream.read()
            orjson.loads(answer)
            return web.Response(body=answer, content_type="application/json")


async def serve(base_url: str) -> None:
    raise_open_files()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", Floor(base_url).chat_completions)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
