#!/usr/bin/env python3
"""Advantages by plain numpy, from the papers' formulas: what rollout/advantage.h and rollout/rollout_advantages.h are tested with.

    python make_advantage_golden.py [--seed 0] [--out advantage_golden.json]

Shares no code with the repository, and avoids its shortcuts: best-of-k is an enumeration of all subsets, whitening repeats every
value once per token, turns are collected in a dictionary.
"""

import argparse
import itertools
import json
import pathlib

import numpy as np

EPS = 1e-6


def pass_at_k(r, k, eps):
    """2508.10751 sec. 2.3, with a maximum in place of "any is right": the k-subsets are the group."""
    best = {subset: max(r[list(subset)]) for subset in itertools.combinations(range(len(r)), min(k, len(r)))}
    values = np.array(list(best.values()))
    mine = np.array([np.mean([v for subset, v in best.items() if i in subset]) for i in range(len(r))])
    return (mine - values.mean()) / (values.std() + eps)


def of_group(kind, r, lengths, k, eps):
    """One group of scored rewards, at least two of them different."""
    n, mean = len(r), r.mean()
    if kind == "grpo":
        return (r - mean) / (r.std(ddof=1) + eps)
    if kind == "dr-grpo":
        return r - mean
    if kind == "rloo":  # against the mean of the others
        return np.array([r[i] - np.delete(r, i).mean() for i in range(n)])
    if kind == "max-rl":  # 2602.02710: successes weigh 1 / (number of them), minus the mean score as a control variate
        return (r - mean) / (mean + eps) if mean > 0 else np.zeros(n)
    if kind == "opo":
        return r - np.average(r, weights=lengths)
    if kind == "pass-k":  # 2503.19595: what is lost without a rollout is only lost with the best one
        loo = np.array([r.max() - np.delete(r, i).max() for i in range(n)])
        if (r == r.max()).sum() > 1:
            loo[:] = 0
        return loo / (r.std(ddof=1) + eps)
    if kind == "pass-at-k":
        return pass_at_k(r, k, eps)
    raise ValueError(kind)


def step(kind, groups, options):
    """Advantages of a step; `groups` are (rewards with None, lengths)."""
    eps, k = options.get("eps", EPS), options.get("k", 4)
    out = [np.zeros(len(rewards)) for rewards, _ in groups]
    scored = [np.array([i for i, r in enumerate(rewards) if r is not None], dtype=int) for rewards, _ in groups]
    values = [np.array([rewards[i] for i in index], dtype=float) for (rewards, _), index in zip(groups, scored)]
    sizes = [np.array([lengths[i] for i in index], dtype=float) for (_, lengths), index in zip(groups, scored)]
    everything = np.concatenate([*values, np.zeros(0)])
    for g, r in enumerate(values):
        teaches = len(r) >= 2 and len(set(r)) > 1
        if kind == "reinforce-pp":
            a = r.copy()
        elif not teaches:
            a = np.zeros(len(r))
        elif kind == "reinforce-pp-baseline":
            a = r - r.mean()
        elif kind == "batch-std":
            a = (r - r.mean()) / (everything.std(ddof=1) + eps)
        elif kind == "gpg":
            a = (r - r.mean()) * len(everything) / max((everything != 0).sum(), 1)
        else:
            a = of_group(kind, r, sizes[g], k, eps)
        out[g][scored[g]] = a
    if kind.startswith("reinforce-pp"):
        tokens = np.concatenate([np.repeat(o[index], size.astype(int)) for o, index, size in zip(out, scored, sizes)])
        for o, index in zip(out, scored):
            if len(tokens) < 2:
                o[index] = 0
            else:
                o[index] = (o[index] - tokens.mean()) / np.sqrt(tokens.var(ddof=1) + 1e-8)
    for o, index, r in zip(out, scored, values):
        if len(index) and "difficulty_weight" in options:
            o[index] *= 1 + options["difficulty_weight"] * (1 - min(max(r.mean(), 0), 1))
        if "clip" in options:
            o[index] = np.clip(o[index], -options["clip"], options["clip"])
    return [o.tolist() for o in out]


def turns(kind, groups, options):
    """Turn by turn; `groups` are ([rewards per turn] or None, [lengths per turn])."""
    gamma = options.get("turn_discount", 1.0)
    columns = {}  # (group, turn) -> rollout -> (return, length)
    for g, (rewards, lengths) in enumerate(groups):
        for i, (r, sizes) in enumerate(zip(rewards, lengths)):
            for j in range(len(r or [])):
                worth = sum(r[t] * gamma ** (t - j) for t in range(j, len(r)))
                columns.setdefault((g, j), {})[i] = (worth, sizes[j])
    keys = sorted(columns)
    flat = step(kind, [([v for v, _ in columns[key].values()], [n for _, n in columns[key].values()]) for key in keys], options)
    found = {(key[0], i, key[1]): a for key, row in zip(keys, flat) for i, a in zip(columns[key], row)}
    return [[[found[g, i, j] for j in range(len(r or []))] for i, r in enumerate(rewards)] for g, (rewards, _) in enumerate(groups)]


def tokens(kind, group, options):
    """One group with grades: what each completion token gets. A rollout is a list of turn lengths and a list of grades
    (weight, score, turn scores or None, token advantages or None)."""
    rewards, parts, given = [], [], []
    for lengths, grades in zip(group["lengths"], group["grades"]):
        rewards.append(sum(w * s for w, s, _, _ in grades))
        of_turns = np.zeros(len(lengths))
        for w, s, scores, _ in grades:
            of_turns += w * np.array(scores if scores else [0.0] * (len(lengths) - 1) + [s])
            if scores:
                of_turns[-1] += w * (s - sum(scores))
        parts.append(of_turns.tolist())
        given.append(sum((w * np.array(t) for w, _, _, t in grades if t), np.zeros(sum(lengths))))
    totals = [sum(lengths) for lengths in group["lengths"]]
    if options.get("level") == "turn":
        of_turns = turns(kind, [(parts, group["lengths"])], options)[0]
    else:
        of_turns = [[a] * len(lengths) for a, lengths in zip(step(kind, [(rewards, totals)], options)[0], group["lengths"])]
    out = []
    for a, lengths, extra in zip(of_turns, group["lengths"], given):
        row = np.repeat(a, lengths) + extra
        out.append(np.clip(row, -options["clip"], options["clip"]).tolist() if "clip" in options else row.tolist())
    return {"turn_rewards": parts, "advantages": out}


KINDS = ("grpo", "dr-grpo", "rloo", "max-rl", "opo", "pass-k", "batch-std", "gpg", "reinforce-pp", "reinforce-pp-baseline",
         "pass-at-k")
OPTIONS = ({}, {"clip": 0.6}, {"difficulty_weight": 1.5}, {"difficulty_weight": 0.7, "clip": 0.5, "eps": 1e-2, "k": 2})


def short(value):
    return round(float(value), 3)


def make(seed):
    rng = np.random.default_rng(seed)

    def reward(binary):
        return float(rng.integers(2)) if binary else short(rng.normal(0.3, 0.5))

    def group(binary):
        n = int(rng.integers(3, 8))
        rewards = [None if rng.random() < 0.12 else reward(binary) for _ in range(n)]
        return rewards, [int(x) for x in rng.integers(1, 9, n)]

    def turn_group(binary):
        n = int(rng.integers(3, 6))
        shapes = [int(x) for x in rng.integers(1, 5, n)]
        rewards = [None if rng.random() < 0.1 else [reward(binary) for _ in range(s)] for s in shapes]
        return rewards, [[int(x) for x in rng.integers(1, 7, s)] for s in shapes]

    cases = []
    for kind in KINDS:
        for number, options in enumerate(OPTIONS):
            for binary in (False, True):
                groups = [group(binary) for _ in range(4)]
                cases.append({"family": "rollout", "kind": kind, "options": options, "groups": groups,
                              "expected": step(kind, groups, options)})
            chosen = {**options, "turn_discount": (1.0, 0.0, 0.9, 0.5)[number]}
            groups = [turn_group(number == 3) for _ in range(3)]
            cases.append({"family": "turn", "kind": kind, "options": chosen, "groups": groups, "expected": turns(kind, groups, chosen)})
    for number in range(8):
        shapes = [[int(x) for x in rng.integers(1, 4, rng.integers(1, 4))] for _ in range(4)]
        grades = []
        for lengths in shapes:
            scores = [short(x) for x in rng.normal(0, 1, len(lengths))]
            given = [short(x) for x in rng.normal(0, 1, sum(lengths))]
            grades.append([(1.0, short(sum(scores) + (number % 2) * rng.normal()), scores, None), (0.5, short(rng.normal()), None, None),
                           (2.0, short(rng.normal()), None, given if number % 4 > 1 else None)])
        options = {"level": "turn" if number < 6 else "rollout", "turn_discount": (1.0, 0.5)[number % 2]}
        if number > 3:
            options["clip"] = 1.0
        one = {"lengths": shapes, "grades": grades}
        kind = ("grpo", "rloo")[number // 4]
        cases.append({"family": "tokens", "kind": kind, "options": options, "group": one, "expected": tokens(kind, one, options)})
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_name("advantage_golden.json"))
    args = parser.parse_args()
    cases = make(args.seed)
    args.out.write_text(json.dumps({"seed": args.seed, "cases": cases}, separators=(",", ":"), allow_nan=False) + "\n")
    print(f"wrote {len(cases)} cases, {args.out.stat().st_size} bytes, to {args.out}")


if __name__ == "__main__":
    main()
