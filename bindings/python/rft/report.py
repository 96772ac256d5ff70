"""The last screen of `rft train`, from what the run folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft.run_folder import read_json, write_json
from rft.stats import PairedDifference, paired_bootstrap

if TYPE_CHECKING:
    from rich.console import Console

Sample = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What the screen needs of an EvalReport."""

    reward_mean: float
    rewards: list[float]
    metrics: dict[str, float]
    samples: list[Sample]

    @classmethod
    def of(cls, report: Any) -> Evaluation:
        """From the C++ EvalReport."""
        return cls(float(report.reward_mean), [float(x) for x in report.rewards], dict(report.metrics), list(report.samples))

    @classmethod
    def read(cls, path: Path) -> Evaluation | None:
        """From eval-before.json or eval-after.json, where a row that could not be judged is null; None without the file."""
        if not path.is_file():
            return None
        content = read_json(path)
        return cls(_value(content["reward_mean"]), [_value(value) for value in content["rewards"]], content.get("metrics", {}),
                   content.get("samples", []))


def _value(number: float | None) -> float:
    return float("nan") if number is None else float(number)


def complete_summary(run_dir: Path, earlier_train_seconds: float = 0.0) -> dict[str, Any]:
    """Adds training that happened before the run (SFT) to `train_seconds` of summary.json; returns the whole summary."""
    summary = read_json(run_dir / "summary.json")
    if earlier_train_seconds > 0:
        summary["train_seconds"] = round(summary["train_seconds"] + earlier_train_seconds, 3)
        summary["sft_seconds"] = round(earlier_train_seconds, 3)
        write_json(run_dir / "summary.json", summary)
    return summary


def compare(before: Evaluation | None, after: Evaluation | None) -> PairedDifference | None:
    """The paired difference, as C++ computes diff_ci95 (with another generator); None if no row was judged both times."""
    if before is None or after is None or len(before.rewards) != len(after.rewards):
        return None
    try:
        return paired_bootstrap(before.rewards, after.rewards)
    except ValueError:
        return None


def show(console: Console, run_dir: Path, summary: dict[str, Any], before: Evaluation | None, after: Evaluation | None) -> None:
    """One screen: reward before and after, three samples, where everything is, and what to do next."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    difference = compare(before, after)
    lines = Text()
    if before and after:
        lines.append("held-out reward   ", "bold")
        lines.append(f"{before.reward_mean:.3f} -> {after.reward_mean:.3f}", "bold green" if difference and difference.low > 0 else "bold")
        if difference:
            low, high = summary.get("diff_ci95") or (difference.low, difference.high)
            lines.append(f"   difference {difference.mean:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}], {difference.num_rows} rows")
    lines.append(f"\ntraining          {summary['train_seconds']:.1f} s, {summary['steps']} steps, "
                 f"{summary['tokens_sampled']:,} tokens sampled at {summary['tokens_per_s_sampling']:,.0f} tokens/s, "
                 f"trained at {summary['tokens_per_s_training']:,.0f} tokens/s")
    lines.append(f"\nended because     {summary['stop_reason'] or 'all steps are done'}")
    console.print(Panel(lines, title=f"rft: {summary['name']}", title_align="left", border_style="green"))
    pairs = sample_pairs(before, after)
    if pairs:
        table = Table("held-out prompt", "before", "after", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for first, second in pairs:
            table.add_row(Text(_last_line(first)), Text(_said(first)), Text(_said(second)))
        console.print(table)
        console.print()
    model = run_dir / "model"
    for label, value in (("plot", run_dir / "plot.png"), ("run folder", run_dir), ("tuned model", model),
                         ("chat with it", f".venv/bin/rft chat {model}")):
        console.print(Text(f"{label:<14}{value}"), soft_wrap=True)


def sample_pairs(before: Evaluation | None, after: Evaluation | None, count: int = 3) -> list[tuple[Sample, Sample]]:
    """Evenly spaced rows of the held-out set, not chosen by their rewards."""
    if before is None or after is None:
        return []
    both = list(zip(before.samples, after.samples, strict=False))
    picked: Sequence[int] = sorted({round(i * (len(both) - 1) / max(1, count - 1)) for i in range(count)}) if both else []
    return [both[i] for i in picked]


def _last_line(sample: Sample) -> str:
    prompt = sample.get("prompt", "")
    text = prompt[-1]["content"] if isinstance(prompt, list) and prompt else str(prompt)
    return _short(text, 44)


def _said(sample: Sample) -> str:
    reward = sample.get("reward")
    judged = f"{reward:.2f}" if isinstance(reward, int | float) and reward == reward else "not judged"
    return f"{_short(str(sample.get('completion', '')), 60)}  ({judged})"


def _short(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[:width - 1] + "…"
