// Text in, text out: what an LLM judge is given, so that graders need neither an engine nor a tokenizer.
// Implementations: graders/chat_generator.h (any OpenAI-compatible server), rft/api/engine_text_generator.h (our own engine).
// Thread safety: Generate may be called from several threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/core/types.h"

namespace rft {

struct TextRequest {
  std::vector<Message> messages;
  double temperature = 0.0;  // 0 = greedy
  double top_p = 1.0;
  int32_t max_tokens = 1024;
  uint64_t seed = 0;
  double deadline_s = 60.0;
  // JSON Schema that the text must fit, where the generator can hold the model to one; a caller checks the text all the same.
  std::string json_schema;
};

struct GeneratedText {
  std::string text;
  FinishReason finish_reason = FinishReason::kStop;
  int64_t num_prompt_tokens = 0;  // 0 where the generator does not say
  int64_t num_completion_tokens = 0;
};

class TextGenerator {
 public:
  virtual ~TextGenerator() = default;
  // One completion of the chat. Blocks, no longer than deadline_s. kDeadlineExceeded; kUnavailable: may work later; other
  // codes: will not.
  virtual absl::StatusOr<GeneratedText> Generate(const TextRequest& request) = 0;
};

}  // namespace rft
