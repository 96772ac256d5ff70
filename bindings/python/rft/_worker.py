"""Worker process of a Python grader: `python -m rft._worker`. Started by graders/worker_pool.cc, not by people.

Reads frames on file descriptor 0 and answers on 1 (4 bytes of length, little-endian, then JSON; the messages are listed in
graders/worker_messages.h). Before any user code runs both are moved away, so that `print` and `input` can't disturb them:
stdout joins stderr, which the parent keeps the end of; stdin becomes empty.

What a grader function may take: any of
    completion     what the model wrote, as text
    row            the line of the dataset, as a dict
    token_ids      the completion's ids
    finish_reason  "stop", "length", "cancelled" or "error"
    messages       the whole conversation: the row's messages and what the model wrote
    sample, item   as OpenAI's Python graders: {"output_text", "output_json", "output_tools", "choices"}, and the row
and any column of the row, by its name. It may be `async`.
A class is made into an object once per worker and called like a function: a place to load something big. Functions of other
systems (TRL, eval-protocol, verifiers) and functions that take many completions at once: rft/_adapters.py.
What it may return:
    a number or a bool         the score
    None                       no opinion: the rollout is not used
    {"score": x, "reason": text, "sub_scores": {name: number}}      the last two are optional; rft.Grade(x, text, {...}) is the same
    {name: number, ...}        parts without a "score": the score is their sum, the parts are reported
    [number, ...]              a score per turn, the score is their sum; beside a "score" they go under "turn_scores"
    "token_advantages" beside a "score": one number per completion token, added to the token's advantage
Everything else, NaN and infinities included, is an error of the grader: the rollout is not used, and never scored 0.

Needs the standard library only (cloudpickle for functions that were sent pickled); relies on `import rft` being cheap.
"""

from __future__ import annotations

import base64
import decimal
import functools
import importlib.util
import inspect
import json
import linecache
import math
import numbers
import os
import select
import struct
import sys
import traceback
import types

from rft import _adapters
from rft._adapters import GraderMistake

MAX_FRAME_BYTES = 64 << 20
MAX_TEXT = 16 << 10  # of one reason or error message
PARTS = ("turn_scores", "token_advantages")  # what a score may be made of: rft/core/grade.h
BUILT_IN = ("completion", "row", "token_ids", "finish_reason", "messages", "sample", "item")


# ---------------------------------------------------------------- frames


class Channel:
    """The two pipes to the parent, taken away from fds 0 and 1."""

    def __init__(self) -> None:
        self._requests = os.dup(0)  # os.dup: not inherited by programs the grader starts
        self._replies = os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._starts: int | None = None

    def wait_for_starts(self, fd: int) -> None:
        """From now on each item needs a byte from `fd` to start (graders/start_tokens.h)."""
        self._starts = os.dup(fd)
        os.close(fd)

    def may_start(self) -> bool:
        """Whether the next item is still ours; another worker may have got it."""
        if self._starts is None:
            return True
        while True:
            try:
                token = os.read(self._starts, 1)
            except BlockingIOError:
                select.select([self._starts], [], [])
                continue
            if not token:
                raise EOFError
            return token == b"s"

    def _read_exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = os.read(self._requests, min(count - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def receive(self) -> dict:
        """The next message. EOFError: the parent is done with us."""
        (length,) = struct.unpack("<I", self._read_exactly(4))
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {length} bytes; the limit is {MAX_FRAME_BYTES}")
        return json.loads(self._read_exactly(length).decode("utf-8", errors="replace"))

    def send(self, message: dict) -> None:
        payload = json.dumps(message, allow_nan=False).encode()
        frame = memoryview(struct.pack("<I", len(payload)) + payload)
        while frame:
            frame = frame[os.write(self._replies, frame) :]


def text(value: object) -> str:
    """`value` as text that any JSON parser takes: no lone surrogates, not too long."""
    clean = str(value).encode("utf-8", errors="replace").decode()
    return clean if len(clean) <= MAX_TEXT else clean[: MAX_TEXT // 2] + " ... " + clean[-MAX_TEXT // 2 :]


# ---------------------------------------------------------------- the function


def load(spec: dict):
    """What a {"file", "name"}, {"module", "name"}, {"source", "name"} or {"pickle"} names, ready to be called."""
    if "pickle" in spec:
        target = load_pickle(spec["pickle"])
    elif "source" in spec:
        target = load_source(spec["source"], spec["name"])
    elif "module" in spec:
        target = member(load_module(spec["module"]), spec["name"], f"the module {spec['module']}")
    else:
        target = load_file(spec["file"], spec["name"])
    if "args" in spec or inspect.isclass(target):
        return target(**spec.get("args", {}))
    return target


def load_pickle(data: str):
    try:
        import cloudpickle
    except ImportError:
        raise GraderMistake(
            f"this function was sent pickled, and {sys.executable} has no cloudpickle; pip install cloudpickle, "
            "or put the function into a file of its own"
        ) from None
    return cloudpickle.loads(base64.b64decode(data))


def load_module(name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and imports something that is not
        raise GraderMistake(
            f"there is no module {error.name}, neither installed in {sys.prefix} nor on PYTHONPATH; "
            'a file is named as "path/to/file.py:name"'
        ) from None


def load_file(path: str, name: str):
    sys.path.insert(0, os.path.dirname(path))  # modules beside the file can be imported, as when running it
    # Under a name of its own: a grader file may be called json.py.
    module_name = "_rft_grader_" + os.path.splitext(os.path.basename(path))[0]
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module
    module_spec.loader.exec_module(module)
    return member(module, name, path)


def member(module, name: str, where: str):
    """The grader `name` of a module: a function, a class, an object that can be called, or a rubric."""
    target = getattr(module, name, None)
    if callable(target) or _adapters.rubric_functions(target) is not None:
        return target
    known = sorted(
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    )
    what = "no function" if target is None else f"a {type(target).__name__}, not a function,"
    raise GraderMistake(f"{where} has {what} named {name!r}; its functions: {', '.join(known) or 'none'}")


def load_source(source: str, name: str):
    """The function `name` of Python text, called with its two arguments by position, as OpenAI's service does."""
    file = "<source>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # so that tracebacks show the lines
    module = types.ModuleType("_rft_grader_source")
    sys.modules[module.__name__] = module
    exec(compile(source, file, "exec"), module.__dict__)
    function = getattr(module, name, None)
    if not callable(function):
        raise GraderMistake(f"the source defines no function {name}(sample, item)")
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if {p.name for p in parameters} == {"sample", "item"} or len(parameters) < 2:
        return function

    def grade(sample, item):
        return function(sample, item)

    return grade


class EventLoop:
    """One asyncio loop for the worker's life, so that what a grader keeps between calls (an HTTP session) stays usable."""

    def __init__(self) -> None:
        self._loop = None

    def __call__(self, result: object) -> object:
        """The result itself, or what it says once awaited."""
        if not inspect.isawaitable(result):
            return result
        import asyncio  # here: most graders don't need it, and it would double a worker's start

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)

        async def wait():
            return await result

        return self._loop.run_until_complete(wait())


def own_name(function, label: str) -> str:
    return getattr(function, "__name__", None) or label


def row_of(item: dict) -> dict:
    row = json.loads(item["row"])
    if not isinstance(row, dict):
        raise GraderMistake(f"the row is a JSON {type(row).__name__}, not an object")
    return row


class Adapted:
    """A grader of another style, and how to call it."""

    def __init__(self, function, label: str, style: str) -> None:
        self.name = own_name(function, label)
        self.batch = _adapters.takes_lists(function, style)
        self.columns: list = []  # not known
        self.whole = style == "group"  # what comes together is judged together or not at all
        self._grade = _adapters.ADAPTERS[style](function, self.name, EventLoop())

    def __call__(self, item: dict) -> object:
        return self.grade_all([item])[0]

    def grade_all(self, items: list[dict]) -> list:
        return self._grade(items, [row_of(item) for item in items])


class Function:
    """A grader function that judges one completion, and how to call it."""

    batch = whole = False

    def __init__(self, function, label: str) -> None:
        self._function = function
        self.name = own_name(function, label)
        self._await = EventLoop()
        self._parameters = list(inspect.signature(function).parameters.values())
        names = {p.name for p in self._parameters}
        self._wants = names & {"messages", "sample"}  # they cost something to make
        self.columns = [p.name for p in self._parameters if p.name not in BUILT_IN and p.default is p.empty
                        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]  # it can't be called without them

    def __call__(self, item: dict) -> object:
        args, kwargs = self._arguments(item, row_of(item))
        return self._await(self._function(*args, **kwargs))

    def _arguments(self, item: dict, row: dict) -> tuple[list, dict]:
        values = dict(row)
        values.update({key: item[key] for key in ("completion", "token_ids", "finish_reason")})
        values.update(row=row, item=row)
        if "messages" in self._wants:
            values["messages"] = _adapters.conversation(item, row)
        if "sample" in self._wants:
            values["sample"] = _adapters.openai_sample(item)
        args: list = []
        kwargs: dict = {}
        for parameter in self._parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                named = {p.name for p in self._parameters}
                kwargs.update({key: value for key, value in values.items() if key not in named})
            elif parameter.name in values:
                if parameter.kind is parameter.POSITIONAL_ONLY:
                    args.append(values[parameter.name])
                else:
                    kwargs[parameter.name] = values[parameter.name]
            elif parameter.default is parameter.empty:
                raise GraderMistake(
                    f"{self.name} asks for {parameter.name!r}, which is neither one of {', '.join(BUILT_IN)} "
                    f"nor a column of the row (columns: {', '.join(row) or 'none'})"
                )
            elif parameter.kind is parameter.POSITIONAL_ONLY:
                args.append(parameter.default)
        return args, kwargs


# ---------------------------------------------------------------- verdicts


def number(value: object, what: str, hint: str = "") -> float:
    """A finite float; NumPy and torch scalars are numbers too."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if not isinstance(value, (numbers.Real, decimal.Decimal)):
        raise GraderMistake(f"{what} {type(value).__name__} ({text(repr(value)[:100])}), not a number{hint}")
    result = float(value)
    if not math.isfinite(result):
        raise GraderMistake(f"{what} {result}; a score must be finite")
    return result


def numbers_of(values: object, what: str) -> list[float]:
    """One or more finite floats."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, (list, tuple)) or not values:
        raise GraderMistake(f"{what} of type {type(values).__name__}, not a list of at least one number")
    return [number(item, f"{what}[{i}]:") for i, item in enumerate(values)]


def verdict(value: object, name: str) -> dict:
    """The reply (without its id) for what a grader returned."""
    if value is None:
        return {"abstain": f"{name} returned None"}
    if hasattr(value, "sub_scores") and hasattr(value, "score"):  # an rft.Grade
        value = {key: getattr(value, key) for key in ("score", "reason", "sub_scores", *PARTS) if hasattr(value, key)}
    if isinstance(value, (list, tuple)):
        value = {"turn_scores": value}
    if not isinstance(value, dict):
        return {"score": number(value, f"{name} returned", "; return a number, a bool, a list with one per turn, a dict or None")}
    found = {key: numbers_of(value[key], f"{name} returned {key}") for key in PARTS if value.get(key) is not None}
    if "score" not in value and "turn_scores" in found:
        value = {**value, "score": sum(found["turn_scores"])}
    if "score" not in value:
        if not value:
            raise GraderMistake(f'{name} returned an empty dict; give it a "score" or named parts')
        parts = {text(key): number(part, f"{name} returned {key!r}:") for key, part in value.items()}
        return {"score": number(sum(parts.values()), f"the sum of {name}'s parts is"), "sub_scores": parts}
    unknown = [key for key in value if key not in ("score", "reason", "sub_scores", *PARTS)]
    if unknown:
        raise GraderMistake(f'{name} returned unknown keys {unknown} beside "score"; known: reason, sub_scores, {", ".join(PARTS)}')
    if value["score"] is None:
        return {"abstain": text(value.get("reason") or f"{name} gave the score None")}
    parts = value.get("sub_scores") or {}
    if not isinstance(parts, dict):
        raise GraderMistake(f"{name} returned sub_scores of type {type(parts).__name__}, not a dict")
    return {
        "score": number(value["score"], f"{name} returned the score"),
        "reason": text(value.get("reason") or ""),
        "sub_scores": {text(key): number(part, f"{name} returned the sub-score {key!r}:") for key, part in parts.items()},
        **found,
    }


def describe(error: BaseException) -> str:
    """Type, message and the frames in the user's own code."""
    ours = (__file__, _adapters.__file__, importlib.__file__)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename not in ours and "<frozen importlib" not in f.filename]
    where = "".join(f"\n  {f.filename}:{f.lineno} in {f.name}: {f.line}" for f in frames[-8:])
    return text(f"{type(error).__name__}: {error}{where}")


def reply_of(name: str, judge) -> dict:
    """The reply (without its id) for what `judge` returns or raises."""
    try:
        return verdict(judge(), name)
    except GraderMistake as mistake:
        return {"error": text(mistake)}
    except BaseException as error:  # SystemExit too: a grader that calls sys.exit() hasn't judged anything
        return {"error": f"{name} raised {describe(error)}"}


def reraise(error: BaseException) -> None:
    """Raises it again, where it was raised."""
    raise error


def grade(function, items: list[dict], may_start=lambda: True):
    """A reply per item, in their order, each as soon as it is there. Items that may not start have none."""
    if function.batch and not may_start():  # all items are one call
        return
    if function.batch and (function.whole or len(items) > 1):
        try:
            results = function.grade_all(items)
        except BaseException as error:
            if function.whole:
                failed = reply_of(function.name, functools.partial(reraise, error))
                yield from ({"id": item["id"], **failed} for item in items)
                return
            # one of them may be to blame: each by itself, then
        else:
            for item, result in zip(items, results):
                yield {"id": item["id"], **reply_of(function.name, lambda result=result: result)}
            return
    for item in items:
        if function.batch or may_start():
            yield {"id": item["id"], **reply_of(function.name, lambda item=item: function(item))}


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed or replaced by the grader


def main() -> int:
    channel = Channel()
    own_pid = os.getpid()
    try:
        init = channel.receive()
        if "starts" in init:
            channel.wait_for_starts(init["starts"])
        sys.path.extend(path for path in init.get("sys_path", []) if path not in sys.path)
        target, label = load(init["function"]), init.get("label", "grader")
        style = init.get("style", "auto")
        style = _adapters.style_of(target) if style == "auto" else style
        function = Function(target, label) if style == "completion" else Adapted(target, label, style)
    except EOFError:
        return 0
    except GraderMistake as mistake:
        channel.send({"failed": text(mistake)})
        return 1
    except BaseException as error:
        flush()
        channel.send({"failed": f"loading the function raised {describe(error)}"})
        return 1
    channel.send({"ready": True, "batch": function.batch, "columns": function.columns})
    try:
        while True:
            for reply in grade(function, channel.receive()["items"], channel.may_start):
                if os.getpid() != own_pid:
                    os._exit(0)  # a child that the grader forked came back here; the answer is the parent's to give
                flush()
                channel.send(reply)
    except (EOFError, BrokenPipeError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
