"""Google's requests as chat: given a body, the chat body or the refusal."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest, UnsupportedParameter
from gateway.wire.gemini.dialect import as_chat
from gateway.wire.gemini.request import check
from gateway.wire.gemini.schema import json_schema

HI: Any = {"contents": [{"parts": [{"text": "Hi"}]}]}
DECLARED: Any = {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}, {"name": "g"}]}


def said(**fields: Any) -> dict[str, Any]:
    body = {**HI, **fields}
    check(body)
    return as_chat(body, "m", streamed=False)


def test_both_spellings_and_one_object_for_a_list_say_the_same() -> None:
    camel = said(
        contents=[{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "-_8"}}]}],
        systemInstruction={"parts": [{"text": "s"}]},
        generationConfig={"maxOutputTokens": 5, "stopSequences": ["x"]},
        toolConfig={"functionCallingConfig": {"mode": "NONE"}},
        tools=[DECLARED],
    )
    snake = said(
        contents={"parts": {"inline_data": {"mime_type": "IMAGE/PNG", "data": "+/8="}}},
        system_instruction={"parts": {"text": "s"}},
        generation_config={"max_output_tokens": "5", "stop_sequences": ["x"]},
        tool_config={"function_calling_config": {"mode": "none"}},
        tools={"function_declarations": DECLARED["functionDeclarations"]},
    )
    assert camel == snake
    assert camel["messages"][1]["content"][0]["image_url"]["url"] == "data:image/png;base64,+/8="


def test_results_answer_the_open_calls_of_their_names_in_order() -> None:
    call, result = {"functionCall": {"name": "f"}}, {"functionResponse": {"name": "f", "response": {"a": 1}}}
    named = {"functionCall": {"id": "c9", "name": "f", "args": {"b": [1]}}}
    contents = [{"role": "model", "parts": [call, call, named]}, {"role": "user", "parts": [result, result, result]}]
    asked, *told = said(contents=contents)["messages"]
    assert [each["id"] for each in asked["tool_calls"]] == ["call_1", "call_2", "c9"]
    assert asked["tool_calls"][2]["function"] == {"name": "f", "arguments": '{"b":[1]}'}
    assert [(each["role"], each["tool_call_id"]) for each in told] == [("tool", i) for i in ("call_1", "call_2", "c9")]


def test_the_pieces_of_a_stream_are_one_turn_again() -> None:
    """As google-genai gives them back."""
    pieces = [[{"text": "hm", "thought": True}], [{"text": "a"}], [{"text": "b"}], [{"functionCall": {"name": "f"}}]]
    contents = [{"parts": [{"text": "x"}]}, *[{"role": "model", "parts": parts} for parts in pieces]]
    _, turn = said(contents=contents)["messages"]
    assert (turn["content"], len(turn["tool_calls"])) == ("ab", 1)


def test_a_file_in_a_result_follows_in_the_users_message() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    result = {"functionResponse": {"id": "c", "name": "f", "response": {}, "parts": [picture]}}
    contents = [{"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f"}}]}, {"parts": [result]}]
    assert [message["role"] for message in said(contents=contents)["messages"]] == ["assistant", "tool", "user"]


def test_files_are_told_by_their_kind() -> None:
    parts = [
        {"inlineData": {"mimeType": "audio/mpeg", "data": "aGk="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://example.org/a.png"}},
        {"fileData": {"fileUri": "https://example.org/a.pdf"}},
    ]
    [message] = said(contents=[{"parts": parts}])["messages"]
    sound, document, picture, far = message["content"]
    assert sound["input_audio"] == {"data": "aGk=", "format": "mp3"}
    assert document["file"]["file_data"] == "data:application/pdf;base64,aGk="
    assert picture["image_url"]["url"] == "https://example.org/a.png"
    assert far["file"]["file_url"] == "https://example.org/a.pdf"


def test_what_googles_clients_say_unasked_is_left_out_and_named() -> None:
    """Gemini CLI says all of it; what else they say is meant."""
    unasked = {"temperature": 1, "topP": 0.95, "topK": 64}
    chat = said(generationConfig=unasked)
    assert chat["left_out"] == ["generationConfig.temperature", "generationConfig.topP", "generationConfig.topK"]
    asked = {"temperature": 0.0, "top_p": 1.0, "top_k": 1}
    assert not chat.keys() & asked.keys()
    assert said(generationConfig=asked).items() >= asked.items()


def test_thoughts_of_earlier_turns_are_left_out_and_named() -> None:
    parts = [{"text": "hm", "thought": True}, {"text": "Yes", "thoughtSignature": "c2ln"}]
    chat = said(contents=[{"role": "model", "parts": parts}], safety_settings=[{"category": "X"}])
    assert chat["messages"] == [{"role": "assistant", "content": "Yes"}]
    expected = ["safetySettings", "contents[].parts[].thought", "contents[].parts[].thoughtSignature"]
    assert chat["left_out"] == expected


@pytest.mark.parametrize(
    ("config", "thinking"),
    [
        ({}, None),
        ({"thinkingBudget": -1}, None),
        ({"thinkingBudget": 0}, "off"),
        ({"thinkingBudget": 1000}, "low"),
        ({"thinkingBudget": 8192}, "medium"),
        ({"thinkingBudget": 24576}, "high"),
        ({"thinkingLevel": "HIGH", "includeThoughts": True}, "high"),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
    ],
)
def test_a_budget_of_thought_is_a_level(config: dict[str, Any], thinking: str | None) -> None:
    assert said(generationConfig={"thinkingConfig": config}).get("thinking") == thinking


@pytest.mark.parametrize(
    ("calling", "tools", "choice"),
    [
        ({}, ["f", "g"], None),
        ({"mode": "MODE_UNSPECIFIED"}, ["f", "g"], None),
        ({"mode": "ANY"}, ["f", "g"], "required"),
        ({"mode": "ANY", "allowedFunctionNames": ["g"]}, ["g"], "required"),
        ({"mode": "NONE"}, ["f", "g"], "none"),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ["f"], None),
    ],
)
def test_which_functions_may_be_called(calling: Any, tools: list[str], choice: str | None) -> None:
    chat = said(tools=[DECLARED], toolConfig={"functionCallingConfig": calling})
    assert ([tool["function"]["name"] for tool in chat["tools"]], chat.get("tool_choice")) == (tools, choice)


def test_the_structure_of_an_answer_is_asked_for() -> None:
    json = {"responseMimeType": "application/json"}
    assert said(generationConfig=json)["response_format"] == {"type": "json_object"}
    for name, schema in (("responseSchema", {"type": "STRING"}), ("responseJsonSchema", {"type": "string"})):
        asked = said(generationConfig={**json, name: schema})["response_format"]["json_schema"]
        assert asked["schema"] == {"type": "string"}


def test_a_schema_of_googles_is_json_schema() -> None:
    given = {
        "type": "OBJECT", "property_ordering": ["b", "a"], "required": ["a"],
        "properties": {
            "nullable": {"type": "STRING", "nullable": True, "enum": ["x"], "maxLength": "9"},
            "b": {"any_of": [{"type": "INTEGER"}, {"ref": "#/defs/N"}], "nullable": True},
            "c": {"type": "ARRAY", "items": {"type": "TYPE_UNSPECIFIED"}, "minItems": "1"},
        },
        "additional_properties": False, "defs": {"N": {"type": "NUMBER"}},
    }  # fmt: skip
    assert json_schema(given, "schema") == {
        "type": "object", "required": ["a"],
        "properties": {
            "nullable": {"type": ["string", "null"], "enum": ["x", None], "maxLength": 9},
            "b": {"anyOf": [{"type": "integer"}, {"$ref": "#/defs/N"}, {"type": "null"}]},
            "c": {"type": "array", "items": {}, "minItems": 1},
        },
        "additionalProperties": False, "$defs": {"N": {"type": "number"}},
    }  # fmt: skip


def test_the_gateways_own_fields_have_one_spelling() -> None:
    assert said(session_id="s", retries=2, fallback=["demo/echo"])["retries"] == 2
    with pytest.raises(UnsupportedParameter) as refused:
        said(sessionId="s")
    assert refused.value.param == "sessionId"
    with pytest.raises(InvalidRequest):
        said(base_url=7)
