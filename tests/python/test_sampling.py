"""What Engine.generate and `rft generate` take beside temperature and top-p, against transformers on the same weights."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import rft
from rft.cli import app

NEW = 24


@pytest.fixture(scope="module")
def engine(llama_dir: Path) -> rft.Engine:
    return rft.Engine(rft.Model.load(str(llama_dir), dtype="fp32"), rft.load_codec(llama_dir).native(), check_invariants=True)


@pytest.fixture(scope="module")
def reference(llama_dir: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(llama_dir, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def codec(llama_dir: Path) -> object:
    return rft.load_codec(llama_dir)


def logits_after(reference: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return reference(torch.tensor([ids])).logits[0]


PROMPT = [5, 9, 40, 9, 77, 60, 61]


def test_a_repetition_penalty_gives_the_greedy_text_of_transformers(engine: rft.Engine, reference: torch.nn.Module) -> None:
    for penalty in (1.3, 0.8):
        expected = reference.generate(torch.tensor([PROMPT]), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False,
                                      repetition_penalty=penalty, eos_token_id=None, pad_token_id=0)[0].tolist()
        (made,) = engine.generate([PROMPT], temperature=0.0, max_tokens=NEW, ignore_eos=True, repetition_penalty=penalty)[0]
        assert PROMPT + made.ids.tolist() == expected


def test_presence_and_frequency_penalties_and_bias_are_subtracted_from_logits(engine: rft.Engine, reference: torch.nn.Module) -> None:
    bias = {30: 0.1, 31: -4.0}
    ids = list(PROMPT)
    for _ in range(NEW):
        logits = logits_after(reference, ids)[-1]
        for token in set(ids[len(PROMPT):]):
            logits[token] -= 0.05 + 0.02 * ids[len(PROMPT):].count(token)
        for token, value in bias.items():
            logits[token] += value
        ids.append(int(logits.argmax()))
    (made,) = engine.generate([PROMPT], temperature=0.0, max_tokens=NEW, ignore_eos=True, presence_penalty=0.05, frequency_penalty=0.02,
                              logit_bias=bias)[0]
    assert made.ids.tolist() == ids[len(PROMPT):]
    assert len(set(made.ids.tolist())) > 3


def test_logprobs_of_prompt_and_alternatives_are_those_of_transformers(engine: rft.Engine, reference: torch.nn.Module) -> None:
    (made,) = engine.generate([PROMPT], temperature=0.0, max_tokens=NEW, ignore_eos=True, top_logprobs=5, prompt_logprobs=3)[0]
    ids = PROMPT + made.ids.tolist()
    expected = torch.log_softmax(logits_after(reference, ids), -1)
    assert math.isnan(made.prompt_logprobs[0]) and made.prompt_top_logprobs[0] == []
    for position in range(1, len(ids)):
        row, count = expected[position - 1], 3 if position < len(PROMPT) else 5
        got = made.prompt_logprobs[position] if position < len(PROMPT) else made.logprobs[position - len(PROMPT)]
        assert got == pytest.approx(float(row[ids[position]]), abs=2e-5)
        top = made.prompt_top_logprobs[position] if position < len(PROMPT) else made.top_logprobs[position - len(PROMPT)]
        np.testing.assert_allclose([logprob for _, logprob in top], row.topk(count).values.numpy(), atol=2e-5)
        np.testing.assert_allclose([float(row[token]) for token, _ in top], row.topk(count).values.numpy(), atol=2e-5)


def test_echo_puts_the_prompt_first(engine: rft.Engine) -> None:
    options = {"temperature": 0.0, "max_tokens": 6, "ignore_eos": True}
    (plain,), (echoed,) = engine.generate([PROMPT], **options)[0], engine.generate([PROMPT], echo=True, **options)[0]
    assert echoed.ids.tolist() == PROMPT + plain.ids.tolist()
    np.testing.assert_array_equal(echoed.logprobs[len(PROMPT):], plain.logprobs)
    assert np.isfinite(echoed.logprobs[1:]).all() and len(echoed.versions) == len(echoed.ids)


def test_the_prefix_cache_reports_what_it_saved(engine: rft.Engine) -> None:
    prompt = list(range(100, 180))
    before = engine.stats()
    engine.generate([prompt], max_tokens=2)
    first = engine.stats()
    engine.generate([[*prompt, 7]], max_tokens=2)
    second = engine.stats()
    assert second["prefix_hit_tokens"] - first["prefix_hit_tokens"] == 80
    assert first["tokens_prefilled"] - before["tokens_prefilled"] == 80 and second["tokens_prefilled"] - first["tokens_prefilled"] == 1


@pytest.mark.parametrize(("options", "message"), [
    ({"repetition_penalty": 0.0}, "repetition_penalty"), ({"logit_bias": {10**6: 1.0}}, "logit_bias"), ({"top_logprobs": 1000}, "num_top_logprobs"),
    ({"allowed_ids": [-3]}, "allowed_ids"), ({"weight_policy": "later"}, "weight_policy"), ({"temperature": "hot"}, "temperature: 'hot'")])
def test_what_is_wrong_is_named(engine: rft.Engine, options: dict, message: str) -> None:
    with pytest.raises(rft.ConfigError, match=message):
        engine.generate([PROMPT], **options)


def test_an_unknown_keyword_is_a_type_error(engine: rft.Engine) -> None:
    with pytest.raises(TypeError, match="temperatur"):
        engine.generate([PROMPT], temperatur=0.0)


SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 999}, "unit": {"enum": ["m", "km"]}},
          "required": ["answer", "unit"], "additionalProperties": False}


def test_a_json_schema_holds_for_every_completion_of_a_random_model(engine: rft.Engine, codec: object) -> None:
    grammar = rft.compile_grammar(codec, json_schema=SCHEMA)
    for made in engine.generate([PROMPT], n=16, max_tokens=60, grammar=grammar, seed=3)[0]:
        value = json.loads(codec.decode(made.ids.tolist()))
        assert 0 <= value["answer"] <= 999 and value["unit"] in ("m", "km") and set(value) == {"answer", "unit"}
        assert made.finish_reason == "stop"


def test_a_regular_expression_and_an_ebnf_hold(engine: rft.Engine, codec: object) -> None:
    for options, pattern in (({"regex": r"[0-9]{3}-[a-c]{2,4}"}, r"[0-9]{3}-[a-c]{2,4}"),
                             ({"ebnf": 'root ::= "x" | "(" root "," root ")"'}, r"[x(),]+")):
        for made in engine.generate([PROMPT], n=8, max_tokens=200, grammar=rft.compile_grammar(codec, **options))[0]:
            text = codec.decode(made.ids.tolist())
            if made.finish_reason == "stop":
                assert re.fullmatch(pattern, text) and text.count("(") == text.count(")") == text.count(",")


def test_structured_logprobs_are_renormalised_over_what_is_allowed(engine: rft.Engine, reference: torch.nn.Module, codec: object) -> None:
    digits = {codec.encode(digit)[0]: digit for digit in "78"}
    row = torch.log_softmax(logits_after(reference, PROMPT)[-1], -1)
    total = torch.logsumexp(row[list(digits)], 0)
    for made in engine.generate([PROMPT], n=6, max_tokens=1, grammar=rft.compile_grammar(codec, regex="7|8"))[0]:
        token = int(made.ids[0])
        assert token in digits
        assert made.sampling_logprobs[0] == pytest.approx(float(row[token] - total), abs=2e-5)
        assert made.logprobs[0] == pytest.approx(float(row[token]), abs=2e-5)


def test_a_wrong_grammar_says_what_is_wrong(codec: object) -> None:
    with pytest.raises(ValueError, match="regex: "):
        rft.compile_grammar(codec, regex="[0-9")
    with pytest.raises(ValueError, match="give one of"):
        rft.compile_grammar(codec, regex="a", ebnf="b")


def test_generate_prints_structured_text_and_logprobs_as_json(llama_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    base = ["generate", str(llama_dir), "hello", "--dtype", "fp32", "--max-tokens", "60"]
    result = CliRunner().invoke(app, [*base, "--json-schema", str(tmp_path / "schema.json")])
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.output)) == {"answer", "unit"}
    result = CliRunner().invoke(app, [*base, "--logprobs", "2", "--prompt-logprobs", "0", "--max-tokens", "3", "--ignore-eos"])
    shown = json.loads(result.output)
    assert len(shown["ids"]) == 3 and [len(row) for row in shown["top_logprobs"]] == [2, 2, 2]
    assert shown["prompt_logprobs"][0] is None and shown["prompt_logprobs"][1] < 0
