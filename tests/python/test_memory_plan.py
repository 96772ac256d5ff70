"""What the memory planner says and does, from Python and for whole runs; its accuracy is `rft check memory`."""

from __future__ import annotations

from pathlib import Path

import pytest

import rft


def test_the_plan_says_what_is_used_for_what_and_sets_the_micro_batch(llama_dir: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"), token_budget=100_000)
    plan = trainer.plan_memory(longest_row=64)
    assert [name for name, _, _ in plan["items"]] == [
        "process", "weights", "versions", "gradients", "optimizer", "activations", "workspace"]
    assert plan["token_budget"] == 100_000 and plan["total_bytes"] < plan["limit_bytes"]
    assert "micro-batches of up to 100000 tokens" in plan["text"]
    base = sum(size for name, size, _ in plan["items"] if name in ("process", "weights", "versions", "gradients", "optimizer"))
    smaller = trainer.plan_memory(longest_row=64, limit_mb=(base + (plan["total_bytes"] - base) // 2) >> 20)
    assert 64 <= smaller["token_budget"] < 100_000


def test_what_can_not_fit_is_refused_with_advice(llama_dir: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"))
    with pytest.raises(rft.ResourceError, match="one row of 64 tokens needs .* What helps: trainer.checkpoint_every: 1"):
        trainer.plan_memory(longest_row=64, limit_mb=1)


def test_a_list_of_max_tokens_is_one_per_prompt(llama_dir: Path) -> None:
    engine = rft.Engine(rft.Model.load(str(llama_dir), dtype="fp32"))
    done = engine.generate([[1, 2], [3, 4], [1, 2]], max_tokens=[1, 5, 3], ignore_eos=True)
    assert [len(samples[0].ids) for samples in done] == [1, 5, 3]
    with pytest.raises(rft.ConfigError, match="2 numbers for 1 prompts"):
        engine.generate([[1]], max_tokens=[1, 2])
    engine.close()
