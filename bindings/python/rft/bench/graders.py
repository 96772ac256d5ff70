"""`rft bench graders`: C++ graders against the same grader as a Python function called the way TRL calls one.

Rows:
    graders/native/<name>     grades/s of CPU time on one core: Grader::Run in a loop over a step's completions, against GRPOTrainer's call of
                              a reward function for them
    graders/python/overhead_us   what the worker path adds to a grade of a Python function, in batches; the limit is the goal
    graders/python/hanging_calls_s   what it costs a step of 300 completions that 1 % of the calls are `while True: pass`; the limit is
                                     the deadline of one call. The completions end one after the other in 2 s; all_at_once: what it
                                     costs where they come together. The graders have been there for a second, as in a run
    graders/sampling_while_grading   tokens/s of sampling while the completions before are graded, against sampling alone
Peers are Python packages where people use one (rapidfuzz, sacrebleu, rouge-score, jsonschema, math-verify), else plain Python
(tests/bench/peers/trl_rewards.py). `limit` of a native row is what 20 times the peer would be; `disagree` says on how many of the
completions the two give different scores.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.peer import Peer

GOAL = 20  # times the peer
OVERHEAD_GOAL_US = 100
PROMPTS, GROUP = 8, 8  # a step
STEP = 300
HANG_DEADLINE_S = 1.0
SAMPLING_S = 2.0
WORDS = ("we first add the two numbers then divide by three which gives a value that is close to but not equal to what was asked so the "
         "result must be checked again before it is written down").split()


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """All rows; those that need a model last."""
    yield from native_rows(options, log)
    if options.only in "graders/python/overhead_us":
        yield overhead_row(options, log)
    if options.only in "graders/python/hanging_calls_s":
        yield hanging_row(options, log)
    if options.only in "graders/sampling_while_grading":
        yield sampling_row(options, log)


def cases() -> dict[str, dict[str, Any]]:
    """Name -> grader, rows and completions of a step: groups of solutions of about 100 words, half of them right."""
    rng = random.Random(0)

    def for_each_of_group(of_prompts: list[Any]) -> list[Any]:
        return [one for one in of_prompts for _ in range(GROUP)]

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=100)).capitalize() + "."

    texts = [text() for _ in range(PROMPTS * GROUP)]
    expected = for_each_of_group([text() for _ in range(PROMPTS)])
    numbers = for_each_of_group([rng.randint(-999, 9999) for _ in range(PROMPTS)])
    given = [number if rng.random() < 0.5 else number + 1 for number in numbers]
    wrong = [one != number for one, number in zip(given, numbers)]
    answers = [{"answer": str(number)} for number in numbers]
    records = [{"answer": {"name": f"n{n}", "age": n, "tags": ["a", "b"]}} for n in numbers]
    written = [json.dumps({"tags": ["a", "b"], "age": n, "name": f"n{m}"}) for n, m in zip(given, numbers)]
    summaries = [" ".join(word for word in text.split() if rng.random() < 0.8) for text in expected]
    references = [{"answer": text} for text in expected]
    calls = [{"answer": [{"name": "add", "arguments": {"a": n, "b": 2}}]} for n in numbers]
    schema = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^n"}, "age": {"type": "integer", "minimum": 0},
                                               "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["name", "age"]}
    halves = [rng.choice([rf"\frac{{{2 * n + w}}}{{2}}", rf"{n + w}.0", rf"{n}+{int(w)}"]) for n, w in zip(numbers, wrong)]

    def case(kind: str, params: dict[str, Any], rows: list[dict[str, Any]], completions: list[str]) -> dict[str, Any]:
        return {"spec": {"type": kind, "params": params}, "rows": rows, "completions": completions}

    def similarity(metric: str) -> dict[str, Any]:
        return case("text_similarity", {"evaluation_metric": metric, "reference": "{{item.answer}}"}, references, summaries)

    return {
        "string_check": case("string_check", {"operation": "ilike", "reference": "the answer is {{item.answer}}"}, answers,
                             [f"{text} The answer is {n}" for text, n in zip(texts, given)]),
        "regex_match": case("regex_match", {"pattern": r"<answer>\s*-?\d+\s*</answer>"}, answers,
                            [f"{text} <answer>{n}</answer>" for text, n in zip(texts, given)]),
        "number_match": case("number_match", {"extract": "<answer>(.*?)</answer>"}, answers,
                             [f"{text} <answer> {n} </answer>" for text, n in zip(texts, given)]),
        "math_equal": case("math_equal", {"undecided": "0"}, answers, [rf"{text} $\boxed{{{h}}}$" for text, h in zip(texts, halves)]),
        "set_match": case("set_match", {"score": "f1"}, [{"answer": ", ".join(text.split()[:8])} for text in expected],
                          [", ".join(text.split()[1:9]) for text in summaries]),
        "json_valid": case("json_valid", {}, records, written),
        "json_schema": case("json_schema", {"schema": schema}, records, written),
        "json_fields": case("json_fields", {}, records, written),
        "tool_call": case("tool_call", {}, calls, [f'<tool_call>\n{{"name": "add", "arguments": {{"b": 2, "a": {n}}}}}\n</tool_call>' for n in given]),
        "tag_format": case("tag_format", {"tags": ["think", "answer"]}, answers,
                           [f"<think>{text}</think>\n<answer>{n}</answer>" for text, n in zip(texts, given)]),
        "repetition": case("repetition", {"n": 3}, answers, texts),
        "length": case("length", {"unit": "words", "max": 80, "ramp": 40}, answers, texts),
        "text_similarity_fuzzy_match": similarity("fuzzy_match"),
        "text_similarity_bleu": similarity("bleu"),
        "text_similarity_gleu": similarity("gleu"),
        "text_similarity_meteor": similarity("meteor"),
        "text_similarity_rouge_1": similarity("rouge_1"),
        "text_similarity_rouge_l": similarity("rouge_l"),
    }


def native_rows(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per grader. Ours and theirs take turns."""
    from rft import _native

    native = _native.load()
    chosen = {name: case for name, case in cases().items() if options.only in f"graders/native/{name}"}
    if not chosen:
        return
    with ExitStack() as stack:
        peer = None
        if options.peers:
            file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "cases.json"
            file.write_text(json.dumps(chosen))
            peer = stack.enter_context(Peer("trl_rewards.py", [str(file)], log))
        ours: dict[str, list[float]] = {name: [] for name in chosen}
        theirs: dict[str, list[float]] = {name: [] for name in chosen}
        for index in range(options.rounds):
            for name, case in chosen.items():
                lines = [json.dumps(line) for line in case["rows"]]
                once = native.time_grader(case["spec"], lines, case["completions"], 1)
                repeats = max(1, int(0.1 / once))
                seconds = native.time_grader(case["spec"], lines, case["completions"], repeats)
                ours[name].append(repeats * len(lines) / seconds)
            if peer:
                measured = peer.measure()
                for name in chosen:
                    theirs[name].append(measured["grades_per_s"][name])
            log(f"graders/native: round {index + 1} of {options.rounds}")
        scores = peer.ready["scores"] if peer else {}
    for name, case in chosen.items():
        if not peer:
            yield row(f"graders/native/{name}", statistics.median(ours[name]), None, "grades/s")
            continue
        rate = statistics.median(theirs[name])
        lines = [json.dumps(line) for line in case["rows"]]
        graded = native.grade_rows([case["spec"]], lines, case["completions"], 1)
        disagree = sum(abs(grades[0]["score"] - score) > 1e-9 for grades, score in zip(graded, scores[name], strict=True))
        yield row(f"graders/native/{name}", statistics.median(ours[name]), rate, "grades/s", GOAL * rate, disagree=disagree)


def always_half(completion: str) -> float:
    """The cheapest grader: what is left is the path to it."""
    return 0.5


def overhead_row(options: BenchOptions, log: Log) -> Row:
    """Wall time per grade of a Python grader that does nothing, one worker, all completions handed over at once."""
    from rft import _native
    from rft.graders import grader_spec

    native = _native.load()
    texts = cases()["regex_match"]["completions"] * 50
    lines = [json.dumps({"answer": "1"})] * len(texts)
    spec = grader_spec(always_half)

    def seconds(count: int) -> float:
        start = time.perf_counter()
        native.grade_rows([spec], lines[:count], texts[:count])
        return time.perf_counter() - start

    found = []
    for index in range(options.rounds):
        start_up = seconds(1)  # of the worker: interpreter, imports
        found.append((seconds(len(texts)) - start_up) / (len(texts) - 1) * 1e6)
        log(f"graders/python/overhead_us: round {index + 1}: {found[-1]:.1f} us")
    return row("graders/python/overhead_us", statistics.median(found), None, "us", OVERHEAD_GOAL_US, smaller_is_better=True,
               ours_all=[round(value, 1) for value in found])


def half_unless_told_to_hang(completion: str) -> float:
    """1 % of the calls of hanging_row never return."""
    while completion == "hang":
        pass
    return 0.5


def hanging_row(options: BenchOptions, log: Log) -> Row:
    """One worker; how much longer a step takes when three of its calls hang, at places that differ by round."""
    from rft import _native
    from rft.graders import grader_spec

    native = _native.load()
    spec = grader_spec(half_unless_told_to_hang) | {"deadline_s": HANG_DEADLINE_S}
    rows = [json.dumps({"answer": "1"})] * STEP

    def seconds(hanging: int, seed: int, over_s: float) -> float:
        places = random.Random(seed).sample(range(STEP), hanging)
        texts = ["hang" if i in places else "fine" for i in range(STEP)]
        start = time.perf_counter()
        kinds = [grades[0]["kind"] for grades in native.grade_rows([spec], rows, texts, over_s=over_s, settle_s=1.0)]
        if kinds.count("timeout") != hanging or kinds.count("score") != STEP - hanging:
            raise RuntimeError(f"of {STEP} calls, {hanging} of which hang, {kinds.count('score')} were graded")
        return time.perf_counter() - start

    found, together = [], []
    for index in range(options.rounds):
        found.append(seconds(STEP // 100, index, SAMPLING_S) - seconds(0, index, SAMPLING_S))
        together.append(seconds(STEP // 100, index, 0) - seconds(0, index, 0))
        log(f"graders/python/hanging_calls_s: round {index + 1}: {found[-1]:.2f} s, all at once {together[-1]:.2f} s")
    return row("graders/python/hanging_calls_s", statistics.median(found), None, "s", HANG_DEADLINE_S, smaller_is_better=True,
               ours_all=[round(value, 2) for value in found], all_at_once=round(statistics.median(together), 2))


def sampling_row(options: BenchOptions, log: Log) -> Row:
    """As in a run: while a batch is sampled, four graders judge as many completions as it has."""
    from rft import _native
    from rft.bench.engine import random_prompts

    native = _native.load()
    model = native.Model.load(str(options.model_dir()), dtype="bf16")
    engine = native.Engine(model, max_batch=64)
    prompts = random_prompts(model.vocab_size, 64)
    chosen = cases()
    specs = [chosen[name]["spec"] | {"name": name} for name in ("number_match", "tag_format", "repetition", "math_equal")]
    lines = [json.dumps(line) for line in chosen["number_match"]["rows"][:64]]
    texts = chosen["number_match"]["completions"][:64]

    def sample(seed: int) -> float:
        start = time.perf_counter()
        done = engine.generate(prompts, temperature=1.0, max_tokens=64, ignore_eos=True, seed=seed)
        return sum(len(one.ids) for samples in done for one in samples) / (time.perf_counter() - start)

    sample(0)
    alone, graded = [], []
    for index in range(options.rounds):
        alone.append(sample(index + 1))
        thread = threading.Thread(target=lambda: native.grade_rows(specs, lines, texts, 1))
        thread.start()
        graded.append(sample(index + 1))
        thread.join()
        log(f"graders/sampling_while_grading: round {index + 1}: {graded[-1]:.0f} with, {alone[-1]:.0f} without")
    engine.close()
    return row("graders/sampling_while_grading", statistics.median(graded), statistics.median(alone), "tokens/s",
               0.95 * statistics.median(alone))
