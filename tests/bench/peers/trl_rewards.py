"""Reward functions with TRL's signature, one round of all of them per "run" on stdin (see rft/bench/peer.py). Runs in .venv-peers.

    python trl_rewards.py CASES.json        {name: {"spec", "rows", "completions"}}, as rft/bench/graders.py writes them

Each is called as GRPOTrainer calls it: lists of prompts, completions and completion ids, the dataset's columns as keywords.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from decimal import Decimal, InvalidOperation
from typing import Any

import jsonschema
import sacrebleu
from math_verify import parse, verify
from nltk.translate.gleu_score import sentence_gleu
from nltk.translate.meteor_score import single_meteor_score
from rapidfuzz import fuzz
from rouge_score import rouge_scorer

ANSWER = re.compile(r"<answer>\s*-?\d+\s*</answer>")
PART = re.compile(r"<answer>(.*?)</answer>")
FORMAT = re.compile(r"^\s*<think>(?!.*<think>)(.*?)</think>\s*<answer>(?!.*<answer>)(.*?)</answer>\s*$", re.DOTALL)
CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


class NoSynonyms:
    """A WordNet without words."""

    def synsets(self, word: str) -> list[Any]:
        return []


def string_check(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    return [float(f"the answer is {wanted}".lower() in text.lower()) for text, wanted in zip(completions, answer)]


def regex_match(completions: list[str], **columns: Any) -> list[float]:
    return [float(bool(ANSWER.search(text))) for text in completions]


def number_match(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    def one(text: str, wanted: str) -> float:
        found = PART.findall(text)
        try:
            return float(bool(found) and Decimal(found[-1].strip().replace(",", "")) == Decimal(wanted))
        except InvalidOperation:
            return 0.0

    return [one(text, wanted) for text, wanted in zip(completions, answer)]


def math_equal(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    return [float(verify(parse(f"${wanted}$"), parse(text))) for text, wanted in zip(completions, answer)]


def set_match(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    def items(text: str) -> set[str]:
        return {item.strip().lower() for item in re.split(r"[,;\n]", text) if item.strip()}

    def f1(found: set[str], expected: set[str]) -> float:
        return 2 * len(found & expected) / (len(found) + len(expected))

    return [f1(items(text), items(wanted)) for text, wanted in zip(completions, answer)]


def json_valid(completions: list[str], **columns: Any) -> list[float]:
    def one(text: str) -> float:
        try:
            json.loads(text)
            return 1.0
        except ValueError:
            return 0.0

    return [one(text) for text in completions]


def json_schema(schema: dict[str, Any]) -> Any:
    validator = jsonschema.Draft202012Validator(schema)

    def reward(completions: list[str], **columns: Any) -> list[float]:
        return [float(validator.is_valid(json.loads(text))) for text in completions]

    return reward


def json_fields(completions: list[str], answer: list[dict[str, Any]], **columns: Any) -> list[float]:
    def one(text: str, wanted: dict[str, Any]) -> float:
        found = json.loads(text)
        return sum(found.get(key) == value for key, value in wanted.items()) / len(wanted)

    return [one(text, wanted) for text, wanted in zip(completions, answer)]


def tool_call(completions: list[str], answer: list[list[dict[str, Any]]], **columns: Any) -> list[float]:
    def one(text: str, wanted: list[dict[str, Any]]) -> float:
        found = [json.loads(call) for call in CALL.findall(text)]
        key = lambda call: json.dumps(call, sort_keys=True)  # noqa: E731
        return float(sorted(map(key, found)) == sorted(map(key, wanted)))

    return [one(text, wanted) for text, wanted in zip(completions, answer)]


def tag_format(completions: list[str], **columns: Any) -> list[float]:
    return [float(bool(FORMAT.match(text))) for text in completions]


def repetition(completions: list[str], **columns: Any) -> list[float]:
    def one(text: str) -> float:
        words = text.lower().split()
        grams = list(zip(*[words[i:] for i in range(3)]))
        return len(set(grams)) / len(grams)

    return [one(text) for text in completions]


def length(completions: list[str], **columns: Any) -> list[float]:
    return [min(1.0, max(0.0, 1 - (len(text.split()) - 80) / 40)) for text in completions]


def fuzzy(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    return [fuzz.ratio(text, wanted) / 100 for text, wanted in zip(completions, answer)]


def bleu(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    return [sacrebleu.sentence_bleu(text, [wanted]).score / 100 for text, wanted in zip(completions, answer)]


def gleu(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    return [sentence_gleu([wanted.split()], text.split()) for text, wanted in zip(completions, answer)]


def meteor(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    return [single_meteor_score(wanted.split(), text.split(), wordnet=NoSynonyms()) for text, wanted in zip(completions, answer)]


def rouge(kind: str) -> Any:
    scorer = rouge_scorer.RougeScorer([kind])

    def reward(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
        return [scorer.score(wanted, text)[kind].fmeasure for text, wanted in zip(completions, answer)]

    return reward


def rewards(cases: dict[str, Any]) -> dict[str, Any]:
    """Name -> reward function."""
    plain = (string_check, regex_match, number_match, math_equal, set_match, json_valid, json_fields, tool_call, tag_format, repetition, length)
    found: dict[str, Any] = {function.__name__: function for function in plain}
    if "json_schema" in cases:
        found["json_schema"] = json_schema(cases["json_schema"]["spec"]["params"]["schema"])
    metrics = {"fuzzy_match": fuzzy, "bleu": bleu, "gleu": gleu, "meteor": meteor, "rouge_1": rouge("rouge1"), "rouge_l": rouge("rougeL")}
    return found | {f"text_similarity_{metric}": function for metric, function in metrics.items()}


def arguments_of(case: dict[str, Any]) -> dict[str, Any]:
    """What a call gets."""
    count = len(case["completions"])
    columns = {key: [line[key] for line in case["rows"]] for key in case["rows"][0]}
    return {"prompts": [""] * count, "completions": case["completions"], "completion_ids": [[]] * count, **columns}


def rate(function: Any, arguments: dict[str, Any]) -> float:
    """Grades per second of CPU time, over at least 0.1 s."""
    count, start = 0, time.process_time()
    while time.process_time() - start < 0.1:
        scores = function(**arguments)
        count += len(scores)
    return count / (time.process_time() - start)


def main() -> None:
    """Answers until stdin is closed."""
    logging.disable(logging.WARNING)
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    functions = {name: function for name, function in rewards(cases).items() if name in cases}
    arguments = {name: arguments_of(case) for name, case in cases.items()}
    scores = {name: function(**arguments[name]) for name, function in functions.items()}
    print(json.dumps({"ready": True, "python": sys.version.split()[0], "scores": scores}), flush=True)
    for line in sys.stdin:
        if line.strip() == "run":
            print(json.dumps({"grades_per_s": {name: rate(functions[name], arguments[name]) for name in cases}}), flush=True)


if __name__ == "__main__":
    main()
