"""Adapters against `peft`: logits both ways, the gradient of every parameter, ten optimizer steps, and a run that trains one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import logprobs_of
from test_parity import datum

import rft

IDS = [5, 17, 3, 40, 22, 9, 31, 4, 12, 60, 7, 3]


def peft_model(model_dir: Path, **config: object) -> torch.nn.Module:
    """The base under an adapter of peft whose B (and of an embedding, A) is not zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **config))
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def modules(model_dir: Path, targets: str) -> list[str]:
    """peft doesn't see the experts of transformers, which are stacked: of a sparse model only the attention."""
    sparse = "moe" in json.loads((model_dir / "config.json").read_text())["model_type"]
    return TARGETS["all"][:4] if sparse and targets == "all" else TARGETS[targets]


TARGETS = {"all": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], "attention": ["q_proj", "v_proj"],
           "vocabulary": ["embed_tokens", "lm_head", "v_proj"], "embedding": ["embed_tokens"], "head": ["lm_head"]}


@pytest.mark.parametrize(("targets", "rslora"), [("all", False), ("attention", True), ("vocabulary", False), ("embedding", True), ("head", False)])
def test_an_adapter_of_peft_gives_the_same_log_probabilities_here(model_dir: Path, tmp_path: Path, targets: str, rslora: bool) -> None:
    theirs = peft_model(model_dir, r=5, lora_alpha=9, target_modules=modules(model_dir, targets), use_rslora=rslora)
    theirs.save_pretrained(tmp_path)
    model = rft.Model.load(str(model_dir), dtype="fp32")
    trainer = rft.Trainer(model, rft.Adapter.load(model, str(tmp_path)))
    want = logprobs_of(theirs, IDS).detach().numpy()
    with theirs.disable_adapter():
        base = logprobs_of(theirs, IDS).detach().numpy()
    got = trainer.forward([datum(IDS)])[0][1:]
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert np.abs(want - base).max() > 1e-2


@pytest.mark.parametrize("targets", ["all", "vocabulary", "embedding"])
def test_an_adapter_of_ours_gives_the_same_log_probabilities_in_peft(model_dir: Path, tmp_path: Path, targets: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = rft.Model.load(str(model_dir), dtype="fp32")
    trainer = rft.Trainer(model, rft.Adapter(model, rank=4, alpha=8, targets=modules(model_dir, targets), seed=3))
    for _ in range(3):
        trainer.forward_backward([datum(IDS)], loss="cross-entropy")
        trainer.optim_step(learning_rate=0.02)
    trainer.save_adapter(str(tmp_path / "adapter"))
    trainer.save_model(str(tmp_path / "merged"))
    ours = trainer.forward([datum(IDS)])[0][1:]
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    np.testing.assert_allclose(logprobs_of(theirs, IDS).detach().numpy(), ours, atol=2e-5)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    np.testing.assert_allclose(logprobs_of(merged, IDS).detach().numpy(), ours, atol=3e-2)  # saved as bf16
    assert trainer.check_export(str(tmp_path / "merged"), [datum(IDS)]) < 0.03


def test_changes_too_small_for_bf16_are_a_warning_and_no_damage(llama_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = rft.Model.load(llama_dir, dtype="fp32")
    trainer = rft.Trainer(model, rft.Adapter(model, rank=2), temperature=0.001)  # shows a rounding of the logits a thousandfold
    trainer.forward_backward([datum(IDS)], loss="cross-entropy")
    trainer.optim_step(learning_rate=1e-3)
    trainer.save_model(tmp_path / "merged.tmp")
    difference = trainer.check_export(tmp_path / "merged.tmp", [datum(IDS)])
    assert difference is not None and difference > 0.05
    warning = capfd.readouterr().err
    assert "bf16 rounds off much of the small changes" in warning
    assert f"{tmp_path / 'merged'}: log-prob" in warning  # what the folder will be called


@pytest.mark.parametrize("targets", ["all", "vocabulary"])
def test_gradients_and_ten_steps_are_those_of_peft_and_torch(model_dir: Path, tmp_path: Path, targets: str) -> None:
    theirs = peft_model(model_dir, r=4, lora_alpha=8, target_modules=modules(model_dir, targets))
    theirs.save_pretrained(tmp_path)
    model = rft.Model.load(str(model_dir), dtype="fp32")
    adapter = rft.Adapter.load(model, str(tmp_path))
    trainer = rft.Trainer(model, adapter)
    named = {name.replace(".default.", ".").removesuffix(".default"): p for name, p in theirs.named_parameters() if p.requires_grad}
    assert set(named) == set(adapter.parameter_names())
    optimizer = torch.optim.AdamW(named.values(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for step in range(10):
        ids = IDS[step % 3:]
        loss = -logprobs_of(theirs, ids).mean()
        optimizer.zero_grad()
        loss.backward()
        result = trainer.forward_backward([datum(ids)], loss="cross-entropy")
        assert result.loss_sum / result.num_tokens == pytest.approx(loss.item(), rel=1e-4)
        if step == 0:
            for name, p in named.items():
                want, got = p.grad.numpy(), trainer.gradient(name) / result.num_tokens
                assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want), name
        optimizer.step()
        trainer.optim_step(learning_rate=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1)
    for name, p in named.items():
        np.testing.assert_allclose(adapter.parameter(name), p.detach().numpy(), atol=2e-3, err_msg=name)


@pytest.mark.parametrize("targets", [["mlp"], ["embed_tokens", "lm_head"]], ids=["layers", "vocabulary"])
def test_one_engine_serves_several_adapters_of_one_base(llama_dir: Path, targets: list[str]) -> None:
    model = rft.Model.load(str(llama_dir), dtype="bf16")
    trainers = {name: rft.Trainer(model, rft.Adapter(model, rank=2, targets=targets, seed=seed)) for seed, name in enumerate("ab")}
    with rft.Engine(model) as engine:
        for name, trainer in trainers.items():
            for _ in range(4):
                trainer.forward_backward([datum(IDS if name == "a" else IDS[::-1])], loss="cross-entropy")
                trainer.optim_step(learning_rate=0.05)
            engine.publish(trainer.weights(), adapter=name)
        for name, trainer in trainers.items():
            [[sample]] = engine.generate([IDS], max_tokens=20, adapter=name, ignore_eos=True)
            scored = trainer.forward([rft.Datum(IDS + sample.ids.tolist(), [0.0] * len(IDS) + [1.0] * 20)])[0]
            assert scored[len(IDS):].tolist() == sample.logprobs.tolist()
        engine.publish(None, adapter="a")
        with pytest.raises(rft.ConfigError, match="'a' has not been published"):
            engine.generate([IDS], max_tokens=2, adapter="a")


def test_adapters_share_a_batch_bit_for_bit_while_others_come_and_go(llama_dir: Path) -> None:
    model = rft.Model.load(str(llama_dir), dtype="bf16")
    trainers = {name: rft.Trainer(model, rft.Adapter(model, rank=2, targets=["mlp"], seed=seed)) for seed, name in enumerate("abc")}
    trainers[""] = rft.Trainer(model)
    with rft.Engine(model, check_invariants=True) as engine:
        for name in "abc":
            trainers[name].forward_backward([datum(IDS if name == "a" else IDS[::-1])], loss="cross-entropy")
            trainers[name].optim_step(learning_rate=0.05)
            engine.publish(trainers[name].weights(), adapter=name)

        def ask(row: int) -> tuple[str, list[int], Any]:
            name, prompt = sorted(trainers)[row % 4], IDS[row % 7:]
            return name, prompt, engine.generate([prompt], max_tokens=40, adapter=name, ignore_eos=True, seed=row)[0][0]

        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(ask, row) for row in range(48)]
            for turn in range(20):
                engine.publish(trainers["abc"[turn % 3]].weights(), adapter=f"guest-{turn % 4}")
                engine.publish(None, adapter=f"guest-{(turn + 2) % 4}")
            for answer in answers:
                name, prompt, sample = answer.result()
                scored = trainers[name].forward([rft.Datum(prompt + sample.ids.tolist(), [0.0] * len(prompt) + [1.0] * 40)])[0]
                assert scored[len(prompt):].tolist() == sample.logprobs.tolist(), name
        assert max(iteration["decode_tokens"] for iteration in engine.recent_iterations()) > 4


def test_an_adapters_texts_are_remembered_until_it_changes(llama_dir: Path) -> None:
    model = rft.Model.load(str(llama_dir), dtype="bf16")
    trainer = rft.Trainer(model, rft.Adapter(model, rank=2, targets=["mlp"]))
    prompt = IDS * 4
    with rft.Engine(model, check_invariants=True) as engine:
        def hits(adapter: str) -> tuple[int, list[float]]:
            before = engine.stats()["prefix_hit_tokens"]
            (sample,) = engine.generate([prompt], max_tokens=4, adapter=adapter, ignore_eos=True)[0]
            return engine.stats()["prefix_hit_tokens"] - before, sample.logprobs.tolist()

        seen = []
        for _ in range(2):
            trainer.forward_backward([datum(prompt)], loss="cross-entropy")
            trainer.optim_step(learning_rate=0.05)
            engine.publish(trainer.weights(), adapter="a")
            (first, logprobs), (second, again), (base, others) = hits("a"), hits("a"), hits("")
            assert (first, second) == (0, 32) and again == logprobs != others
            seen.append(base)
        assert seen == [0, 32]  # the base's texts are its own, and stay


def test_describing_and_distilling_see_the_adapter_of_the_head(llama_dir: Path) -> None:
    model = rft.Model.load(str(llama_dir), dtype="fp32")
    trainer = rft.Trainer(model, rft.Adapter(model, rank=2, targets=["lm_head"]))
    for _ in range(2):
        trainer.forward_backward([datum(IDS)], loss="cross-entropy")
        trainer.optim_step(learning_rate=0.05)
    logprobs, _, ids, top = trainer.describe([datum(IDS)], top_k=model.vocab_size)
    assert logprobs[0].tolist() == trainer.forward([datum(IDS)])[0].tolist()
    np.testing.assert_allclose(np.exp(top[0][1:]).sum(-1), 1.0, atol=1e-5)
    assert abs(trainer.forward_backward_distillation([datum(IDS)], ids, top).metrics["divergence"]) < 1e-6  # its own teacher


def test_a_run_trains_an_adapter_and_resumes_it(llama_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"{i} + 1"}]}) + "\n" for i in range(8)))
    config = {"model": str(llama_dir), "seed": 1, "run_dir": str(tmp_path / "run"), "data": {"train": str(data)},
              "lora": {"rank": 4, "alpha": 8, "targets": ["attention", "mlp"]},
              "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 8},
              "losses": {"kl_coef": 0.01},
              "trainer": {"steps": 2, "learning_rate": 0.01, "dtype": "fp32", "threads": 1}}

    @rft.grader
    def vowels(completion: str) -> float:
        return sum(c in "aeiou1" for c in completion) / 8

    with rft.Run(rft.RunConfig.from_json(json.dumps(config)), graders=[vowels]) as run:
        steps = list(run)
    assert [step.logprob_diff_max for step in steps] == [0.0, 0.0]
    assert (run.dir / "model" / "model.safetensors").is_file() and (run.dir / "adapter" / "adapter_model.safetensors").is_file()
    state = run.dir / "checkpoints" / "step-2" / "trainer.safetensors"
    assert state.stat().st_size < 0.6 * (llama_dir / "model.safetensors").stat().st_size  # the adapter's, not the model's
    with rft.Run.resume(run.dir, graders=[vowels], overrides=["trainer.steps=3"]) as run:
        assert [step.index for step in run] == [2]
