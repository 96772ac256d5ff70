// Prompts of requests: texts or token ids of /v1/completions, messages of a chat.
// Errors: kInvalidArgument, the message begins with the field.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/api/text_codec.h"
#include "rft/api/token_mask.h"
#include "rft/serve/fields.h"
#include "rft/serve/limits.h"

namespace rft::serve {

// What bounds a prompt before it is tokenised.
struct PromptBounds {
  ServeLimits limits;
  int64_t max_context = 0;  // tokens
  size_t max_bytes = 0;     // a longer text can't fit the context, whatever its tokens are
};

// `prompt`: a text, a list of texts, a list of token ids, or a list of such lists.
absl::StatusOr<std::vector<std::vector<TokenId>>> ReadPrompts(const json::value* prompt,
                                                              const PromptBounds& bounds,
                                                              const TextCodec& codec);

struct ChatPrompt {
  std::vector<TokenId> ids;
  bool has_tools = false;  // the model was told about tools, so its calls are to be looked for
  std::optional<GrammarSpec> call;  // `tool_choice` asks for one
  bool one_call = false;            // `parallel_tool_calls` is false
};

// `messages`, `tools`, `tool_choice`, `parallel_tool_calls`, `chat_template_kwargs`, `reasoning_effort` (one of those),
// `add_generation_prompt`, `continue_final_message`; or
// `prompt_token_ids` in place of messages.
absl::StatusOr<ChatPrompt> ReadChatPrompt(Fields& fields, const PromptBounds& bounds,
                                          const TextCodec& codec);

}  // namespace rft::serve
