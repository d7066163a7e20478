"""`abstractcore-server`: read the settings, run the server until it is told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import uvloop

from eventstore.errors import LogCorrupt, LogError, LogLocked, LogUnavailable
from gateway.auth import ensure_api_key
from gateway.command_line import load
from gateway.config import ConfigError, Settings
from gateway.redaction import Redactor
from gateway.reload import Reloader, without_flag
from gateway.server import DISK_REFUSED, Server

SWITCH_INTERVAL_S = 0.001
"""How long the event loop may keep the log's writer thread from the interpreter lock, and the other way round."""
GC_THRESHOLD = (50_000, 20, 100)
"""A request's objects die by reference count; looking for cycles among them every 700 costs a tenth of the time."""
PACKAGES = ("eventstore", "projections", "gateway", "replay")
"""Ours."""
CONFIGURATION = 78
UNAVAILABLE = 69
DATA = 65
"""Exit codes of sysexits.h."""

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        settings, made = ensure_api_key(load(argv, os.environ))
    except ConfigError as error:
        fail(CONFIGURATION, str(error))
    if settings.reload:
        sys.exit(Reloader([sys.executable, "-m", "gateway", *without_flag(argv)]).run())
    log_to_stderr(settings)
    raise_open_files()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    sys.exit(uvloop.run(serve(settings, made)))


def log_to_stderr(settings: Settings) -> None:
    """Down to the level that is wanted; of what libraries say for their own debugging, nothing."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.INFO), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger().handlers[0].addFilter(Scrub(settings))
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a caller's broken form is the caller's error
    logging.getLogger("mcp").setLevel(logging.CRITICAL)  # a traceback for each thing that a broken server says


def raise_open_files() -> None:
    """Let this process open as many files as it may: each stream takes two, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError) as error:  # macOS calls it unlimited, and refuses that
        logger.warning("the limit of open files stays as it is: %s", error)


async def serve(settings: Settings, made_key: str | None) -> int:
    """Run one server to its end; its exit code."""
    server = Server(settings)
    try:
        await server.start()
    except LogLocked as error:
        fail(UNAVAILABLE, str(error))
    except LogCorrupt as error:
        fail(DATA, f"the log is damaged ({error}); `abstractcore-replay verify` says more")
    except LogUnavailable as error:
        fail(DISK_REFUSED, str(error))
    except LogError as error:
        fail(UNAVAILABLE, str(error))
    except ConfigError as error:
        fail(CONFIGURATION, str(error))
    except OSError as error:
        fail(UNAVAILABLE, f"cannot start on {settings.host}:{settings.port}: {error}")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end)
    try:
        await greet(server, made_key)
        await server.wait()
    finally:
        await server.stop()
    return server.exit_code


async def greet(server: Server, made_key: str | None) -> None:
    """Where everything is, and one line to try."""
    settings = server.settings
    auth = " -H 'Authorization: Bearer YOUR_KEY'" if settings.api_key else ""
    body = '{"model": "demo/echo", "messages": [{"role": "user", "content": "Hello!"}]}'
    lines = [
        f"AbstractCore Server listens on {server.url}",
        f"  log       {settings.data_dir.absolute() / 'events.db'}",
        f"  NATS      {await server.follower.nats_line()}",
    ]
    if made_key is not None:
        lines.append(f"  API key   {made_key}   (made for this address, kept in {settings.data_dir / 'api_key'})")
    warnings = [*server.log.warnings, *unknown_providers(server)]
    lines += [f"  warning   {warning}" for warning in warnings]
    lines.append(
        f"  try       curl {server.url}/v1/chat/completions{auth} -H 'Content-Type: application/json' -d '{body}'"
    )
    try:
        print("\n".join(lines), flush=True)
    except OSError as error:  # a full disk, or nobody reads: requests can be served all the same
        logger.warning("where this server listens cannot be printed: %s", error)


def unknown_providers(server: Server) -> list[str]:
    """Providers that the settings name and that are not there (yet: one can be configured while the server runs)."""
    named = [(server.settings.provider, "to be the default (--provider)")]
    named += [(model.split("/")[0], f"for {model} (--fallback)") for model in server.settings.fallback if "/" in model]
    known = ", ".join(sorted(server.providers))
    return [
        f"there is no provider {name!r} {use}; there are {known}"
        for name, use in named
        if name is not None and name not in server.providers
    ]


class Scrub(logging.Filter):
    """No secret reaches standard error, whoever logs it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._redactor = Redactor(b"standard error", settings.secrets())

    def filter(self, record: logging.LogRecord) -> bool:
        text = logging.Formatter().format(record)
        scrubbed = self._redactor.text(text)
        if scrubbed != text:
            record.msg, record.args, record.exc_info, record.exc_text = scrubbed, None, None, None
        return True


def fail(code: int, message: str) -> NoReturn:
    """Say why, and end."""
    print(f"abstractcore-server: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
