"""Adapters on the experts and the router of a mixture of experts, against `transformers` with the merged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import by_checkpoint_name, logprobs_of
from test_moe import make_reference, replay_datum
from test_parity import datum, ids_of

import rft
from rft import _native

EXTENSION = _native.load()


def trained(model: Any, **config: Any) -> tuple[Any, Any]:
    """An adapter after two steps, so that its B is not zero, and its trainer."""
    adapter = rft.Adapter(model, rank=3, alpha=6, seed=2, **config)
    trainer = EXTENSION.Trainer(model, adapter)
    for step in range(2):
        trainer.forward_backward([datum(ids_of(96, 40, step))], loss="cross-entropy")
        trainer.optim_step(learning_rate=0.02)
    return adapter, trainer


@pytest.mark.parametrize("router", ["softmax-renormalised", "sigmoid-bias-groups-shared", "softmax-gated-shared", "sigmoid-latent",
                                    "sigmoid-selected-keys"])
def test_an_adapters_gradients_are_those_of_the_merged_weights(router: str, tmp_path: Path) -> None:
    make_reference(router, tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    adapter, trainer = trained(model, targets=["all", "experts", "router"])
    adapter.save_merged(str(tmp_path / "merged"), dtype="fp32")
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32, attn_implementation="eager")
    batch = [ids_of(96, n, 3) for n in (31, 12)]
    result = trainer.forward_backward([datum(ids) for ids in batch], loss="cross-entropy")
    for ids, got in zip(batch, result.logprobs, strict=True):
        want = logprobs_of(merged, ids)
        np.testing.assert_allclose(got[1:], want.detach().numpy(), atol=1e-4)
        (-want.sum()).backward()
    whole = by_checkpoint_name({name: p.grad for name, p in merged.named_parameters()})
    names = [name for name in adapter.parameter_names() if name.endswith("lora_A.weight")]
    modules = {part for name in names for part in name.split(".")}
    assert {"experts", "gate"} <= modules
    assert ({"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"} <= modules) == (router in ("sigmoid-latent", "sigmoid-selected-keys"))
    assert "indexer" not in modules
    for name in names:  # W = W0 + 2 B A
        a, b = (torch.from_numpy(adapter.parameter(name.replace("lora_A", kind))) for kind in ("lora_A", "lora_B"))
        dw = whole[name.removeprefix("base_model.model.").replace(".lora_A", "")]
        for kind, want in (("lora_A", 2.0 * b.T @ dw), ("lora_B", 2.0 * dw @ a.T)):
            got = trainer.gradient(name.replace("lora_A", kind))
            assert np.linalg.norm(got - want.numpy()) <= 1e-3 * want.norm().item() + 1e-6, (name, kind)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_sampler_and_trainer_agree_bit_for_bit_and_a_neighbour_without_adapter_keeps_its_bits(dtype: str, tmp_path: Path) -> None:
    make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype=dtype)
    prompts = [ids_of(96, n, 4) for n in (5, 23)]
    with rft.Engine(model) as engine:
        alone = engine.generate(prompts, max_tokens=100, ignore_eos=True, seed=1)
    _, trainer = trained(model, targets=["experts", "router"])
    plain = EXTENSION.Trainer(model)
    with rft.Engine(model, max_batch_tokens=64) as engine:
        engine.publish(trainer.weights(), adapter="a")
        started: list[Any] = []

        def also(*_: Any) -> None:
            """Joins the batch that runs."""
            if not started:
                started.append(engine.generate(prompts, n=2, max_tokens=10, ignore_eos=True, seed=2, adapter="a", routes="all"))

        beside = engine.generate(prompts, max_tokens=100, ignore_eos=True, seed=1, on_token=also)
    for prompt, samples in zip(prompts, started[0], strict=True):
        for s in samples:
            for routes in (True, False):
                got = trainer.forward([replay_datum(prompt, s, routes)])[0]
                assert got[len(prompt):].tolist() == s.logprobs.tolist()
            assert np.abs(plain.forward([replay_datum(prompt, s, False)])[0][len(prompt):] - s.logprobs).max() > 1e-3
    for a, b in zip(alone, beside, strict=True):
        assert a[0].logprobs.tolist() == b[0].logprobs.tolist()


def test_a_folder_of_such_an_adapter_is_read_back(tmp_path: Path) -> None:
    make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    adapter, trainer = trained(model, targets=["experts", "router"])
    trainer.save_adapter(str(tmp_path / "adapter"))
    again = rft.Adapter.load(model, str(tmp_path / "adapter"))
    assert again.parameter_names() == adapter.parameter_names()
    assert "base_model.model.model.layers.0.mlp.experts.3.gate_proj.lora_A.weight" in again.parameter_names()
    row = [datum(ids_of(96, 20, 6))]
    assert EXTENSION.Trainer(model, again).forward(row)[0].tolist() == trainer.forward(row)[0].tolist()


def test_dropout_on_experts_is_inverted_and_off_outside_of_training(tmp_path: Path) -> None:
    make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    _, trainer = trained(model, targets=["experts"], dropout=0.4)
    row = [datum(ids_of(96, 30, 7))]
    once, again = (trainer.forward(row)[0].tolist() for _ in range(2))
    assert once == again
    dropped = trainer.forward_backward(row, loss="cross-entropy").logprobs[0].tolist()
    assert dropped != once
