"""`rft grade`: run graders over completions in a file or of a model; examine the graders themselves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rft.cli.console import Judges, open_judges, stdout
from rft.grading import Example, Grades, Spec, parse_grader, read_examples, reward, sample, specs_of_file
from rft.grading import grade as grade_examples


def grade(
    data: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Rows, with a `completion` beside their columns unless --model "
                                         "is given.")],
    run_yaml: Annotated[Path | None, typer.Option("--run", metavar="RUN.yaml", help="Use this run file's graders.")] = None,
    grader: Annotated[list[str], typer.Option("--grader", metavar="GRADER", help="TYPE:KEY=VALUE,... (for instance "
                      "'number_match:pick=first'; values may be quoted as JSON) or OpenAI's grader.json; may be "
                      "repeated.")] = [],  # noqa: B006
    model: Annotated[Path | None, typer.Option("--model", metavar="MODEL_DIR", help="Grade what this model writes for each "
                                               "row's messages.")] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Completions per row, with --model.")] = 1,
    temperature: Annotated[float, typer.Option("--temperature", "-t", help="With --model.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="With --model.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="With --model.")] = 0,
    judges: Judges = [],  # noqa: B006
    limit: Annotated[int, typer.Option(min=0, help="Rows used; 0: all.")] = 0,
    preflight: Annotated[bool, typer.Option("--preflight", help="Refuse graders that can't teach: failing, flat, saturated, or "
                                            "contradicting themselves (4 samples per row unless -n says otherwise).")] = False,
    mutate: Annotated[bool, typer.Option("--mutate", help="Try cheap tricks on the graders and report those that pay.")] = False,
    high: Annotated[float | None, typer.Option(help="With --mutate: the reward that counts as high; default: half of what the best "
                                               "real completion gets.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object per completion instead of tables.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the distribution of the scores.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Completions shown one by one.")] = 20,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: all cores.")] = 0,
) -> None:
    """Grade completions: scores, reasons, distribution, and the time each grader takes. Exit code 1 if a grader with weight
    fails on every completion, --preflight refuses a grader or --mutate finds a trick that pays."""
    specs = [*(specs_of_file(run_yaml) if run_yaml else []), *(parse_grader(text) for text in grader)]
    if not specs:
        raise ValueError("which graders? give --run RUN.yaml or --grader TYPE:KEY=VALUE")
    examples = read_examples(data, need_completions=model is None and not mutate)
    examples = examples[:limit] if limit else examples
    if mutate:
        raise typer.Exit(show_mutations(specs, examples, high, json_, threads))
    if model is not None:
        examples = sample(examples, model, n=4 if preflight and samples == 1 else samples, temperature=temperature,
                          max_tokens=max_tokens, seed=seed, threads=threads)
    with open_judges(judges, threads):
        grades = grade_examples(specs, examples, threads)
    if plot is not None:
        from rft.plot import plot_scores

        plot_scores({spec["name"]: [one[i]["score"] for one in grades if one[i]["kind"] == "score"]
                     for i, spec in enumerate(specs)}, plot)
    if preflight:
        raise typer.Exit(show_preflight(specs, examples, grades, json_, threads))
    if json_:
        for example, given in zip(examples, grades, strict=True):
            typer.echo(json.dumps({"completion": example.completion, "reward": reward(specs, given), "grades": given}))
    else:
        show(specs, examples, grades, rows)
        show_failures(specs, grades)
    weighted = [i for i, spec in enumerate(specs) if spec["weight"] != 0]
    if weighted and any(all(given[i]["kind"] not in ("score", "abstain") for given in grades) for i in weighted):
        raise typer.Exit(1)


def show_failures(specs: Sequence[Spec], grades: Sequence[Grades]) -> None:
    """What kept each grader from a score, in full, every cause once: the table has no room for it."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for index, spec in enumerate(specs):
        causes = Counter(f"{given[index]['kind']}: {given[index]['reason']}" for given in grades
                         if given[index]["kind"] not in ("score", "abstain"))
        for cause, count in causes.most_common(3):
            console.print(f"{spec['name']}: {count} of {len(grades)} not scored: {cause}", markup=False)
        if len(causes) > 3:
            console.print(f"{spec['name']}: and {len(causes) - 3} other causes (--json has all)", markup=False)


def show_preflight(specs: Sequence[Spec], examples: Sequence[Example], grades: Sequence[Grades], json_: bool, threads: int) -> int:
    """The findings; 1 if one of them is fatal."""
    from rft.preflight import preflight

    findings = preflight(specs, examples, given=grades, threads=threads)
    refused = any(finding.fatal for finding in findings)
    if json_:
        typer.echo(json.dumps({"refused": refused, "findings": [vars(finding) for finding in findings]}))
        return int(refused)
    show(specs, examples, grades, 0)
    console = stdout()
    for finding in findings:
        word = "refused" if finding.fatal else "warning"
        console.print(f"{word}: {finding.grader or 'the reward'}: {finding.kind}: {finding.message}", markup=False, soft_wrap=True)
    if not findings:
        console.print(f"preflight: {len(specs)} graders can teach ({len(examples)} completions)")
    return int(refused)


def show_mutations(specs: Sequence[Spec], examples: Sequence[Example], high: float | None, json_: bool, threads: int) -> int:
    """What each trick earns; 1 if one pays."""
    from rich.table import Table
    from rich.text import Text

    from rft.mutate import mutate

    results = mutate(specs, examples, high=high, threads=threads)
    if json_:
        for result in results:
            typer.echo(json.dumps({**vars(result), "is_hack": result.is_hack}))
        return int(any(result.is_hack for result in results))
    table = Table("trick", "mean reward", "best", f"rows >= {results[0].high:.3g}", "what", box=None, header_style="bold")
    for result in results:
        style = "bold red" if result.is_hack else ""
        mean, best = ("-" if value is None else f"{value:.3f}" for value in (result.mean, result.best))
        table.add_row(Text(result.name, style), mean, best, f"{result.share_high:.0%}", Text(result.what))
    console = stdout()
    console.print(table)
    hacks = [result for result in results if result.is_hack]
    for result in hacks:
        console.print(f"reward hack: {result.name}: {' '.join(result.example.split())[:200]!r} earns {result.best:.3g}", markup=False,
                      soft_wrap=True)
    if not hacks:
        console.print("none of them pays")
    return int(bool(hacks))


def show(specs: Sequence[Spec], examples: Sequence[Example], grades: Sequence[Grades], rows: int) -> None:
    """A table of the first completions and one of the graders."""
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    names = [spec["name"] for spec in specs]
    table = Table("completion", *names, "reward", "reasons", box=None, header_style="bold")
    for example, given in list(zip(examples, grades, strict=True))[:rows]:
        reasons = "; ".join(f"{name}: {item['reason']}" for name, item in zip(names, given, strict=True) if item["reason"])
        total = reward(specs, given)
        cells = [f"{item['score']:.3g}" if item["kind"] == "score" else item["kind"] for item in given]
        table.add_row(Text(" ".join((example.completion or "").split())[:50]), *cells, "-" if total is None else f"{total:.3f}",
                      Text(reasons[:80]))
    if rows:
        console.print(table)
    if rows and len(examples) > rows:
        console.print(f"... and {len(examples) - rows} more\n")
    means = Table("grader", "mean", "min", "max", "histogram", "scored", "not scored", "ms per grade", box=None,
                  header_style="bold")
    for index, name in enumerate(names):
        given_all = [given[index] for given in grades]
        scores = [item["score"] for item in given_all if item["kind"] == "score"]
        seconds = sum(item["seconds"] for item in given_all) / len(given_all)
        means.add_row(name, *figures(scores), str(len(scores)), str(len(given_all) - len(scores)), f"{1e3 * seconds:.3f}")
    rewards = [total for given in grades if (total := reward(specs, given)) is not None]
    means.add_row("reward", *figures(rewards), str(len(rewards)), str(len(grades) - len(rewards)), "")
    console.print(means)


def figures(scores: Sequence[float]) -> tuple[str, str, str, str]:
    """Mean, least, greatest, and a histogram of eight bars between the two."""
    if not scores:
        return "-", "-", "-", ""
    low, high = min(scores), max(scores)
    counts = [0] * 8
    for score in scores:
        counts[min(7, int(8 * (score - low) / (high - low))) if high > low else 0] += 1
    bars = "".join(" ▁▂▃▄▅▆▇█"[0 if count == 0 else 1 + round(7 * count / max(counts))] for count in counts)
    return f"{sum(scores) / len(scores):.4f}", f"{low:.3g}", f"{high:.3g}", bars if high > low else "█"
