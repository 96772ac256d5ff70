"""`rft serve`: a model behind an OpenAI-compatible HTTP server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rft.cli.console import Dtype, ModelDir, Threads, stderr

KEYS_VARIABLE = "RFT_API_KEYS"


def serve(
    model: ModelDir,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    name: Annotated[list[str], typer.Option("--name", help="What requests call the model; default: the folder's name. Repeatable.")] = [],
    api_key_file: Annotated[Path | None, typer.Option(help=f"One key a line; also ${KEYS_VARIABLE}, comma-separated.")] = None,
    weights_root: Annotated[Path | None, typer.Option(help="Let /update_weights load folders below this one.")] = None,
    lora: Annotated[list[str], typer.Option("--lora", help="NAME=FOLDER: an adapter that requests name as their model. Repeatable.")] = [],
    allow_origin: Annotated[list[str], typer.Option(help="Web pages of this origin may ask, too. Repeatable.")] = [],
    max_batch: Annotated[int, typer.Option(min=1, help="Sequences that decode at once.")] = 64,
    max_batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens per iteration, prefill included.")] = 1024,
    kv_memory_mb: Annotated[int, typer.Option(min=1, help="Memory for the state cache, MiB.")] = 1024,
    queue_limit: Annotated[int, typer.Option(min=1, help="Completions in flight; more are answered with status 429.")] = 4096,
    prefix_cache: Annotated[bool, typer.Option(help="Keep keys and values of earlier texts while there is room.")] = True,
    dtype: Dtype = "bf16", threads: Threads = 0,
) -> None:
    """Serve a model over HTTP: the OpenAI API, token ids in and out, weight updates. Ctrl-C stops."""
    from rft import _native
    from rft.codec import load_codec
    from rft.structure import compiler

    console = stderr()
    keys, adapters = read_keys(api_key_file), read_adapters(lora)
    check_port(host, port)
    with console.status("loading the model"):
        codec = load_codec(model)
        native = _native.load()
        server = native.Server(
            native.Model.load(str(model), dtype=dtype, threads=threads), codec.native(), name or [model.resolve().name], host=host,
            port=port, api_keys=keys, weights_root=str(weights_root.resolve()) if weights_root else "", allowed_origins=allow_origin,
            max_batch=max_batch, max_batch_tokens=max_batch_tokens, kv_memory_mb=kv_memory_mb, queue_limit=queue_limit,
            compile_grammar=compiler(codec) if codec.end_ids else None, adapters=adapters, prefix_cache=prefix_cache)
    with server:
        typer.echo(f"{server.url}/v1")  # for scripts; people read the next line
        console.print(f"serving {model} at {server.url}/v1 {'with' if keys else 'without'} API keys; Ctrl-C stops", style="dim")
        try:
            while server.wait(0.2):
                pass
        except KeyboardInterrupt:
            console.print("stopping", style="dim")


def check_port(host: str, port: int) -> None:
    """Says that a port is taken before a model is loaded; the server says everything else."""
    import errno
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ValueError(f"--port {port}: another program listens there; choose another, or 0 for any free one") from None


def read_adapters(options: list[str]) -> dict[str, str]:
    """Folders by name, of NAME=FOLDER options."""
    pairs = [option.partition("=") for option in options]
    for option, (name, _, folder) in zip(options, pairs, strict=True):
        if not name or not folder:
            raise ValueError(f"--lora {option}: must be NAME=FOLDER")
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"--lora {option}: there is no folder {folder}")
    return {name: folder for name, _, folder in pairs}


def read_keys(file: Path | None) -> list[str]:
    """The keys of the file and of the environment; blank lines and lines that begin with # don't count."""
    lines = file.read_text().splitlines() if file else []
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    keys += [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    if file and not keys:
        raise ValueError(f"{file}: holds no key; one a line")
    return keys
