#include "rollout/overlong.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace rft {

absl::Status ValidateSoftOverlong(const SoftOverlong& options) {
  if (options.max_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens: expected at least 1, got ", options.max_tokens));
  }
  if (options.buffer_tokens < 0 || options.buffer_tokens > options.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("buffer_tokens: expected 0 to max_tokens (",
                                                   options.max_tokens, "), got ",
                                                   options.buffer_tokens));
  }
  if (!(options.factor >= 0.0) || !std::isfinite(options.factor)) {
    return absl::InvalidArgumentError(
        absl::StrCat("factor: expected at least 0, got ", options.factor));
  }
  return absl::OkStatus();
}

double SoftOverlongPenalty(int64_t num_tokens, const SoftOverlong& options) {
  const int64_t free_tokens = options.max_tokens - options.buffer_tokens;
  if (num_tokens <= free_tokens) return 0.0;
  if (num_tokens > options.max_tokens) return -options.factor;
  return options.factor * static_cast<double>(free_tokens - num_tokens) /
         static_cast<double>(options.buffer_tokens);
}

}  // namespace rft
