"""Which models lie on this machine, and what a model's name means: a repository, or a directory under one root."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from eventstore.value import value
from gateway.upstreams.upstream import ModelInfo

REPOSITORY = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
"""https://huggingface.co/docs/huggingface_hub/package_reference/utilities#huggingface_hub.utils.validate_repo_id"""
HEADER_LIMIT = 100 << 20
"""Bytes of a safetensors header, by its format: https://huggingface.co/docs/safetensors"""

Kind = Literal["text-generation", "text-embedding", "text-reranking"]
CAPABILITY: Mapping[Kind, str] = {
    "text-generation": "completion",
    "text-embedding": "embedding",
    "text-reranking": "reranking",
}
"""What a model of a kind can do, in Ollama's words where it has one."""


@value
class Place:
    """Where a model's files are: a directory of this machine, or a repository on Hugging Face and in its cache."""

    name: str
    is_directory: bool


@value
class Found:
    """A model on this machine. `for_mlx`: its weights say that mlx wrote them."""

    info: ModelInfo
    for_mlx: bool


def place_of(model: str, root: Path | None) -> Place | None:
    """What a name means; None for one that can mean nothing here. Nothing outside the root is ever looked at."""
    directory = None if root is None else _within(root.resolve(), model)
    if directory is not None:
        return Place(str(directory), True)
    return Place(model, False) if REPOSITORY.fullmatch(model) else None


def _within(root: Path, model: str) -> Path | None:
    """The directory of a model inside the root, links followed; None for any other name, even one that is no path."""
    try:
        directory = (root / model).resolve()
        there = directory != root and directory.is_relative_to(root) and (directory / "config.json").is_file()
    except (ValueError, OSError):
        return None
    return directory if there else None


def installed(packages: tuple[str, ...]) -> bool:
    """Whether all of them can be imported. None is."""
    return all(find_spec(package) is not None for package in packages)


def models(root: Path | None) -> list[Found]:
    """Everything in the root and in the Hugging Face cache, by name. Reads the disk."""
    places = _in_root(root) | _in_cache()
    return [found for name, place in sorted(places.items()) if (found := _described(name, place)) is not None]


def _in_root(root: Path | None) -> dict[str, Path]:
    if root is None or not root.is_dir():
        return {}
    configs = [*root.glob("*/config.json"), *root.glob("*/*/config.json")]
    named = {
        config.parent.relative_to(root).as_posix(): config.parent
        for config in configs
        if not (config.parent.parent / "config.json").is_file()  # a part of a model is none
    }
    within = root.resolve()
    return {name: path for name, path in named.items() if _within(within, name) is not None}


def _in_cache() -> dict[str, Path]:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return {}
    newest = {
        repo.repo_id: max(repo.revisions, key=lambda revision: revision.last_modified).snapshot_path
        for repo in cache.repos
        if repo.repo_type == "model" and repo.revisions
    }
    return {name: path for name, path in newest.items() if (path / "config.json").is_file()}


def _described(name: str, directory: Path) -> Found | None:
    """A model that can be run; None for one of another kind, or half fetched."""
    weights = next(directory.glob("*.safetensors"), None)
    config = _json(directory / "config.json")
    kind = kind_of(directory, config)
    if weights is None or kind is None:
        return None
    length = config.get("max_position_embeddings")
    info = ModelInfo(
        name,
        kind,
        created=int(weights.stat().st_mtime),
        context_length=length if type(length) is int else None,
        capabilities=(CAPABILITY[kind],),
    )
    return Found(info, _format(weights) == "mlx")


def kind_of(directory: Path, config: dict[str, Any] | None = None) -> Kind | None:
    """What a model's files say that it is for; None where they do not say. `config` is its `config.json`."""
    config = _json(directory / "config.json") if config is None else config
    names = [str(name) for name in config.get("architectures") or ()]
    classifies = any(name.endswith("ForSequenceClassification") for name in names)
    crosses = _json(directory / "config_sentence_transformers.json").get("model_type") == "CrossEncoder"
    if (directory / "modules.json").is_file() and not crosses:  # the mark of sentence-transformers
        return "text-embedding"
    if classifies:  # one label is a score; several are classes. Without names there are two.
        return "text-reranking" if len(config.get("id2label") or (0, 1)) == 1 else None
    if crosses:
        return "text-reranking"
    return "text-generation" if any(name.endswith("ForCausalLM") for name in names) else None


def _format(weights: Path) -> str | None:
    """Which library wrote them, from the header: its length in 8 bytes, little-endian, and JSON."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= HEADER_LIMIT else b"{}"
    try:
        written = json.loads(header).get("__metadata__", {}).get("format")
    except (ValueError, AttributeError):
        return None
    return written if isinstance(written, str) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return {}
    return read if isinstance(read, dict) else {}
