// Grammars that are Python objects (rft/structure.py over xgrammar, or a user's own):
//   grammar.start() -> mask; optionally grammar.kind ("json_schema" | "json" | "regex" | "ebnf") and grammar.text, for servers;
//    mask.next(bits: int32 array, bit id % 32 of word id // 32);  mask.accept(id: int)
// The engine's thread takes the GIL for each call, so whoever waits for that thread must not hold it.
#pragma once

#include <memory>

#include <pybind11/pybind11.h>

#include "rft/api/token_mask.h"

namespace rft::python {

namespace py = pybind11;

// REQUIRES: the GIL is held.
std::shared_ptr<const TokenGrammar> MakePythonGrammar(py::object grammar);

// `compile(kind: "json_schema" | "json" | "regex" | "ebnf", text: str)` -> grammar, as rft.structure.compiler makes it.
// REQUIRES: the GIL is held; the compiler itself may be called from any thread.
GrammarCompiler MakePythonGrammarCompiler(py::object compile);

}  // namespace rft::python
