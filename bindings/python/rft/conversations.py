"""Conversations in OpenAI's fine-tuning format to training rows: which tokens are trained on, and how much.

A row: {"messages": [...], "tools"?: [...]}; an assistant message may have a "weight" (0: context only) and "tool_calls".
A preference row: {"messages": [...], "chosen": message(s), "rejected": message(s)}, or OpenAI's {"input": {"messages": [...]},
"preferred_output": [...], "non_preferred_output": [...]}. An unpaired one: {"messages": [...], "completion": message(s), "label": bool}.

A conversation is rendered with the model's own template, and tokenised in the pieces that sampling would see: up to where the
assistant's words begin, and the words with the token that ends them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rft import _native
from rft.codec import Codec

if TYPE_CHECKING:
    from rft._rft import Datum

Message = dict[str, Any]
S, T = TypeVar("S"), TypeVar("T")
Line = tuple[str, T]  # of a file: where it stands, and what it says

MAX_REPORTED = 20  # bad lines of a file


def read_rows(path: str | Path, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    """`parse` of every line of a JSONL file; bad lines are reported together, the first 20 and how many more."""
    return [row for _, row in read_files([path], parse)[0]]


def read_files(paths: Sequence[str | Path], parse: Callable[[dict[str, Any]], T]) -> list[list[Line[T]]]:
    """`parse` of every line of each JSONL file, with its place ("x.jsonl:7"); the bad lines of all files are reported together."""
    def read(line: str) -> T:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("expected a JSON object")
        return parse(row)

    files, problems = [], []
    for path in map(Path, paths):
        # Not splitlines: a text in JSON may hold what Unicode calls a line separator.
        lines = enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        try:
            files.append(parse_lines([(f"{path}:{number}", line) for number, line in lines if line.strip()], read))
            if not files[-1]:
                raise ValueError(f"{path}: no rows")
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return files


def parse_lines(lines: Sequence[Line[S]], parse: Callable[[S], T]) -> list[Line[T]]:
    """`parse` of what each line says; bad lines are reported together, the first 20 and how many more."""
    parsed, problems = [], []
    for where, said in lines:
        try:
            parsed.append((where, parse(said)))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
            problems.append(f"{where}: {what}")
    if len(problems) > MAX_REPORTED:
        problems[MAX_REPORTED:] = [f"... and {len(problems) - MAX_REPORTED} more bad lines"]
    if problems:
        raise ValueError("\n".join(problems))
    return parsed


def fitting(datums: list[Datum], context: int, more: int = 0) -> list[Datum]:
    """The datums themselves, when each of them and `more` tokens after it fit into the model's context."""
    for datum in datums:
        if len(datum) + more > context:
            raise ValueError(f"{len(datum)} tokens" + (f" and {more} to come" if more else "")
                             + f" are more than the model's context of {context}; shorten the row or leave it out")
    return datums


def check_conversation(row: dict[str, Any]) -> dict[str, Any]:
    """The row itself, when it can be trained on."""
    messages = row["messages"]
    if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
        raise ValueError("messages: expected a list of {\"role\": ..., \"content\": ...}")
    for index, message in enumerate(messages):
        weight = message.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"messages.{index}.weight: expected a number of at least 0, got {weight!r}")
        if weight != 1 and message["role"] != "assistant":
            raise ValueError(f"messages.{index}.weight: only messages of the assistant have one")
    if not any(m["role"] == "assistant" and m.get("weight", 1) > 0 for m in messages):
        raise ValueError("messages: none of the assistant to train on")
    return row


def to_datums(codec: Codec, row: dict[str, Any], train_on: str = "all") -> list[Datum]:
    """One datum for a conversation; one per trained message where the template renders earlier turns differently later on."""
    messages = [_plain(message) for message in row["messages"]]
    tools = row.get("tools")
    turns = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    weights = {i: float(row["messages"][i].get("weight", 1)) for i in turns}
    if train_on == "last":
        weights = {turns[-1]: weights[turns[-1]]}
    messages = messages[:turns[-1] + 1]
    pieces = _pieces(codec, messages, tools, turns, weights)
    if pieces is not None:
        return [_datum(pieces)]
    datums = []
    for turn in turns:
        if weights.get(turn, 0.0) > 0:
            single = _pieces(codec, messages[:turn + 1], tools, [turn], weights)
            if single is None:
                raise ValueError("the chat template does not continue the prompt with the assistant's message")
            datums.append(_datum(single))
    return datums


def completion_datum(codec: Codec, prompt: Sequence[Message], completion: Sequence[Message], tools: Any = None, **fields: Any) -> Datum:
    """Prompt and completion; the completion's tokens have weight 1."""
    messages = [_plain(m) for m in [*prompt, *completion]]
    turns = [i for i in range(len(prompt), len(messages)) if messages[i]["role"] == "assistant"]
    if not turns:
        raise ValueError("the completion has no message of the assistant")
    pieces = _pieces(codec, messages[:turns[-1] + 1], tools, turns, dict.fromkeys(turns, 1.0))
    if pieces is None:
        raise ValueError("the chat template renders earlier turns differently later on; give a completion of one message")
    return _datum(pieces, **fields)


def _pieces(codec: Codec, messages: list[Message], tools: Any, turns: list[int], weights: dict[int, float],
            ) -> list[tuple[list[int], float]] | None:
    """(ids, weight) of each piece; None when a turn's rendering is not how the next one begins."""
    pieces: list[tuple[list[int], float]] = []
    done = ""
    for turn in turns:
        prompt, whole = _render(codec, messages[:turn], tools, True), _render(codec, messages[:turn + 1], tools, False)
        if not prompt.startswith(done) or not whole.startswith(prompt):
            return None
        for call in messages[turn].get("tool_calls") or []:
            if call["function"]["name"] not in whole[len(prompt):]:
                raise ValueError(f"messages.{turn}.tool_calls: the model's chat template leaves them out; give it one that renders tool calls")
        said = codec.encode(whole[len(prompt):])
        ends = [i for i, token in enumerate(said) if token in codec.end_ids]
        if ends:
            answer, rest = said[:ends[0] + 1], said[ends[0] + 1:]
        else:
            answer, rest = [*said, *([_end_id(codec)] if turn == turns[-1] else [])], []
        weight = weights.get(turn, 0.0)
        pieces += [(codec.encode(prompt[len(done):]), 0.0), (answer, weight), (rest if turn != turns[-1] else [], 0.0)]
        done = whole
    return pieces


def _render(codec: Codec, messages: list[Message], tools: Any, open_answer: bool) -> str:
    if not codec.tokenizer.chat_template:
        raise ValueError(f"{codec.tokenizer.name_or_path}: the tokenizer has no chat template; add a chat_template.jinja to "
                         "the model's folder")
    return str(codec.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=open_answer))


def _end_id(codec: Codec) -> int:
    end = codec.tokenizer.eos_token_id
    return int(codec.end_ids[0] if end is None else end)


def _plain(message: Message) -> Message:
    """As templates expect it: no weight, a text content, arguments of tool calls as objects."""
    message = {key: value for key, value in copy.deepcopy(message).items() if key != "weight"}
    if "function_call" in message or message["role"] == "function":
        raise ValueError("function_call: is OpenAI's older format; write tool_calls, and the answer as a message of role tool")
    if message.get("content") is None:
        message["content"] = ""
    elif isinstance(message["content"], list):
        if other := [part.get("type") for part in message["content"] if part.get("type") not in ("text", "refusal")]:
            raise ValueError(f"content: parts of text only, got {other[0]!r}")
        message["content"] = "".join(part[part["type"]] for part in message["content"])
    for call in message.get("tool_calls") or []:
        function = call.get("function", {})
        if isinstance(function.get("arguments"), str):
            try:
                function["arguments"] = json.loads(function["arguments"])
            except ValueError:
                raise ValueError(f"tool_calls: arguments of {function.get('name')!r} are no JSON") from None
    return message


def _datum(pieces: list[tuple[list[int], float]], **fields: Any) -> Datum:
    ids = [token for piece, _ in pieces for token in piece]
    return _native.load().Datum(ids, [weight for piece, weight in pieces for _ in piece], **fields)


def _as_messages(value: Any) -> list[Message]:
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    return [value] if isinstance(value, dict) else list(value)


def parse_pair(row: dict[str, Any]) -> tuple[list[Message], list[Message], list[Message], Any]:
    """(prompt, chosen, rejected, tools) of a preference row in either spelling."""
    if "preferred_output" in row:
        given = row["input"]
        return given["messages"], _as_messages(row["preferred_output"]), _as_messages(row["non_preferred_output"]), given.get("tools")
    return row["messages"], _as_messages(row["chosen"]), _as_messages(row["rejected"]), row.get("tools")


def parse_labelled(row: dict[str, Any]) -> tuple[list[Message], list[Message], bool, Any]:
    """(prompt, completion, desirable, tools) of an unpaired row."""
    if not isinstance(row["label"], bool):
        raise ValueError("label: expected true or false")
    return row["messages"], _as_messages(row["completion"]), row["label"], row.get("tools")
