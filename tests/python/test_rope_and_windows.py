"""Scaled rotary embeddings and sliding windows, against transformers on the same weights and far beyond the original context."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import logprobs_of
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import rft
from rft import _native

DIMS = {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 24, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "initializer_range": 0.2}
LONG = 200


def rope(kind: str, **options: float) -> dict:
    return {**DIMS, "rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, **options}}


MODELS = {
    "linear": lambda: LlamaForCausalLM(LlamaConfig(**rope("linear"))),
    "llama3": lambda: LlamaForCausalLM(LlamaConfig(**rope("llama3", low_freq_factor=1.0, high_freq_factor=4.0,
                                                         original_max_position_embeddings=64))),
    "yarn": lambda: LlamaForCausalLM(LlamaConfig(**rope("yarn", original_max_position_embeddings=64))),
    "yarn-with-its-options": lambda: Qwen3ForCausalLM(Qwen3Config(**rope("yarn", original_max_position_embeddings=128, beta_fast=16.0,
                                                                        beta_slow=2.0, attention_factor=1.3))),
    "window-mistral": lambda: MistralForCausalLM(MistralConfig(**DIMS, sliding_window=21)),
    "window-qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**DIMS, use_sliding_window=True, sliding_window=40, max_window_layers=1)),
}


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(request.param)
    MODELS[request.param]().save_pretrained(path)
    return path


def test_logprobs_gradients_and_greedy_text_are_those_of_transformers(folder: Path) -> None:
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model = rft.Model.load(str(folder), dtype="fp32")
    trainer = _native.load().Trainer(model)
    ids = np.random.default_rng(0).integers(3, 128, LONG).tolist()
    expected = logprobs_of(reference, ids)
    (-expected.sum()).backward()
    result = trainer.forward_backward([rft.Datum(ids, [0.0] + [1.0] * (LONG - 1))], loss="cross-entropy")
    np.testing.assert_allclose(result.logprobs[0][1:], expected.detach().numpy(), atol=1e-4)
    parameters = dict(reference.named_parameters())
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight", "model.layers.2.self_attn.v_proj.weight"):
        want = parameters[name].grad.numpy()
        assert np.linalg.norm(trainer.gradient(name) - want) <= 1e-3 * np.linalg.norm(want), name
    made = reference.generate(torch.tensor([ids]), max_new_tokens=20, min_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0)
    (greedy,) = rft.Engine(model).generate([ids], temperature=0.0, max_tokens=20, ignore_eos=True)[0]
    assert greedy.ids.tolist() == made[0, LONG:].tolist()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_sampler_and_trainer_agree_bit_for_bit(folder: Path, dtype: str) -> None:
    model = rft.Model.load(str(folder), dtype=dtype)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(3, 128, n).tolist() for n in (150, 33, 90)]
    trainer = _native.load().Trainer(model)
    for prompt, samples in zip(prompts, rft.Engine(model, max_batch=4, max_batch_tokens=29).generate(prompts, n=2, max_tokens=30), strict=True):
        datums = [rft.Datum(prompt + s.ids.tolist(), [0.0] * len(prompt) + [1.0] * len(s.ids), prefix_id=0, prefix_length=len(prompt))
                  for s in samples]
        for sample, got in zip(samples, trainer.forward(datums), strict=True):
            assert np.abs(got[len(prompt):] - sample.logprobs).max() == 0.0
