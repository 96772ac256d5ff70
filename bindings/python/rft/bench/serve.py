"""`rft bench serve`: 64 clients stream over HTTP, against the same work in process (`peer`).

Row serve/stream/<size>/<dtype>/c64: 64 prompts of 32 random tokens, 64 new tokens each, temperature 1, no end token. Both sides
are timed in turn from the first request to the last token. The clients are threads of a second process, so that they do not hold
this one's interpreter; what they cost the machine is part of `ours`.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from rft.bench import BenchOptions, Log, Row, row, size_label

CLIENTS, PROMPT, NEW = 64, 32, 64

# Reads {"port", "bodies"} lines; sends each body on a connection of its own; prints the seconds and the number of tokens.
CLIENT = """
import http.client, json, sys, threading, time
for line in sys.stdin:
    task = json.loads(line)
    made = []
    def ask(body):
        connection = http.client.HTTPConnection("127.0.0.1", task["port"], timeout=600)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        made.append(connection.getresponse().read().count(b'"text"'))
    threads = [threading.Thread(target=ask, args=(json.dumps(body),)) for body in task["bodies"]]
    start = time.perf_counter()
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps({"seconds": time.perf_counter() - start, "answers": len(made), "events": sum(made)}), flush=True)
"""


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row."""
    from rft import _native
    from rft.codec import load_codec

    native = _native.load()
    folder = options.model_dir()
    model = native.Model.load(str(folder), dtype="bf16")
    name = f"serve/stream/{size_label(model.num_parameters)}/bf16/c{CLIENTS}"
    rng = random.Random(0)
    prompts = [[rng.randrange(3, model.vocab_size) for _ in range(PROMPT)] for _ in range(CLIENTS)]
    client = subprocess.Popen([sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ours, theirs, events = [], [], 0
    try:
        with native.Server(model, load_codec(folder).native(), ["bench"]) as server, native.Engine(model, max_batch=CLIENTS) as engine:
            for index in range(options.rounds + 1):  # the first round warms both sides up
                http = over_http(client, server.port, prompts, index)
                inside = in_process(engine, prompts, index)
                log(f"{name}: round {index}: http {http[0]:.0f}, in process {inside:.0f} tokens/s")
                if index:
                    ours.append(http[0])
                    theirs.append(inside)
                    events = http[1]
    finally:
        client.kill()
        client.communicate()
    yield row(name, statistics.median(ours), statistics.median(theirs), "tokens/s", None, ours_all=[round(x, 1) for x in ours],
              peer_all=[round(x, 1) for x in theirs], events_per_round=events)


def over_http(client: subprocess.Popen[str], port: int, prompts: list[list[int]], seed: int) -> tuple[float, int]:
    """Tokens per second, and the events that carried them (tokens that arrive together share one)."""
    bodies = [{"prompt": prompt, "max_tokens": NEW, "ignore_eos": True, "seed": seed, "stream": True} for prompt in prompts]
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(json.dumps({"port": port, "bodies": bodies}) + "\n")
    client.stdin.flush()
    answer: dict[str, Any] = json.loads(client.stdout.readline())
    if answer["answers"] != CLIENTS:
        raise RuntimeError(f"only {answer['answers']} of {CLIENTS} clients got an answer")
    return CLIENTS * NEW / float(answer["seconds"]), int(answer["events"])


def in_process(engine: Any, prompts: list[list[int]], seed: int) -> float:
    """Tokens per second of the same prompts without HTTP."""
    start = time.perf_counter()
    engine.generate(prompts, max_tokens=NEW, ignore_eos=True, seed=seed)
    return CLIENTS * NEW / (time.perf_counter() - start)
