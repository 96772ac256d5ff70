"""`rft generate` and `rft chat`: text from a model, streamed."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rft.cli.console import Dtype, ModelDir, Threads, stderr

if TYPE_CHECKING:
    from rft.codec import Codec

Temperature = Annotated[float, typer.Option("--temperature", "-t", help="0: always the most likely token.")]
TopP = Annotated[float, typer.Option(help="Keep the most likely tokens up to this probability.")]
MaxTokens = Annotated[int, typer.Option(min=0, help="Longest answer, in tokens.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the sampling.")]


def generate(
    model: ModelDir, prompt: Annotated[str, typer.Argument(help="What the user says; - reads standard input.")],
    system: Annotated[str, typer.Option(help="System message.")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text as it is, without the chat template.")] = False,
    n: Annotated[int, typer.Option("-n", min=1, help="Completions.")] = 1, max_tokens: MaxTokens = 128, temperature: Temperature = 1.0,
    top_p: TopP = 1.0, seed: Seed = 0, dtype: Dtype = "bf16", threads: Threads = 0,
    top_k: Annotated[int, typer.Option(help="Only the k most likely tokens; 0: all.")] = 0,
    min_p: Annotated[float, typer.Option(help="Only tokens at least this likely, relative to the most likely one.")] = 0.0,
    min_tokens: Annotated[int, typer.Option(help="No end before this many tokens.")] = 0,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after the end token.")] = False,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends the answer; may be repeated.")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: tokens that were there already become less likely.")] = 1.0,
    presence_penalty: Annotated[float, typer.Option(help="Subtracted from logits of tokens the answer has.")] = 0.0,
    frequency_penalty: Annotated[float, typer.Option(help="The same, times how often it has them.")] = 0.0,
    logit_bias: Annotated[list[str] | None, typer.Option(metavar="ID=BIAS", help="Added to a token's logit; may be repeated.")] = None,
    allowed: Annotated[list[int] | None, typer.Option(metavar="ID", help="Only these tokens; may be repeated.")] = None,
    json_schema: Annotated[Path | None, typer.Option(help="File with a JSON schema that the answer follows.")] = None,
    regex: Annotated[str | None, typer.Option(help="Regular expression that the answer matches.")] = None,
    ebnf: Annotated[Path | None, typer.Option(help="File with a grammar (EBNF) that the answer follows.")] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt, too.")] = False,
    logprobs: Annotated[int | None, typer.Option(
        metavar="K", help="Print JSON instead of text: tokens, log-probabilities and K alternatives each.")] = None,
    prompt_logprobs: Annotated[int | None, typer.Option(metavar="K", help="The same for the prompt's tokens (with --logprobs).")] = None,
) -> None:
    """Complete one prompt and print what the model says."""
    text = sys.stdin.read() if prompt == "-" else prompt
    codec, engine = open_model(model, dtype, threads)
    messages = [{"role": "system", "content": system}] if system else []
    ids = codec.encode(text) if raw else codec.encode_chat([*messages, {"role": "user", "content": text}])
    grammar = None
    if json_schema or regex or ebnf:
        from rft.structure import compile_grammar

        grammar = compile_grammar(codec, json_schema=json_schema.read_text() if json_schema else None, regex=regex,
                                  ebnf=ebnf.read_text() if ebnf else None)
    stream = Stream(codec) if n == 1 and logprobs is None else None
    if stream and echo:
        sys.stdout.write(codec.decode(ids))
    done = engine.generate([ids], n=n, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, max_tokens=max_tokens,
                           min_tokens=min_tokens, ignore_eos=ignore_eos, stop_strings=stop or [], repetition_penalty=repetition_penalty,
                           presence_penalty=presence_penalty, frequency_penalty=frequency_penalty, logit_bias=_biases(logit_bias or []),
                           allowed_ids=allowed or [], top_logprobs=logprobs or 0, prompt_logprobs=prompt_logprobs, grammar=grammar,
                           echo=echo and stream is None, seed=seed, on_token=stream.on_token if stream else None)
    for completion in done[0]:
        if logprobs is not None:
            typer.echo(json.dumps(_as_json(codec, completion)))
        elif stream is None:
            typer.echo(codec.decode([int(i) for i in completion.ids]))
    if stream:
        stream.end()
    engine.close()


def _biases(options: list[str]) -> dict[int, float]:
    """ID=BIAS, as often as given."""
    try:
        return {int(token): float(bias) for token, bias in (option.split("=") for option in options)}
    except ValueError as error:
        raise ValueError(f"--logit-bias: {' '.join(options)!r}: expected ID=BIAS, e.g. 42=-5") from error


def _as_json(codec: Codec, completion: Any) -> dict[str, Any]:
    """What is known about a completion and its tokens; numbers that are none (the first prompt token's) are null."""
    def number(value: Any) -> float | None:
        return None if math.isnan(value) else float(value)

    def named(alternatives: list[tuple[int, float]]) -> list[dict[str, Any]]:
        return [{"id": i, "token": codec.token_bytes[i].decode(errors="replace"), "logprob": logprob} for i, logprob in alternatives]

    ids = [int(i) for i in completion.ids]
    return {"text": codec.decode(ids), "ids": ids, "logprobs": [number(x) for x in completion.logprobs],
            "sampling_logprobs": [number(x) for x in completion.sampling_logprobs], "versions": completion.versions.tolist(),
            "top_logprobs": [named(row) for row in completion.top_logprobs],
            "prompt_logprobs": [number(x) for x in completion.prompt_logprobs],
            "prompt_top_logprobs": [named(row) for row in completion.prompt_top_logprobs],
            "finish_reason": completion.finish_reason, "stop_string": completion.stop_string}


def chat(model: ModelDir, system: Annotated[str, typer.Option(help="System message.")] = "", max_tokens: MaxTokens = 256,
         temperature: Temperature = 0.7, top_p: TopP = 1.0, seed: Seed = 0, dtype: Dtype = "bf16", threads: Threads = 0) -> None:
    """Talk to a model. An empty line or Ctrl-D ends, /reset starts over, /system TEXT changes the instructions."""
    console = stderr()
    with console.status("loading the model"):
        codec, engine = open_model(model, dtype, threads)
    console.print(f"{model}: an empty line or Ctrl-D ends, /reset starts over, /system TEXT changes the instructions", style="dim")
    history: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    turn = 0
    try:
        while said := _read_line():
            if said == "/reset":
                history = history[:1] if history and history[0]["role"] == "system" else []
                continue
            if said.startswith("/system"):
                history = [{"role": "system", "content": said.removeprefix("/system").strip()}]
                continue
            history.append({"role": "user", "content": said})
            ids = codec.encode_chat(history)
            room = engine.max_context - len(ids)
            if room < 1:
                console.print("the conversation has filled the model's context; starting over", style="yellow")
                history = history[-1:]
                ids = codec.encode_chat(history)
                room = engine.max_context - len(ids)
            stream = Stream(codec)
            start = time.perf_counter()
            engine.generate([ids], temperature=temperature, top_p=top_p, max_tokens=min(max_tokens, room),
                            seed=seed + turn, on_token=stream.on_token)
            stream.end()
            seconds = time.perf_counter() - start
            console.print(f"{len(stream.ids)} tokens, {len(stream.ids) / seconds:.0f} tokens/s", style="dim")
            history.append({"role": "assistant", "content": codec.decode(stream.ids)})
            turn += 1
    finally:
        engine.close()


def open_model(folder: Path, dtype: str, threads: int) -> tuple[Codec, Any]:
    """The text codec and an engine that runs the model in `folder`."""
    from rft import _native
    from rft.codec import load_codec

    codec = load_codec(folder)
    native = _native.load()
    return codec, native.Engine(native.Model.load(str(folder), dtype=dtype, threads=threads), codec.native())


class Stream:
    """Prints tokens as they come, never half a character."""

    def __init__(self, codec: Codec) -> None:
        import codecs

        self.ids: list[int] = []
        self._codec = codec
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def on_token(self, *event: Any) -> None:
        """The engine's callback: (prompt, sample, token id, log-probability)."""
        token = int(event[2])
        self.ids.append(token)
        if not self._codec.is_special[token]:
            self._print(self._decoder.decode(self._codec.token_bytes[token]))

    def end(self) -> None:
        """Prints what is left and a line end."""
        self._print(self._decoder.decode(b"", final=True) + "\n")

    def _print(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _read_line() -> str:
    """One line of the user; "" at the end of input."""
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
