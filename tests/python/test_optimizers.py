"""Optimizers against torch's on the gradients that the trainer accumulated; weight-decay groups; saved state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rft

ROW = rft.Datum([5, 17, 3, 40, 22, 9], [0.0, 1.0, 1.0, 1.0, 1.0, 1.0])


def train(model: rft.Model, steps: int, theirs: Any, trainer: rft.Trainer, **params: float) -> Iterator[None]:
    """Steps both, torch's optimizer on our gradients (divided by the number of tokens)."""
    for _ in range(steps):
        result = trainer.forward_backward([ROW], loss="cross-entropy")
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(trainer.gradient(name)).to(parameter.dtype) / result.num_tokens
        trainer.optim_step(**params)
        yield None


def copies(model: rft.Model) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(model.parameter(name), requires_grad=True) for name in model.parameter_names()}


def compare(model: rft.Model, theirs: dict[str, torch.Tensor], tolerance: float) -> None:
    for name, parameter in theirs.items():
        np.testing.assert_allclose(model.parameter(name), parameter.detach().numpy(), atol=tolerance, err_msg=name)


def test_sgd_is_torchs(llama_dir: Path) -> None:
    model = rft.Model.load(str(llama_dir), dtype="fp32", threads=1)
    theirs = copies(model)
    optimizer = torch.optim.SGD(theirs.values(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in train(model, 5, theirs, rft.Trainer(model, optimizer="sgd"), learning_rate=0.1, beta1=0.9, weight_decay=0.01):
        optimizer.step()
    compare(model, theirs, 1e-6)


def test_adamw_without_decay_on_vectors_is_torchs_with_two_groups(llama_dir: Path) -> None:
    model = rft.Model.load(str(llama_dir), dtype="fp32", threads=1)
    theirs = copies(model)
    groups = [{"params": [p for p in theirs.values() if p.dim() == dim], "weight_decay": decay} for dim, decay in ((2, 0.5), (1, 0.0))]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
    trainer = rft.Trainer(model, decay_vectors=False)
    for _ in train(model, 5, theirs, trainer, learning_rate=0.01, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.5):
        optimizer.step()
    compare(model, theirs, 2e-5)


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """torch.optim.Muon's iteration, in float64 where it uses bfloat16."""
    x = matrix.double().T if matrix.shape[0] > matrix.shape[1] else matrix.double()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def test_muon_moves_matrices_along_their_orthogonalised_momentum(llama_dir: Path) -> None:
    model = rft.Model.load(str(llama_dir), dtype="fp32", threads=1)
    theirs = {name: p.detach().double() for name, p in copies(model).items() if p.dim() == 2 and "embed" not in name and "lm_head" not in name}
    momentum = {name: torch.zeros_like(p) for name, p in theirs.items()}
    trainer = rft.Trainer(model, optimizer="muon")
    head = model.parameter("lm_head.weight")
    for _ in train(model, 3, theirs, trainer, learning_rate=0.02, beta1=0.95, weight_decay=0.1):
        for name, p in theirs.items():
            grad = p.grad.double()
            momentum[name].lerp_(grad, 0.05)
            p.mul_(1 - 0.02 * 0.1).add_(newton_schulz(grad.lerp(momentum[name], 0.95)), alpha=-0.02 * 0.2 * max(p.shape) ** 0.5)
    for name, p in theirs.items():
        np.testing.assert_allclose(model.parameter(name), p.numpy(), atol=2e-4, err_msg=name)
    assert np.abs(model.parameter("lm_head.weight") - head).max() > 1e-3  # AdamW's share


@pytest.mark.parametrize("kind", ["adamw", "muon", "sgd"])
def test_a_saved_state_goes_on_bit_for_bit_and_only_with_its_optimizer(llama_dir: Path, tmp_path: Path, kind: str) -> None:
    def trainer_of(optimizer: str) -> rft.Trainer:
        return rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"), optimizer=optimizer)

    def step(trainer: rft.Trainer) -> bytes:
        trainer.forward_backward([ROW], loss="cross-entropy")
        trainer.optim_step(learning_rate=0.01, eps=1e-8)
        return b"".join(trainer.model.parameter(name).tobytes() for name in trainer.model.parameter_names())

    first = trainer_of(kind)
    step(first)
    first.save_state(str(tmp_path))
    second = trainer_of(kind)
    second.load_state(str(tmp_path))
    assert step(first) == step(second)
    with pytest.raises(rft.ConfigError, match=f"state of trainer.optimizer {kind}"):
        trainer_of("sgd" if kind != "sgd" else "adamw").load_state(str(tmp_path))


def test_an_unknown_optimizer_is_refused(llama_dir: Path) -> None:
    with pytest.raises(rft.ConfigError, match="adamw, muon, sgd"):
        rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"), optimizer="adam")


@pytest.mark.parametrize(("state", "tolerance"), [("bf16", 2e-3), ("int8", 4e-3)])
def test_adamw_with_fewer_bits_of_state_stays_near_torchs(llama_dir: Path, tmp_path: Path, state: str, tolerance: float) -> None:
    model = rft.Model.load(str(llama_dir), dtype="fp32", threads=1)
    theirs = copies(model)
    optimizer = torch.optim.AdamW(theirs.values(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    trainer = rft.Trainer(model, optimizer_state=state)
    for _ in train(model, 10, theirs, trainer, learning_rate=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.01):
        optimizer.step()
    # Ten steps move a weight by up to 1e-2.
    difference = np.concatenate([(model.parameter(name) - value.detach().numpy()).ravel() for name, value in theirs.items()])
    assert np.abs(difference).mean() < tolerance / 10 and np.quantile(np.abs(difference), 0.999) < tolerance
    trainer.save_state(str(tmp_path))
    other = rft.Model.load(str(llama_dir), dtype="fp32", threads=1)
    resumed = rft.Trainer(other, optimizer_state=state)
    resumed.load_state(str(tmp_path))
    for one in (trainer, resumed):  # the next step is the same, bit for bit
        one.forward_backward([ROW], loss="cross-entropy")
        one.optim_step(learning_rate=1e-3)
    for name in model.parameter_names():
        np.testing.assert_array_equal(model.parameter(name), other.parameter(name), err_msg=name)


def test_fewer_bits_are_for_adamw_only(llama_dir: Path) -> None:
    with pytest.raises(rft.ConfigError, match="optimizer_state: int8 is for adamw only"):
        rft.Trainer(rft.Model.load(str(llama_dir)), optimizer="muon", optimizer_state="int8")
