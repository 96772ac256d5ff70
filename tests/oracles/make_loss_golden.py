#!/usr/bin/env python3
"""Reduce a loss oracle's case file to the families that losses/ and rollout/ are tested with.

    python make_loss_golden.py ORACLE.py [--seed 0] [--n 1] [--out loss_cases_golden.json]

ORACLE.py is a module with make_rows(rng, shape), advantages(kind, ...) and build(seed, n); the latter returns {"cases": ...} as
README.md beside this file describes them. To keep the file small, presets share a few batches per shape,
inputs have three decimals (before anything is computed from them) and results ten.
"""

import argparse
import collections
import importlib.util
import json
import pathlib
import sys

BATCHES_PER_SHAPE = 3

# The loss reports token means, not means of row means.
METRICS_NOT_OURS = {"approx_kl_k3_rowmean"}
# What the oracle chose for its short rows, where the shipped preset has a default or leaves it to the user.
SIZES = ("agg_norm", "top_entropy", "cov_ratio", "cov_lb", "cov_ub")
# A greedy rollout as baseline; a whole step of rewards per grader.
ADVANTAGES_NOT_OURS = {"verl.remax", "verl.gdpo"}
# Whitened over the step, groups of one as they are: without those, which are 0 here before whitening.
WITHOUT_LONE_ROWS = {"verl.reinforce_plus_plus_baseline"}


def keep(case):
    family, preset = case["family"], case["preset"]
    if family in ("policy", "accum"):
        return True
    if family == "advantage":
        return preset not in ADVANTAGES_NOT_OURS
    return family in ("filter", "overlong")


def drop_lone_rows(oracle, case):
    """Takes groups of one out and computes the case again."""
    inputs, config = case["inputs"], dict(case["config"])
    kept = [i for i, group in enumerate(inputs["groups"]) if inputs["groups"].count(group) > 1]
    case["inputs"] = inputs = {name: [values[i] for i in kept] for name, values in inputs.items()}
    case["expected"]["advantages"] = oracle.advantages(config.pop("kind"), cfg=config, **inputs)


def slim(case):
    """Takes out what nothing reads."""
    config, metrics = case["config"], case["expected"].get("metrics", {})
    for name in list(metrics):
        absent = name.startswith("ref_kl_") and config.get("kl") is None
        absent |= name == "entropy" and config.get("top_entropy") is None
        if absent or name in METRICS_NOT_OURS:
            del metrics[name]
    reads = {"entropy": config.get("top_entropy"), "ref_logp": config.get("kl"),
             "rollout_logp": config.get("tis") or config.get("opsm") or config.get("anchor", "old") != "old"}
    case["inputs"]["reads"] = [name for name, used in reads.items() if used]
    case["config"] = {key: config[key] for key in SIZES if key in config}


def load(path):
    """The oracle as a module."""
    spec = importlib.util.spec_from_file_location("loss_oracle", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rounded(value, decimals):
    """Every number in `value` with that many decimals; whole numbers without any."""
    if isinstance(value, dict):
        return {key: rounded(item, decimals) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item, decimals) for item in value]
    if not isinstance(value, float):
        return value
    short = round(value, decimals)
    return int(short) if short == int(short) and abs(short) < 1e15 else short


class SharedRows:
    """Stands in for the oracle's make_rows: a few batches per shape, in turn."""

    def __init__(self, make_rows):
        self._make_rows = make_rows
        self._batches = collections.defaultdict(list)
        self._calls = collections.Counter()
        self.names = {}  # a batch's rows as JSON -> its name

    def __call__(self, rng, shape):
        index = self._calls[shape] % BATCHES_PER_SHAPE
        self._calls[shape] += 1
        batches = self._batches[shape]
        if index == len(batches):
            batches.append(rounded(self._make_rows(rng, shape), 3))
            self.names[json.dumps(batches[-1])] = f"{shape}/{index}"
        return batches[index]

    def by_name(self):
        """Every batch under its name."""
        rows = {f"{shape}/{i}": batch for shape, batches in self._batches.items() for i, batch in enumerate(batches)}
        for batch in rows.values():
            for row in batch:
                row.pop("group", None)
        return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("oracle", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).with_name("loss_cases_golden.json"))
    args = parser.parse_args()
    oracle = load(args.oracle)
    oracle.make_rows = shared = SharedRows(oracle.make_rows)
    cases = [case for case in oracle.build(args.seed, args.n)["cases"] if keep(case)]
    for case in cases:
        if case["preset"] in WITHOUT_LONE_ROWS:
            drop_lone_rows(oracle, case)
        if case["family"] in ("policy", "accum"):
            case["inputs"]["rows"] = shared.names[json.dumps(case["inputs"]["rows"])]
            slim(case)
            case["expected"] = rounded(case["expected"], 10)
    document = {"version": 2, "seed": args.seed, "n": args.n, "batches": shared.by_name(), "cases": cases}
    args.out.write_text(json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n")
    print(f"wrote {len(document['cases'])} cases, {args.out.stat().st_size} bytes, to {args.out}")


if __name__ == "__main__":
    main()
