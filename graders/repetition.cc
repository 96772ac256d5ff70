// repetition: 1 - how much of the completion says again what it said before: the share of its n-grams that are the first of
// their kind. 1 where nothing repeats; a text shorter than one n-gram scores 1.
//
//   n      1 to 16, default 4
//   unit   words (default; lower case, str.split()) | tokens | characters
// Sub-score: repeated = 1 - score. As a penalty (Open-R1's max_penalty * repeated): `shape` with offset -1, and a weight.
// Source: Yeo et al. 2502.03373, appendix C.2, as TRL's get_repetition_penalty_reward computes it.

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "graders/grader.h"
#include "graders/numbering.h"
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
    const std::string unit = params.Choice("unit", {"words", "tokens", "characters"}, "words");
    if (unit != "words") grader->unit_ = unit == "tokens" ? Unit::kTokens : Unit::kCharacters;
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    if (unit_ == Unit::kTokens && LacksTokenIds(input)) return NoTokenIds();
    std::vector<uint32_t> symbols = Symbols(input);
    if (symbols.size() < n_) return Verdict(1, 1);
    const size_t num_grams = symbols.size() - n_ + 1;
    const uint32_t most = *std::max_element(symbols.begin(), symbols.end());
    const auto bits = static_cast<size_t>(std::bit_width(most));
    KeyNumbers distinct(num_grams);
    if (bits * n_ <= 64) {  // an n-gram is one number
      const uint64_t mask = bits * n_ == 64 ? ~uint64_t{0} : (uint64_t{1} << (bits * n_)) - 1;
      uint64_t gram = 0;
      for (size_t i = 0; i < symbols.size(); ++i) {
        gram = ((gram << bits) | symbols[i]) & mask;
        if (i + 1 >= n_) distinct.Number(gram);
      }
      return Verdict(distinct.size(), num_grams);
    }
    // Its number is that of the pair ((n-1)-gram, symbol).
    std::vector<uint32_t> grams = symbols;
    size_t num_distinct = 0;
    for (size_t order = 2; order <= n_; ++order) {
      KeyNumbers numbers(grams.size());
      grams.pop_back();
      for (size_t i = 0; i < grams.size(); ++i)
        grams[i] = numbers.Number((uint64_t{grams[i]} << 32) | symbols[i + order - 1]);
      num_distinct = numbers.size();
    }
    return Verdict(num_distinct, num_grams);
  }

 private:
  enum class Unit { kWords, kTokens, kCharacters };

  static Grade Verdict(size_t num_distinct, size_t num_grams) {
    Score score{static_cast<double>(num_distinct) / static_cast<double>(num_grams), {}, ""};
    score.sub_scores.emplace("repeated", 1.0 - score.value);
    return score;
  }

  std::vector<uint32_t> Symbols(const GradeInput& input) const {
    std::vector<uint32_t> symbols;
    if (unit_ == Unit::kTokens) {
      symbols.assign(input.token_ids.begin(), input.token_ids.end());
    } else if (unit_ == Unit::kCharacters) {
      const std::u32string text = DecodeUtf8(input.completion);
      symbols.assign(text.begin(), text.end());
    } else {
      const std::string lower = LowerUtf8(input.completion);
      const std::vector<std::string_view> words = SplitWords(lower);
      WordNumbers numbers(words.size());
      symbols.reserve(words.size());
      for (const std::string_view word : words) symbols.push_back(numbers.Number(word));
    }
    return symbols;
  }

  size_t n_ = 4;
  Unit unit_ = Unit::kWords;
};

}  // namespace

RFT_REGISTER_GRADER("repetition", Repetition);

}  // namespace rft
