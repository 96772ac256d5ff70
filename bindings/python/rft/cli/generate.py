"""`rft generate` and `rft chat`: text from a model, streamed."""

from __future__ import annotations

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
MaxTokens = Annotated[int, typer.Option(help="Longest answer, in tokens.")]
Seed = Annotated[int, typer.Option(help="Seed of the sampling.")]


def generate(
    model: ModelDir, prompt: Annotated[str, typer.Argument(help="What the user says; - reads standard input.")],
    system: Annotated[str, typer.Option(help="System message.")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text as it is, without the chat template.")] = False,
    n: Annotated[int, typer.Option("-n", help="Completions.")] = 1, max_tokens: MaxTokens = 128, temperature: Temperature = 1.0,
    top_p: TopP = 1.0, seed: Seed = 0, dtype: Dtype = "bf16", threads: Threads = 0,
) -> None:
    """Complete one prompt and print what the model says."""
    text = sys.stdin.read() if prompt == "-" else prompt
    codec, engine = open_model(model, dtype, threads)
    messages = [{"role": "system", "content": system}] if system else []
    ids = codec.encode(text) if raw else codec.encode_chat([*messages, {"role": "user", "content": text}])
    stream = Stream(codec) if n == 1 else None
    done = engine.generate([ids], n=n, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed,
                           on_token=stream.on_token if stream else None)
    for completion in done[0]:
        if stream is None:
            typer.echo(codec.decode([int(i) for i in completion.ids]))
    if stream:
        stream.end()
    engine.close()


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
