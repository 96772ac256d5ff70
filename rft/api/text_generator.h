// Text in, text out: what an LLM judge is given, so that graders need neither an engine nor a tokenizer.
// Thread safety: Generate may be called from several threads.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/core/types.h"

namespace rft {

class TextGenerator {
 public:
  virtual ~TextGenerator() = default;
  // One completion of the chat; at most max_tokens new tokens. Blocks.
  virtual absl::StatusOr<std::string> Generate(const std::vector<Message>& messages,
                                               double temperature, int32_t max_tokens) = 0;
};

}  // namespace rft
