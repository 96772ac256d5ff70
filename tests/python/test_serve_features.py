"""Fields of the server that need the engine's newer features: alternatives, prompt log-probabilities, penalties, structure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from serving import running_server

import rft
from rft import _native
from rft.codec import load_codec
from rft.structure import compile_grammar

PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def client(llama_dir: Path) -> Iterator[openai.OpenAI]:
    with running_server(llama_dir) as server:
        yield openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def reference(llama_dir: Path) -> torch.Tensor:
    """transformers' log-probabilities after each token of PROMPT: [4, vocabulary]."""
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(llama_dir).float()(torch.tensor([PROMPT])).logits[0].log_softmax(-1)


def test_alternatives_are_the_most_likely_tokens(client: openai.OpenAI, reference: torch.Tensor) -> None:
    expected = reference[-1].topk(5)
    options: Any = {"model": "tiny", "messages": [], "max_tokens": 3, "logprobs": True, "top_logprobs": 5,
                    "extra_body": {"prompt_token_ids": PROMPT, "messages": None}}
    first = client.chat.completions.create(**options).choices[0].logprobs.content[0]
    assert [top.token_id for top in first.top_logprobs] == expected.indices.tolist()
    assert [top.logprob for top in first.top_logprobs] == pytest.approx(expected.values.tolist(), abs=1e-4)
    streamed = [token for chunk in client.chat.completions.create(**options, stream=True) for choice in chunk.choices if choice.logprobs
                for token in choice.logprobs.content]
    assert [top.token_id for top in streamed[0].top_logprobs] == expected.indices.tolist()


def test_a_prompt_alone_is_scored(client: openai.OpenAI, reference: torch.Tensor) -> None:
    choice = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=0, echo=True, logprobs=1,
                                       extra_body={"return_tokens_as_token_ids": True}).choices[0]
    assert choice.logprobs.tokens == [f"token_id:{token}" for token in PROMPT]
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.token_logprobs[1:] == pytest.approx([reference[i, PROMPT[i + 1]].item() for i in range(3)], abs=1e-4)


@pytest.mark.parametrize("max_tokens", [0, 6])
def test_a_streamed_echo_adds_up_to_the_reply(client: openai.OpenAI, max_tokens: int) -> None:
    options: Any = {"model": "tiny", "prompt": PROMPT, "echo": True, "logprobs": 2, "max_tokens": max_tokens, "n": 2, "seed": 1,
                    "extra_body": {"return_tokens_as_token_ids": True}}
    whole = client.completions.create(**options).choices
    streamed: list[dict[str, list[Any]]] = [{}, {}]
    for chunk in client.completions.create(**options, stream=True):
        for choice in chunk.choices:
            for key, values in (choice.logprobs.model_dump() if choice.logprobs else {}).items():
                streamed[choice.index].setdefault(key, []).extend(values)
    assert streamed == [choice.logprobs.model_dump() for choice in whole]
    assert whole[0].logprobs.tokens[:4] == [f"token_id:{token}" for token in PROMPT]


def test_an_engine_over_http_scores_and_constrains_as_the_engine_does(llama_dir: Path) -> None:
    native, codec = _native.load(), load_codec(llama_dir)
    grammars = [compile_grammar(codec, regex="[0-9]{3}"), compile_grammar(codec, ebnf='root ::= "a" | "b" root'),
                compile_grammar(codec, json_schema={"type": "integer", "minimum": 0, "maximum": 99}), None]
    asked: Any = {"n": 2, "max_tokens": 12, "top_logprobs": 3, "prompt_logprobs": 2, "seed": 4}
    with native.Engine(native.Model.load(str(llama_dir), dtype="fp32"), codec.native(), kv_memory_mb=64) as engine, \
            running_server(llama_dir) as server, native.Engine.connect(server.url) as over_http:
        for grammar in grammars:
            made, = over_http.generate([PROMPT], grammar=grammar, **asked)
            for sample in made:
                ids = [*PROMPT, *map(int, sample.ids)]
                (again,) = engine.generate([ids], max_tokens=1, prompt_logprobs=3)[0]
                assert sample.prompt_logprobs.tolist()[1:] == again.prompt_logprobs.tolist()[1:len(PROMPT)]
                assert sample.logprobs.tolist() == again.prompt_logprobs.tolist()[len(PROMPT):]
                assert sample.top_logprobs == again.prompt_top_logprobs[len(PROMPT):]
                assert [top[:2] for top in again.prompt_top_logprobs[1:len(PROMPT)]] == sample.prompt_top_logprobs[1:]
                text = codec.decode(sample.ids.tolist())
                assert grammar is not grammars[0] or (len(text) == 3 and text.isdigit())
        with pytest.raises(rft.ConfigError, match="code of its own"):
            over_http.generate([PROMPT], grammar=OwnGrammar())


class OwnGrammar:
    def start(self) -> None:
        raise AssertionError("servers compile grammars themselves")


def test_prompt_logprobs_as_vllm_has_them(client: openai.OpenAI, reference: torch.Tensor) -> None:
    choice = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=2, extra_body={"prompt_logprobs": 0}).choices[0]
    assert choice.prompt_logprobs[0] is None
    assert choice.prompt_logprobs[1]["6"]["logprob"] == pytest.approx(reference[0, 6].item(), abs=1e-4)


def test_biases_and_allowed_tokens_are_obeyed(client: openai.OpenAI) -> None:
    def ids(**options: Any) -> list[int]:
        reply = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=6, extra_body={
            "return_token_ids": True, "ignore_eos": True, **options.pop("extra", {})}, **options)
        found: list[int] = reply.choices[0].token_ids
        return found

    assert set(ids(logit_bias={"42": 100})) == {42}
    assert set(ids(extra={"allowed_token_ids": [9, 10]})) <= {9, 10}
    greedy = ids(temperature=0, frequency_penalty=2.0, presence_penalty=2.0, logit_bias={"42": 5, "43": 4.9})
    assert {42, 43} <= set(greedy)  # neither may be repeated for long


def test_json_schema_is_obeyed(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["answer"],
              "additionalProperties": False}
    reply = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "2 + 3?"}], n=4, max_tokens=60, seed=2,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    for choice in reply.choices:
        assert 0 <= json.loads(choice.message.content)["answer"] <= 9
    assert client.completions.create(model="tiny", prompt="x", max_tokens=9, extra_body={
        "structured_outputs": {"choice": ["yes", "no"]}}).choices[0].text in ("yes", "no")
    assert client.completions.create(model="tiny", prompt="x", max_tokens=9, extra_body={
        "guided_regex": "[0-9]{3}"}).choices[0].text.isdigit()


CITY = {"type": "object", "properties": {"city": {"$ref": "#/$defs/City"}}, "required": ["city"], "additionalProperties": False,
        "$defs": {"City": {"type": "string", "enum": ["Oslo", "Rome"]}}}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": CITY}},
              {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}]


@pytest.mark.parametrize(("choice", "names"), [
    ("required", {"weather", "now"}), ({"type": "function", "function": {"name": "weather"}}, {"weather"})])
def test_a_call_is_made_where_the_request_says_so(client: openai.OpenAI, choice: Any, names: set[str]) -> None:
    reply = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "?"}], tools=TOOLS, tool_choice=choice,
                                           n=8, max_tokens=120, seed=4)
    for answer in reply.choices:
        assert answer.finish_reason == "tool_calls" and not answer.message.content
        (call,) = answer.message.tool_calls
        assert call.function.name in names
        arguments = json.loads(call.function.arguments)
        assert arguments["city"] in ("Oslo", "Rome") if call.function.name == "weather" else arguments == {}
    assert {answer.message.tool_calls[0].function.name for answer in reply.choices} == names


@pytest.mark.parametrize(("options", "message"), [
    ({"extra_body": {"guided_regex": "("}}, "guided_regex: "), ({"logit_bias": {"x": 1}}, "logit_bias: must map"),
    ({"frequency_penalty": 3}, "frequency_penalty: must be a number in -2"), ({"max_tokens": 0}, "max_tokens: 0 is for the prompt"),
    ({"extra_body": {"guided_regex": "a", "guided_json": {}}}, "only one constraint"), ({"logprobs": 21}, "logprobs: must be"),
])
def test_mistakes_are_named(client: openai.OpenAI, options: dict[str, Any], message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        client.completions.create(model="tiny", prompt="x", **options)


def test_sampled_logprobs_under_a_grammar_are_those_of_what_is_allowed(client: openai.OpenAI) -> None:
    choice = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=4, logprobs=0, extra_body={
        "guided_regex": "7", "return_token_ids": True}).choices[0]
    assert choice.text == "7" and choice.sampling_logprobs[0] == pytest.approx(0, abs=1e-6)
    assert all(math.isfinite(value) and value < 0 for value in choice.logprobs.token_logprobs)
