"""The codec agrees with transformers' own decode, in both families of tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rft.codec import byte_alphabet, end_ids, load_codec

TEXTS = ("", " ", "What is 7 + 5?", "  two  spaces ", "tabs\tand\nlines\r\n", "naïve façade größe", "你好，世界", "🙂🚀👩‍👩‍👧", "a\u00a0b\u200bc",
         "<answer>12</answer>", "12345 + 67890", "word" * 40)


def sentencepiece_folder(folder: Path) -> Path:
    """A BPE with U+2581 for spaces and byte fallback, as Llama 2's tokenizer.json has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for token in ("▁", "a", "b", "c", "▁a", "bc", "▁abc"):
        vocab[token] = len(vocab)
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "a"), ("b", "c"), ("▁a", "bc")], unk_token="<unk>",
                                   byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ("<unk>", "<s>", "</s>")])
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": len(vocab) + 5, "eos_token_id": 2}))
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_decodes_what_it_encoded(llama_dir: Path, text: str) -> None:
    codec = load_codec(llama_dir)
    ids = codec.encode(text)
    assert codec.decode(ids) == text == codec.tokenizer.decode(ids)


@pytest.mark.parametrize("text", ["abc abc", " a bc", "naïve 🙂", "c  b"])
def test_sentencepiece_decodes_what_it_encoded(tmp_path: Path, text: str) -> None:
    codec = load_codec(sentencepiece_folder(tmp_path / "sp"))
    ids = codec.encode(text)
    assert codec.decode(ids) == text == codec.tokenizer.decode(ids)


def test_every_prefix_of_ids_decodes_as_transformers_does(llama_dir: Path) -> None:
    codec = load_codec(llama_dir)
    ids = codec.encode("größe 🙂 <answer>7</answer>")
    for count in range(len(ids) + 1):
        assert codec.decode(ids[:count]) == codec.tokenizer.decode(ids[:count], skip_special_tokens=True)


def test_special_tokens_are_flagged_and_left_out(llama_dir: Path) -> None:
    codec = load_codec(llama_dir)
    ids = codec.encode("<|im_start|>hi<|im_end|>")
    assert [codec.is_special[i] for i in (ids[0], ids[-1])] == [True, True]
    assert codec.decode(ids) == "hi"


def test_tables_cover_the_models_vocabulary(model_dir: Path) -> None:
    codec = load_codec(model_dir)
    size = json.loads((model_dir / "config.json").read_text())["vocab_size"]
    assert len(codec.token_bytes) == len(codec.is_special) == size


def test_alphabet_maps_256_characters_to_256_bytes() -> None:
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_chat_ends_where_the_assistant_begins(llama_dir: Path) -> None:
    codec = load_codec(llama_dir)
    assert codec.render([{"role": "user", "content": "hi"}]) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_a_codec_is_shown_in_one_short_line(llama_dir: Path) -> None:
    shown = repr(load_codec(llama_dir))
    assert shown.startswith("<rft.Codec of ") and len(shown) < 300 and "b'" not in shown


@pytest.mark.parametrize("messages", ["2 + 2", {"role": "user", "content": "2 + 2"}, ["2 + 2"]])
def test_a_chat_that_is_no_list_of_messages_is_refused_with_an_example(llama_dir: Path, messages: object) -> None:
    with pytest.raises(TypeError, match=r'expected a list such as \[\{"role": "user"'):
        load_codec(llama_dir).encode_chat(messages)  # type: ignore[arg-type]


def test_a_last_assistant_message_is_continued(llama_dir: Path) -> None:
    rendered = load_codec(llama_dir).render([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<answer>"}])
    assert rendered.endswith("<|im_start|>assistant\n<answer>")


def test_chat_template_is_required_and_the_message_says_so(tmp_path: Path) -> None:
    codec = load_codec(sentencepiece_folder(tmp_path / "sp"))
    with pytest.raises(ValueError, match="chat_template.jinja"):
        codec.encode_chat([{"role": "user", "content": "hi"}])


def test_end_ids_join_lists_and_numbers_without_repeats(llama_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 2]}))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 9}))
    assert end_ids(tmp_path, load_codec(llama_dir).tokenizer) == [7, 2, 9]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such model folder"):
        load_codec(tmp_path / "nothing")


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="tokenizer.json"):
        load_codec(tmp_path)
