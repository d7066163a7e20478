"""The log files, read as people read them: with grep, jq and awk."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from projections.registry import REGISTRY
from tests.projections.ledger import Ledger
from tests.projections.projection_conformance import fold
from tests.projections.stories import MODEL, answered, broke, everything, failed, node_started, received, started


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder whose `logs/` is a data directory with everything in it."""
    (tmp_path / "logs").mkdir()
    fold(tmp_path / "logs", everything(), REGISTRY)
    return tmp_path


def sh(here: Path, command: str) -> str:
    return subprocess.run(["bash", "-c", command], cwd=here, check=True, capture_output=True, text=True).stdout


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_names(here: Path) -> None:
    assert sorted(path.name for path in (here / "logs").iterdir() if not path.name.startswith("projections")) == [
        "20261121-payloads.jsonl", "20261122-payloads.jsonl",
        "abstractcore_20261121_100000.log", "abstractcore_20261122_220000.log",
        "verbatim_20261121_100000.jsonl", "verbatim_20261122_220000.jsonl",
    ]  # fmt: skip


def test_grep_finds_errors(here: Path) -> None:
    found = sh(here, """grep '"level": "error"' logs/abstractcore_*.log""").splitlines()
    events = [json.loads(line.split(":", 1)[1])["event"] for line in found]
    assert events.count("generation_failed") == 3
    assert {"request_failed", "request_interrupted"} <= set(events)


def test_grep_finds_a_model(here: Path) -> None:
    found = sh(here, f"""grep '"model": "{MODEL}"' logs/verbatim_*.jsonl""").splitlines()
    assert len(found) == 8
    assert all('"provider": "ollama"' in line for line in found)


def test_jq_and_awk_sum_the_tokens(here: Path) -> None:
    if shutil.which("jq"):
        command = (
            "cat logs/verbatim_*.jsonl | jq '.metadata.tokens | .input + .output' | "
            """awk '{sum+=$1} END {print "Total:", sum}'"""
        )
        assert sh(here, command) == f"Total: {74 + 39}\n"
    tokens = [line["metadata"]["tokens"] for path in (here / "logs").glob("verbatim_*") for line in lines(path)]  # type: ignore[index]  # JSON
    assert sum(used["input"] + used["output"] for used in tokens) == 74 + 39


def test_a_verbatim_line_has_the_whole_prompt_and_answer(here: Path) -> None:
    by_request = {line["request_id"]: line for path in (here / "logs").glob("verbatim_*") for line in lines(path)}
    assert by_request["r1"]["prompt"] == [{"role": "user", "content": "hello from r1"}]
    assert by_request["r1"]["response"] == [
        {"index": 0, "message": {"role": "assistant", "content": "hi r1"}, "finish_reason": "stop"}
    ]
    assert by_request["r6"]["prompt"] == [{"role": "user", "content": "long " * 400}]
    assert by_request["r6"]["tools"] == [{"a": 1}]
    assert by_request["r7"]["error"] == {
        "kind": "connect_failed", "message": "connection refused", "fault_domain": "provider",
    }  # fmt: skip


def test_a_verbatim_line_has_the_query_and_what_it_ranked(tmp_path: Path) -> None:
    log = Ledger()
    log.add(node_started(), *answered("r1", body={"query": "a panda?", "documents": ["a bear", {"text": "bread"}]}))
    fold(tmp_path, log, REGISTRY)
    (line,) = [line for path in tmp_path.glob("verbatim_*") for line in lines(path)]
    assert (line["prompt"], line["documents"]) == ("a panda?", ["a bear", {"text": "bread"}])


def test_a_payload_line_has_the_whole_body(here: Path) -> None:
    by_request = {line["request_id"]: line for line in lines(here / "logs" / "20261121-payloads.jsonl")}
    assert by_request["r6"]["payload"] == {
        "model": f"ollama/{MODEL}", "messages": [{"role": "user", "content": "long " * 400}], "tools": [{"a": 1}],
    }  # fmt: skip


def test_without_retention_there_are_counts_only(here: Path) -> None:
    (payload,) = [line for line in lines(here / "logs" / "20261121-payloads.jsonl") if line["request_id"] == "r3"]
    (verbatim,) = [
        line for line in lines(here / "logs" / "verbatim_20261121_100000.jsonl") if line["request_id"] == "r3"
    ]
    assert "payload" not in payload
    assert {"prompt", "response"}.isdisjoint(verbatim)
    assert verbatim["metadata"]["tokens"] == {"input": 12, "input_cached": 4, "output": 7}  # type: ignore[index]  # JSON


def test_the_server_log_has_no_content(here: Path) -> None:
    assert sh(here, "grep -c -E 'hello from|hi r|long long' logs/abstractcore_*.log || true").split() == [
        "logs/abstractcore_20261121_100000.log:0", "logs/abstractcore_20261122_220000.log:0",
    ]  # fmt: skip


def test_whatever_a_client_sends_stays_on_its_line(tmp_path: Path) -> None:
    odd = 'a\r\nb\u2028c\x00d\x1b[31m"}\n{"level": "error"}'
    log = Ledger()
    log.add(node_started(), *answered("r1", model=odd, body={"messages": [{"role": "user", "content": odd}]}))
    log.add(received("r2"), started("r2"), broke("r2", message=odd), failed("r2"))
    files = fold(tmp_path, log, REGISTRY)[1]
    counts = {name.split("_")[0]: data.count(b"\n") for name, data in files.items()}
    assert counts == {"20261121-payloads.jsonl": 2, "abstractcore": 10, "verbatim": 2}
    assert all(json.loads(line) for data in files.values() for line in data.split(b"\n") if line)


def test_deleted_files_come_back_byte_for_byte(here: Path) -> None:
    before = sh(here, "sha256sum logs/*.log logs/*.jsonl")
    sh(here, "rm logs/verbatim_* logs/*-payloads.jsonl logs/abstractcore_20261121*")
    fold(here / "logs", everything(), REGISTRY)
    assert sh(here, "sha256sum logs/*.log logs/*.jsonl") == before
