"""`rft check oracle --oracle DIR`: tiny models of every family against the numbers that transformers gave for them.

DIR holds one folder per family, each with config.json, weights, expected.safetensors and expected.json: input ids, log-probabilities,
gradients, the experts of every token, the same with other experts forced, greedy continuations, and how exact each must be.
Rows oracle/<family>/<what>. A family whose architecture isn't here is named in the log and left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rft.bench import BenchOptions, Log, Row, largest, row

Tensors = dict[str, np.ndarray]


class Family:
    """One folder, loaded here and read there."""

    def __init__(self, native: Any, folder: Path) -> None:
        from safetensors.numpy import load_file

        self.native, self.want = native, load_file(folder / "expected.safetensors")
        self.placeholders = placeholders(json.loads((folder / "config.json").read_text()))
        self.facts: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        self.model = native.Model.load(str(folder), dtype="fp32")
        self.trainer, self.engine = native.Trainer(self.model), native.Engine(self.model)
        self.texts = [self.want[f"seq{i}.input_ids"].tolist() for i in range(2)]

    def layers(self) -> list[int]:
        """The layers that route."""
        found: list[int] = self.facts["moe_layers"]
        return found

    def datum(self, ids: list[int], **extra: Any) -> Any:
        """A row whose every token but the first counts."""
        return self.native.Datum(ids, [0.0] + [1.0] * (len(ids) - 1), **extra)

    def experts(self, prefix: str) -> np.ndarray:
        """int32 [tokens, layers, top_k] as expected, ascending."""
        return np.stack([self.want[f"{prefix}.router.layer{layer}.topk_ids"] for layer in self.layers()], 1).astype(np.int32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def logprobs(family: Family) -> float:
    """Of the texts' tokens, in one packed forward."""
    got = family.trainer.forward([family.datum(ids) for ids in family.texts])
    return largest(np.abs(ours[1:] - family.want[f"seq{i}.logprobs"]).max() for i, ours in enumerate(got))


def alternatives(family: Family) -> float:
    """Of the 128 likeliest tokens at every position, from the engine."""
    worst = 0.0
    for i, ids in enumerate(family.texts):
        want = log_softmax(family.want[f"seq{i}.logits"])
        top = family.engine.generate([ids], max_tokens=1, prompt_logprobs=min(128, family.model.vocab_size))[0][0].prompt_top_logprobs
        worst = largest([worst, *(abs(value - want[position, token]) for position, tokens in enumerate(top[1:]) for token, value in tokens)])
    return worst


def gradients(family: Family) -> float:
    """Largest relative difference of a gradient tensor, and of the norm of every other one. Leaves them as they were: none."""
    result = family.trainer.forward_backward([family.datum(ids) for ids in family.texts], loss="cross-entropy")
    worst = abs(result.loss_sum / result.num_tokens - family.facts["loss"]) / family.facts["loss"]
    scale = max(family.facts["grad_norms"].values())
    for name in family.model.parameter_names():
        got = family.trainer.gradient(name) / result.num_tokens
        norm = family.facts["grad_norms"][name]
        worst = largest([worst, abs(np.linalg.norm(got) - norm) / max(norm, 1e-3 * scale)])
        if f"grad.{name}" in family.want:
            worst = largest([worst, np.linalg.norm(got - family.want[f"grad.{name}"]) / max(norm, 1e-3 * scale)])
    family.trainer.zero_grad()
    return worst


def routes(family: Family) -> float:
    """(token, layer) pairs whose recorded experts differ."""
    different = 0
    for i, ids in enumerate(family.texts):
        sample = family.engine.generate([ids], max_tokens=1, routes="all")[0][0]
        got = family.model.unpack_routes(np.concatenate([sample.prompt_routes[1:], sample.routes]))
        different += int((got != family.experts(f"seq{i}")).any(-1).sum())
    return different


def replay(family: Family) -> float:
    """Log-probabilities with the experts that the oracle forced; gate weights follow from the router's own scores."""
    ids = family.want["replay.input_ids"].tolist()
    packed = family.model.pack_routes(np.sort(family.experts("replay"), -1))
    given = np.concatenate([np.zeros_like(packed[:1]), packed[:-1]])
    got = family.trainer.forward([family.datum(ids, routes=given, routed=[0] + [1] * (len(ids) - 1))])[0][1:]
    want = log_softmax(family.want["replay.logits"])[np.arange(len(ids) - 1), ids[1:]]
    return float(np.abs(got - want).max())


def placeholders(config: dict[str, Any]) -> set[int]:
    """Ids that stand for images and videos: transformers gives them no embedding of their own, so text ends before them."""
    media = config.get("media_placeholder_token_id", -2)
    return {media, media + 1, config.get("image_token_id", -2), config.get("video_token_id", -2)}


def greedy(family: Family) -> float:
    """Tokens of the greedy continuations that differ, up to one that is not text."""
    different = 0
    for i, ids in enumerate(family.texts):
        want = family.want[f"seq{i}.greedy_ids"]
        end = np.flatnonzero(np.isin(want, list(family.placeholders)))
        want = want[:end[0] + 1] if len(end) else want
        got = family.engine.generate([ids], temperature=0.0, max_tokens=len(want), ignore_eos=True)[0][0].ids
        different += int((got != want).sum())
    return different


# What is measured, its unit, and the key of its tolerance in expected.json (None: nothing may differ).
MEASURES: dict[str, tuple[Callable[[Family], float], str, str | None]] = {
    "logprobs": (logprobs, "nats", "logprobs_float32_abs"), "alternatives": (alternatives, "nats", "logits_float32_abs"),
    "gradients": (gradients, "relative", "grad_norm_rel"), "routes": (routes, "(token, layer) pairs", None),
    "replay": (replay, "nats", "logprobs_float32_abs"), "greedy": (greedy, "tokens", None)}


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """Every family found, every measure that fits it."""
    from rft import _native

    if options.oracle is None:
        raise ValueError("name the folder of the families with --oracle DIR")
    native = _native.load()
    known = set(native.registered()["models"])
    folders = [path.parent for path in sorted(options.oracle.glob("*/expected.json")) if options.family in ("", path.parent.name)]
    if not folders:
        raise FileNotFoundError(f"{options.oracle}: has no folder with an expected.json" + (f" of {options.family}" if options.family else ""))
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        missing = [name for name in config["architectures"] if name not in known]
        if missing:
            log(f"{folder.name}: {missing[0]}: not supported; left out")
            continue
        family = Family(native, folder)
        for name, (measure, unit, tolerance) in MEASURES.items():
            full = f"oracle/{folder.name}/{name}"
            if options.only not in full or (name in ("routes", "replay") and not family.layers()):
                continue
            yield row(full, measure(family), None, unit, family.facts["tolerance"][tolerance] if tolerance else 0.0)
        family.engine.close()
