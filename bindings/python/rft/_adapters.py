"""How graders written for other systems are called, unmodified. Runs in worker processes; standard library only.

    batch           f(completions, rows, token_ids, finish_reasons, messages, <columns>): lists in, a list out
    group           f(completions, row, token_ids, finish_reasons, messages, <columns>): all completions of one row, the row's columns
                    as they are; a list out, one per completion. For graders that compare. If it raises, none of them is judged
    trl             TRL's reward functions: f(prompts, completions, completion_ids, <columns>, trainer_state, log_metric,
                    log_extra); lists in, a list out, None where it does not apply. A row with `messages` (or a `prompt` that
                    is a list) is conversational: its completion is [{"role": "assistant", "content": ...}]
    eval_protocol   @reward_function of eval-protocol: f(messages, ground_truth, **columns) -> EvaluateResult
    verifiers       a Rubric of verifiers (functions with weights): each f(prompt, completion, answer, state, task, info,
                    parser, <columns>); the score is the weighted sum, the functions are its parts. Its functions of a
                    group (prompts, completions, answers, states, tasks, infos; a list out) need the style `group`

Only what a function names is passed, and everything where it takes **kwargs. Any of them may be async. What they return is
turned into what rft._worker takes from every grader.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable
from typing import Any

Item = dict[str, Any]
Row = dict[str, Any]
STYLES = ("completion", "batch", "group", "trl", "eval_protocol", "verifiers")


class GraderMistake(Exception):
    """A wrong return value or signature; the message is for the grader's author."""


def assistant_message(item: Item) -> dict[str, Any]:
    """What the model wrote, as a chat message."""
    message = {"role": "assistant", "content": item.get("text", item["completion"])}
    if item.get("tool_calls"):
        message["tool_calls"] = item["tool_calls"]
    return message


def conversation(item: Item, row: Row) -> list[dict[str, Any]]:
    """The row's messages and what the model wrote."""
    return [*row.get("messages", []), assistant_message(item)]


def openai_sample(item: Item) -> dict[str, Any]:
    """The `sample` of OpenAI's graders."""
    message = assistant_message(item)
    sample = {
        "output_text": message["content"],
        "output_json": None,
        "output_tools": item.get("tool_calls", []),
        "choices": [{"index": 0, "message": message, "finish_reason": item["finish_reason"]}],
    }
    try:
        sample["output_json"] = json.loads(message["content"])
    except ValueError:
        pass  # not JSON
    return sample


def style_of(function: Any) -> str:
    """The style a grader was written in, from what only that style has."""
    if rubric_functions(function) is not None:
        return "verifiers"
    if hasattr(function, "_reward_function_mode"):
        return "eval_protocol"
    names = inspect.signature(function).parameters
    return "trl" if ("completions" in names or "completion_ids" in names) and "completion" not in names else "completion"


def call(function: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Passes what the function names; everything if it takes **kwargs."""
    parameters = inspect.signature(function).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        values = {p.name: values[p.name] for p in parameters if p.name in values}
    return function(**values)


def columns_of(rows: list[Row], without: tuple[str, ...]) -> dict[str, list[Any]]:
    """Column name -> its values, None where a row has none."""
    names = {name: None for row in rows for name in row if name not in without}
    return {name: [row.get(name) for row in rows] for name in names}


def as_list(result: Any, count: int, name: str) -> list[Any]:
    """The results of `count` completions; arrays and tensors are lists too."""
    if hasattr(result, "tolist"):
        result = result.tolist()
    if not isinstance(result, (list, tuple)):
        raise GraderMistake(f"{name} returned {type(result).__name__}, not a list of {count} results")
    if len(result) != count:
        raise GraderMistake(f"{name} returned {len(result)} results for {count} completions")
    return list(result)


# Each adapter takes (function, name, await_) and returns (items, rows) -> results, one per item.


def batch(function: Any, name: str, await_: Callable) -> Callable:
    def grade(items: list[Item], rows: list[Row]) -> list[Any]:
        values = {
            **columns_of(rows, ("messages",)),
            "completions": [item["completion"] for item in items],
            "rows": rows,
            "token_ids": [item["token_ids"] for item in items],
            "finish_reasons": [item["finish_reason"] for item in items],
            "messages": [conversation(item, row) for item, row in zip(items, rows)],
        }
        return as_list(await_(call(function, values)), len(items), name)

    return grade


def group(function: Any, name: str, await_: Callable) -> Callable:
    if rubric_functions(function) is not None:
        return rubric(function, name, await_)

    def grade(items: list[Item], rows: list[Row]) -> list[Any]:
        values = {
            **rows[0],
            "completions": [item["completion"] for item in items],
            "row": rows[0],
            "token_ids": [item["token_ids"] for item in items],
            "finish_reasons": [item["finish_reason"] for item in items],
            "messages": [conversation(item, row) for item, row in zip(items, rows)],
        }
        return as_list(await_(call(function, values)), len(items), name)

    return grade


def trl(function: Any, name: str, await_: Callable) -> Callable:
    def prompt(row: Row) -> Any:
        return row["messages"] if "messages" in row else row.get("prompt", "")

    def completion(item: Item, row: Row) -> Any:
        return [assistant_message(item)] if isinstance(prompt(row), list) else item["completion"]

    def grade(items: list[Item], rows: list[Row]) -> list[Any]:
        metrics: dict[str, list[float]] = {}
        extras: dict[str, list[Any]] = {}
        step = items[0].get("step", 0)
        values = {
            **columns_of(rows, ("messages", "prompt", "completion", "completion_ids")),
            "prompts": [prompt(row) for row in rows],
            "completions": [completion(item, row) for item, row in zip(items, rows)],
            "completion_ids": [item["token_ids"] for item in items],
            "trainer_state": types.SimpleNamespace(global_step=step, epoch=None, max_steps=-1, is_world_process_zero=True),
            "log_metric": lambda key, value: metrics.setdefault(key, []).append(float(value)),
            "log_extra": lambda key, column: extras.update({key: list(column)}),
        }
        results = as_list(await_(call(function, values)), len(items), name)
        if not metrics and not extras:
            return results
        parts = {key: sum(logged) / len(logged) for key, logged in metrics.items()}
        noted = [{key: column[i] for key, column in extras.items() if i < len(column)} for i in range(len(items))]
        return [
            {"score": score, "sub_scores": parts, "reason": "; ".join(f"{key}: {value}" for key, value in note.items())}
            for score, note in zip(results, noted)
        ]

    return grade


def evaluate_result(result: Any) -> Any:
    """An eval-protocol EvaluateResult (or one as a dict) as a grader's dict."""
    get = result.get if isinstance(result, dict) else lambda key, default=None: getattr(result, key, default)
    if get("error"):
        raise GraderMistake(str(get("error")))
    parts = {}
    for key, metric in (get("metrics") or {}).items():
        field = metric.get if isinstance(metric, dict) else lambda name, default=None, m=metric: getattr(m, name, default)
        if field("is_score_valid", True):
            parts[key] = field("score")
    valid = get("is_score_valid", True)
    return {"score": get("score") if valid else None, "reason": get("reason") or "", "sub_scores": parts}


def eval_protocol(function: Any, name: str, await_: Callable) -> Callable:
    together = getattr(function, "_reward_function_mode", "pointwise") == "batch"

    def grade(items: list[Item], rows: list[Row]) -> list[Any]:
        talks = [conversation(item, row) for item, row in zip(items, rows)]
        if together:
            values = {**columns_of(rows, ("messages",)), "rollouts_messages": talks}
            return [evaluate_result(one) for one in as_list(await_(call(function, values)), len(items), name)]
        (talk,), (row,) = talks, rows
        return [evaluate_result(await_(call(function, {**row, "messages": talk})))]

    return grade


def rubric_functions(rubric: Any) -> list[tuple[Callable, float, dict[str, Any]]] | None:
    """The functions of a verifiers Rubric or RubricGroup with their weights and what each may ask for; None for others."""
    if isinstance(getattr(rubric, "rubrics", None), list):
        return [entry for part in rubric.rubrics for entry in rubric_functions(part) or []]
    for funcs, weights in (("funcs", "weights"), ("reward_funcs", "reward_weights")):
        functions = getattr(rubric, funcs, None)
        if isinstance(functions, list) and isinstance(getattr(rubric, weights, None), list):
            extra = {"parser": getattr(rubric, "parser", None), **getattr(rubric, "class_objects", {})}
            return [(f, float(w), extra) for f, w in zip(functions, getattr(rubric, weights), strict=True)]
    return None


GROUP_PARAMETERS = {"prompts", "completions", "answers", "states", "tasks", "infos"}


def judges_group(function: Callable) -> bool:
    """Whether a rubric's function takes all rollouts of a prompt; verifiers tells it by the same names."""
    signature = inspect.signature(function)
    result = signature.return_annotation
    returns_list = str(result).startswith("list") or getattr(result, "__origin__", result) is list
    return returns_list or not GROUP_PARAMETERS.isdisjoint(signature.parameters)


def needs_group(target: Any) -> bool:
    """Whether it is a rubric some of whose functions judge a group."""
    return any(judges_group(function) for function, _, _ in rubric_functions(target) or [])


def verifiers(target: Any, name: str, await_: Callable) -> Callable:
    functions = rubric_functions(target)
    if functions is None:
        raise GraderMistake(f"{name} is no rubric: it has no lists of functions and weights")
    for function, _, _ in functions:
        if judges_group(function):
            raise GraderMistake(f"{name}: {function.__name__} judges a group of rollouts; say `style: group`")
    return rubric(target, name, await_)


def rubric(target: Any, name: str, await_: Callable) -> Callable:
    def values_of(item: Item, row: Row) -> dict[str, Any]:
        chat = "messages" in row
        info = row.get("info", {})
        values = {
            "prompt": row["messages"] if chat else row.get("prompt", ""),
            "completion": [assistant_message(item)] if chat else item["completion"],
            "answer": row.get("answer", ""),
            "task": row.get("task", "default"),
            "info": json.loads(info) if isinstance(info, str) else info,
        }
        values = {**row, **values, "state": {**values, "trajectory": [], "responses": []}}
        values.pop("messages", None)
        return values

    def judge(rubric: Any, each: list[dict[str, Any]], together: dict[str, list[Any]]) -> list[tuple[float, dict[str, float]]]:
        """The scores and their parts; added up over the rubrics of a group, as verifiers does, also where parts have one name."""
        verdicts: list[tuple[float, dict[str, float]]] = [(0.0, {}) for _ in each]
        if isinstance(getattr(rubric, "rubrics", None), list):
            for part in rubric.rubrics:
                for i, (score, parts) in enumerate(judge(part, each, together)):
                    sums = {key: verdicts[i][1].get(key, 0.0) + value for key, value in parts.items()}
                    verdicts[i] = (verdicts[i][0] + score, {**verdicts[i][1], **sums})
            return verdicts
        for function, weight, extra in rubric_functions(rubric) or []:
            if judges_group(function):
                results = as_list(await_(call(function, {**together, **extra})), len(each), function.__name__)
            else:
                results = [await_(call(function, {**values, **extra})) for values in each]
            verdicts = [(score + weight * float(result), {**parts, function.__name__: float(result)})
                        for (score, parts), result in zip(verdicts, results)]
        return verdicts

    def grade(items: list[Item], rows: list[Row]) -> list[Any]:
        each = [values_of(item, row) for item, row in zip(items, rows)]
        together = {f"{key}s": [values[key] for values in each] for key in ("prompt", "completion", "answer", "state", "task", "info")}
        return [{"score": score, "sub_scores": parts} for score, parts in judge(target, each, together)]

    return grade


ADAPTERS: dict[str, Callable] = {"batch": batch, "group": group, "trl": trl, "eval_protocol": eval_protocol, "verifiers": verifiers}


def takes_lists(function: Any, style: str) -> bool:
    """Whether one call grades several completions."""
    return style in ("batch", "group", "trl") or getattr(function, "_reward_function_mode", "") == "batch"
