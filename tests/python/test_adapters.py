"""Graders written for other systems, unmodified: the packages' own, compared with the packages (`rft check adapters`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rft
from rft import _adapters, _native
from rft.bench.check_adapters import ABSENT, difference
from rft.graders import grader_spec

CHAT = {"messages": [{"role": "user", "content": "2 + 3?"}]}


def grade(spec: Any, completions: list[str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    spec = spec if isinstance(spec, dict) else grader_spec(spec)
    return [given[0] for given in _native.load().grade_rows([spec], [json.dumps(row) for row in rows], completions)]


def scores(spec: Any, completions: list[str], rows: list[dict[str, Any]]) -> list[float | None]:
    given = grade(spec, completions, rows)
    assert all(one["kind"] != "error" for one in given), given
    return [one["score"] for one in given]


def named(name: str, **params: Any) -> dict[str, Any]:
    return {"type": "python", "params": {"function": name, **params}}


# ---------------------------------------------------------------- TRL


def messages(texts: list[str]) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_trls_format_reward_gives_what_trl_gives() -> None:
    from trl.rewards import think_format_reward

    texts = ["<think>\nhm\n</think>\n5", "5", "<think>a</think><think>b</think>"]
    expected = think_format_reward(completions=messages(texts))
    assert 0.0 in expected and 1.0 in expected
    assert scores(think_format_reward, texts, [CHAT] * 3) == expected
    assert scores(named("trl.rewards:think_format_reward"), texts, [CHAT] * 3) == expected


def test_trls_accuracy_rewards_give_what_trl_gives_with_none_as_no_opinion() -> None:
    from trl.rewards import accuracy_reward, reasoning_accuracy_reward

    texts = [r"\boxed{\frac{1}{3}}", r"so \boxed{\frac{1}{2}}", "</think>5", r"<think>\boxed{1}</think> \boxed{\frac{1}{3}}"]
    solutions = [r"$\frac{1}{3}$", r"$\frac{1}{3}$", "", r"$\frac{1}{3}$"]
    rows = [{**CHAT, "solution": solution} for solution in solutions]
    for reward in (accuracy_reward, reasoning_accuracy_reward):
        expected = reward(completions=messages(texts), solution=solutions)
        assert None in expected and 1.0 in expected and 0.0 in expected
        given = grade(reward, texts, rows)
        assert [one["score"] for one in given] == expected
        assert given[2]["kind"] == "abstain"
    assert "gold_parsed" in grade(accuracy_reward, texts[:1], rows[:1])[0]["reason"]  # from log_extra


def test_trls_factories_take_their_arguments_and_get_the_token_ids() -> None:
    from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment

    ids = [[1, 2, 1, 2, 1, 2], [1, 2, 3, 4, 5, 6], [7] * 90]
    items = [{"completion": "", "token_ids": one, "finish_reason": "stop"} for one in ids]
    for make, args in ((get_repetition_penalty_reward, {"ngram_size": 2, "max_penalty": -1.0}),
                       (get_soft_overlong_punishment, {"max_completion_len": 100, "soft_punish_cache": 20})):
        reward = make(**args)
        expected = reward(completion_ids=ids)
        assert min(expected) < 0.0
        assert _adapters.style_of(reward) == "trl"
        assert _adapters.trl(reward, "reward", lambda result: result)(items, [CHAT] * 3) == expected
        assert scores(named(f"trl.rewards:{make.__name__}", args=args), ["x"], [CHAT]) == reward(completion_ids=[[]])


# After the examples of TRL's documentation ("Using a custom reward function"), every parameter it may ask for.
def reward_len(prompts, completions, completion_ids, answer, trainer_state, log_metric, log_extra, **kwargs):
    assert len(prompts) == len(completions) == len(completion_ids) == len(answer) and trainer_state.global_step == 0
    assert "messages" not in kwargs and kwargs["level"] == ["easy"] * len(prompts)
    contents = [completion[0]["content"] for completion in completions]
    log_metric("length", sum(map(len, contents)) / len(contents))
    log_extra("upper", [content.upper() for content in contents])
    return [None if a is None else float(len(c)) for a, c in zip(answer, contents)]


def test_a_trl_function_gets_columns_state_and_loggers() -> None:
    rows = [{**CHAT, "answer": a, "level": "easy"} for a in ("x", None, "y")]
    given = grade(reward_len, ["a", "bb", "ccc"], rows)
    assert [one["score"] for one in given] == [1.0, None, 3.0]
    assert "length" in given[0]["sub_scores"] and given[2]["reason"] == "upper: CCC"


def test_a_prompt_that_is_text_makes_text_completions() -> None:
    def reward(prompts, completions, **kwargs):
        return [float(p == "2 + 3 =" and c == "5") for p, c in zip(prompts, completions)]

    assert scores(reward, ["5", "6"], [{"prompt": "2 + 3 ="}] * 2) == [1.0, 0.0]


def test_an_async_trl_function_is_awaited() -> None:
    async def reward(prompts, completions, **kwargs):
        import asyncio

        async def one(completion):
            await asyncio.sleep(0.01)
            return float(len(completion[0]["content"]))

        return await asyncio.gather(*map(one, completions))

    assert scores(reward, ["a", "bb", "ccc"], [CHAT] * 3) == [1.0, 2.0, 3.0]


def test_tensors_and_arrays_are_lists() -> None:
    def reward(completions, **kwargs):
        import numpy

        return numpy.ones(len(completions), dtype="float32") / 2

    assert scores(reward, ["a", "b"], [CHAT] * 2) == [0.5, 0.5]


# ---------------------------------------------------------------- functions of many completions


@rft.grader(style="batch", batch_size=4)
def batch_sizes(completions, rows, finish_reasons, token_ids, messages, answer):
    assert [row["answer"] for row in rows] == answer and messages[0][-1]["content"] == completions[0]
    return [len(completions)] * len(completions)


def test_a_batch_function_gets_what_waits_up_to_its_size() -> None:
    given = scores(batch_sizes, ["x"] * 9, [{"answer": str(i)} for i in range(9)])
    assert max(given) == 4.0 and all(1.0 <= size <= 4.0 for size in given)


@pytest.mark.parametrize(("act", "kind"), [
    ("raise ValueError('bad')", "error"), ("os._exit(3)", "killed"), ("import time; time.sleep(60)", "timeout"),
])
def test_one_bad_item_of_a_batch_costs_only_itself(act: str, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    note = tmp_path / "pid"
    file.write_text(f"import os\ndef f(completions):\n    if 'bad' in completions:\n        open({str(note)!r}, 'w').write(str(os.getpid()))\n"
                    f"        {act}\n    return [1.0] * len(completions)\n")
    spec = {**named(f"{file}:f"), "deadline_s": 1.0}
    given = grade(spec, ["a", "b", "c", "bad", "d", "e"], [{}] * 6)
    assert [one["kind"] for one in given] == ["score", "score", "score", kind, "score", "score"]
    assert not Path("/proc", note.read_text()).exists()


@pytest.mark.parametrize(("returned", "why"), [
    ("[1.0] * (len(completions) + 1)", "f returned 2 results for 1 completions"),
    ("1.0", "f returned float, not a list of 1 results"),
    ("['good'] * len(completions)", "f returned str ('good'), not a number"),
])
def test_a_list_that_does_not_fit_is_an_error(returned: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"def f(completions):\n    return {returned}\n")
    assert grade(named(f"{file}:f"), ["a"], [{}])[0]["reason"].startswith(why)


def test_a_class_is_made_once_per_worker(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("class Judge:\n    def __init__(self, start=0):\n        self.calls = start\n"
                    "    def __call__(self, completion):\n        self.calls += 1\n        return self.calls\n")
    assert scores(named(f"{file}:Judge"), ["a"] * 3, [{}] * 3) == [1.0, 2.0, 3.0]
    assert scores(named(f"{file}:Judge", args={"start": 10}), ["a"], [{}]) == [11.0]


# ---------------------------------------------------------------- eval-protocol and verifiers


def test_rewards_of_eval_protocol_and_verifiers_give_what_the_packages_give() -> None:
    """`rft check adapters` has all of eval-protocol's; here a few, since each worker takes seconds to import it. TRL's are above."""
    only = "eval-protocol/length,together,verifiers"
    command = [sys.executable, "-c", "import sys; from rft.cli import main; sys.exit(main())", "check", "adapters", "--only", only]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["name"], row["ours"]) for row in rows if row["ours"] != 0.0] == []
    assert {row["name"].split("/")[1] for row in rows} == {"eval-protocol", "verifiers"} and len(rows) == 7
    assert all(row["passed"] and row["scores"] > 1 for row in rows)


def test_the_check_of_adapters_notices_a_difference() -> None:
    assert difference((0.5, {"a": 1.0}), (0.5, {"a": 1.0})) == 0.0
    assert difference((0.5, {"a": 1.0}), (0.25, {"a": 1.0})) == 0.25
    assert difference((0.5, {"a": 1.0}), (0.5, {"a": 3.0})) == 2.0
    assert difference((None, {}), (0.0, {})) == difference((0.0, {"a": 0.0}), (0.0, {})) == ABSENT


@pytest.mark.parametrize(("result", "kind", "reason"), [
    ({"score": 0.0, "error": "no network"}, "error", "no network"),
    ({"score": 0.0, "is_score_valid": False, "reason": "empty"}, "abstain", "empty"),
    ({"score": 1.0, "reason": "compared"}, "score", "compared"),
])
def test_an_eval_protocol_result_says_why(result: dict[str, Any], kind: str, reason: str) -> None:
    def reward(messages, **kwargs):
        return result

    reward._reward_function_mode = "pointwise"  # what the package's decorator leaves
    given = grade(reward, ["5"], [CHAT])[0]
    assert (given["kind"], given["reason"]) == (kind, reason)


class Rubric:
    """What a rubric of verifiers up to 0.1.5 has (0.1.6 and later: funcs, weights), which the check's version has not."""

    def __init__(self, funcs, weights):
        self.reward_funcs, self.reward_weights = funcs, weights
        self.parser, self.class_objects = None, {"scale": 2.0}


def test_a_rubric_of_an_older_verifiers_is_the_weighted_sum_of_its_functions() -> None:
    def correct(completion, answer, **kwargs):
        return float(completion[-1]["content"] == answer)

    async def bonus(info, scale):
        return scale * info["bonus"]

    row = {**CHAT, "answer": "5", "info": '{"bonus": 0.5}'}
    given = grade(Rubric([correct, bonus], [1.0, 0.25]), ["5", "6"], [row] * 2)
    assert [one["score"] for one in given] == [1.25, 0.25]
    assert given[0]["sub_scores"] == {"correct": 1.0, "bonus": 1.0}


def shortest(completions, parser) -> list[float]:
    return [float(len(one) == min(map(len, completions))) for one in completions]


def test_a_rubrics_group_function_is_refused_when_called_one_by_one() -> None:
    spec = grader_spec(Rubric([shortest], [1.0]))
    assert spec["params"]["style"] == "group"
    spec["params"]["style"] = "verifiers"
    with pytest.raises(RuntimeError, match="shortest judges a group of rollouts; say `style: group`"):
        grade(spec, ["a"], [CHAT])


def test_a_grader_says_what_its_failures_mean() -> None:
    @rft.grader(retries=2, on_abstain="skip", deterministic=False)
    def moody(completion):
        return None

    params = grader_spec(moody)["params"]
    assert (params["retries"], params["on_abstain"], params["deterministic"]) == ("2", "skip", "false")
    assert grade(moody, ["x"], [{}])[0]["kind"] == "abstain"
    with pytest.raises(TypeError, match="@rft.grader has no retrys"):
        rft.grader(retrys=2)


def test_what_is_no_grader_is_refused() -> None:
    with pytest.raises(TypeError, match="a grader must be a function, not int"):
        grader_spec(3)
