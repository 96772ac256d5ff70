"""`rft model`: models to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rft.cli.console import stderr

app = typer.Typer(no_args_is_help=True, help="Get a pretrained model, or make a small one from scratch.")


@app.command()
def get(name: Annotated[str, typer.Argument(help="smollm2: SmolLM2-135M-Instruct.")],
        out: Annotated[Path | None, typer.Option(help="Folder; default: models/<name>.")] = None,
        cache: Annotated[Path | None, typer.Option(help="Where the download is kept; default: .cache beside the folder.")] = None,
        ) -> None:
    """Download a pretrained model into a Hugging Face folder (once), and check that it works."""
    if name not in ("smollm2", "smollm2-135m-instruct"):
        raise ValueError(f"unknown model {name!r}; known is smollm2 (SmolLM2-135M-Instruct)")
    from rft import smollm2

    console = stderr()
    typer.echo(smollm2.get(out or Path("models/smollm2-135m-instruct"), cache,
                           log=lambda line: console.print(line, soft_wrap=True)))


@app.command()
def init(
    data: Annotated[list[Path], typer.Option(help="JSONL whose messages the tokenizer is made from; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the new model.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random weights.")] = 0,
    vocab: Annotated[int, typer.Option(min=260, help="Size of the vocabulary, at most.")] = 384,
    hidden: Annotated[int, typer.Option(min=8, help="Width.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="Layers.")] = 4,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4,
    kv_heads: Annotated[int, typer.Option(min=1, help="Key-value heads.")] = 2,
) -> None:
    """Make a small Llama with random weights, and a tokenizer for the given texts."""
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: not empty; choose another --out")
    from rft import tiny

    texts = [text for path in data for text in tiny.texts_of(path)]
    count = tiny.init(out, texts, seed=seed, vocab_size=vocab, hidden=hidden, layers=layers, heads=heads, kv_heads=kv_heads)
    typer.echo(f"{out}: {count:,} parameters")
