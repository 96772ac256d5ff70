"""Distillation: value and gradient against torch over transformers' logits, and a student that comes to speak like its teacher."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import rft
from rft.fine_tune import FineTune

IDS = [5, 17, 3, 40, 22, 9, 31]


def datum(weights: list[float] | None = None) -> rft.Datum:
    return rft.Datum(IDS, weights or [0.0, 0.0, 1.0, 1.0, 0.5, 1.0, 1.0])


def noisy_copy(folder: Path, out: Path, size: float) -> Path:
    """A teacher: the same model with its weights moved a little."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.randn_like(parameter)
    model.save_pretrained(out)
    for file in folder.iterdir():
        if not (out / file.name).exists():
            (out / file.name).write_bytes(file.read_bytes())
    return out


@pytest.mark.parametrize("top_k", [1, 5])
@pytest.mark.parametrize(("direction", "tail"), [("forward", True), ("forward", False), ("reverse", True)])
def test_value_and_gradient_are_those_of_torch(llama_dir: Path, tmp_path: Path, top_k: int, direction: str, tail: bool) -> None:
    teacher_dir = noisy_copy(llama_dir, tmp_path / "teacher", 0.05)
    student = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1))
    teacher = rft.Trainer(rft.Model.load(str(teacher_dir), dtype="fp32", threads=1), frozen=True)
    rows = [datum(), datum([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 2.0])]
    _, _, top_ids, top_logprobs = teacher.describe(rows, top_k)
    result = student.forward_backward_distillation(rows, top_ids, top_logprobs, direction=direction, tail=tail)

    theirs = AutoModelForCausalLM.from_pretrained(llama_dir, dtype=torch.float32)
    with torch.no_grad():
        p_all = torch.log_softmax(AutoModelForCausalLM.from_pretrained(teacher_dir, dtype=torch.float32)(torch.tensor([IDS])).logits[0, :-1], -1)
    q_all = torch.log_softmax(theirs(torch.tensor([IDS])).logits[0, :-1], -1)
    p, ids = p_all.double().topk(top_k, -1)
    q = q_all.double().gather(-1, ids)
    if tail:
        p, q = (torch.cat([x, torch.log1p(-x.exp().sum(-1, keepdim=True))], -1) for x in (p, q))
    divergence = ((q.exp() * (q - p)) if direction == "reverse" else (p.exp() * (p - q))).sum(-1)
    expected = sum((divergence * torch.tensor(np.array(row.weights[1:]), dtype=torch.float64)).sum() for row in rows)
    expected.backward()
    assert result.loss_sum == pytest.approx(expected.item(), rel=1e-4)
    for name, parameter in theirs.named_parameters():
        if name in student.model.parameter_names():
            np.testing.assert_allclose(student.gradient(name), parameter.grad.numpy(), atol=2e-5 * float(parameter.grad.abs().max() + 1), err_msg=name)


def test_the_divergence_of_a_model_from_itself_is_zero(llama_dir: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1))
    _, _, ids, logprobs = trainer.describe([datum()], 8)
    result = trainer.forward_backward_distillation([datum()], ids, logprobs)
    assert result.metrics["divergence"] == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(rft.ConfigError, match=r"datums\[0\] has"):
        trainer.forward_backward_distillation([datum()], [ids[0][:-1]], [logprobs[0][:-1]])


def start(llama_dir: Path, folder: Path, objective: str, steps: int, rollout: dict[str, Any] | None = None) -> FineTune:
    teachers = [str(noisy_copy(llama_dir, folder / f"teacher{size}", size)) for size in (0.03, 0.04)]
    rows = "".join(json.dumps({"messages": [{"role": "user", "content": f"{i} + 1"}]}) + "\n" for i in range(8))
    (folder / "t.jsonl").write_text(rows)
    config = {"model": str(llama_dir), "run_dir": str(folder / "run"),
              "data": {"train": str(folder / "t.jsonl"), "heldout": str(folder / "t.jsonl")},
              "rollout": {"prompts_per_step": 8, "group_size": 4, "max_tokens": 8, **(rollout or {})}, "eval": {"every": steps},
              "trainer": {"steps": steps, "learning_rate": 0.003, "dtype": "fp32", "threads": 1},
              "distill": {"teachers": teachers, "objective": objective, "top_k": 8}}
    return FineTune(rft.RunConfig.from_json(json.dumps(config)), "distill")


def test_the_student_comes_to_speak_like_its_teachers(llama_dir: Path, tmp_path: Path) -> None:
    tune = start(llama_dir, tmp_path, "top-k", 30)
    divergences = []
    while (metrics := tune.step()) is not None:
        divergences.append(metrics["divergence"])
    assert len(divergences) == 30 and divergences[-1] < 0.8 * divergences[0]
    assert tune.finish()["steps"] == 30


def test_the_student_is_trained_at_the_temperature_it_samples_at(llama_dir: Path, tmp_path: Path) -> None:
    tune = start(llama_dir, tmp_path, "sampled", 1, {"temperature": 0.6})
    assert tune.step() is not None
    [call] = tune.objective.calls
    fresh = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1), temperature=0.6)
    for datum, row in zip(call.datums, fresh.forward(call.datums), strict=True):
        np.testing.assert_array_equal(row, datum.old_logprobs)
    again = call.run(fresh)  # the policy is the sampler: every ratio is 1
    assert again.loss_sum == pytest.approx(-sum(float(np.sum(datum.advantages)) for datum in call.datums), rel=1e-5)
    assert tune.trainer.forward(call.datums)[0].tolist() != call.datums[0].old_logprobs.tolist()  # it has learned something


def test_a_sampled_tokens_advantage_is_what_the_teachers_find_it_more_likely(llama_dir: Path, tmp_path: Path) -> None:
    tune = start(llama_dir, tmp_path, "sampled", 2)
    seen: list[rft.Datum] = []
    forward_backward = tune.trainer.forward_backward
    tune.objective._trainer = SimpleNamespace(  # type: ignore[attr-defined]
        num_steps=0, weights=tune.trainer.weights,
        forward_backward=lambda datums, loss: (seen.extend(datums), forward_backward(datums, loss=loss))[1])
    metrics = tune.step()
    assert metrics is not None and len(seen) == 32
    student = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1)).forward(seen)
    teachers = [rft.Trainer(rft.Model.load(folder, dtype="fp32", threads=1)).forward(seen) for folder in tune.config.get("distill.teachers")]
    total = 0.0
    for index, row in enumerate(seen):
        expected = (teachers[0][index] + teachers[1][index]) / 2 - student[index]
        np.testing.assert_allclose(row.advantages, expected, atol=1e-5)
        total -= float(expected.sum())
    assert metrics["loss"] == pytest.approx(total / metrics["num_tokens"], abs=1e-5)
