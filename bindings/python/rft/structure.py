"""Structured output: completions that can only be what a JSON schema, a regular expression or an EBNF grammar allows.

    grammar = rft.compile_grammar(codec, json_schema={"type": "object", "properties": {"answer": {"type": "integer"}}})
    engine.generate([ids], grammar=grammar)

Before each token the engine asks which ones may follow; log-probabilities of what is left are renormalised and recorded as
`sampling_logprobs`. The grammars are xgrammar's. Anything with `start()` whose result has `next(bits)` and `accept(id)` will
do as well (bits: int32 array to fill in, bit id % 32 of word id // 32; none set ends the completion), though not over HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rft.codec import Codec

KINDS = ("json_schema", "json", "regex", "ebnf", "tool_call")


class Grammar:
    """A compiled grammar for one vocabulary. Immutable; any number of completions may use it at once."""

    def __init__(self, compiled: Any, kind: str, text: str) -> None:
        self._compiled, self.kind, self.text = compiled, kind, text

    def start(self) -> Mask:
        """The state of one new completion."""
        import xgrammar

        return Mask(xgrammar.GrammarMatcher(self._compiled))

    def __repr__(self) -> str:
        return f"<rft Grammar: {f'{self.kind} {self.text[:60]}'.strip()}>"


class Mask:
    """Where one completion stands in its grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def next(self, bits: np.ndarray) -> None:
        """Sets the bits of the tokens that may follow; none once the text is complete."""
        if self._matcher.is_terminated():
            bits[:] = 0
        elif not self._matcher.fill_next_token_bitmask(bits.reshape(1, -1)):
            bits[:] = -1

    def accept(self, token: int) -> None:
        """Moves on by one token."""
        if not self._matcher.accept_token(token):
            raise ValueError(f"token {token} is not what the grammar allows here")


def compiler(codec: Codec) -> Callable[[str, str], Grammar]:
    """`compile(kind, text)` for the vocabulary of `codec`; kind is one of KINDS. Thread-safe; what was compiled is cached."""
    try:
        import xgrammar
    except ImportError as error:
        raise ImportError(f"structured output needs xgrammar ({error}); `pip install xgrammar`") from error
    if not codec.end_ids:
        raise ValueError("structured output needs a model with an end token; this one has none")
    end = set(codec.end_ids)
    # Special tokens stand for no text, so a grammar never allows them; end tokens come where it is complete.
    table = [b"" if special and i not in end else text
             for i, (text, special) in enumerate(zip(codec.token_bytes, codec.is_special, strict=True))]
    info = xgrammar.TokenizerInfo(table, vocab_type=xgrammar.VocabType.RAW, vocab_size=len(table), stop_token_ids=list(codec.end_ids))
    compiling = xgrammar.GrammarCompiler(info)

    def compile_text(kind: str, text: str) -> Grammar:
        if kind not in KINDS:
            raise ValueError(f"unknown kind of grammar {kind!r}; known are {', '.join(KINDS)}")
        try:
            if kind in ("json_schema", "json"):  # one way to put the spaces: else a weak model spends its tokens on them
                made = compiling.compile_json_schema(text if kind == "json_schema" else "{}", any_whitespace=False)
            elif kind == "tool_call":
                grammar, parts = xgrammar.Grammar, ('"<tool_call>\\n"', '"\\n</tool_call>"')
                opening, closing = (grammar.from_ebnf(f"root ::= {part}") for part in parts)
                made = compiling.compile_grammar(grammar.concat(opening, grammar.from_json_schema(text, any_whitespace=False), closing))
            elif kind == "regex":
                made = compiling.compile_regex(text)
            else:
                made = compiling.compile_grammar(text)
        except RuntimeError as error:
            raise ValueError(f"{kind}: {_first_line(error)}") from error
        return Grammar(made, kind, text)

    return compile_text


def compile_grammar(codec: Codec, *, json_schema: dict[str, Any] | str | None = None, regex: str | None = None,
                    ebnf: str | None = None) -> Grammar:
    """A grammar for the vocabulary of `codec`; with none given, any JSON value. Raises ValueError saying what is wrong with it."""
    given = [(kind, text) for kind, text in (("json_schema", json_schema), ("regex", regex), ("ebnf", ebnf)) if text is not None]
    if len(given) > 1:
        raise ValueError(f"compile_grammar: give one of json_schema, regex, ebnf, not {' and '.join(kind for kind, _ in given)}")
    kind, text = given[0] if given else ("json", "")
    return compiler(codec)(kind, json.dumps(text) if isinstance(text, dict) else text)


def _first_line(error: Exception) -> str:
    """xgrammar's message without its time stamp and source file."""
    line = str(error).strip().splitlines()[0]
    return line.split(": ", 1)[-1] if line.startswith("[") else line
