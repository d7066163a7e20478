"""A request that lists tools and says which of them may be called: that holds for every round."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat
from tests.tools.running import tooled
from tests.tools.test_loop import WEATHER, call, whole


async def test_the_server_runs_what_the_model_may_call_and_no_more(tmp_path: Path) -> None:
    tide, weather = call("tide", '{"harbour": "B"}'), call("weather", '{"city": "B"}')
    only = {"mode": "required", "tools": [{"type": "function", "function": {"name": "tide"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": only}
    tools = [WEATHER, {"type": "function", "function": {"name": "tide"}}]
    async with ScriptedServer() as upstream:
        upstream.script(
            COMPATIBLE, whole({"tool_calls": [tide]}, "tool_calls"), whole({"tool_calls": [weather]}, "tool_calls")
        )
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(tools=tools, tool_choice=choice, execute_tools=True))
            told = got.json()["choices"][0]["message"]["tool_calls"]
            assert [each["function"]["name"] for each in told] == ["weather"]
            assert upstream.requests[0].json()["tool_choice"] == choice
            assert upstream.requests[1].json()["tool_choice"] == {**choice, "allowed_tools": {**only, "mode": "auto"}}
