"""The real openai client, curl and ab against `rft serve`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from serving import running_server, serve_command

import rft
from rft import _native
from rft.codec import load_codec

QUESTION = [{"role": "user", "content": "What is 2 + 3?"}]
WEATHER = {"type": "function", "function": {"name": "weather", "description": "now", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def server(llama_dir: Path) -> Iterator[Any]:
    with running_server(llama_dir, weights_root=str(llama_dir.parent)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_openai_lists_the_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


def test_openai_chats(client: openai.OpenAI, llama_dir: Path) -> None:
    reply = client.chat.completions.create(model="tiny", messages=QUESTION, n=3, max_tokens=12, seed=5, logprobs=True)
    codec = load_codec(llama_dir)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert reply.usage.prompt_tokens == len(codec.encode_chat(QUESTION))
    assert reply.usage.completion_tokens == sum(len(choice.logprobs.content) for choice in reply.choices)
    assert all(token.logprob <= 0 for choice in reply.choices for token in choice.logprobs.content)


def test_a_stream_adds_up_to_the_reply(client: openai.OpenAI) -> None:
    options: Any = {"model": "tiny", "messages": QUESTION, "n": 2, "max_tokens": 20, "seed": 9}
    whole = [choice.message.content for choice in client.chat.completions.create(**options).choices]
    pieces = ["", ""]
    for chunk in client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            pieces[choice.index] += choice.delta.content or ""
    assert pieces == whole
    assert chunk.usage is not None and chunk.usage.completion_tokens > 0


def test_the_server_samples_what_the_engine_samples(client: openai.OpenAI, llama_dir: Path) -> None:
    prompts = [[5, 6, 7], [8, 9]]
    reply = client.completions.create(model="tiny", prompt=prompts, n=2, max_tokens=16, temperature=0.8, top_p=0.9, seed=3, logprobs=0,
                                      extra_body={"return_token_ids": True})
    native = _native.load()
    with native.Engine(native.Model.load(str(llama_dir), dtype="fp32"), kv_memory_mb=64) as engine:
        expected = [c for group in engine.generate(prompts, n=2, max_tokens=16, temperature=0.8, top_p=0.9, seed=3) for c in group]
    for choice, completion in zip(reply.choices, expected, strict=True):
        assert choice.token_ids == list(completion.ids)
        assert np.float32(choice.logprobs.token_logprobs).tolist() == completion.logprobs.tolist()
        assert np.float32(choice.sampling_logprobs).tolist() == completion.sampling_logprobs.tolist()


def test_an_engine_over_http_samples_what_the_engine_samples(server: Any, llama_dir: Path) -> None:
    native = _native.load()
    options: Any = {"n": 2, "max_tokens": 16, "temperature": 0.8, "top_p": 0.9, "seed": 3}
    with native.Engine.connect(server.url) as over_http:
        assert over_http.max_context == 256
        made = [c for group in over_http.generate([[5, 6, 7], [8, 9]], **options) for c in group]
        (only,) = over_http.generate([[8, 9]], max_tokens=4, allowed_ids=[40, 41], ignore_eos=True, weight_policy="finish")[0]
        assert set(only.ids) <= {40, 41} and len(only.ids) == 4
    for completion in made:
        assert completion.finish_reason in ("stop", "length") and len(completion.ids) == len(completion.sampling_logprobs)
    with pytest.raises(rft.Error, match="127.0.0.1:1") as error:
        native.Engine.connect("http://127.0.0.1:1")
    assert error.value.code == "UNAVAILABLE"


def test_greedy_text_is_that_of_transformers(client: openai.OpenAI, llama_dir: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(llama_dir, torch_dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(llama_dir)
    ids = tokenizer("2 + 3 =", add_special_tokens=False, return_tensors="pt").input_ids
    out = model.generate(ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1]:]
    reply = client.completions.create(model="tiny", prompt="2 + 3 =", max_tokens=16, temperature=0)
    assert reply.choices[0].text == tokenizer.decode(out, skip_special_tokens=True)


def test_openai_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="max_tokens: must be a whole number in 0") as error:
        client.completions.create(model="tiny", prompt="x", max_tokens=-1)
    assert error.value.param == "max_tokens"
    with pytest.raises(openai.NotFoundError, match="known: tiny"):
        client.completions.create(model="gpt", prompt="x")
    with pytest.raises(openai.BadRequestError, match="exceed the context"):
        client.completions.create(model="tiny", prompt=[5] * 250, max_tokens=16)


def test_tools_reach_the_template_as_transformers_renders_them(tmp_path: Path, llama_dir: Path) -> None:
    folder = tmp_path / "tools"
    shutil.copytree(llama_dir, folder)
    (folder / "chat_template.jinja").write_text(
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
        "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{{ style }}{{ reasoning_effort }}{% endif %}")
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages: list[Any] = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]},
                           {"role": "tool", "tool_call_id": "1", "content": "rain"}]
    parsed = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [
        {**call, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]}, messages[2]]
    expected = load_codec(folder).tokenizer.apply_chat_template(parsed, tools=[WEATHER], add_generation_prompt=True, style="!",
                                                                reasoning_effort="low", return_dict=False)
    with running_server(folder) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        reply = client.chat.completions.create(model="tiny", messages=messages, tools=[WEATHER], max_tokens=4, reasoning_effort="low", extra_body={
            "return_token_ids": True, "chat_template_kwargs": {"style": "!"}})
        assert reply.prompt_token_ids == expected
        with pytest.raises(openai.BadRequestError, match="chat_template_kwargs: chat_template can't be set"):
            client.chat.completions.create(model="tiny", messages=messages, extra_body={"chat_template_kwargs": {"chat_template": "x"}})


def test_new_weights_are_served_without_a_pause(llama_dir: Path, tmp_path: Path) -> None:
    native = _native.load()
    for name, seed in (("old", 1), ("new", 2)):
        made = native.Model.create((llama_dir / "config.json").read_text(), dtype="fp32", seed=seed)
        made.tokenizer_dir = str(llama_dir)
        made.save(str(tmp_path / name), dtype="fp32")
    with running_server(tmp_path / "old", weights_root=str(tmp_path)) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

        def complete() -> Any:
            return client.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=8, seed=1, extra_body={
                "return_token_ids": True, "ignore_eos": True}).choices[0]

        before = complete()
        reply = json.loads(curl(f"{server.url}/update_weights", json.dumps({"path": "new"})))
        after = complete()
        assert reply["success"] and set(after.weight_versions) == {reply["version"]} != set(before.weight_versions)
        assert "no such folder" in curl(f"{server.url}/update_weights", json.dumps({"path": "missing"}))
    with native.Engine(native.Model.load(str(tmp_path / "new"), dtype="fp32"), kv_memory_mb=64) as engine:
        assert after.token_ids == list(engine.generate([[5, 6, 7]], max_tokens=8, seed=1, ignore_eos=True)[0][0].ids)


def curl(url: str, body: str, *arguments: str) -> str:
    return subprocess.run(["curl", "-sN", "-m", "30", url, "-H", "Content-Type: application/json", "-d", body, *arguments],
                          check=True, capture_output=True, text=True).stdout


def test_curl_streams_events(server: Any) -> None:
    text = curl(f"{server.url}/v1/completions", json.dumps({"prompt": "2 + 3 =", "max_tokens": 5, "stream": True}))
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert events[-1] == "[DONE]" and all(json.loads(event)["choices"] for event in events[:-1])


def metrics(server: Any) -> dict[str, float]:
    text = subprocess.run(["curl", "-s", f"{server.url}/metrics"], check=True, capture_output=True, text=True).stdout
    return {name: float(value) for name, _, value in (line.partition(" ") for line in text.splitlines()) if not name.startswith("#")}


def test_curl_that_hangs_up_leaves_nothing_running(server: Any) -> None:
    before = metrics(server)
    body = json.dumps({"prompt": [5, 6], "max_tokens": 240, "n": 64, "ignore_eos": True, "stream": True})
    with subprocess.Popen(["curl", "-sN", f"{server.url}/v1/completions", "-H", "Content-Type: application/json", "-d", body],
                          stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"data: ")
        process.kill()
    deadline = time.monotonic() + 30
    while (after := metrics(server))["rft_completions_cancelled_total"] < before["rft_completions_cancelled_total"] + 64:
        assert time.monotonic() < deadline, "what the client left goes on"
        time.sleep(0.01)
    made = after["rft_completion_tokens_total"] - before["rft_completion_tokens_total"]
    assert 64 <= made < 64 * 200  # it was running, and far from its end
    while (after := metrics(server))["rft_engine_pages_used"] > 0 or after["rft_engine_running"] > 0:
        assert time.monotonic() < deadline, "cancelled completions keep their pages"
        time.sleep(0.01)


def test_a_load_generator_gets_every_answer(server: Any, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"prompt": [5, 6, 7], "max_tokens": 8, "ignore_eos": True, "seed": 1}))
    report = subprocess.run(["ab", "-q", "-k", "-n", "300", "-c", "32", "-p", str(body), "-T", "application/json",
                             f"{server.url}/v1/completions"], check=True, capture_output=True, text=True).stdout
    assert "Complete requests:      300" in report and "Failed requests:        0" in report and "Non-2xx" not in report


def test_the_command_serves_with_a_key_and_stops_on_ctrl_c(llama_dir: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# mine\nsecret-key-1\n")
    with serve_command(llama_dir, "--api-key-file", str(keys), "--name", "mine") as (process, url):
        good = openai.OpenAI(base_url=url, api_key="secret-key-1", max_retries=0)
        assert [model.id for model in good.models.list()] == ["mine"]
        with pytest.raises(openai.AuthenticationError, match="a valid API key is needed"):
            openai.OpenAI(base_url=url, api_key="other", max_retries=0).models.list()
        stream = good.completions.create(model="mine", prompt=[5], max_tokens=250, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
