"""Can these graders teach anything? Asked before a run, on a few completions of the model that would be trained.

    findings = preflight(specs, examples)       examples: several completions per row (rft.grading.sample)

A grader that counts (weight not 0) is refused when it
    fails            gives no score for more than `max_failures` of the completions
    is flat          gives every completion the same score
    is saturated     gives (nearly) all completions the best score it gave: nothing is left to learn
    contradicts      itself when asked again, though it is declared deterministic
and all of them together when no row's completions differ in reward: advantages would be 0 everywhere.
Graders without weight are only warned about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rft.grading import Example, Grades, Spec, grade, reward

SATURATED = 0.95  # share of completions with the best score


@dataclass
class Finding:
    grader: str  # "" = all of them together
    kind: str  # fails, flat, saturated, contradicts, no_signal
    message: str
    fatal: bool


def preflight(specs: Sequence[Spec], examples: Sequence[Example], *, max_failures: float = 0.2, threads: int = 0,
              given: Sequence[Grades] | None = None) -> list[Finding]:
    """What speaks against a run with these graders; empty: nothing. `given`: the examples' grades, if there are any yet."""
    first = list(given) if given is not None else grade(specs, examples, threads)
    declared = [spec.get("params", {}).get("deterministic", "true") != "false" for spec in specs]
    again = grade(specs, examples, threads) if any(declared) else first
    findings = []
    for index, spec in enumerate(specs):
        fatal = spec.get("weight", 1.0) != 0
        grades = [one[index] for one in first]
        findings += [Finding(spec["name"], kind, message, fatal) for kind, message in _about(grades, max_failures)]
        if declared[index]:
            changed = _changed(grades, [one[index] for one in again])
            if changed:
                findings.append(Finding(spec["name"], "contradicts", f"{changed} (declare it with deterministic: false, or "
                                        "fix its seed)", fatal))
    if not any(finding.fatal for finding in findings):
        findings += _signal(specs, examples, first)
    return findings


def _about(grades: Grades, max_failures: float) -> list[tuple[str, str]]:
    scores = [one["score"] for one in grades if one["kind"] == "score"]
    failed = [one for one in grades if one["kind"] not in ("score", "abstain")]
    if not scores or len(failed) > max_failures * len(grades):
        unscored = failed or [one for one in grades if one["kind"] == "abstain"]
        (kind, reason), count = Counter((one["kind"], one["reason"].split("\n")[0][:200]) for one in unscored).most_common(1)[0]
        return [("fails", f"no score for {len(grades) - len(scores)} of {len(grades)} completions; {count} times {kind}: {reason}")]
    best, worst = max(scores), min(scores)
    if best == worst:
        return [("flat", f"the same score, {best:g}, for all {len(scores)} completions")]
    share = sum(score == best for score in scores) / len(scores)
    if share >= SATURATED:
        return [("saturated", f"{share:.0%} of the completions have its best score, {best:g}")]
    return []


def _changed(before: Grades, after: Grades) -> str:
    """The first completion that got two different scores."""
    for number, (one, two) in enumerate(zip(before, after, strict=True), 1):
        if one["kind"] == two["kind"] == "score" and one["score"] != two["score"]:
            return f"completion {number} got {one['score']:g} and then {two['score']:g}"
    return ""


def _signal(specs: Sequence[Spec], examples: Sequence[Example], given: Sequence[Grades]) -> list[Finding]:
    groups: dict[int, list[float]] = {}
    for example, grades in zip(examples, given, strict=True):
        if (value := reward(specs, grades)) is not None:
            groups.setdefault(example.group, []).append(value)
    compared = [rewards for rewards in groups.values() if len(rewards) > 1]
    if compared and all(max(rewards) == min(rewards) for rewards in compared):
        return [Finding("", "no_signal", f"the completions of one row never differ in reward ({len(compared)} rows with "
                        f"{len(compared[0])} completions each)", True)]
    return []
