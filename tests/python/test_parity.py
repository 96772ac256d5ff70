"""Against an independent oracle: `transformers` on the same tiny checkpoints, in float32 unless said.

Where a copy of the reference oracles lies beside the checkout (../shared/oracles), their checkpoints are a second opinion.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import by_checkpoint_name, logprobs_of
from transformers import AutoModelForCausalLM

import rft
from rft import _native
from rft.bench import BenchOptions, check_oracle, passed

EXTENSION = _native.load()
ORACLES = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "make_tiny_models.py"
LENGTHS = (37, 5, 64, 16)


def ids_of(vocab: int, length: int, seed: int) -> list[int]:
    return np.random.default_rng([seed, length]).integers(3, vocab, length).tolist()


def datum(ids: list[int]) -> rft.Datum:
    return rft.Datum(ids, [0.0] + [1.0] * (len(ids) - 1))


def expected_logprobs(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return logprobs_of(model, ids).numpy()


@pytest.fixture
def reference(model_dir: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager").eval()


def test_logprobs_of_a_ragged_batch_equal_those_of_transformers(model_dir: Path, reference: torch.nn.Module) -> None:
    trainer = EXTENSION.Trainer(rft.Model.load(str(model_dir), dtype="fp32"))
    batch = [ids_of(reference.config.vocab_size, n, 0) for n in LENGTHS]
    for ids, got in zip(batch, trainer.forward([datum(ids) for ids in batch]), strict=True):
        np.testing.assert_allclose(got[1:], expected_logprobs(reference, ids), atol=2e-5)


def test_bf16_logprobs_are_no_further_off_than_those_of_transformers_in_bf16(model_dir: Path, reference: torch.nn.Module) -> None:
    native = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16, attn_implementation="eager").eval()
    trainer = EXTENSION.Trainer(rft.Model.load(str(model_dir), dtype="bf16"))
    batch = [ids_of(reference.config.vocab_size, n, 1) for n in LENGTHS]
    exact = np.concatenate([expected_logprobs(reference, ids) for ids in batch])
    theirs = np.concatenate([expected_logprobs(native, ids) for ids in batch])
    ours = np.concatenate([got[1:] for got in trainer.forward([datum(ids) for ids in batch])])
    assert np.abs(ours - exact).mean() <= 1.5 * np.abs(theirs - exact).mean()


def as_int8(weight: torch.Tensor) -> torch.Tensor:
    """Rounded to 255 levels, one scale for each output."""
    scale = weight.abs().amax(-1, keepdim=True) / 127
    return torch.where(scale > 0, (weight / scale).round() * scale, weight)


@pytest.fixture
def rounded(model_dir: Path) -> torch.nn.Module:
    """The reference whose linear layers are rounded to int8; embeddings and routers are not."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager").eval()
    model.lm_head.weight = torch.nn.Parameter(as_int8(model.lm_head.weight.detach()))  # its own where it was the embedding
    for name, parameter in model.model.named_parameters():
        if parameter.dim() > 1 and not name.endswith(("embed_tokens.weight", ".gate.weight", "shared_expert_gate.weight")):
            parameter.data = as_int8(parameter.data)
    return model


def test_int8_weights_are_the_rounded_ones_computed_in_bf16(model_dir: Path, rounded: torch.nn.Module) -> None:
    trainer, bf16 = (EXTENSION.Trainer(rft.Model.load(str(model_dir), dtype=dtype)) for dtype in ("int8", "bf16"))
    batch = [ids_of(rounded.config.vocab_size, n, 1) for n in LENGTHS]
    exact = np.concatenate([expected_logprobs(rounded, ids) for ids in batch])
    ours = np.concatenate([got[1:] for got in trainer.forward([datum(ids) for ids in batch])])
    theirs = np.concatenate([expected_logprobs(rounded.to(torch.bfloat16), ids) for ids in batch])
    unrounded = np.concatenate([got[1:] for got in bf16.forward([datum(ids) for ids in batch])])
    assert np.abs(ours - exact).mean() <= 1.5 * np.abs(theirs - exact).mean()
    assert 0 < np.abs(ours - unrounded).mean()


def test_int8_is_never_the_policy(model_dir: Path, tmp_path: Path) -> None:
    model = rft.Model.load(str(model_dir), dtype="int8")
    assert model.dtype == "int8"
    trainer = EXTENSION.Trainer(model)
    with pytest.raises(rft.StateError, match="int8 weights are for judges and references; load it with dtype bf16 or fp32"):
        trainer.forward_backward([datum([3, 4, 5])], loss="cross_entropy")


def test_gradients_of_every_parameter_equal_those_of_autograd(model_dir: Path, reference: torch.nn.Module) -> None:
    model = rft.Model.load(str(model_dir), dtype="fp32")
    trainer = EXTENSION.Trainer(model)
    batch = [ids_of(reference.config.vocab_size, n, 2) for n in LENGTHS]
    trainer.forward_backward([datum(ids) for ids in batch], loss="cross-entropy")
    for ids in batch:
        logits = reference(torch.tensor([ids])).logits[0]
        torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum").backward()
    wanted = by_checkpoint_name({name: p.grad for name, p in reference.named_parameters()})
    for name in model.parameter_names():
        want = wanted[name].numpy()
        error = np.linalg.norm(trainer.gradient(name) - want) / np.linalg.norm(want)
        assert error <= 1e-4, f"{name}: relative error {error:.2e}"


def test_ten_optimizer_steps_equal_those_of_torch(model_dir: Path, reference: torch.nn.Module) -> None:
    model = rft.Model.load(str(model_dir), dtype="fp32")
    trainer = EXTENSION.Trainer(model)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for step in range(10):
        ids = ids_of(reference.config.vocab_size, 48, step)
        trainer.forward_backward([datum(ids)], loss="cross-entropy")
        trainer.optim_step(learning_rate=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, grad_clip_norm=1.0)
        optimizer.zero_grad()
        logits = reference(torch.tensor([ids])).logits[0]
        torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.step()
    for name, want in by_checkpoint_name(dict(reference.named_parameters())).items():
        if name in set(model.parameter_names()):
            np.testing.assert_allclose(model.parameter(name), want.detach().numpy(), atol=2e-4, err_msg=name)


def test_greedy_continuations_are_identical(model_dir: Path, reference: torch.nn.Module) -> None:
    engine = rft.Engine(rft.Model.load(str(model_dir), dtype="fp32"))
    prompts = [ids_of(reference.config.vocab_size, n, 3) for n in LENGTHS]
    got = engine.generate(prompts, temperature=0.0, max_tokens=16, ignore_eos=True)
    for prompt, (completion,) in zip(prompts, got, strict=True):
        ids = list(prompt)
        for _ in range(16):
            with torch.no_grad():
                ids.append(int(reference(torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(completion.ids) == ids[len(prompt):]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_sampler_and_trainer_agree_bit_for_bit(model_dir: Path, dtype: str) -> None:
    model = rft.Model.load(str(model_dir), dtype=dtype)
    prompts = [ids_of(model.vocab_size, n, 4) for n in LENGTHS]
    engine = rft.Engine(model, max_batch=8, max_batch_tokens=13)
    completions = engine.generate(prompts, n=3, max_tokens=24, seed=7)
    trainer = EXTENSION.Trainer(model)
    for prompt, samples in zip(prompts, completions, strict=True):
        for sample in samples:
            ids = prompt + list(sample.ids)
            got = trainer.forward([rft.Datum(ids, [0.0] * len(prompt) + [1.0] * len(sample.ids))])[0][len(prompt):]
            assert np.abs(got - sample.logprobs).max() == 0.0


def test_a_saved_model_loads_in_transformers_with_the_same_logits(model_dir: Path, reference: torch.nn.Module, tmp_path: Path) -> None:
    rft.Model.load(str(model_dir), dtype="fp32").save(str(tmp_path), dtype="fp32")
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([ids_of(reference.config.vocab_size, 20, 5)])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, reference(ids).logits)
    assert (tmp_path / "tokenizer.json").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_sharded_checkpoints_load(model_dir: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    half = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype)
    half.save_pretrained(tmp_path, max_shard_size="60KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    for name, want in by_checkpoint_name(dict(half.named_parameters())).items():
        if name in set(model.parameter_names()):
            np.testing.assert_array_equal(model.parameter(name), want.detach().float().numpy())


ORACLE_FAMILIES = {"llama", "qwen3", "qwen3_tied", "qwen3_vl", "qwen3_moe", "minimax_m2", "deepseek_v3", "kimi_k25"}
# In variant c of these, one token's keys have scores of exactly 0 on both sides of where the choice ends: torch.topk keeps any of equals.
SELECTED_KEYS = {"deepseek_v32", "glm_moe_dsa"}


@pytest.mark.skipif(not ORACLES.exists(), reason="the reference oracles are not beside this checkout")
@pytest.mark.parametrize(("variant", "families"), [("a", ORACLE_FAMILIES | SELECTED_KEYS), ("c", ORACLE_FAMILIES)])
def test_the_reference_oracles_agree(variant: str, families: set[str], tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ORACLES), "--out", str(tmp_path), "--families", ",".join(sorted(families)),
                    "--dims-variant", variant], check=True, capture_output=True)
    rows = list(check_oracle.run(BenchOptions(oracle=tmp_path), lambda _: None))
    dense = {"llama", "qwen3", "qwen3_tied", "qwen3_vl"}
    assert {row["name"] for row in rows} == {f"oracle/{family}/{what}" for family in families for what in check_oracle.MEASURES
                                             if family not in dense or what not in ("routes", "replay")}
    assert not [row for row in rows if not passed(row)]
