"""Python tools: functions that the operator loads with `--tools`, which names modules and entry points of installed
packages in the group `abstractcore.tools`: those load a function, a list of them, or a module.

A module's `TOOLS` lists its functions; one without offers every public function that it defines. The schema of the
arguments comes from the signature, the description from the docstring. They run in the server's process, as trusted as
that, and in threads of their own, so that none keeps the server waiting. An `async` function is cancelled when nobody
waits for it any more; a plain one cannot be, and holds its thread until it returns.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, validate_call
from pydantic_core import to_json

from gateway.config import ConfigError
from gateway.errors import InvalidRequest
from gateway.tools.values import NAME, Offered, Progress, Tool, ToolTrouble, check_parameters

GROUP = "abstractcore.tools"
MOST_THREADS = 32
"""Of all Python tools, those left behind by a timeout included."""

Function = Callable[..., Any]


def load_functions(names: Iterable[str]) -> list[Offered]:
    """The tools that these names mean. Raises `ConfigError`."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    threads = Threads(MOST_THREADS)
    offered: list[Offered] = []
    for name in names:
        load = points[name].load if name in points else partial(importlib.import_module, name)
        functions = _functions(_loaded(load, name))
        offered += [Offered(described(each, name), PythonTool(each, threads)) for each in functions]
    return offered


def _loaded(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except Exception as error:
        raise ConfigError(f"--tools: {name} cannot be loaded: {type(error).__name__}: {error}") from error


def _functions(found: Any) -> list[Function]:
    if not inspect.ismodule(found):
        return [found] if callable(found) else list(found)
    if hasattr(found, "TOOLS"):
        return list(found.TOOLS)
    functions = inspect.getmembers(found, inspect.isfunction)
    return [held for name, held in functions if held.__module__ == found.__name__ and not name.startswith("_")]


def described(function: Function, source: str) -> Tool:
    """A function as a tool. Raises `ConfigError` where its signature says no JSON Schema of an object."""
    name = getattr(function, "__name__", "")
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(function)  # type: ignore[arg-type]  # its stub knows only types
        parameters = adapter.json_schema()
        check_parameters(parameters)
    except (PydanticUserError, InvalidRequest) as error:
        raise ConfigError(f"{source}.{name} takes no arguments that JSON can say: {error}") from error
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} of {source} is no name of a tool")
    about = inspect.getdoc(function) or ""
    return Tool(name=name, description=about, parameters=parameters, kind="python", source=source)


class Threads:
    """A thread for each call, at most so many at once. They are daemons: none keeps the server from ending."""

    def __init__(self, most: int) -> None:
        self._free = most

    async def run(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns or raises, in a thread of its own. Raises `ToolTrouble` where none is free."""
        if not self._free:
            raise ToolTrouble("unreachable", "Too many tools are still running; try again later.")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._free -= 1

        def settle(result: Any, error: Exception | None) -> None:
            self._free += 1
            if done.done():
                return
            done.set_result(result) if error is None else done.set_exception(error)

        def body() -> None:
            result, failed = None, None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  whatever it was, the waiter hears of it
                failed = bearable(error)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, failed)

        threading.Thread(target=body, name=f"tool-{name}", daemon=True).start()
        return await done


def bearable(error: BaseException) -> Exception:
    """What a function raised, as its waiter can: `SystemExit` would end the server, `CancelledError` look as if the
    waiter had been cancelled, and `StopIteration` no future takes."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return ToolTrouble("tool_error", f"{type(error).__name__}: {error}".rstrip(": "))


class PythonTool:
    """Runs one function."""

    def __init__(self, function: Function, threads: Threads) -> None:
        self._name, self._threads = function.__name__, threads
        self._call = validate_call(function)
        self._waits = inspect.iscoroutinefunction(function)

    async def __call__(self, arguments: dict[str, Any], progress: Progress) -> str:
        work = Stoppable(lambda: self._call(**arguments))
        try:
            result = await self._threads.run(self._name, work.run if self._waits else work.call)
        except asyncio.CancelledError:
            work.stop()
            raise
        except ToolTrouble:
            raise
        except Exception as error:
            raise ToolTrouble("tool_error", f"{type(error).__name__}: {error}") from error
        return result if isinstance(result, str) else to_json(result, fallback=str).decode()


class Stoppable:
    """A call in a thread: plain, or on an event loop of its own, and then another thread can end it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self._lock = threading.Lock()
        self._stopped = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def run(self) -> Any:
        """The result of the coroutine."""
        return asyncio.run(self._main())

    def stop(self) -> None:
        """From another thread: cancel the coroutine, or never begin it."""
        with self._lock:
            self._stopped = True
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    async def _main(self) -> Any:
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            if self._stopped:
                return None
            self._running = asyncio.get_running_loop(), task
        try:
            return await self.call()
        finally:
            with self._lock:
                self._running = None
