// Rows with their prompts rendered and tokenised, once. Torch-free.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/api/text_codec.h"
#include "rft/core/file_system.h"
#include "rft/core/types.h"

namespace rft {

struct Prompt {
  std::shared_ptr<const Row> row;
  std::vector<TokenId> ids;
};

struct PromptLimit {
  int64_t max_tokens = 0;  // longest allowed prompt
  std::string why;         // "the model's context of 2048 tokens less rollout.max_tokens (64)"
};

// The shorter of the configured limit (data.max_prompt_tokens; 0 = none) and what a context leaves beside a completion.
// kInvalidArgument if that leaves nothing.
absl::StatusOr<PromptLimit> MakePromptLimit(int64_t configured, int64_t max_context,
                                            int64_t max_completion_tokens);

// Encodes all rows of the dataset `path` (ReadDataset). kInvalidArgument names file:line of each prompt that is empty or too
// long or that the chat template refuses: the first 20, and how many more.
absl::StatusOr<std::vector<Prompt>> MakePrompts(const std::vector<std::shared_ptr<const Row>>& rows,
                                                const std::string& path, const TextCodec& codec,
                                                const PromptLimit& limit,
                                                FileSystem& fs = FileSystem::Default());

}  // namespace rft
