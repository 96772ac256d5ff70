"""plot.png of a run: reward with held-out points, completion length, policy change, speed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rft.run_folder import read_eval, read_metrics

_INK, _SOFT, _GRID = "#1f2933", "#9fb3c8", "#e4e7eb"
_BLUE, _ORANGE, _GREEN, _VIOLET = "#2f6fde", "#e8710a", "#1d9a6c", "#7a4fd0"


def plot(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """Draws `run_dir`'s metrics.jsonl into `out` (default: run_dir/plot.png) and returns the path."""
    run_dir = Path(run_dir)
    rows = read_metrics(run_dir)
    if not rows:
        raise FileNotFoundError(f"{run_dir}/metrics.jsonl: missing or empty; nothing to plot")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _SOFT,
                         "axes.labelcolor": _INK, "text.color": _INK, "xtick.color": _INK, "ytick.color": _INK,
                         "axes.grid": True, "grid.color": _GRID, "axes.axisbelow": True, "axes.titlelocation": "left"}):
        figure, axes = plt.subplots(2, 2, figsize=(10, 6.2), constrained_layout=True)
        steps = [float(row.get("step", i)) for i, row in enumerate(rows)]
        _reward(axes[0, 0], steps, rows, run_dir)
        _line(axes[0, 1], steps, _column(rows, "completion_length_mean"), "Completion length", "tokens", _GREEN)
        _policy(axes[1, 0], steps, rows)
        _speed(axes[1, 1], steps, rows)
        for axis in axes[1]:
            axis.set_xlabel("step")
        figure.suptitle(_title(run_dir), x=0.01, ha="left", fontsize=11, fontweight="bold")
        target = Path(out) if out else run_dir / "plot.png"
        figure.savefig(target, dpi=140, metadata={"Software": "rft"})
        plt.close(figure)
    return target


def _title(run_dir: Path) -> str:
    config = run_dir / "config.json"
    name = json.loads(config.read_text()).get("name", "") if config.is_file() else ""
    return f"{name}  ({run_dir.name})" if name else run_dir.name


def _column(rows: Sequence[dict[str, Any]], *names: str) -> list[float]:
    """The first of `names` that the rows have; NaN where a row lacks it."""
    for name in names:
        if any(isinstance(row.get(name), int | float) for row in rows):
            return [float(row[name]) if isinstance(row.get(name), int | float) else float("nan") for row in rows]
    return []


def _line(axis: Any, steps: list[float], values: list[float], title: str, unit: str, color: str, label: str = "") -> None:
    axis.set_title(title)
    axis.set_ylabel(unit)
    if values:
        axis.plot(steps, values, color=color, linewidth=1.6, label=label or None, marker="o" if len(values) < 3 else None)
    else:
        axis.text(0.5, 0.5, "not recorded", ha="center", va="center", transform=axis.transAxes, color=_SOFT)


def _reward(axis: Any, steps: list[float], rows: Sequence[dict[str, Any]], run_dir: Path) -> None:
    import numpy as np

    reward, deviation = _column(rows, "reward_mean"), _column(rows, "reward_std")
    _line(axis, steps, reward, "Reward", "mean per step", _BLUE, "training")
    if reward and len(deviation) == len(reward):
        mean, std = np.asarray(reward), np.asarray(deviation)
        axis.fill_between(steps, mean - std, mean + std, color=_BLUE, alpha=0.10, linewidth=0)
    points = heldout_points(rows, run_dir, steps)
    if points:
        axis.plot([x for x, _ in points], [y for _, y in points], color=_ORANGE, marker="o", linestyle="--", linewidth=1,
                  label="held-out")
        for x, y in (points[0], points[-1]) if len(points) > 1 else points:
            axis.annotate(f"{y:.2f}", (x, y), textcoords="offset points", xytext=(0, 7), ha="center", color=_ORANGE)
    axis.legend(frameon=False, loc="best")


def heldout_points(rows: Sequence[dict[str, Any]], run_dir: Path, steps: Sequence[float]) -> list[tuple[float, float]]:
    """(step, held-out reward): before the first step, evaluations on the way, after the last step."""
    points = []
    if (before := read_eval(run_dir, "before")) is not None and before["reward_mean"] is not None:
        points.append((steps[0] - 1.0, float(before["reward_mean"])))
    on_the_way = _column(rows, "heldout/reward_mean")
    points += [(x, y) for x, y in zip(steps, on_the_way, strict=False) if y == y]
    if (after := read_eval(run_dir, "after")) is not None and after["reward_mean"] is not None:
        points.append((steps[-1], float(after["reward_mean"])))
    return points


def _policy(axis: Any, steps: list[float], rows: Sequence[dict[str, Any]]) -> None:
    kl = _column(rows, "kl_max", "kl_mean")
    _line(axis, steps, kl, "Policy change and sampler / trainer difference", "nats", _VIOLET, "KL, max")
    difference = _column(rows, "logprob_diff_max")
    if difference:
        axis.plot(steps, difference, color=_SOFT, linewidth=1.2, label="log-probability difference, max")
    if kl or difference:
        axis.set_yscale("symlog", linthresh=1e-6)
        axis.legend(frameon=False, loc="best")


def _speed(axis: Any, steps: list[float], rows: Sequence[dict[str, Any]]) -> None:
    sampling, training = _column(rows, "tokens_per_s_sampling"), _column(rows, "tokens_per_s_training")
    _line(axis, steps, sampling, "Speed", "tokens/s", _INK, "sampling")
    if training:
        axis.plot(steps, training, color=_SOFT, linewidth=1.2, label="training")
    if sampling:
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False, loc="best")


def plot_scores(scores: dict[str, list[float]], out: str | Path) -> Path:
    """The distribution of each grader's scores, one histogram beside the other, into `out`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(scores)
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.6), constrained_layout=True, squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.hist(scores[name], bins=20, color=_BLUE)
        axis.set_title(f"{name} ({len(scores[name])} scores)", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=140, metadata={"Software": "rft"})
    plt.close(figure)
    return Path(out)
