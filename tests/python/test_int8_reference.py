"""`trainer.reference_dtype: int8`: the KL is that to the rounded model, and the policy stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_moe_run import config, journalled, metrics, vowels

import rft
from rft import _native

EXTENSION = _native.load()
ONE_STEP = ("trainer.updates_per_step=1", "trainer.steps=1", "losses.kl_coef=0.001")


@pytest.mark.parametrize(("reference", "loaded"), [("int8", "int8"), ("same", "fp32")])
def test_the_kl_is_that_to_the_reference_as_loaded(llama_dir: Path, tmp_path: Path, reference: str, loaded: str) -> None:
    with rft.Run(config(llama_dir, tmp_path / "run", *ONE_STEP, f"trainer.reference_dtype={reference}"), graders=[vowels]) as run:
        run.step()
        segments = [rollout["segments"] for rollout in journalled(run.dir)]
    model = rft.Model.load(str(llama_dir), dtype=loaded)
    datums = [rft.Datum(prompt["ids"] + made["ids"], [0.0] * len(prompt["ids"]) + [1.0] * len(made["ids"])) for prompt, made in segments]
    differences = np.concatenate([np.array(made["logprobs"]) - row[-len(made["ids"]):]  # the policy, before its first update
                                  for (_, made), row in zip(segments, EXTENSION.Trainer(model).forward(datums), strict=True)])
    assert len(segments) >= 4
    assert metrics(run.dir)[0]["loss/ref_kl_k1"] == pytest.approx(differences.mean(), abs=1e-6)
    assert (np.abs(differences).max() > 1e-4) == (reference == "int8")


def test_a_reference_that_moves_is_not_int8(llama_dir: Path, tmp_path: Path) -> None:
    overrides = (*ONE_STEP, "trainer.reference_dtype=int8", "trainer.reference_decay=0.9")
    with pytest.raises(rft.ConfigError, match="trainer.reference_dtype: int8 weights stay as they are"):
        rft.Run(config(llama_dir, tmp_path / "run", *overrides), graders=[vowels])
