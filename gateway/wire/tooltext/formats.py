"""How families of models write tool calls in their text, as data.

Sources, each the model family's own prompt format:
    hermes   https://github.com/NousResearch/Hermes-Function-Calling (Qwen 2.5 and 3 learned the same)
    qwen3    the same tags, and `<|tool_call|>…</|tool_call|>`, which the original AbstractCore server asked it for
    llama3   https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/: bare JSON with `parameters`,
             `<|python_tag|>` before it, `<function=name>{…}</function>`; and the original's `<function_call>` tags
    gemma    https://ai.google.dev/gemma/docs/capabilities/function-calling: a fence, with JSON or Python in it
    mistral  https://docs.mistral.ai/capabilities/function_calling/: `[TOOL_CALLS]` with a list, or a name and arguments
    xml      `<tool_call>` tags, for models that were taught none of these
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from eventstore.value import value

Shape = Literal["tagged", "named", "listed", "fenced"]
"""What follows an opening: JSON and a closing tag; `name>`, JSON and a closing tag; JSON or `name{…}` with no end mark;
lines up to a closing fence."""


@value
class Opening:
    """A text that begins calls, what follows it, and what ends them (empty: they end by themselves)."""

    text: str
    shape: Shape
    close: str = ""


@value(kw_only=True)
class Format:
    """A family's words. `bare`: an answer that is nothing but call objects is calls, without any tag.

    The rest is for prompts: the tags around the definitions, a call, and a result; the key of a call's arguments.
    `version` counts changes of what is found: a decoder's name carries it, and a recorded answer keeps its own.
    """

    name: str
    openings: tuple[Opening, ...]
    bare: bool = False
    definitions: tuple[str, str] = ("<tools>\n", "\n</tools>")
    call: tuple[str, str] = ("<tool_call>\n", "\n</tool_call>")
    result: tuple[str, str] = ("<tool_response>\n", "\n</tool_response>")
    arguments: str = "arguments"
    version: int = 1

    @property
    def suffix(self) -> str:
        """What it adds to a decoder's name."""
        return f"tools.{self.name}.{self.version}"


_XML = Opening("<tool_call>", "tagged", "</tool_call>")

FORMATS: Mapping[str, Format] = {
    made.name: made
    for made in (
        Format(name="hermes", openings=(_XML,)),
        Format(name="xml", openings=(_XML,)),
        Format(name="qwen3", openings=(_XML, Opening("<|tool_call|>", "tagged", "</|tool_call|>"))),
        Format(
            name="llama3",
            openings=(
                Opening("<function_call>", "tagged", "</function_call>"),
                Opening("<function=", "named", "</function>"),
                Opening("<|python_tag|>", "listed"),
            ),
            bare=True,
            call=("<function_call>", "</function_call>"),
            result=("<function_response>\n", "\n</function_response>"),
            arguments="parameters",
        ),
        Format(
            name="gemma",
            openings=(Opening("```tool_code", "fenced"), Opening("```tool_call", "fenced")),
            definitions=("```json\n", "\n```"),
            call=("```tool_code\n", "\n```"),
            result=("```tool_output\n", "\n```"),
            arguments="parameters",
        ),
        Format(
            name="mistral",
            openings=(Opening("[TOOL_CALLS]", "listed"),),
            definitions=("[AVAILABLE_TOOLS]\n", "\n[/AVAILABLE_TOOLS]"),
            call=("[TOOL_CALLS] [", "]"),
            result=("[TOOL_RESULTS] ", " [/TOOL_RESULTS]"),
        ),
    )
}
