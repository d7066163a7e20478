"""What counts as a call, once its text is whole: a name, and arguments that are an object."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import orjson

from eventstore.value import value
from gateway.wire import exact
from gateway.wire.tooltext.source import NoCall
from gateway.wire.values import WireError

_NAME = re.compile(r"[\w.:/-]{1,128}")
_MOST_CODE = 64 << 10
"""Characters of Python that are parsed: it takes the loop's time."""
_ARGUMENTS = ("arguments", "parameters")
_BARE = frozenset({"type", "id", "name", *_ARGUMENTS})
"""The keys that an object may have which claims to be a call by itself."""


@value
class Call:
    """A call that was found. `arguments` is the text of a JSON object, its numbers as the model wrote them."""

    name: str
    arguments: str


def json_calls(text: str) -> list[Call]:
    """The calls that a JSON object says, or a JSON array of such objects. Raises `NoCall`."""
    said = _loads(text)
    objects = said if isinstance(said, list) else [said]
    if not objects:
        raise NoCall
    return [_call(item) for item in objects]


def bare_call(text: str) -> Call:
    """The call that an object without a tag says: nothing but a name and arguments. Raises `NoCall`."""
    said = _loads(text)
    if not isinstance(said, dict) or not said.keys() <= _BARE:
        raise NoCall
    if not any(isinstance(said.get(key), dict) for key in _ARGUMENTS):
        raise NoCall
    return _call(said)


def named_call(name: str, arguments: str) -> Call:
    """A call whose name stood before its arguments. Raises `NoCall`."""
    return _made(name, _loads(arguments))


def _call(said: Any) -> Call:
    if not isinstance(said, dict):
        raise NoCall
    if isinstance(said.get("function"), dict):  # written as in an OpenAI message
        said = said["function"]
    return _made(said.get("name"), next((said[key] for key in _ARGUMENTS if said.get(key) is not None), None))


def _made(name: Any, arguments: Any) -> Call:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NoCall
    if isinstance(arguments, str) and arguments.strip():
        if not isinstance(_loads(arguments), dict):
            raise NoCall
        return Call(name, arguments)
    if arguments is None or arguments == "":
        return Call(name, "{}")
    if not isinstance(arguments, dict):
        raise NoCall
    return Call(name, exact.dumps(arguments))


def _loads(text: str) -> Any:
    try:
        return exact.loads(text.encode())
    except (WireError, UnicodeEncodeError) as error:
        raise NoCall from error


def code_calls(text: str) -> list[Call]:
    """The calls in a block of code: JSON, or Python calls with literal keyword arguments. Raises `NoCall`."""
    try:
        return json_calls(text)
    except NoCall:
        return list(_python_calls(text))


def _python_calls(text: str) -> Iterator[Call]:
    """`name(key=value)`, one a line, in a list, or printed: the ways in which models write them."""
    if len(text) > _MOST_CODE:
        raise NoCall
    try:
        statements = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NoCall from error
    if not statements:
        raise NoCall
    for statement in statements:
        if not isinstance(statement, ast.Expr):
            raise NoCall
        listed = statement.value.elts if isinstance(statement.value, ast.List) else [statement.value]
        if not listed:
            raise NoCall
        for node in listed:
            yield _python_call(node)


def _python_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call):
        raise NoCall
    name = ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""
    if name == "print" and len(node.args) == 1 and not node.keywords:
        return _python_call(node.args[0])
    if node.args:
        raise NoCall  # an argument without a name: this is code, or cannot be told
    try:
        given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        return _made(name, _loads(orjson.dumps(given).decode()))
    except (ValueError, TypeError, RecursionError) as error:
        raise NoCall from error
