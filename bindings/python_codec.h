// A TextCodec whose rendering and tokenising are Python callables: rft/codec.py over Hugging Face `tokenizers`.
// The tables are copied once, so that only EncodeChat and Encode ever enter Python; both take the GIL, so whoever waits
// for a thread that may call them must not hold it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <pybind11/pybind11.h>

#include "bindings/python_grammar.h"
#include "rft/api/text_codec.h"

namespace rft::python {

namespace py = pybind11;

class PythonTextCodec : public TextCodec {
 public:
  // encode_chat: list[{"role", "content"}] -> ids; encode: str -> ids; encode_chat_json: str -> ids, or None;
  // compile_grammar: as MakePythonGrammarCompiler takes it, or None. REQUIRES: the GIL is held; both tables have the same
  // length (Create checks).
  static absl::StatusOr<std::shared_ptr<PythonTextCodec>> Create(
      py::object encode_chat, py::object encode, std::vector<std::string> token_bytes,
      std::vector<bool> is_special, std::vector<TokenId> end_ids,
      py::object encode_chat_json = py::none(), py::object compile_grammar = py::none());
  ~PythonTextCodec() override;  // takes the GIL

  // A Python exception becomes a Status (bindings/errors.h) that says which of the two raised.
  absl::StatusOr<std::vector<TokenId>> EncodeChat(
      const std::vector<Message>& messages) const override;
  absl::StatusOr<std::vector<TokenId>> EncodeChatJson(std::string_view chat) const override;
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text) const override;
  const std::vector<std::string>& token_bytes() const override { return token_bytes_; }
  const std::vector<bool>& is_special() const override { return is_special_; }
  const std::vector<TokenId>& end_ids() const override { return end_ids_; }
  absl::StatusOr<std::shared_ptr<const TokenGrammar>> CompileGrammar(
      const GrammarSpec& spec) const override;

 private:
  PythonTextCodec() = default;

  py::object encode_chat_;
  py::object encode_;
  py::object encode_chat_json_;      // null: none given
  GrammarCompiler compile_grammar_;  // empty: none given
  std::vector<std::string> token_bytes_;
  std::vector<bool> is_special_;
  std::vector<TokenId> end_ids_;
};

}  // namespace rft::python
