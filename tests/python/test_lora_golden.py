"""Adapters against numbers that `peft` and torch gave (tests/oracles/make_lora_golden.py): needs neither peft nor transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lora_case
import numpy as np
import pytest
from safetensors.numpy import load_file

import rft

GOLDEN = json.loads((Path(__file__).parent.parent / "oracles" / "lora_golden.json").read_text())


def datum(ids: list[int]) -> rft.Datum:
    return rft.Datum(ids, [0.0] + [1.0] * (len(ids) - 1))


@pytest.fixture(params=list(lora_case.CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], rft.Model, rft.Adapter]:
    """What peft says, the model and the adapter."""
    model = rft.Model.load(str(lora_case.write_model(tmp_path / "model", lora_case.CASES[request.param][1])), dtype="fp32")
    return GOLDEN[request.param], model, rft.Adapter.load(model, str(lora_case.write_adapter(tmp_path / "adapter", request.param)))


def test_log_probabilities_with_and_without_the_adapter_are_pefts(case: Any) -> None:
    golden, model, adapter = case
    for trainer, want in ((rft.Trainer(model, adapter), golden["logprobs"]), (rft.Trainer(model), golden["base"])):
        np.testing.assert_allclose(trainer.forward([datum(lora_case.IDS)])[0][1:], want, atol=2e-5)
    assert np.abs(np.subtract(golden["logprobs"], golden["base"])).max() > 1e-2


def test_gradients_and_ten_steps_are_pefts(case: Any) -> None:
    golden, model, adapter = case
    trainer = rft.Trainer(model, adapter)
    assert set(golden["gradients"]) == set(adapter.parameter_names())
    for step, want in enumerate(golden["losses"]):
        result = trainer.forward_backward([datum(lora_case.IDS[step % 3:])], loss="cross-entropy")
        assert result.loss_sum / result.num_tokens == pytest.approx(want, rel=1e-4)
        if step == 0:
            for name, gradient in golden["gradients"].items():
                assert lora_case.probe(trainer.gradient(name) / result.num_tokens) == pytest.approx(gradient, rel=2e-4, abs=1e-4 * gradient[0]), name
        trainer.optim_step(learning_rate=lora_case.LEARNING_RATE, beta1=lora_case.BETAS[0], beta2=lora_case.BETAS[1], eps=lora_case.EPS,
                           weight_decay=lora_case.WEIGHT_DECAY)
    for name, stepped in golden["stepped"].items():
        assert lora_case.probe(adapter.parameter(name)) == pytest.approx(stepped, rel=2e-3, abs=2e-3 * stepped[0]), name


def test_what_is_saved_has_pefts_names_shapes_and_the_numbers_that_were_loaded(case: Any, tmp_path: Path) -> None:
    golden, model, adapter = case
    rft.Trainer(model, adapter).save_adapter(str(tmp_path / "saved"))
    ours, given = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("saved", "adapter"))
    assert {name: list(value.shape) for name, value in ours.items()} == {
        name: shape for name, shape in golden["saved"].items() if ".base_layer." not in name}
    for name, value in given.items():
        np.testing.assert_array_equal(ours[name], value)
