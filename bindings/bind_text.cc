#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "bindings/python_codec.h"

namespace rft::python {
namespace {

std::vector<Message> ToMessages(const py::iterable& items) {
  std::vector<Message> messages;
  for (const py::handle item : items) {
    messages.push_back(
        {py::str(item["role"]).cast<std::string>(), py::str(item["content"]).cast<std::string>()});
  }
  return messages;
}

void CheckCallable(const py::object& object, const char* name) {
  if (!PyCallable_Check(object.ptr()))
    throw py::type_error(absl::StrCat("TextCodec: ", name, " must be callable"));
}

}  // namespace

void BindText(py::module_& m) {
  py::class_<TextCodec, std::shared_ptr<TextCodec>>(
      m, "TextCodec",
      "Text <-> token ids for the C++ side. `rft.load_codec(folder).native()` makes one from a "
      "model folder.")
      .def(py::init([](py::object encode_chat, py::object encode,
                       std::vector<std::string> token_bytes, std::vector<bool> is_special,
                       std::vector<TokenId> end_ids, py::object encode_chat_json,
                       py::object compile_grammar) -> std::shared_ptr<TextCodec> {
             CheckCallable(encode_chat, "encode_chat");
             CheckCallable(encode, "encode");
             return ValueOrThrow(PythonTextCodec::Create(
                 std::move(encode_chat), std::move(encode), std::move(token_bytes),
                 std::move(is_special), std::move(end_ids), std::move(encode_chat_json),
                 std::move(compile_grammar)));
           }),
           py::arg("encode_chat"), py::arg("encode"), py::arg("token_bytes"), py::arg("is_special"),
           py::arg("end_ids"), py::arg("encode_chat_json") = py::none(),
           py::arg("compile_grammar") = py::none(),
           "encode_chat: list of {role, content} -> ids; encode: str -> ids; token_bytes and "
           "is_special are indexed by token "
           "id; end_ids end a completion; encode_chat_json: JSON text with messages, tools and "
           "options -> ids (what a server needs); compile_grammar: (kind, text) -> grammar (what a "
           "judge's replies are held to).\n\nRaises ConfigError when the tables differ in "
           "length.")
      .def(
          "encode_chat",
          [](const TextCodec& codec, const py::iterable& messages) {
            const std::vector<Message> list = ToMessages(messages);
            return ValueOrThrow(WithoutGil([&] { return codec.EncodeChat(list); }));
          },
          py::arg("messages"),
          "Token ids of the rendered chat, up to where the assistant's words begin.")
      .def(
          "encode",
          [](const TextCodec& codec, const std::string& text) {
            return ValueOrThrow(WithoutGil([&] { return codec.Encode(text); }));
          },
          py::arg("text"), "Token ids of plain text.")
      .def(
          "decode",
          [](const TextCodec& codec, const py::object& ids) {
            const std::vector<TokenId> list = ToTokenIds(ids, "ids");
            for (const TokenId id : list) {
              if (id < 0 || static_cast<size_t>(id) >= codec.token_bytes().size()) {
                throw StatusException(absl::InvalidArgumentError(
                    absl::StrCat("ids: ", id, " is outside the vocabulary of ",
                                 codec.token_bytes().size(), " tokens")));
              }
            }
            return DecodeTokens(codec, absl::MakeConstSpan(list));
          },
          py::arg("ids"),
          "Text of `ids` without special tokens; bytes that are no valid UTF-8 become U+FFFD.")
      .def_property_readonly("end_ids", &TextCodec::end_ids, "Ids that end a completion.")
      .def_property_readonly(
          "vocab_size", [](const TextCodec& codec) { return codec.token_bytes().size(); },
          "Number of token ids.")
      .def("__repr__", [](const TextCodec& codec) {
        return absl::StrCat("<rft.TextCodec ", codec.token_bytes().size(), " tokens, ",
                            codec.end_ids().size(), " end ids>");
      });
}

}  // namespace rft::python
