#!/usr/bin/env python3
"""Reduce a loss oracle's case file to the families that losses/ and rollout/ are tested with.

    python make_loss_golden.py ORACLE.py [--seed 0] [--n 1] [--out loss_cases_golden.json]

ORACLE.py is a script with `--seed S --n N --out FILE` that writes the case format described in
README.md beside this file. Inputs that a preset does not read are left out to keep the file small.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

# The loss reports token means, not means of row means.
METRICS_NOT_OURS = {"approx_kl_k3_rowmean"}
# What the oracle chose for its short rows, where the shipped preset has a default or leaves it to the user.
SIZES = ("agg_norm", "top_entropy", "cov_ratio", "cov_lb", "cov_ub")
# A greedy rollout as baseline, several reward components, "deviation 1 when it is tiny", a lone row kept as it is.
ADVANTAGES_NOT_OURS = {"verl.remax", "verl.gdpo", "fireworks.grpo", "verl.reinforce_plus_plus_baseline"}


def keep(case):
    family, preset = case["family"], case["preset"]
    if family in ("policy", "accum"):
        return True
    if family == "advantage":
        return preset not in ADVANTAGES_NOT_OURS
    return family in ("filter", "overlong")


def slim(case):
    """The case without what nothing reads."""
    config = case["config"]
    if case["family"] not in ("policy", "accum"):
        return case
    for row in case["inputs"]["rows"]:
        if config.get("top_entropy") is None:
            row.pop("entropy", None)
        row.pop("group", None)
        row["mask"] = [int(m) for m in row["mask"]]
        if config.get("kl") is None:
            row.pop("ref_logp", None)
        if config.get("tis") is None and config.get("opsm") is None and config.get("anchor", "old") == "old":
            row.pop("rollout_logp", None)
    metrics = case["expected"].get("metrics", {})
    for name in list(metrics):
        absent = name.startswith("ref_kl_") and config.get("kl") is None
        absent |= name == "entropy" and config.get("top_entropy") is None
        if absent or name in METRICS_NOT_OURS:
            del metrics[name]
    case["config"] = {key: config[key] for key in SIZES if key in config}
    return case


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("oracle", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).with_name("loss_cases_golden.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "cases.json"
        subprocess.run([sys.executable, args.oracle, "--seed", str(args.seed), "--n", str(args.n),
                        "--out", path], check=True)
        document = json.loads(path.read_text())
    document["cases"] = [slim(case) for case in document["cases"] if keep(case)]
    args.out.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    print(f"wrote {len(document['cases'])} cases, {args.out.stat().st_size} bytes, to {args.out}")


if __name__ == "__main__":
    main()
