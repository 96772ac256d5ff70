#include "rollout/prompt_set.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/status_macros.h"
#include "rft/io/dataset.h"

namespace rft {
namespace {

constexpr size_t kMaxReported = 20;

// Line numbers (from 1) of the rows: blank lines are no rows. Only read when there is something to complain about.
std::vector<int64_t> LineNumbers(const std::string& path, FileSystem& fs) {
  std::vector<int64_t> lines;
  const absl::StatusOr<std::string> text = fs.ReadFile(path);
  if (!text.ok()) return lines;
  int64_t line = 1;
  bool blank = true;
  for (char c : *text + "\n") {
    if (c != '\n') {
      blank = blank && (c == ' ' || c == '\t' || c == '\r');
      continue;
    }
    if (!blank) lines.push_back(line);
    blank = true;
    ++line;
  }
  return lines;
}

std::string WhatIsWrong(const absl::StatusOr<std::vector<TokenId>>& ids, const PromptLimit& limit) {
  if (!ids.ok()) return absl::StrCat("the chat template failed: ", ids.status().message());
  if (ids->empty()) return "the prompt has no tokens";
  if (static_cast<int64_t>(ids->size()) <= limit.max_tokens) return "";
  return absl::StrCat("the prompt has ", ids->size(), " tokens; at most ", limit.max_tokens,
                      " fit (", limit.why, "). Shorten the row or remove it");
}

}  // namespace

absl::StatusOr<PromptLimit> MakePromptLimit(int64_t configured, int64_t max_context,
                                            int64_t max_completion_tokens) {
  PromptLimit limit{max_context - max_completion_tokens,
                    absl::StrCat("the model's context of ", max_context,
                                 " tokens less rollout.max_tokens (", max_completion_tokens, ")")};
  if (limit.max_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rollout.max_tokens: ", max_completion_tokens,
        " leaves no room for a prompt in the model's context of ", max_context, " tokens"));
  }
  if (configured > 0 && configured < limit.max_tokens)
    limit = {configured, "data.max_prompt_tokens"};
  return limit;
}

absl::StatusOr<std::vector<Prompt>> MakePrompts(const std::vector<std::shared_ptr<const Row>>& rows,
                                                const std::string& path, const TextCodec& codec,
                                                const PromptLimit& limit, FileSystem& fs) {
  std::vector<Prompt> prompts;
  std::vector<std::string> mistakes;
  std::vector<int64_t> lines;
  size_t num_mistakes = 0;
  for (const std::shared_ptr<const Row>& row : rows) {
    absl::StatusOr<std::vector<TokenId>> ids = codec.EncodeChat(row->messages);
    const std::string wrong = WhatIsWrong(ids, limit);
    if (wrong.empty()) {
      prompts.push_back({row, *std::move(ids)});
    } else if (++num_mistakes <= kMaxReported) {
      if (lines.empty()) lines = LineNumbers(path, fs);
      const auto index = static_cast<size_t>(row->index);
      mistakes.push_back(absl::StrCat(
          path, ":", index < lines.size() ? lines[index] : row->index + 1, ": ", wrong));
    }
  }
  if (num_mistakes > kMaxReported)
    mistakes.push_back(absl::StrCat("... and ", num_mistakes - kMaxReported, " more bad lines"));
  if (!mistakes.empty()) return absl::InvalidArgumentError(absl::StrJoin(mistakes, "\n"));
  return prompts;
}

}  // namespace rft
