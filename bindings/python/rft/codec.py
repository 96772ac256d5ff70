"""The text side of a Hugging Face model folder: chat template, tokenizer, and the bytes each token stands for.

The table of token bytes goes to C++ once, so that streaming, stop strings and C++ graders never come back to Python.
Two families of tokenizers are understood: byte-level BPE (GPT-2's printable alphabet: Llama 3, Qwen, SmolLM) and
SentencePiece-style (spaces written as U+2581, unknown bytes as <0xNN>: Llama 2, Gemma, Mistral).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_BYTE = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")
Messages = list[dict[str, Any]]
# Parameters of apply_chat_template that are not the template's own: no client may set them.
_RESERVED = {"conversation", "tools", "documents", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize",
             "padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"}


@dataclass(frozen=True, repr=False)
class Codec:
    """Everything `rft.TextCodec` is made from. Index of the two tables = token id; as long as the model's vocabulary."""

    tokenizer: Any
    token_bytes: list[bytes]
    is_special: list[bool]
    end_ids: list[int]

    def __repr__(self) -> str:
        name = getattr(self.tokenizer, "name_or_path", "") or type(self.tokenizer).__name__
        return f"<rft.Codec of {name}: {len(self.token_bytes)} tokens, end ids {self.end_ids}>"

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; special tokens written out in it are recognised, none are added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def encode_chat(self, messages: Messages) -> list[int]:
        """Renders the chat template once, up to where the assistant's words begin, and tokenises the result.

        A last message of the assistant is continued, not closed.
        """
        return self.encode(self.render(messages))

    def render(self, messages: Messages) -> str:
        """The text that :meth:`encode_chat` tokenises. TypeError: not a list of messages."""
        if isinstance(messages, str | dict) or not all(isinstance(message, dict) for message in messages):
            raise TypeError('messages: expected a list such as [{"role": "user", "content": "2 + 2"}], '
                            f"got {type(messages).__name__}; encode(text) takes plain text")
        continued = bool(messages) and messages[-1].get("role") == "assistant"
        return self._apply(messages, add_generation_prompt=not continued, continue_final_message=continued)

    def encode_chat_json(self, chat: str) -> list[int]:
        """Everything a chat template takes, as a server gets it: messages, tools, add_generation_prompt, continue_final_message,
        chat_template_kwargs. ValueError says what the template could not do."""
        request = json.loads(chat)
        arguments = request.get("chat_template_kwargs") or {}
        if reserved := _RESERVED & arguments.keys():
            raise ValueError(f"chat_template_kwargs: {sorted(reserved)[0]} can't be set here")
        return self.encode(self._apply(
            [_with_parsed_calls(message) for message in request["messages"]], tools=request.get("tools"),
            add_generation_prompt=request.get("add_generation_prompt", True),
            continue_final_message=request.get("continue_final_message", False), **arguments))

    def _apply(self, messages: Messages, **options: Any) -> str:
        from jinja2 import TemplateError

        if not self.tokenizer.chat_template:
            raise ValueError(f"{self.tokenizer.name_or_path}: the tokenizer has no chat template; add a chat_template.jinja to "
                             "the model's folder")
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except (TemplateError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"the chat template can't render this: {error}") from error

    def decode(self, ids: list[int]) -> str:
        """Text of `ids` without special tokens; bytes that are no valid UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes[i] for i in ids if not self.is_special[i]).decode("utf-8", errors="replace")

    def native(self) -> Any:
        """The C++ `rft.TextCodec` over this one."""
        from rft import _native

        return _native.load().TextCodec(self.encode_chat, self.encode, self.token_bytes, self.is_special, self.end_ids,
                                        self.encode_chat_json, self.grammar_compiler())

    def grammar_compiler(self) -> Callable[[str, str], Any] | None:
        """compile(kind, text) for this vocabulary (rft/structure.py), made at its first use; None where xgrammar is not installed."""
        if not self.end_ids or find_spec("xgrammar") is None:
            return None

        @cache
        def compiler() -> Callable[[str, str], Any]:
            from rft import structure

            return structure.compiler(self)

        return lambda kind, text: compiler()(kind, text)


def load_codec(folder: str | Path) -> Codec:
    """The codec of the model in `folder` (local files only; nothing is looked up in the network)."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such model folder (`rft model get smollm2 --out {folder}` makes one)")
    if not (folder / "tokenizer.json").is_file():
        raise FileNotFoundError(f"{folder}/tokenizer.json: missing; rft needs a fast (tokenizers) tokenizer beside the weights")
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    config = _read_json(folder / "config.json")
    vocab_size = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or 0
    table, special = token_table(tokenizer, max(int(vocab_size), len(tokenizer)))
    return Codec(tokenizer, table, special, end_ids(folder, tokenizer))


def end_ids(folder: Path, tokenizer: Any) -> list[int]:
    """Ids that end a completion: eos of generation_config.json, config.json and the tokenizer, in this order."""
    found: list[int] = []
    for value in (_read_json(folder / "generation_config.json").get("eos_token_id"),
                  _read_json(folder / "config.json").get("eos_token_id"), tokenizer.eos_token_id):
        for token in value if isinstance(value, list) else [value]:
            if isinstance(token, int) and token not in found:
                found.append(token)
    return found


def byte_alphabet() -> dict[str, int]:
    """GPT-2's character for each byte, reversed: printable bytes stand for themselves, the others are shifted past 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    shifted = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(shifted)}


def token_table(tokenizer: Any, size: int) -> tuple[list[bytes], list[bool]]:
    """Bytes and special flag of every id below `size`; ids without a token are special and empty."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    table, special = [b""] * size, [True] * size
    byte_level = "ByteLevel" in _types(backend.get("decoder")) | _types(backend.get("pre_tokenizer"))
    alphabet = byte_alphabet()
    for token, index in tokenizer.get_vocab().items():
        table[index] = _byte_level(token, alphabet) if byte_level else _sentencepiece(token)
        special[index] = False
    for added in backend.get("added_tokens", []):
        table[added["id"]] = added["content"].encode()
        special[added["id"]] = bool(added["special"])
    return table, special


def _byte_level(token: str, alphabet: dict[str, int]) -> bytes:
    return b"".join(bytes([alphabet[c]]) if c in alphabet else c.encode() for c in token)


def _sentencepiece(token: str) -> bytes:
    match = _BYTE.match(token)
    return bytes([int(match[1], 16)]) if match else token.replace("\u2581", " ").encode()


def _types(node: Any) -> set[str]:
    """The type names of a (possibly nested) pre-tokenizer or decoder."""
    if not isinstance(node, dict):
        return set()
    parts = node.get("decoders") or node.get("pretokenizers") or []
    return {node.get("type", "")}.union(*(_types(part) for part in parts))


def _with_parsed_calls(message: dict[str, Any]) -> dict[str, Any]:
    """The message with the arguments of its tool calls as objects: templates write them as JSON themselves."""
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = dict(call.get("function") or {})
        if isinstance(function.get("arguments"), str):
            try:
                function["arguments"] = json.loads(function["arguments"] or "{}")
            except ValueError:
                pass  # the model's own broken JSON: shown as it is
        calls.append({**call, "function": function})
    return {**message, "tool_calls": calls}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    return content if isinstance(content, dict) else {}
