// soft_overlong: DAPO's penalty for completions near and beyond the token limit (soft_overlong.h): 0 down to -factor.
//
//   max_tokens      required: where the penalty is full
//   buffer_tokens   length of the ramp before it, default 0: a cliff
//   factor          default 1
// Sub-score: length. The weighted sum adds it to the other rewards.

#include "graders/soft_overlong.h"

#include <cmath>

#include <limits>

#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/token_ids.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

class SoftOverlongGrader : public Grader {
 public:
  explicit SoftOverlongGrader(const SoftOverlong& options) : options_(options) {}

  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
    ParamReader params(spec);
    SoftOverlong options;
    options.max_tokens = params.Int("max_tokens", 1, 1, kMax);
    options.buffer_tokens = params.Int("buffer_tokens", 0, 0, kMax);
    options.factor = params.Double("factor", 1.0, 0.0);
    if (!params.Has("max_tokens")) {
      params.AddError("max_tokens", "required");
    } else if (options.buffer_tokens > options.max_tokens) {
      params.AddError("buffer_tokens", "is greater than max_tokens");
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    return std::make_unique<SoftOverlongGrader>(options);
  }

  Grade Run(const GradeInput& input) const override {
    if (LacksTokenIds(input)) return NoTokenIds();
    const auto num_tokens = static_cast<int64_t>(input.token_ids.size());
    return Score{SoftOverlongPenalty(num_tokens, options_),
                 {{"length", static_cast<double>(num_tokens)}},
                 ""};
  }

 private:
  const SoftOverlong options_;
};

}  // namespace

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

RFT_REGISTER_GRADER("soft_overlong", SoftOverlongGrader);

}  // namespace rft
