"""What is wrong with a call of the compiled extension, in a line: pybind11 prints the whole signature instead."""

from __future__ import annotations

import functools
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import BuiltinFunctionType, ModuleType
from typing import Any

# Other libraries' words for the same.
_ELSEWHERE = {"lr": "learning_rate", "betas": "beta1", "max_grad_norm": "grad_clip_norm", "max_new_tokens": "max_tokens",
              "stop": "stop_strings", "stop_token_ids": "stop_ids", "num_samples": "n", "loss_fn": "loss"}
# A type of the signature -> (what it is called, what it takes). Other types are not judged.
_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "typing.SupportsInt": ("a whole number", lambda v: not isinstance(v, float | str) and (hasattr(v, "__index__") or hasattr(v, "__int__"))),
    "typing.SupportsFloat": ("a number", lambda v: hasattr(v, "__float__") or hasattr(v, "__index__")),
    "str": ("a text", lambda v: isinstance(v, str | bytes)),
    "bool": ("True or False", lambda v: v is None or hasattr(v, "__bool__")),
    "os.PathLike": ("a path", lambda v: isinstance(v, str | bytes) or hasattr(v, "__fspath__")),
    "dict": ("a dict", lambda v: isinstance(v, dict)),
    "collections.abc.Callable": ("a function", callable),
    "collections.abc.Iterable": ("a list", lambda v: hasattr(v, "__iter__")),
    "torch.Tensor": ("a torch.Tensor", lambda v: type(v).__name__ in ("Tensor", "Parameter")),
    "Sequence[Datum]": ("a list of rft.Datum", lambda v: isinstance(v, Sequence)),
}
_HINTS = {"rft.Model": " (rft.Model.load(folder))", "rft.TextCodec": " (rft.load_codec(folder).native())",
          "rft.RunConfig": " (rft.RunConfig.from_file(path))", "rft.Weights": " (trainer.weights())"}
_OF_OPTIM_STEP = {"lr", "learning_rate", "betas", "weight_decay", "max_grad_norm", "grad_clip_norm"}
_MISSING = {"ids": "a list of token ids", "weights": "a number for each token, 0 where it is not trained on"}


def meant(word: str, known: Iterable[str]) -> str:
    """'; did you mean learning_rate?', or nothing where no known name is close."""
    names = list(known)
    close = [_ELSEWHERE[word]] if _ELSEWHERE.get(word) in names else get_close_matches(word, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


def explain_all(extension: ModuleType) -> None:
    """Short messages for the functions, constructors, methods and properties of the extension."""
    for name, value in list(vars(extension).items()):
        if isinstance(value, BuiltinFunctionType):
            setattr(extension, name, explained(value))
        elif isinstance(value, type) and not issubclass(value, BaseException):
            for member, bound in list(vars(value).items()):
                if isinstance(bound, property) and bound.fset is not None:
                    setter = explained(bound.fset, name, [member])
                    setattr(value, member, property(bound.fget, setter, doc=bound.__doc__))
                elif isinstance(bound, staticmethod):
                    setattr(value, member, staticmethod(explained(bound.__func__, f"{name}.{member}()")))
                elif member == "__init__" and "(" in (bound.__doc__ or "").split("\n", 1)[0]:
                    setattr(value, member, explained(bound, f"{name}()"))
                elif type(bound).__name__ == "instancemethod" and not member.startswith("_"):
                    setattr(value, member, explained(bound))


def explained(verb: Callable[..., Any], label: str = "", names: Sequence[str] = ()) -> Callable[..., Any]:
    """`verb`, a function of the extension, with short messages for arguments that fit none of its parameters. The messages begin
    with `label` (its name); `names` are better ones for its parameters than the signature has.
    """
    label = label or f"{verb.__name__}()"

    @functools.wraps(verb)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return verb(*args, **kwargs)
        except TypeError as error:
            if not re.search("incompatible (function|constructor) arguments", str(error)):
                raise
            signature = Signature.of((verb.__doc__ or "").split("\n", 1)[0], names)
            text = signature.complaint(args[1:] if signature.is_method else args, kwargs)
            raise TypeError(f"{label}{'.' if names else ': '}{text}") from None

    return call


@dataclass(frozen=True)
class Parameter:
    """One of a signature."""

    name: str
    type: str
    default: str | None
    by_name_only: bool

    def expected(self) -> str:
        """What it takes, in words; empty: not judged."""
        return _words(self.type)

    def takes(self, value: Any) -> bool:
        """Whether a value of this kind can be converted."""
        return _fits(self.type, value)


@dataclass(frozen=True)
class Signature:
    """The first line of a bound function's docstring, taken apart."""

    parameters: list[Parameter]
    is_method: bool
    open_ended: bool

    @classmethod
    def of(cls, line: str, names: Sequence[str] = ()) -> Signature:
        """Of "name(self: T, a: int = 1, *, b: str, **kwargs) -> None"."""
        parameters: list[Parameter] = []
        by_name_only = is_method = open_ended = False
        for number, part in enumerate(_split(line.partition("(")[2])):
            name, _, rest = part.partition(": ")
            kind, has_default, default = rest.partition(" = ")
            if number == 0 and (name == "self" or (names and name == "arg0")):
                is_method = True
            elif name.startswith("**"):
                open_ended = True
            elif name.startswith("*"):
                by_name_only = True
            elif rest:
                name = names[len(parameters)] if len(parameters) < len(names) else name
                parameters.append(Parameter(name, kind, default if has_default else None, by_name_only))
        return cls(parameters, is_method, open_ended)

    def complaint(self, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        """What does not fit, in one line."""
        known = [p.name for p in self.parameters]
        by_position = [p.name for p in self.parameters if not p.by_name_only]
        for key in kwargs if not self.open_ended else ():
            if key not in known:
                there = meant(key, known)
                if not there and key in _OF_OPTIM_STEP:
                    there = f"; optim_step({_ELSEWHERE.get(key, key)}=...) takes it"
                return f"there is no argument {key!r}{there} (arguments: {', '.join(known) or 'none'})"
        if len(args) > len(by_position):
            others = f"; the others by name: {', '.join(known[len(by_position):])}" if len(known) > len(by_position) else ""
            if not known:
                return f"takes no arguments, got {len(args)}"
            return f"takes {len(by_position)} arguments by position ({', '.join(by_position)}), got {len(args)}{others}"
        for key in by_position[:len(args)]:
            if key in kwargs:
                return f"{key}: is given twice"
        given = {**dict(zip(by_position, args, strict=False)), **kwargs}
        for p in self.parameters:
            if p.name not in given and p.default is None:
                what = _MISSING.get(p.name) or p.expected()
                return f"{p.name}: is missing" + (f"; {what}" if what else "")
        for p in self.parameters:
            if p.name not in given or p.takes(given[p.name]):
                continue
            if p.name == "loss" and callable(given["loss"]):
                return "loss: is a function; forward_backward_custom(datums, function) takes one"
            expected = "a name of rft.losses.names()" if p.name == "loss" else p.expected()
            return f"{p.name}: is {_short(given[p.name])}; expected {expected}"
        for p in self.parameters:  # of the right kind, and yet: too small or too large
            value = given.get(p.name)
            if "SupportsInt" in p.type and isinstance(value, int) and (value < 0 <= int(p.default or 0) or value >= 1 << 31):
                return f"{p.name}: is {value}; expected a whole number {'of at least 0' if value < 0 else 'that is less'}"
        kinds = [*(type(v).__name__ for v in args), *(f"{key}={type(v).__name__}" for key, v in kwargs.items())]
        return f"can not take ({', '.join(kinds)}); arguments: {', '.join(known) or 'none'}"


def _split(text: str, separator: str = ",") -> Iterator[str]:
    """Parts of a signature's inside, up to the bracket that closes it."""
    depth, quote, part = 0, "", ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{<":
            depth += 1
        elif c in ")]}>":
            depth -= 1
            if depth < 0:
                break
        elif c == separator and depth == 0:
            yield part.strip()
            part = ""
            continue
        part += c
    if part.strip():
        yield part.strip()


def _inside(kind: str) -> str:
    """The element of "collections.abc.Sequence[str]"; empty for other types."""
    found = re.fullmatch(r"(?:collections\.abc\.Sequence|list)\[(.*)\]", kind)
    return found[1] if found else ""


def _words(kind: str) -> str:
    words = []
    for one in _split(kind, "|"):
        if element := _inside(one):
            words.append(f"a list with {_words(element)} each" if _words(element) else "a list")
        elif one in _TYPES:
            words.append(_TYPES[one][0])
        elif one.startswith("rft._rft."):
            name = one.replace("_rft.", "")
            words.append(f"an {name}{_HINTS.get(name, '')}")
    return " or ".join(dict.fromkeys(words[:1] if "a path" in words or "SupportsInt" in kind else words))


def _fits(kind: str, value: Any) -> bool:
    """True also where nothing is known about the type."""
    if value is None:
        return "None" in kind or "rft._rft." in kind or not _words(kind)
    if "SupportsInt" in kind and not _inside(kind):
        return _TYPES["typing.SupportsInt"][1](value)
    for one in _split(kind, "|"):
        if element := _inside(one):
            if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
                continue
            if not isinstance(value, Sequence) or all(_fits(element, item) for item in value):
                return True
        elif one in _TYPES:
            if _TYPES[one][1](value):
                return True
        elif one.startswith("rft._rft."):
            if one.removeprefix("rft._rft.") in [c.__name__ for c in type(value).__mro__]:
                return True
        elif one not in ("None", "typing.SupportsIndex", "str", "bytes"):
            return True
    return False


def _short(value: Any) -> str:
    shortener = reprlib.Repr()
    shortener.maxother = shortener.maxstring = 60
    return shortener.repr(value)
