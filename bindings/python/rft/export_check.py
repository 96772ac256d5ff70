"""A saved model is called done when it has been loaded again and says what the trainer says; and its model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rft import _native

if TYPE_CHECKING:
    from rft._rft import Datum, RunConfig, Trainer

# Mean |difference| of log-probabilities that rounding the weights to bf16 explains, in nats.
TOLERANCE = 0.05


def check_export(folder: str | Path, trainer: Trainer, datums: Sequence[Datum]) -> float:
    """Loads `folder` again and scores `datums` with both; returns the mean |difference| in nats.

    Every tensor must be the trainer's (with its adapter merged), rounded to bf16. Raises ValueError naming the tensor or the
    difference.
    """
    native = _native.load()
    model = native.Model.load(str(folder), dtype=trainer.model.dtype)
    trained = trainer.model.parameter if trainer.adapter is None else trainer.adapter.merged
    for name in trainer.model.parameter_names():
        if not np.array_equal(model.parameter(name), round_to_bf16(trained(name))):
            raise ValueError(f"{folder}: {name} is not what was trained; the export is damaged")
    ours, theirs = trainer.forward(datums), native.Trainer(model).forward(datums)
    weights = np.concatenate([datum.weights for datum in datums]) != 0
    difference = float(np.abs(np.concatenate(ours) - np.concatenate(theirs))[weights].mean())
    if not difference <= TOLERANCE:
        raise ValueError(f"{folder}: log-probabilities differ by {difference:.3g} nats from the trainer's on average (allowed: "
                         f"{TOLERANCE}); the export is damaged")
    return difference


def round_to_bf16(values: np.ndarray) -> np.ndarray:
    """To the nearest, ties to even, as float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


def write_card(folder: str | Path, config: RunConfig, kind: str, scores: dict[str, Any]) -> None:
    """README.md of the model: what it was made from, how, and how it scores."""
    def sha256(path: str) -> str:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else "none"

    lines = ["---", "library_name: transformers", f"tags: [rft, {kind}]", "---", f"# {config.get('name')}", "",
             f"Trained with `rft {kind}` from `{Path(config.get('model')).name}`.", "", "| | SHA-256 |", "| --- | --- |",
             *(f"| {key} | {sha256(config.get(key))} |" for key in ("data.train", "data.heldout")), "",
             "## Scores", "", "```json", json.dumps(scores, indent=2), "```", "", "## Configuration", "", "```json",
             config.to_json().strip(), "```", ""]
    (Path(folder) / "README.md").write_text("\n".join(lines))
