#!/usr/bin/env python3
"""Reduce a loss oracle's case file to the cases that LossConfig and rollout/ can express.

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

# Mirrored by tests/losses/loss_presets.h, which says how each is spelled through LossConfig.
POLICY_PRESETS = {
    "rft.grpo", "rft.dapo", "rft.gspo-token", "rft.dr_grpo",
    "fireworks.grpo", "fireworks.dapo", "fireworks.dapo_dual", "fireworks.grpo_seq_tis",
    "fireworks.grpo_icepop",
    "trl.grpo", "trl.grpo_kl_plain", "trl.grpo_delta", "trl.bnpo", "trl.dr_grpo", "trl.dapo",
    "trl.gspo", "trl.luspo", "trl.dapo_token_truncate", "trl.dapo_token_mask",
    "trl.dapo_sequence_truncate", "trl.dapo_sequence_mask",
    "verl.vanilla/token-mean", "verl.vanilla/token-sum", "verl.vanilla/seq-mean-token-sum",
    "verl.vanilla/seq-mean-token-mean", "verl.vanilla/seq-mean-token-sum-norm",
    "verl.vanilla_cliphigher", "verl.gspo", "verl.vanilla_tis_token", "verl.vanilla_tis_seq",
    "verl.vanilla_icepop",
}
# The loss sees no entropies and reports token means, not means of row means.
METRICS_NOT_OURS = {"entropy", "approx_kl_k3_rowmean"}
ADVANTAGE_PRESETS = {"rft.grpo", "rft.dr_grpo", "rft.rloo"}


def keep(case):
    family, preset = case["family"], case["preset"]
    if family in ("policy", "accum"):
        return preset in POLICY_PRESETS
    if family == "advantage":
        return preset in ADVANTAGE_PRESETS
    return family in ("filter", "overlong")


def slim(case):
    """The case without what nothing reads."""
    config = case["config"]
    if case["family"] not in ("policy", "accum"):
        return case
    for row in case["inputs"]["rows"]:
        row.pop("entropy", None)
        row.pop("group", None)
        row["mask"] = [int(m) for m in row["mask"]]
        if config.get("kl") is None:
            row.pop("ref_logp", None)
        if config.get("tis") is None:
            row.pop("rollout_logp", None)
    metrics = case["expected"].get("metrics", {})
    for name in list(metrics):
        absent = name.startswith("ref_kl_") and config.get("kl") is None
        if absent or name in METRICS_NOT_OURS:
            del metrics[name]
    case["config"] = {"seq_denom": config.get("seq_denom", "active")}
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
    missing = POLICY_PRESETS - {case["preset"] for case in document["cases"]}
    if missing:
        sys.exit(f"the oracle has no cases for {sorted(missing)}")
    args.out.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    print(f"wrote {len(document['cases'])} cases, {args.out.stat().st_size} bytes, to {args.out}")


if __name__ == "__main__":
    main()
