"""The command line: one subcommand, one file. Each module has `HELP`, `arguments(parser)` and `run(options)`."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from eventstore.errors import LogCorrupt, LogError
from gateway import command_line, config
from replay import archive, export, rebuild, repair, show, tail, verify
from replay import list as list_
from replay.recorded import ReplayError

COMMANDS: Mapping[str, ModuleType] = {
    "show": show,
    "list": list_,
    "tail": tail,
    "verify": verify,
    "rebuild": rebuild,
    "repair": repair,
    "export": export,
    "archive": archive,
}
OK, FINDINGS = 0, 1
"""Exit codes; argparse ends with 2 where the command line is wrong."""
WHAT_TO_DO = "`abstractcore-replay verify` says what is damaged, `repair` makes it again"

DATA_DIR = next(setting for setting in config.SETTINGS if setting.name == "data_dir")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    made = argparse.ArgumentParser(prog="abstractcore-replay", description="Read, prove and refold the log.")
    subcommands = made.add_subparsers(dest="command", required=True, metavar="SUBCOMMAND")
    for name, command in COMMANDS.items():
        sub = subcommands.add_parser(name, help=command.HELP, description=command.__doc__)
        command.arguments(sub)
        sub.add_argument(
            "--data-dir",
            metavar="DIR",
            help=f"the server's data directory (default: {' or '.join(DATA_DIR.env)}, else {DATA_DIR.default})",
        )
        sub.add_argument("--json", action="store_true", help="JSON for programs instead of text for people")
    return made


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what a command line says. Returns the exit code: 0 all well, 1 something was found or is missing."""
    options = parser().parse_args(argv)
    options.data_dir = _data_dir(options.data_dir, environ)
    try:
        code: int = COMMANDS[options.command].run(options)
    except LogCorrupt as damage:
        print(f"abstractcore-replay: {damage}; {WHAT_TO_DO}", file=sys.stderr)
        return FINDINGS
    except (ReplayError, LogError, OSError, sqlite3.Error) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"abstractcore-replay: {error}", file=sys.stderr)
        return FINDINGS
    return code


def _data_dir(flag: str | None, environ: Mapping[str, str]) -> Path:
    """As the server finds it, and from nothing else in the environment."""
    relevant = {name: environ[name] for name in DATA_DIR.env if name in environ}
    return command_line.load(["--data-dir", flag] if flag is not None else [], relevant).data_dir
