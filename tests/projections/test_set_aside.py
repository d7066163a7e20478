"""Files of ours by name, but not by origin: another server's logs in the directory that we are given."""

from __future__ import annotations

from pathlib import Path

from projections.files import set_aside
from projections.registry import REGISTRY
from tests.serverprocess import server_process

FOREIGN = ("verbatim_20250101_000000.jsonl", "20250101-payloads.jsonl", "abstractcore_20250101_000000.log")


def test_files_with_our_names_are_renamed_and_others_left(tmp_path: Path) -> None:
    for name in (*FOREIGN, "notes.jsonl"):
        (tmp_path / name).write_text(name)
    assert {path.name for path in set_aside(tmp_path, REGISTRY)} == {f"{name}.before1" for name in FOREIGN}
    assert (tmp_path / "notes.jsonl").read_text() == "notes.jsonl"
    (tmp_path / FOREIGN[0]).write_text("again")
    set_aside(tmp_path, REGISTRY)
    assert (tmp_path / f"{FOREIGN[0]}.before1").read_text() == FOREIGN[0]
    assert (tmp_path / f"{FOREIGN[0]}.before2").read_text() == "again"


async def test_a_new_log_destroys_nothing_and_an_old_one_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / FOREIGN[0]).write_text("the only copy")
    async with server_process(tmp_path) as server:
        assert (tmp_path / f"{FOREIGN[0]}.before1").read_text() == "the only copy"
        await server.restart()
        assert len(list(tmp_path.glob("*.before*"))) == 1
