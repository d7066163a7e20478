"""The command line's own words."""

from __future__ import annotations

import pytest

from replay.cli import COMMANDS, parser


@pytest.mark.parametrize("name", COMMANDS)
def test_each_subcommand_says_where_it_looks_for_the_log(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([name, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "data directory (default: ABSTRACTCORE_DATA_DIR, else logs)" in said
