"""`rft check adapters`: reward functions of eval-protocol, verifiers and TRL, graded by our workers and called directly.

The functions are the packages' own (or are made of the packages' own classes), imported by name in a worker process on one side and in
this process on the other. Rows adapter/<package>/<reward>: `ours` is the largest difference between the two in a score or in a part of
it, over the completions; ABSENT where one side has a score or part that the other has not. `scores`: how many different ones there were.

scripts/setup.sh installs eval-protocol and verifiers into .venv/adapters, apart from .venv, and without what their rewards don't need.
A worker of eval-protocol's takes seconds to start (it imports litellm): `--only` takes several words, separated by commas.
"""

# No postponed annotations here: eval-protocol goes by the types that are annotated.
import asyncio
import importlib
import json
import logging
import os
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from rft.bench import BenchOptions, Log, Row, row

Columns = dict[str, Any]
Verdict = tuple[Optional[float], dict[str, float]]  # the score, None: no opinion or an error; its parts

ABSENT = 1e9
PACKAGES = Path(sys.prefix) / "adapters"
QUESTION = [{"role": "user", "content": "What is 2 + 3?"}]
TEXTS = ("<think>\nTwo and three.\n</think>\n<answer>\n5\n</answer>", "It is 5.", "No idea, no idea, no idea, no idea.")
STEPS = "First, add 2 and 3. Second, look at it.\n1. Two\n2. Three\nFinally, the answer is 5."
CALL = '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'


@dataclass(frozen=True)
class Case:
    """A grader, what it grades, and the columns of every row."""

    function: str
    texts: tuple[str, ...] = TEXTS
    columns: Columns = field(default_factory=dict)
    params: Columns = field(default_factory=dict)

    @property
    def rows(self) -> list[Columns]:
        """One per completion; a column that is a tuple has one value for each."""
        return [{"messages": QUESTION, **{key: value[i] if isinstance(value, tuple) else value for key, value in self.columns.items()}}
                for i in range(len(self.texts))]

    @property
    def token_ids(self) -> list[list[int]]:
        """Made up; nothing here reads them but to count and compare."""
        return [[ord(letter) for letter in text] for text in self.texts]


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per case whose name has a word of `options.only` in it."""
    if not (PACKAGES / "eval_protocol").is_dir():
        raise FileNotFoundError(f"{PACKAGES}: eval-protocol and verifiers are not installed there; scripts/setup.sh does it")
    sys.path.append(str(PACKAGES))  # last, as for the workers: what .venv has too is .venv's
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else importing eval-protocol asks the network for a price list
    names = [name for name in CASES if any(word in name for word in options.only.split(","))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a worker's first import takes seconds
        for name, graded in zip(names, pool.map(lambda name: ours(CASES[name]), names), strict=True):
            direct = theirs(name, CASES[name])
            worst = max(difference(a, b) for a, b in zip(graded, direct, strict=True))
            scores = len({score for score, _ in direct})  # with one only, the completions would be badly chosen
            yield row(name, worst, None, "score", 0.0, passed=worst == 0.0 and scores > 1, scores=scores)


def ours(case: Case) -> list[Verdict]:
    """The grades of a worker process."""
    from rft import _native

    spec = {"type": "python", "deadline_s": 60.0,
            "params": {"function": case.function, "spare_workers": 0, "sys_path": json.dumps([str(PACKAGES)]), **case.params}}
    graded = _native.load().grade_rows([spec], [json.dumps(one) for one in case.rows], list(case.texts), token_ids=case.token_ids)
    return [(one["score"], one["sub_scores"]) for (one,) in graded]


def difference(a: Verdict, b: Verdict) -> float:
    """The largest of the score and the parts."""
    if (a[0] is None) != (b[0] is None) or a[1].keys() != b[1].keys():
        return ABSENT
    return max([abs((a[0] or 0.0) - (b[0] or 0.0)), *(abs(part - b[1][key]) for key, part in a[1].items())])


# ---------------------------------------------------------------- the packages, called directly


def theirs(name: str, case: Case) -> list[Verdict]:
    """The same grades from the package."""
    module, _, member = case.function.partition(":")
    function = getattr(importlib.import_module(module), member)
    if "args" in case.params:
        function = function(**case.params["args"])
    direct: Callable[[Any, Case], list[Verdict]] = {"eval-protocol": eval_protocol, "verifiers": verifiers, "trl": trl}[name.split("/")[1]]
    return direct(function, case)


def reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def eval_protocol(function: Any, case: Case) -> list[Verdict]:
    talks = [QUESTION + reply(text) for text in case.texts]
    if function._reward_function_mode == "batch":
        columns = {key: [one[key] for one in case.rows] for key in case.columns}
        results = function(rollouts_messages=talks, **columns)
    else:
        results = [function(**{**one, "messages": talk}) for one, talk in zip(case.rows, talks, strict=True)]
    results = [asyncio.run(one) if asyncio.iscoroutine(one) else one for one in results]
    return [(None, {}) if one.error else
            (one.score if one.is_score_valid else None,
             {key: part.score for key, part in one.metrics.items() if part.is_score_valid} if one.is_score_valid else {})
            for one in results]


def verifiers(rubric: Any, case: Case) -> list[Verdict]:
    from verifiers.types import State

    states = [State(input={"prompt": QUESTION, "example_id": i, **case.rows[i]}, completion=reply(text), task="default", trajectory=[])
              for i, text in enumerate(case.texts)]

    async def score() -> None:
        if rubric.has_group_rewards:
            await rubric.score_group(states)
        else:
            for state in states:
                await rubric.score_rollout(state)
        await rubric.teardown()

    asyncio.run(score())
    return [(state["reward"], state["metrics"]) for state in states]


def trl(function: Any, case: Case) -> list[Verdict]:
    columns = {key: [one[key] for one in case.rows] for key in case.columns}
    scores = function(prompts=[QUESTION] * len(case.texts), completions=[reply(text) for text in case.texts],
                      completion_ids=case.token_ids, **columns)
    return [(score, {}) for score in scores]


# ---------------------------------------------------------------- graders made of the packages' own classes


def judged() -> Callable[..., Any]:
    """What an author writes for eval-protocol: typed messages, other rewards within, results that are invalid or an error."""
    from eval_protocol.models import EvaluateResult, Message, MetricResult
    from eval_protocol.rewards.length import length_reward
    from eval_protocol.typed_interface import reward_function

    def reward(messages: list[Message], ground_truth: str, **kwargs: Any) -> EvaluateResult:
        text = str(messages[-1].content)
        assert messages[0].role == "user" and kwargs["level"] == 1
        length = length_reward(messages=messages, target_length=4)
        metrics = {"length": MetricResult(score=length.score, reason=str(length.reason), is_score_valid=True),
                   "broken": MetricResult(score=0.3, reason="", is_score_valid=False)}
        return EvaluateResult(score=float(ground_truth in text), reason="compared", metrics=metrics, is_score_valid=bool(text),
                              error="no network" if text == "fail" else None)

    return reward_function(reward)  # type: ignore[no-any-return]


def together() -> Callable[..., Any]:
    """Its batch mode: all rollouts in one call."""
    from eval_protocol.models import EvaluateResult, Message
    from eval_protocol.typed_interface import reward_function

    @reward_function(mode="batch")
    def reward(rollouts_messages: list[list[Message]], ground_truth: list[str], **kwargs: Any) -> list[EvaluateResult]:
        return [EvaluateResult(score=float(truth in str(talk[-1].content)) / len(str(talk[-1].content)))
                for talk, truth in zip(rollouts_messages, ground_truth, strict=True)]

    return reward  # type: ignore[no-any-return]


def waiting() -> Callable[..., Any]:
    """An asynchronous one."""
    from eval_protocol.models import EvaluateResult, Message
    from eval_protocol.typed_interface import reward_function

    @reward_function
    async def reward(messages: list[Message], **kwargs: Any) -> EvaluateResult:
        await asyncio.sleep(0.001)
        return EvaluateResult(score=1.0 / len(str(messages[-1].content)))

    return reward  # type: ignore[no-any-return]


def right(completion: Any, answer: str, parser: Any, **kwargs: Any) -> float:
    return float(parser.parse_answer(completion) == answer)


async def bonus(prompt: Any, completion: Any, state: Any, task: Any, info: Any) -> float:
    assert task == "default" and state["answer"] == "5" and prompt == QUESTION
    await asyncio.sleep(0.001)
    return float(info["bonus"]) / len(completion[-1]["content"])


def level_of(level: float) -> float:
    return level


def shortest(completions: Any, answers: Any, states: Any, parser: Any) -> list[float]:
    texts = [completion[-1]["content"] for completion in completions]
    assert answers == ["5"] * len(texts) and [state["completion"] for state in states] == completions
    return [float(len(text) == min(map(len, texts))) for text in texts]


def xml_rubric() -> Any:
    """Weights, a parser with a format reward of its own, asynchronous functions, columns by name."""
    from verifiers import Rubric, XMLParser

    parser = XMLParser(["think", "answer"], answer_field="answer")
    return Rubric([right, parser.get_format_reward_func(), bonus, level_of], [1.0, 0.2, 0.3, 0.1], parser=parser)


def rubric_group() -> Any:
    """Two rubrics, whose parts of one name are added, and whose parsers differ."""
    from verifiers import Rubric, RubricGroup, XMLParser

    return RubricGroup([Rubric([right, bonus], [0.3, 0.7]), Rubric([right, level_of], [0.1, 0.2], parser=XMLParser(["answer"])), xml_rubric()])


def math_rubric() -> Any:
    """math-verify in a process pool of the rubric's."""
    from verifiers import MathRubric

    return MathRubric()


def judge_rubric() -> Any:
    """A judge, its client replaced by one that says yes to short prompts."""
    from verifiers import JudgeRubric

    async def create(messages: Any, **kwargs: Any) -> Any:
        content = "yes" if "It is 5" in messages[0]["content"] else "no"
        return types.SimpleNamespace(choices=[types.SimpleNamespace(message=types.SimpleNamespace(content=content))])

    async def approved(judge: Any, prompt: Any, completion: Any, answer: str, state: Any) -> float:
        return float(await judge(prompt, completion, answer, state) == "yes")

    logging.getLogger("httpx").setLevel(logging.ERROR)
    rubric = JudgeRubric(judge_client=types.SimpleNamespace(chat=types.SimpleNamespace(completions=types.SimpleNamespace(create=create))))
    rubric.add_reward_func(approved, 0.5)
    return rubric


def group_rubric() -> Any:
    """A function of the group among functions of one rollout."""
    from verifiers import Rubric

    return Rubric([right, shortest, bonus], [1.0, 0.5, 0.25])


# ---------------------------------------------------------------- cases


def protocol(module: str, function: str, texts: tuple[str, ...] = TEXTS, **columns: Any) -> dict[str, Case]:
    return {f"adapter/eval-protocol/{function}": Case(f"eval_protocol.rewards.{module}:{function}", texts, columns)}


def here(package: str, make: Callable[[], Any], texts: tuple[str, ...] = TEXTS, params: Columns | None = None, **columns: Any) -> dict[str, Case]:
    return {f"adapter/{package}/{make.__name__}": Case(f"{__name__}:{make.__name__}", texts, columns, {"args": {}, **(params or {})})}


def reward_of_trl(function: str, texts: tuple[str, ...], args: Columns | None = None, **columns: Any) -> dict[str, Case]:
    return {f"adapter/trl/{function}": Case(f"trl.rewards:{function}", texts, columns, {} if args is None else {"args": args})}


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


RUBRIC = {"answer": "5", "info": {"bonus": 2}, "level": (0.25, 0.5, 0.7)}
SOLUTIONS = {"solution": (r"$\frac{1}{3}$", r"$\frac{1}{3}$", "", r"$\frac{1}{3}$")}
ANSWERS = (r"\boxed{\frac{1}{3}}", r"so \boxed{\frac{1}{2}}", "</think>5", r"<think>\boxed{1}</think> \boxed{\frac{1}{3}}")
CODE = tuple(f"```python\nprint({said})\n```" for said in ("2 + 3", "'no'", "1 / 0"))

CASES: dict[str, Case] = {
    **protocol("accuracy", "accuracy_reward", ground_truth=says("5")),
    **protocol("accuracy_length", "cosine_scaled_accuracy_length_reward", ground_truth=says("5"), max_length=20),
    **protocol("code_execution", "fractional_code_reward", CODE, ground_truth="5", timeout=20),
    **protocol("format", "format_reward"),
    **protocol("function_calling", "exact_tool_match_reward", (CALL, CALL.replace("3", "4"), "It is 5."),
               ground_truth={"tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}]}),
    **protocol("json_schema", "json_schema_reward", ('{"sum": 5}', '{"sum": "five", "more": 1}', "5"),
               expected_schema={"type": "object", "properties": {"sum": {"type": "number"}}}),
    **protocol("language_consistency", "language_consistency_reward", (STEPS, "Das ist die Summe, und sie ist nicht schwer.", "5"),
               ground_truth="", target_language="en"),
    **protocol("length", "length_reward", target_length=(3, 5, 9)),
    **protocol("length", "cosine_length_reward", is_correct=(True, False, True), max_length=20),
    **protocol("list_comparison_math_reward", "list_comparison_math_reward", ("It is $3, 2, 1$.", "$1, 2$", "none"), ground_truth="1, 2, 3"),
    **protocol("math", "math_reward", (r"It is \boxed{5}.", "It is 6.", "no idea"), ground_truth="5"),
    **protocol("multiple_choice_math_reward", "multiple_choice_math_reward", ("The answer is (B).", "(A)", "no idea"), ground_truth=says("(B)")),
    **protocol("reasoning_steps", "reasoning_steps_reward", (*TEXTS, STEPS)),
    **protocol("reasoning_steps", "sequence_reward", (*TEXTS, STEPS)),
    **protocol("repetition", "repetition_penalty_reward", ngram_size=2),
    **protocol("repetition", "diversity_reward"),
    **protocol("tag_count", "tag_count_reward", required_tags=["think", "answer"]),
    **here("eval-protocol", judged, ("It is 5.", "6", "", "fail"), ground_truth="5", level=1),
    **here("eval-protocol", together, ground_truth=("5", "5", "idea")),
    **here("eval-protocol", waiting),
    **here("verifiers", xml_rubric, **RUBRIC),
    **here("verifiers", rubric_group, **RUBRIC),
    **here("verifiers", math_rubric, ANSWERS, answer=r"\frac{1}{3}"),
    **here("verifiers", judge_rubric, answer="5"),
    **here("verifiers", group_rubric, params={"style": "group", "group_size": len(TEXTS)}, answer="5", info={"bonus": 2}),
    **reward_of_trl("think_format_reward", (*TEXTS, "<think>a</think><think>b</think>")),
    **reward_of_trl("accuracy_reward", ANSWERS, **SOLUTIONS),
    **reward_of_trl("reasoning_accuracy_reward", ANSWERS, **SOLUTIONS),
    **reward_of_trl("get_cosine_scaled_reward", ANSWERS, {"max_len": 30}, **SOLUTIONS),
    **reward_of_trl("get_repetition_penalty_reward", TEXTS, {"ngram_size": 3, "max_penalty": -1.0}),
    **reward_of_trl("get_soft_overlong_punishment", TEXTS, {"max_completion_len": 40, "soft_punish_cache": 30}),
}
