"""Adapters over HTTP, each named as a request's model; weights and the prefix cache as a trainer handles them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from serving import running_server, serve_command
from test_lora import TARGETS, logprobs_of, peft_model

PROMPT = [5, 17, 3, 40, 22, 9, 31, 4, 12, 60, 7, 3]
SLACK = 2e-4


@pytest.fixture(scope="module")
def adapters(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[float]]]:
    """A folder with two adapters of peft, and what peft gives for PROMPT, by the model's name."""
    folder = tmp_path_factory.mktemp("adapters")
    expected: dict[str, list[float]] = {}
    for name, rank in (("first", 3), ("second", 8)):
        theirs = peft_model(llama_dir, r=rank, lora_alpha=9 * rank, target_modules=TARGETS["all"])
        theirs.save_pretrained(folder / name)
        with torch.no_grad():
            expected[name] = logprobs_of(theirs, PROMPT).tolist()
            with theirs.disable_adapter():
                expected["tiny"] = logprobs_of(theirs, PROMPT).tolist()
    assert max(abs(a - b) for a, b in zip(expected["first"], expected["second"], strict=True)) > 100 * SLACK
    return folder, expected


@pytest.fixture
def server(llama_dir: Path, adapters: tuple[Path, dict[str, list[float]]]) -> Iterator[Any]:
    with running_server(llama_dir, weights_root=str(adapters[0])) as running:
        yield running


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def scores(client: openai.OpenAI, model: str) -> list[float]:
    choice = client.completions.create(model=model, prompt=PROMPT, max_tokens=0, echo=True, logprobs=0).choices[0]
    return choice.logprobs.token_logprobs[1:]


def post(server: Any, path: str, **body: Any) -> int:
    """The status."""
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def load(server: Any, name: str, **more: Any) -> int:
    return post(server, "/v1/load_lora_adapter", lora_name=name, lora_path=name, **more)


def test_a_request_names_its_adapter_as_its_model(server: Any, adapters: tuple[Path, dict[str, list[float]]]) -> None:
    client, expected = client_of(server.url), adapters[1]
    for name in ("first", "second"):
        assert load(server, name) == 200
    assert [model.id for model in client.models.list()] == ["tiny", "first", "second"]
    with ThreadPoolExecutor(12) as pool:  # mixed in one batch
        names = ["first", "tiny", "second"] * 8
        for name, got in zip(names, pool.map(lambda name: scores(client, name), names), strict=True):
            assert got == pytest.approx(expected[name], abs=SLACK)


def test_an_unloaded_adapter_is_no_model(server: Any) -> None:
    client = client_of(server.url)
    assert load(server, "first") == 200
    assert load(server, "first") == 400  # there already
    assert load(server, "first", load_inplace=True) == 200
    assert post(server, "/v1/unload_lora_adapter", lora_name="first") == 200
    with pytest.raises(openai.NotFoundError, match="known: tiny"):
        scores(client, "first")
    assert load(server, "missing") == 404


def test_the_command_serves_adapters_from_the_start(llama_dir: Path, adapters: tuple[Path, dict[str, list[float]]]) -> None:
    folder, expected = adapters
    with serve_command(llama_dir, "--dtype", "fp32", "--name", "tiny", "--lora", f"second={folder / 'second'}") as (_, url):
        got = scores(client_of(url.removesuffix("/v1")), "second")
    assert got == pytest.approx(expected["second"], abs=SLACK)


def test_the_prefix_cache_can_be_emptied(server: Any) -> None:
    client = client_of(server.url)

    def hits() -> float:
        client.completions.create(model="tiny", prompt=PROMPT * 6, max_tokens=1)
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith("rft_engine_prefix_hit_tokens_total "))

    assert (first := hits()) < (second := hits())
    assert post(server, "/reset_prefix_cache") == 200
    assert hits() == second
    assert hits() > second > first
