"""`rft check http-peer`: the engine over HTTP against a real llama.cpp server (`make peers` builds it), token ids in and out.

Rows, SmolLM2-135M in fp32 on both sides:
    http/llama.cpp/logprob_diff_max    nats; what the server says of the tokens it drew, against our engine on the same ids (without
                                       samples that it says too little of: tokens that end within a character); `samples`: how many
    http/llama.cpp/greedy_different    greedy completions that differ from our engine's
    http/llama.cpp/top_logprob_diff_max    the same for the five most likely tokens at each place
    http/llama.cpp/schema_violations   completions under a JSON schema that are something else
    http/llama.cpp/untyped_errors      failures (unknown fields, no room, cancelled, server killed) without the error they should have
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rft.bench import BenchOptions, Log, Row, largest, row
from rft.bench.check_model import PROMPTS
from rft.bench.models import gguf
from rft.bench.peer import project_root
from rft.codec import load_codec
from rft.structure import compile_grammar

PROGRAM = Path(".venv-peers/llama.cpp/build/bin/llama-server")
CONTEXT, SLOTS, NEW, ASKED, TOP = 1024, 4, 24, 8, 5
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["answer"],
          "additionalProperties": False}


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """Five rows."""
    from rft import _native

    folder = options.model_dir().resolve()
    native, codec = _native.load(), load_codec(folder)
    prompts = [codec.encode_chat([{"role": "user", "content": text}]) for text in PROMPTS[:ASKED]]
    with llama_server(gguf(folder, "fp32", log), log) as (process, url):
        ours = native.Engine(native.Model.load(str(folder), dtype="fp32"))
        theirs = native.Engine.connect(url, dialect="llama.cpp", max_context=CONTEXT, vocab_size=len(codec.token_bytes))
        drawn = [[sample for sample in samples if not sample.error.startswith("UNIMPLEMENTED: ")]
                 for samples in theirs.generate(prompts, n=2, max_tokens=NEW, seed=1)]
        yield row("http/llama.cpp/logprob_diff_max", largest(
            abs(said - scored) for prompt, samples in zip(prompts, drawn, strict=True) for sample in samples
            for said, scored in zip(checked(sample).logprobs, scores(ours, prompt, sample), strict=True)), None, "nats", 1e-3, samples=sum(map(len, drawn)))
        greedy = [[text(checked(samples[0]), codec) for samples in engine.generate(prompts, temperature=0.0, max_tokens=NEW)]
                  for engine in (ours, theirs)]
        yield row("http/llama.cpp/greedy_different", sum(a != b for a, b in zip(*greedy, strict=True)), None, f"of {ASKED} completions", 0)
        ranked = theirs.generate(prompts, temperature=0.0, max_tokens=NEW, top_logprobs=TOP)
        yield row("http/llama.cpp/top_logprob_diff_max", largest(
            abs(said - scored) for prompt, (sample,) in zip(prompts, ranked, strict=True)
            for top, own in zip(checked(sample).top_logprobs, alternatives(ours, prompt, sample), strict=True)
            for (_, said), (_, scored) in zip(top, own, strict=True)), None, "nats", 1e-3)
        grammar = compile_grammar(codec, json_schema=SCHEMA)
        answers = [checked(sample) for (sample,) in theirs.generate(prompts, temperature=0.0, max_tokens=4 * NEW, grammar=grammar)]
        yield row("http/llama.cpp/schema_violations", sum(not fits(codec.decode(text(answer, codec))) for answer in answers),
                  None, f"of {ASKED} completions", 0)
        failures = list(untyped(theirs, process, prompts[0]))
        for failure in failures:
            log(failure)
        yield row("http/llama.cpp/untyped_errors", len(failures), None, "errors", 0)
        ours.close()
        theirs.close()


@contextmanager
def llama_server(model: Path, log: Log) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, ready to answer, and its URL."""
    program = project_root() / PROGRAM
    if not program.is_file():
        raise FileNotFoundError(f"{program}: the peers are not installed; `make peers` sets them up once")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log(f"peer: starting llama-server on {model.name}")
    process = subprocess.Popen([str(program), "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-c", str(CONTEXT * SLOTS),
                                "-np", str(SLOTS), "-ctk", "f32", "-ctv", "f32", "-fa", "off"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"llama-server ended with {process.poll()} before it answered")
            time.sleep(0.2)
        yield process, url
    finally:
        process.kill()
        process.wait()


def healthy(url: str) -> bool:
    """Whether the model is loaded."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def checked(completion: Any) -> Any:
    """The completion, unless it is an error."""
    if completion.finish_reason == "error":
        raise RuntimeError(f"the server's completion: {completion.error}")
    return completion


def scores(engine: Any, prompt: list[int], completion: Any) -> list[float]:
    """Our log-probabilities of the completion's tokens."""
    ids = [*prompt, *map(int, completion.ids)]
    scored = engine.generate([ids], max_tokens=1, prompt_logprobs=0)[0][0].prompt_logprobs
    return [float(value) for value in scored[len(prompt):]]


def alternatives(engine: Any, prompt: list[int], completion: Any) -> list[list[tuple[int, float]]]:
    """Our most likely tokens at the completion's places."""
    ids = [*prompt, *map(int, completion.ids)]
    found: list[list[tuple[int, float]]] = engine.generate([ids], max_tokens=1, prompt_logprobs=TOP)[0][0].prompt_top_logprobs
    return found[len(prompt):]


def fits(said: str) -> bool:
    """Whether it is what SCHEMA asks for."""
    try:
        value = json.loads(said)
    except json.JSONDecodeError:
        return False
    return set(value) == {"answer"} and isinstance(value["answer"], int) and 0 <= value["answer"] <= 99


def text(completion: Any, codec: Any) -> list[int]:
    """What is said: servers may keep or drop the end token."""
    return [int(i) for i in completion.ids if int(i) not in codec.end_ids]


def untyped(engine: Any, process: subprocess.Popen[bytes], prompt: list[int]) -> Iterator[str]:
    """What went wrong without saying so."""
    import rft

    for what, options in (("a field that it doesn't know", {"min_tokens": 3}), ("no room", {"max_tokens": CONTEXT}),
                          ("log-probabilities that it doesn't give", {"temperature": 0.7, "max_tokens": 2})):
        try:
            (made,) = engine.generate([prompt], **options)[0]
            if not made.error.startswith("UNIMPLEMENTED: "):
                yield f"{what}: {made.finish_reason} {made.error}"
        except rft.ConfigError:
            pass
    try:
        engine.generate([prompt], max_tokens=CONTEXT - len(prompt), ignore_eos=True, deadline_s=0.5)
        yield "a cancelled request came to its end"
    except rft.DeadlineError:
        pass
    threading.Timer(1.0, process.kill).start()
    (made,) = engine.generate([prompt], max_tokens=CONTEXT - len(prompt), ignore_eos=True)[0]
    if not (made.finish_reason == "error" and made.error.startswith("UNAVAILABLE: ")):
        yield f"a killed server: {made.finish_reason} {made.error}"
