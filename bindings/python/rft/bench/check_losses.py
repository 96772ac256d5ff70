"""`rft check losses --oracle FILE --seed N`: every preset of a loss oracle, value and gradient, in float64 and float32.

FILE is a Python module with PRESETS (name -> knobs in its own vocabulary), preset_shapes(name), make_rows(rng, shape), Batch(rows)
and loss_and_grad(batch, knobs); it shares no code with this package. Each preset's knobs are translated to ours, so a preset that
the oracle adds is checked too. In float32 both sides start from the same rounded inputs.

Rows loss/<preset> and loss_f32/<preset>: `ours` is the largest difference of a gradient entry, relative to the largest entry of that
gradient, or of a loss, relative to the larger of itself and that entry: its tokens' terms are about as large and may cancel to nearly
nothing, which leaves float32 no digits of the rest. `cases`: how many batches were compared; none is a failure.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from rft.bench import BenchOptions, Log, Row, row

CASES = 3  # batches per preset and shape
LIMITS = {"loss": 1e-9, "loss_f32": 1e-5}
SURROGATES = {"clip": "ppo", "is": "importance-sampling", "cispo": "cispo", "pg": "reinforce", "pg_is": "cispo", "dro": "dro",
              "sapo": "sapo", "gmpo": "gmpo", "vespo": "vespo", "dppo_tv": "dppo-tv", "dppo_kl": "dppo-kl", "kl_cov": "kl-cov",
              "clip_cov": "clip-cov"}
LEVELS = {"token": "token", "seq_geo": "sequence-geometric", "seq_prod": "sequence-product"}


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per preset and precision."""
    if options.oracle is None:
        raise ValueError("rft check losses compares with an independent implementation of the formulas: give it one with "
                         "--oracle FILE.py (without one, the project's own golden numbers are checked by its tests)")
    oracle = load(options.oracle)
    for name, config in oracle.PRESETS.items():
        for prefix, single in (("loss", False), ("loss_f32", True)):
            worst, cases = compare(oracle, name, config, options.seed, single)
            yield row(f"{prefix}/{name}", worst, None, "relative difference", LIMITS[prefix], cases=cases,
                      passed=cases > 0 and worst <= LIMITS[prefix])
        log(f"{name}: {cases} batches")


def load(path: Path) -> ModuleType:
    """The oracle as a module."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no oracle there")
    spec = importlib.util.spec_from_file_location("rft_loss_oracle", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def compare(oracle: Any, name: str, config: dict[str, Any], seed: int, single: bool) -> tuple[float, int]:
    """Largest relative difference over all shapes, and how many batches there were."""
    import numpy as np

    worst, cases = 0.0, 0
    for shape_index, shape in enumerate(oracle.preset_shapes(name)):
        for case in range(CASES):
            rng = np.random.default_rng([seed, case, shape_index, *name.encode()])
            rows = oracle.make_rows(rng, shape)
            if single:
                rows = [rounded(one) for one in rows]
            batch = oracle.Batch(rows)
            if oracle_refuses(oracle, batch, config):
                continue
            worst = max(worst, difference(oracle, batch, config, single))
            cases += 1
    return worst, cases


def oracle_refuses(oracle: Any, batch: Any, config: dict[str, Any]) -> bool:
    """A batch whose result would need the oracle's random choice (clip_cov with more candidates than places)."""
    try:
        oracle.loss_and_grad(batch, config)
    except AssertionError:
        return True
    return False


def difference(oracle: Any, batch: Any, config: dict[str, Any], single: bool) -> float:
    """Ours against the oracle on one batch."""
    import torch

    from rft import losses

    value, gradient, _ = oracle.loss_and_grad(batch, config)
    dtype = torch.float32 if single else torch.float64
    columns = {key: torch.tensor([x for one in batch.rows for x in one[key]], dtype=dtype)
               for key in ("logp", "old_logp", "rollout_logp", "ref_logp", "entropy", "mask")}
    advantages = torch.tensor([x for one in batch.rows
                               for x in (one["adv"] if isinstance(one["adv"], list) else [one["adv"]] * len(one["logp"]))], dtype=dtype)
    offsets = [0]
    for length in batch.lens:
        offsets.append(offsets[-1] + length)
    logprobs = columns["logp"].requires_grad_(True)
    loss, knobs = translate(config)
    needs_entropy = config.get("top_entropy") is not None
    out = losses.compute(loss, logprobs, old_logprobs=columns["old_logp"], sampling_logprobs=columns["rollout_logp"],
                         ref_logprobs=columns["ref_logp"] if config.get("kl") else None,
                         entropy=columns["entropy"] if needs_entropy else None, advantages=advantages, mask=columns["mask"],
                         row_offsets=offsets, **knobs)
    (ours,) = torch.autograd.grad(out.loss, logprobs)
    expected = torch.tensor([x for one in batch.ragged(gradient) for x in one], dtype=torch.float64)
    return worst_of(float(out.loss.detach()), value, ours.tolist(), expected.tolist())


def worst_of(loss: float, expected_loss: float, gradient: list[float], expected: list[float]) -> float:
    """The largest difference of one batch, as `ours` says."""
    largest = max((abs(b) for b in expected if math.isfinite(b)), default=0.0)
    return max(relative(loss, expected_loss, max(abs(expected_loss), largest)),
               *(relative(a, b, largest) for a, b in zip(gradient, expected, strict=True)))


def relative(a: float, b: float, scale: float) -> float:
    """|a - b| over `scale`; infinite when only one of them is a finite number, or where nothing but 0 was expected."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) / scale if math.isfinite(a) and math.isfinite(b) and scale > 0.0 else math.inf


def rounded(one: dict[str, Any]) -> dict[str, Any]:
    """The row with every number rounded to float32."""
    import numpy as np

    return {key: value if key == "group" else np.float32(value).astype(np.float64).tolist() for key, value in one.items()}


def translate(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The oracle's knobs as a loss of ours and its knobs; everything is set, nothing is left to a default."""
    kind = config["loss"]
    if kind not in SURROGATES:
        raise ValueError(f"the oracle has a loss {kind!r} that this check has no name for")
    knobs: dict[str, Any] = {
        "log_ratio_cap": config.get("log_ratio_cap") or 0.0, "log_ratio_cap_max": config.get("log_ratio_cap_max") or 0.0,
        "ratio_level": {"sequence_token": "sequence-token"}.get(config.get("is_level", "token"), config.get("is_level", "token")),
        "ratio_anchor": {"rollout": "sampling"}.get(config.get("anchor", "old"), "old"),
        "row_mean_over_masked": config.get("seq_mean_over", "active") != "active",
        "dual_clip": config.get("dual_clip_c") or 0.0, "delta": config.get("delta") or config.get("ratio_cap") or 0.0,
        "aggregation": config.get("agg", "seq-mean-token-mean"), "agg_norm": float(config.get("agg_norm", 1.0)),
        "row_denominator": "all" if kind == "gmpo" else config.get("seq_denom", "active"),
        "top_entropy": config.get("top_entropy") or 0.0, "correction": correction(config.get("tis")),
        "off_policy_mask": {"delta": 0.0}, "kl_coef": 0.0,
    }
    if kind == "cispo":
        knobs |= {"clip_low": 1.0 - config.get("clip_lo", 0.0), "clip_high": config["clip_hi"] - 1.0}
    elif kind == "pg_is":
        knobs |= {"clip_low": 1.0, "clip_high": config["clip_hi"] - 1.0}
    elif "eps_low" in config or "eps_high" in config:
        knobs |= {"clip_low": config.get("eps_low", 0.0), "clip_high": config.get("eps_high", 0.0)}
    if config.get("kl"):
        kl = config["kl"]
        knobs |= {"kl_coef": kl["coef"], "kl_estimator": {"low_var_kl": "low-var"}.get(kl["estimator"], kl["estimator"]),
                  "kl_times_ratio": bool(kl.get("is_weight")), "kl_detached": bool(kl.get("detach"))}
    if config.get("opsm"):
        against = {"rollout": "sampling"}.get(config["opsm"].get("against", "rollout"), "old")
        knobs["off_policy_mask"] = {"delta": config["opsm"]["delta"], "against": against}
    if kind == "dro":
        knobs["dro"] = {"beta": config["beta"], "gate_zero_advantage": bool(config.get("gate_zero_adv"))}
    if kind == "sapo":
        knobs["sapo"] = {"tau_positive": config["tau_pos"], "tau_negative": config["tau_neg"]}
    if kind == "vespo":
        knobs["vespo"] = {"k_positive": config["k_pos"], "lambda_positive": config["lambda_pos"],
                          "k_negative": config["k_neg"], "lambda_negative": config["lambda_neg"]}
    if kind in ("kl_cov", "clip_cov"):
        knobs["covariance"] = {"fraction": config["cov_ratio"]}
        knobs["covariance"] |= {"kl_coef": config["kl_coef"]} if kind == "kl_cov" else {"low": config["cov_lb"], "high": config["cov_ub"]}
    return SURROGATES[kind], knobs


def correction(tis: dict[str, Any] | None) -> dict[str, Any]:
    """The oracle's behaviour correction as our `correction` section."""
    if tis is None:
        return {"level": "none"}
    found: dict[str, Any] = {"level": LEVELS[tis["level"]], "mode": tis["mode"], "cap": tis.get("cap") or 1e300,
                             "log_cap": tis.get("log_cap") or 0.0, "icepop": tis.get("icepop") or 0.0}
    if tis.get("floor") is not None:
        found["floor"] = tis["floor"]
    return found
