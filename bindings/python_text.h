// A text codec for C++ programs: the exported CMake target rft::python_text.
//
//   find_package(rft REQUIRED)
//   target_link_libraries(my_program PRIVATE rft::rft rft::python_text)
//
//   absl::StatusOr<std::shared_ptr<rft::TextCodec>> codec = rft::LoadPythonCodec("models/smollm2");
//
// Chat templates and tokenizers are Python's: this starts an interpreter in the process (or uses the one that runs
// already) and imports rft.codec. Nothing else enters Python: the table of token bytes is copied once.
// This header needs neither Python nor pybind11.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "rft/api/text_codec.h"

namespace rft {

// The codec of the Hugging Face folder `model_dir`. Blocks for a second or two on first use (imports).
//
// The interpreter started here is the one of the environment variable RFT_PYTHON, else the one rft was built with; it must
// have the package `rft` and `transformers` (`make setup`). It is never shut down, and no thread keeps its GIL.
// Thread safety: may be called from any thread, also concurrently. The codec may outlive everything else.
// Errors: kNotFound (the folder, its tokenizer.json), kFailedPrecondition (no interpreter, or rft.codec can't be imported),
// kInvalidArgument (a broken tokenizer).
absl::StatusOr<std::shared_ptr<TextCodec>> LoadPythonCodec(const std::string& model_dir);

}  // namespace rft
