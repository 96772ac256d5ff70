#include "bindings/python_codec.h"

#include <utility>

#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"

namespace rft::python {
namespace {

// REQUIRES: the GIL is held.
absl::StatusOr<std::vector<TokenId>> CallForIds(const py::object& function,
                                                const py::object& argument, const char* what) {
  try {
    return function(argument).cast<std::vector<TokenId>>();
  } catch (py::error_already_set& error) {
    const absl::Status status = StatusFromPython(error);
    return absl::Status(status.code(),
                        absl::StrCat("text codec: ", what, ": ", std::string(status.message())));
  } catch (const py::cast_error&) {
    return absl::InvalidArgumentError(
        absl::StrCat("text codec: ", what, " must return a list of token ids"));
  }
}

// Text that is not UTF-8 can't become a str; the tokenizer sees U+FFFD, as DecodeTokens would show it.
py::str ToStr(std::string_view text) {
  PyObject* made =
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(made);
}

}  // namespace

absl::StatusOr<std::shared_ptr<PythonTextCodec>> PythonTextCodec::Create(
    py::object encode_chat, py::object encode, std::vector<std::string> token_bytes,
    std::vector<bool> is_special, std::vector<TokenId> end_ids, py::object encode_chat_json,
    py::object compile_grammar) {
  if (token_bytes.size() != is_special.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("TextCodec: token_bytes has ", token_bytes.size(), " entries and is_special ",
                     is_special.size(), "; both are indexed by token id"));
  }
  for (const TokenId id : end_ids) {
    if (id < 0 || static_cast<size_t>(id) >= token_bytes.size()) {
      return absl::InvalidArgumentError(absl::StrCat("TextCodec: end id ", id,
                                                     " is outside the vocabulary of ",
                                                     token_bytes.size(), " tokens"));
    }
  }
  std::shared_ptr<PythonTextCodec> codec(new PythonTextCodec);
  codec->encode_chat_ = std::move(encode_chat);
  codec->encode_ = std::move(encode);
  if (!encode_chat_json.is_none()) codec->encode_chat_json_ = std::move(encode_chat_json);
  if (!compile_grammar.is_none())
    codec->compile_grammar_ = MakePythonGrammarCompiler(std::move(compile_grammar));
  codec->token_bytes_ = std::move(token_bytes);
  codec->is_special_ = std::move(is_special);
  codec->end_ids_ = std::move(end_ids);
  return codec;
}

PythonTextCodec::~PythonTextCodec() {
  if (!Py_IsInitialized()) {  // the interpreter is gone, and the objects with it
    encode_chat_.release();
    encode_.release();
    encode_chat_json_.release();
    return;
  }
  py::gil_scoped_acquire gil;
  encode_chat_ = py::object();
  encode_ = py::object();
  encode_chat_json_ = py::object();
}

absl::StatusOr<std::vector<TokenId>> PythonTextCodec::EncodeChat(
    const std::vector<Message>& messages) const {
  py::gil_scoped_acquire gil;
  py::list list;
  for (const Message& message : messages) {
    py::dict item;
    item["role"] = ToStr(message.role);
    item["content"] = ToStr(message.content);
    list.append(std::move(item));
  }
  return CallForIds(encode_chat_, list, "encode_chat");
}

absl::StatusOr<std::vector<TokenId>> PythonTextCodec::EncodeChatJson(std::string_view chat) const {
  if (!encode_chat_json_) return TextCodec::EncodeChatJson(chat);
  py::gil_scoped_acquire gil;
  return CallForIds(encode_chat_json_, ToStr(chat), "encode_chat_json");
}

absl::StatusOr<std::shared_ptr<const TokenGrammar>> PythonTextCodec::CompileGrammar(
    const GrammarSpec& spec) const {
  return compile_grammar_ ? compile_grammar_(spec) : TextCodec::CompileGrammar(spec);
}

absl::StatusOr<std::vector<TokenId>> PythonTextCodec::Encode(std::string_view text) const {
  py::gil_scoped_acquire gil;
  return CallForIds(encode_, ToStr(text), "encode");
}

}  // namespace rft::python
