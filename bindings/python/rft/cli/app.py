"""Puts the commands together, and turns an exception into one clean message and exit code 1."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rft import __version__
from rft.cli import benches, config, data, distill, doctor, dpo, evaluate, generate, grade, model, plot, replay, serve, sft, train

EXIT_INTERRUPTED = 130


class CleanErrors(TyperGroup):
    """A command group whose failures read like messages, not like tracebacks (unless --debug is given)."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; usage errors and exits pass through."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # Someone closed our output (`rft ... | head`): nothing is left to say, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except Exception as error:
            if ctx.params.get("debug") or not is_a_message(error):
                raise
            print_error(error)
            raise typer.Exit(1) from error


def is_a_message(error: Exception) -> bool:
    """False for what click prints itself (usage errors, Exit, Abort)."""
    return not type(error).__module__.startswith(("click", "typer"))


def print_error(error: Exception) -> None:
    """`error: ...` on stderr; further lines of the message are kept."""
    from rich.console import Console
    from rich.text import Text

    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, KeyError | AttributeError | TypeError | AssertionError):
        text = f"{type(error).__name__}: {text} (run again with `rft --debug ...` for the traceback)"
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), text))


app = typer.Typer(
    name="rft", cls=CleanErrors, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]},
    help="Reinforcement fine-tuning: sample, grade, learn. Start with [bold]rft doctor[/bold] or [bold]make demo[/bold].")


@app.callback()
def root(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Options of every command. (`debug` is read in CleanErrors.invoke.)"""


def version() -> None:
    """Print the version."""
    typer.echo(f"rft {__version__}")


_RUN, _MODELS, _LOOK = "Train and evaluate", "Models and data", "Look and measure"
app.command("train", rich_help_panel=_RUN)(train.train)
app.command("eval", rich_help_panel=_RUN)(evaluate.evaluate)
app.command("grade", rich_help_panel=_RUN)(grade.grade)
app.command("sft", rich_help_panel=_RUN)(sft.sft)
app.command("dpo", rich_help_panel=_RUN)(dpo.dpo)
app.command("distill", rich_help_panel=_RUN)(distill.distill)
app.command("generate", rich_help_panel=_MODELS)(generate.generate)
app.command("chat", rich_help_panel=_MODELS)(generate.chat)
app.command("serve", rich_help_panel=_MODELS)(serve.serve)
app.add_typer(model.app, name="model", rich_help_panel=_MODELS)
app.add_typer(data.app, name="data", rich_help_panel=_MODELS)
app.command("plot", rich_help_panel=_LOOK)(plot.plot)
app.command("replay", rich_help_panel=_LOOK)(replay.replay)
app.command("doctor", rich_help_panel=_LOOK)(doctor.doctor)
app.command("bench", rich_help_panel=_LOOK)(benches.bench)
app.command("check", rich_help_panel=_LOOK)(benches.check)
app.add_typer(config.app, name="config", rich_help_panel=_LOOK)
app.command("version", rich_help_panel=_LOOK)(version)


def main() -> None:
    """Entry point of the command."""
    app()
