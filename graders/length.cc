// length: how well the completion keeps to a length. Score 1 within [min, max], falling in a straight line to 0 over `ramp`
// more (or less), 0 beyond.
//
//   unit   tokens (default) | words | characters | lines
//   min    default 0
//   max    default: no bound
//   ramp   default 0: a cliff
// Brevity is max: 0 with a ramp: 1 - n / ramp. Example (max 100, ramp 50): n = 100 gives 1, 125 gives 0.5, 150 gives 0.
// Words are str.split()'s, characters code points. Sub-score: length. GradeError: unit tokens where a text comes without its
// token ids (graded without a model).

#include <algorithm>
#include <limits>
#include <string>

#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/token_ids.h"
#include "graders/unicode_text.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr int64_t kNoBound = std::numeric_limits<int32_t>::max();

class Length : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<Length>();
    grader->unit_ = params.Choice("unit", {"tokens", "words", "characters", "lines"}, "tokens");
    grader->min_ = params.Int("min", 0, 0, kNoBound);
    grader->max_ = params.Int("max", kNoBound, 0, kNoBound);
    grader->ramp_ = params.Int("ramp", 0, 0, kNoBound);
    if (grader->min_ > grader->max_) params.AddError("min", "is greater than max");
    if (!params.Has("min") && !params.Has("max")) params.AddError("max", "required (or min)");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    if (unit_ == "tokens" && LacksTokenIds(input)) return NoTokenIds();
    const int64_t n = Count(input);
    const int64_t off = std::max({min_ - n, n - max_, int64_t{0}});
    double value = off == 0 ? 1.0 : 0.0;
    if (off > 0 && off < ramp_) value = 1.0 - static_cast<double>(off) / static_cast<double>(ramp_);
    Score score{value, {}, ""};
    score.sub_scores["length"] = static_cast<double>(n);
    return score;
  }

 private:
  int64_t Count(const GradeInput& input) const {
    const std::string_view text = input.completion;
    if (unit_ == "tokens") return static_cast<int64_t>(input.token_ids.size());
    if (unit_ == "words") return static_cast<int64_t>(CountWords(text));
    if (unit_ == "lines") {
      if (text.empty()) return 0;
      return std::count(text.begin(), text.end(), '\n') + (text.back() == '\n' ? 0 : 1);
    }
    return std::count_if(text.begin(), text.end(),  // every byte that does not continue a character
                         [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  }

  std::string unit_;
  int64_t min_ = 0;
  int64_t max_ = kNoBound;
  int64_t ramp_ = 0;
};

}  // namespace

RFT_REGISTER_GRADER("length", Length);

}  // namespace rft
