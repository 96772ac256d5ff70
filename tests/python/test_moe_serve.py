"""Routing of a mixture of experts over HTTP: what the server answers, and runs that roll out on it and replay."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_model
from serving import running_server
from test_moe_run import config, metrics, vowels
from test_parity import ids_of

import rft

PROMPT = ids_of(96, 21, 4)


@pytest.fixture(scope="module")
def moe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("moe"), "qwen3_moe")


def post(url: str, path: str, **body: Any) -> str:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        text: str = reply.read().decode()
    return text


def contents(events: str) -> dict[int, list[dict[str, Any]]]:
    """Choice -> its tokens, of a stream."""
    found: dict[int, list[dict[str, Any]]] = {}
    for line in events.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                found.setdefault(choice["index"], []).extend(choice["logprobs"]["content"])
    return found


def test_the_reply_has_the_experts_that_the_engine_recorded_bit_for_bit(moe_dir: Path) -> None:
    model = rft.Model.load(str(moe_dir), dtype="fp32")
    with rft.Engine(model) as engine:
        own = engine.generate([PROMPT], n=3, max_tokens=9, ignore_eos=True, seed=5, routes="all")[0]
    asked = {"prompt": PROMPT, "n": 3, "max_tokens": 9, "ignore_eos": True, "seed": 5, "logprobs": True, "include_routing_matrix": True}
    with running_server(moe_dir) as server:
        plain = json.loads(post(server.url, "/v1/completions", **asked))["choices"]
        streamed = contents(post(server.url, "/inference/v1/completions", **asked, stream=True))
        echoed = json.loads(post(server.url, "/v1/completions", **asked, echo=True))["choices"]
    for choice, sample in zip(plain, own, strict=True):
        tokens = choice["logprobs"]["content"]
        assert [t["token_id"] for t in tokens] == sample.ids.tolist()
        assert np.array_equal(np.array([t["logprob"] for t in tokens], np.float32), sample.logprobs)
        assert [t["routing_matrix"] for t in tokens] == model.routes_to_wire(sample.routes)
        assert streamed[choice["index"]] == tokens
        whole = echoed[choice["index"]]["logprobs"]["content"]
        assert [t["token_id"] for t in whole] == PROMPT + sample.ids.tolist() and "routing_matrix" not in whole[0]
        assert [t["routing_matrix"] for t in whole[1:]] == model.routes_to_wire(np.concatenate([sample.prompt_routes[1:], sample.routes]))


def test_the_engine_over_http_has_the_servers_bits(moe_dir: Path) -> None:
    model = rft.Model.load(str(moe_dir), dtype="fp32")
    with running_server(moe_dir) as server, rft.Engine.connect(server.url, routes_of=model) as engine:
        for routes in ("completion", "all"):
            sample = engine.generate([PROMPT], max_tokens=9, ignore_eos=True, routes=routes)[0][0]
            with rft.Engine(model) as local:  # the same text again, token by token from the prompt on
                echo = local.generate([PROMPT + sample.ids.tolist()], max_tokens=1, routes="all")[0][0]
            assert np.array_equal(sample.routes, echo.prompt_routes[len(PROMPT):])
            if routes == "all":
                assert np.array_equal(sample.prompt_routes, echo.prompt_routes[:len(PROMPT)])
            else:
                assert sample.prompt_routes is None
        assert engine.generate([PROMPT], max_tokens=2)[0][0].routes is None


def test_chats_have_them_too(moe_dir: Path) -> None:
    model = rft.Model.load(str(moe_dir), dtype="fp32")
    asked = {"messages": [{"role": "user", "content": "1 + 1"}], "max_tokens": 5, "logprobs": True, "include_routing_matrix": True, "seed": 2}
    with running_server(moe_dir) as server:
        reply = json.loads(post(server.url, "/v1/chat/completions", **asked))
        streamed = contents(post(server.url, "/v1/chat/completions", **asked, stream=True))
    tokens = reply["choices"][0]["logprobs"]["content"]
    assert streamed[0] == tokens
    routes, routed = model.routes_from_wire([t["routing_matrix"] for t in tokens])
    assert routed.all() and model.unpack_routes(routes).shape == (len(tokens), 2, 3)


def test_a_request_that_makes_no_sense_is_told_why(moe_dir: Path, llama_dir: Path) -> None:
    def mistake(folder: Path, **body: Any) -> str:
        with running_server(folder) as server, pytest.raises(urllib.error.HTTPError) as caught:
            post(server.url, "/v1/completions", prompt=[5, 6], include_routing_matrix=True, **body)
        assert caught.value.code == 400
        message: str = json.loads(caught.value.read())["error"]["message"]
        return message

    assert mistake(moe_dir, logprobs=1).startswith('include_routing_matrix: needs "logprobs": true')
    assert mistake(llama_dir, logprobs=True).startswith("include_routing_matrix: this model has no mixture-of-experts layers")


@pytest.mark.parametrize("prompts", ["false", "true"])
def test_a_run_over_http_replays_what_the_server_recorded(moe_dir: Path, tmp_path: Path, prompts: str) -> None:
    with running_server(moe_dir, weights_root=str(tmp_path)) as server:
        settings = config(moe_dir, tmp_path / "run", "engine.name=http", f"engine.server_url={server.url}",
                          f"engine.weights_dir={tmp_path / 'weights'}", f"trainer.replay_prompt_routes={prompts}", "rollout.max_tokens=6")
        with rft.Run(settings, graders=[vowels]) as run:
            assert [step.logprob_diff_max for step in run] == [0.0] * 3
    assert all(0.0 < line["loss/routing_changed"] <= 0.5 for line in metrics(run.dir))  # a share of what was replayed
