// repetition: 1 - how much of the completion says again what it said before: the share of its n-grams that are the first of
// their kind. 1 where nothing repeats; a text shorter than one n-gram scores 1.
//
//   n      1 to 16, default 4
//   unit   words (default; lower case, str.split()) | tokens | characters
// Sub-score: repeated = 1 - score. As a penalty (Open-R1's max_penalty * repeated): `shape` with offset -1, and a weight.
// Source: Yeo et al. 2502.03373, appendix C.2, as TRL's get_repetition_penalty_reward computes it.

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/token_ids.h"
#include "graders/unicode_text.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

class Repetition : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<Repetition>();
    grader->n_ = static_cast<size_t>(params.Int("n", 4, 1, 16));
    grader->unit_ = params.Choice("unit", {"words", "tokens", "characters"}, "words");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    if (unit_ == "tokens" && LacksTokenIds(input)) return NoTokenIds();
    std::vector<uint32_t> grams = Symbols(input);
    if (grams.size() < n_) return Score{1.0, {{"repeated", 0.0}}, ""};
    const std::vector<uint32_t> symbols = grams;
    // An n-gram's number is that of the pair ((n-1)-gram, symbol).
    for (size_t order = 2; order <= n_; ++order) {
      absl::flat_hash_map<uint64_t, uint32_t> numbers;
      numbers.reserve(grams.size());
      grams.pop_back();
      for (size_t i = 0; i < grams.size(); ++i) {
        const uint64_t pair = (uint64_t{grams[i]} << 32) | symbols[i + order - 1];
        grams[i] = numbers.try_emplace(pair, static_cast<uint32_t>(numbers.size())).first->second;
      }
    }
    const absl::flat_hash_set<uint32_t> distinct(grams.begin(), grams.end());
    const double share = static_cast<double>(distinct.size()) / static_cast<double>(grams.size());
    return Score{share, {{"repeated", 1.0 - share}}, ""};
  }

 private:
  std::vector<uint32_t> Symbols(const GradeInput& input) const {
    std::vector<uint32_t> symbols;
    if (unit_ == "tokens") {
      symbols.assign(input.token_ids.begin(), input.token_ids.end());
    } else if (unit_ == "characters") {
      const std::u32string text = DecodeUtf8(input.completion);
      symbols.assign(text.begin(), text.end());
    } else {
      const std::string lower = LowerUtf8(input.completion);
      absl::flat_hash_map<absl::string_view, uint32_t> numbers;
      for (const std::string_view word : SplitWords(lower)) {
        symbols.push_back(
            numbers.try_emplace({word.data(), word.size()}, static_cast<uint32_t>(numbers.size()))
                .first->second);
      }
    }
    return symbols;
  }

  size_t n_ = 4;
  std::string unit_;
};

}  // namespace

RFT_REGISTER_GRADER("repetition", Repetition);

}  // namespace rft
