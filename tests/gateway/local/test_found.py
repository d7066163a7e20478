"""What a model's name can reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.upstreams.local.found import Place, models, place_of
from gateway.upstreams.local.memory import short_of_memory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("models/mine", "models/org/theirs", "secret"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "models" / "way-out").symlink_to(tmp_path / "secret")
    return tmp_path / "models"


@pytest.mark.parametrize("name", ["mine", "org/theirs"])
def test_a_directory_in_the_root_is_a_model(root: Path, name: str) -> None:
    assert place_of(name, root) == Place(str((root / name).resolve()), True)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc", "org/../../secret", ".", "..", "", "a/b/c", "~/x", "a\x00b", "a" * 5000]
)
def test_nothing_outside_the_root_is(root: Path, name: str) -> None:
    assert place_of(name, root) is None


def test_nor_a_link_that_leads_out_of_it(root: Path) -> None:
    assert place_of("way-out", root) == Place("way-out", False)


def test_what_cannot_be_loaded_is_not_listed(root: Path) -> None:
    pytest.importorskip("huggingface_hub")
    for name in ("models/mine", "secret"):
        (root.parent / name / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        (root.parent / name / "model.safetensors").write_bytes(bytes(8))
    listed = {found.info.id for found in models(root)}
    assert "mine" in listed
    assert "way-out" not in listed


def test_the_checks_notice_a_root_that_is_too_wide(root: Path) -> None:
    assert place_of("secret", root.parent) is not None


def test_other_names_are_repositories(root: Path) -> None:
    assert place_of("Qwen/Qwen3-0.6B", root) == Place("Qwen/Qwen3-0.6B", False)
    assert place_of("gpt2", None) == Place("gpt2", False)


@pytest.mark.parametrize(("available", "short"), [(4, True), (6, False)])
def test_memory_is_short_below_a_twentieth(tmp_path: Path, available: int, short: bool) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       100 kB\nMemFree: 1 kB\nMemAvailable:   {available} kB\n")
    assert short_of_memory(meminfo) is short
    assert not short_of_memory(tmp_path / "none")
