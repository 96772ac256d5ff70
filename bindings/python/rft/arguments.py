"""What is wrong with a call of the compiled extension, in a line: pybind11 prints the whole signature instead."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

# Other libraries' words for the same.
_ELSEWHERE = {"lr": "learning_rate", "betas": "beta1", "max_grad_norm": "grad_clip_norm", "max_new_tokens": "max_tokens",
              "stop": "stop_strings", "stop_token_ids": "stop_ids", "num_samples": "n", "loss_fn": "loss"}


def meant(word: str, known: Iterable[str]) -> str:
    """'; did you mean learning_rate?', or nothing where no known name is close."""
    names = list(known)
    close = [_ELSEWHERE[word]] if _ELSEWHERE.get(word) in names else get_close_matches(word, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


def explained(verb: Callable[..., Any]) -> Callable[..., Any]:
    """`verb`, a method of the extension, with short messages for arguments that fit none of its parameters."""
    line = (verb.__doc__ or "").split("\n", 1)[0]
    known = [name for name in re.findall(r"(\w+): ", line) if name != "self"]
    numbers = set(re.findall(r"(\w+): typing\.Supports", line))
    name, open_ended = verb.__name__, "**kwargs" in line

    @functools.wraps(verb)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return verb(self, *args, **kwargs)
        except TypeError as error:
            if "incompatible function arguments" not in str(error):
                raise
            raise TypeError(f"{name}(): {complaint(known, numbers, open_ended, args, kwargs) or error}") from None

    return call


def complaint(known: list[str], numbers: set[str], open_ended: bool, args: tuple[Any, ...],
              kwargs: dict[str, Any]) -> str:
    """What does not fit; empty where that is not one of the usual mistakes."""
    given = {**dict(zip(known, args, strict=False)), **kwargs}
    for key in kwargs if not open_ended else ():
        if key not in known:
            return f"there is no argument {key!r}{meant(key, known)} (arguments: {', '.join(known)})"
    loss = given.get("loss", "")
    if "datums" in known and "datums" not in given:
        return "datums: is missing; a list of rft.Datum"
    if callable(loss):
        return "loss: is a function; forward_backward_custom(datums, function) takes one"
    if not isinstance(loss, str):
        return f"loss: is {loss!r}; expected a name of rft.losses.names()"
    for key, value in given.items():
        if key in numbers and not hasattr(value, "__float__"):
            return f"{key}: is {value!r}; expected a number"
    return ""
