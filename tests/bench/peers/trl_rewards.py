"""Reward functions with TRL's signature, one round of all of them per "run" on stdin (see rft/bench/peer.py). Runs in .venv-peers.

    python trl_rewards.py CASES.json        {name: {"spec", "rows", "completions"}}, as rft/bench/graders.py writes them

Each is called by TRL: what is timed is GRPOTrainer's own _calculate_rewards with that one function, on a step's completions (chat
messages, as models with a chat template have them). It makes the lists of columns, calls the function and makes a tensor of what comes back.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from decimal import Decimal, InvalidOperation
from types import SimpleNamespace
from typing import Any

import jsonschema
import sacrebleu
from accelerate import Accelerator
from math_verify import parse, verify
from nltk.translate.gleu_score import sentence_gleu
from nltk.translate.meteor_score import single_meteor_score
from rapidfuzz import fuzz
from rouge_score import rouge_scorer
from transformers import TrainerState
from trl import GRPOTrainer

ANSWER = re.compile(r"<answer>\s*-?\d+\s*</answer>")
PART = re.compile(r"<answer>(.*?)</answer>")
FORMAT = re.compile(r"^\s*<think>(?!.*<think>)(.*?)</think>\s*<answer>(?!.*<answer>)(.*?)</answer>\s*$", re.DOTALL)
CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
Chats = list[list[dict[str, str]]]


def contents(completions: Chats) -> list[str]:
    """As TRL's own reward functions begin."""
    return [completion[0]["content"] for completion in completions]


class NoSynonyms:
    """A WordNet without words."""

    def synsets(self, word: str) -> list[Any]:
        return []


def string_check(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
    return [float(f"the answer is {wanted}".lower() in text.lower()) for text, wanted in zip(contents(completions), answer)]


def regex_match(completions: Chats, **columns: Any) -> list[float]:
    return [float(bool(ANSWER.search(text))) for text in contents(completions)]


def number_match(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
    def one(text: str, wanted: str) -> float:
        found = PART.findall(text)
        try:
            return float(bool(found) and Decimal(found[-1].strip().replace(",", "")) == Decimal(wanted))
        except InvalidOperation:
            return 0.0

    return [one(text, wanted) for text, wanted in zip(contents(completions), answer)]


def math_equal(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
    return [float(verify(parse(f"${wanted}$"), parse(text))) for text, wanted in zip(contents(completions), answer)]


def set_match(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
    def items(text: str) -> set[str]:
        return {item.strip().lower() for item in re.split(r"[,;\n]", text) if item.strip()}

    def f1(found: set[str], expected: set[str]) -> float:
        return 2 * len(found & expected) / (len(found) + len(expected))

    return [f1(items(text), items(wanted)) for text, wanted in zip(contents(completions), answer)]


def json_valid(completions: Chats, **columns: Any) -> list[float]:
    def one(text: str) -> float:
        try:
            json.loads(text)
            return 1.0
        except ValueError:
            return 0.0

    return [one(text) for text in contents(completions)]


def json_schema(schema: dict[str, Any]) -> Any:
    validator = jsonschema.Draft202012Validator(schema)

    def reward(completions: Chats, **columns: Any) -> list[float]:
        return [float(validator.is_valid(json.loads(text))) for text in contents(completions)]

    return reward


def json_fields(completions: Chats, answer: list[dict[str, Any]], **columns: Any) -> list[float]:
    def one(text: str, wanted: dict[str, Any]) -> float:
        found = json.loads(text)
        return sum(found.get(key) == value for key, value in wanted.items()) / len(wanted)

    return [one(text, wanted) for text, wanted in zip(contents(completions), answer)]


def tool_call(completions: Chats, answer: list[list[dict[str, Any]]], **columns: Any) -> list[float]:
    def one(text: str, wanted: list[dict[str, Any]]) -> float:
        found = [json.loads(call) for call in CALL.findall(text)]
        key = lambda call: json.dumps(call, sort_keys=True)  # noqa: E731
        return float(sorted(map(key, found)) == sorted(map(key, wanted)))

    return [one(text, wanted) for text, wanted in zip(contents(completions), answer)]


def tag_format(completions: Chats, **columns: Any) -> list[float]:
    return [float(bool(FORMAT.match(text))) for text in contents(completions)]


def repetition(completions: Chats, **columns: Any) -> list[float]:
    def one(text: str) -> float:
        words = text.lower().split()
        grams = list(zip(*[words[i:] for i in range(3)]))
        return len(set(grams)) / len(grams)

    return [one(text) for text in contents(completions)]


def length(completions: Chats, **columns: Any) -> list[float]:
    return [min(1.0, max(0.0, 1 - (len(text.split()) - 80) / 40)) for text in contents(completions)]


def fuzzy(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
    return [fuzz.ratio(text, wanted) / 100 for text, wanted in zip(contents(completions), answer)]


def bleu(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
    return [sacrebleu.sentence_bleu(text, [wanted]).score / 100 for text, wanted in zip(contents(completions), answer)]


def gleu(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
    return [sentence_gleu([wanted.split()], text.split()) for text, wanted in zip(contents(completions), answer)]


def meteor(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
    return [single_meteor_score(wanted.split(), text.split(), wordnet=NoSynonyms()) for text, wanted in zip(contents(completions), answer)]


def rouge(kind: str) -> Any:
    scorer = rouge_scorer.RougeScorer([kind])

    def reward(completions: Chats, answer: list[str], **columns: Any) -> list[float]:
        return [scorer.score(wanted, text)[kind].fmeasure for text, wanted in zip(contents(completions), answer)]

    return reward


def rewards(cases: dict[str, Any]) -> dict[str, Any]:
    """Name -> reward function."""
    plain = (string_check, regex_match, number_match, math_equal, set_match, json_valid, json_fields, tool_call, tag_format, repetition, length)
    found: dict[str, Any] = {function.__name__: function for function in plain}
    if "json_schema" in cases:
        found["json_schema"] = json_schema(cases["json_schema"]["spec"]["params"]["schema"])
    metrics = {"fuzzy_match": fuzzy, "bleu": bleu, "gleu": gleu, "meteor": meteor, "rouge_1": rouge("rouge1"), "rouge_l": rouge("rougeL")}
    return found | {f"text_similarity_{metric}": function for metric, function in metrics.items()}


class Caller:
    """A GRPOTrainer that has what _calculate_rewards reads, and one reward function."""

    def __init__(self, case: dict[str, Any], function: Any) -> None:
        self._trainer: Any = GRPOTrainer.__new__(GRPOTrainer)
        self._trainer.accelerator, self._trainer.state, self._trainer.args = Accelerator(cpu=True), TrainerState(), SimpleNamespace(report_to=[])
        self._trainer.reward_funcs, self._trainer.reward_processing_classes = [function], [None]
        self._trainer.reward_func_names, self._trainer.environments = [function.__name__], None
        self._function = function
        self.chats: Chats = [[{"role": "assistant", "content": text}] for text in case["completions"]]
        self.prompts = [[{"role": "user", "content": "What is asked."}] for _ in self.chats]
        self.inputs = [{"prompt": prompt, **line} for prompt, line in zip(self.prompts, case["rows"])]
        self.ids = [[0] * 8 for _ in self.chats]

    def __call__(self) -> Any:
        """A step's rewards, as a tensor [completions, 1]."""
        return self._trainer._calculate_rewards(self.inputs, self.prompts, self.chats, self.ids)

    def scores(self) -> list[float]:
        """The function's own numbers, before TRL rounds them to fp32."""
        columns = {key: [line[key] for line in self.inputs] for key in self.inputs[0] if key != "prompt"}
        found: list[float] = self._function(prompts=self.prompts, completions=self.chats, completion_ids=self.ids, **columns)
        return found

    def rate(self) -> float:
        """Grades per second of CPU time, over at least 0.1 s."""
        count, start = 0, time.process_time()
        while time.process_time() - start < 0.1:
            count += len(self())
        return count / (time.process_time() - start)


def main() -> None:
    """Answers until stdin is closed."""
    logging.disable(logging.WARNING)
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    functions = rewards(cases)
    callers = {name: Caller(case, functions[name]) for name, case in cases.items()}
    scores = {name: caller.scores() for name, caller in callers.items()}
    print(json.dumps({"ready": True, "python": sys.version.split()[0], "scores": scores}), flush=True)
    for line in sys.stdin:
        if line.strip() == "run":
            print(json.dumps({"grades_per_s": {name: caller.rate() for name, caller in callers.items()}}), flush=True)


if __name__ == "__main__":
    main()
