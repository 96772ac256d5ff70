// Text <-> token ids. Text is rendered once and parsed once; nothing is ever re-tokenised.
// Torch-free and Python-free: the Hugging Face implementation is bindings/python_text.cc.
// Thread safety: all methods may be called from any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/api/token_mask.h"
#include "rft/core/types.h"

namespace rft {

class TextCodec {
 public:
  virtual ~TextCodec() = default;
  // Renders the messages with the model's chat template (ending in the generation prompt) and tokenises the result.
  virtual absl::StatusOr<std::vector<TokenId>> EncodeChat(
      const std::vector<Message>& messages) const = 0;
  // Likewise for everything a chat template can take, one JSON object: {"messages": [...], "tools": [...],
  // "add_generation_prompt": true, "continue_final_message": false, "chat_template_kwargs": {...}}; all but messages may be
  // missing. Messages as OpenAI has them (tool_calls, tool_call_id, ...), contents as text.
  // Default: kUnimplemented, for codecs that render plain messages only.
  virtual absl::StatusOr<std::vector<TokenId>> EncodeChatJson(std::string_view chat) const;
  virtual absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text) const = 0;
  // The bytes that each id stands for (index = id): the whole table, fetched once, so that streaming, stop strings and
  // C++ graders never enter Python. Special tokens have their text; `is_special[id]` tells them apart.
  virtual const std::vector<std::string>& token_bytes() const = 0;
  virtual const std::vector<bool>& is_special() const = 0;
  // Ids that end a completion.
  virtual const std::vector<TokenId>& end_ids() const = 0;
  // A grammar for this vocabulary, to hold completions to a form (GenerateRequest::grammar). kInvalidArgument: what is wrong
  // with `spec`. Default: kUnimplemented, for codecs that can compile none.
  virtual absl::StatusOr<std::shared_ptr<const TokenGrammar>> CompileGrammar(
      const GrammarSpec& spec) const;
};

// Concatenated bytes of `ids`, special tokens left out, invalid UTF-8 replaced by U+FFFD (as Hugging Face's decode does).
std::string DecodeTokens(const TextCodec& codec, absl::Span<const TokenId> ids);

}  // namespace rft
