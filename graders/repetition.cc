// repetition: 1 - how much of the completion says again what it said before: the share of its n-grams that are the first of
// their kind. 1 where nothing repeats; a text shorter than one n-gram scores 1.
//
//   n      1 to 16, default 4
//   unit   words (default; lower case, str.split()) | tokens | characters
// Sub-score: repeated = 1 - score. As a penalty (Open-R1's max_penalty * repeated): `shape` with offset -1, and a weight.
// Source: Yeo et al. 2502.03373, appendix C.2, as TRL's get_repetition_penalty_reward computes it.

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
    grader->n_ = static_cast<size_t>(params.Int("n", 4, 1, DistinctNgrams::kMaxOrder));
    const std::string unit = params.Choice("unit", {"words", "tokens", "characters"}, "words");
    if (unit != "words") grader->unit_ = unit == "tokens" ? Unit::kTokens : Unit::kCharacters;
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    if (unit_ == Unit::kTokens && LacksTokenIds(input)) return NoTokenIds();
    switch (unit_) {
      case Unit::kTokens: {
        DistinctNgrams ngrams(n_, input.token_ids.size());
        for (const TokenId id : input.token_ids) ngrams.AddNumber(static_cast<uint32_t>(id));
        return Verdict(ngrams);
      }
      case Unit::kCharacters: {
        const std::u32string text = DecodeUtf8(input.completion);
        DistinctNgrams ngrams(n_, text.size());
        for (const char32_t c : text) ngrams.AddNumber(c);
        return Verdict(ngrams);
      }
      default: {
        LowerAsciiWords ascii;
        if (ascii.Read(input.completion)) {
          DistinctNgrams ngrams(n_, ascii.size());
          for (size_t i = 0; i < ascii.size(); ++i) ngrams.AddPaddedWord(ascii[i]);
          return Verdict(ngrams);
        }
        const std::string lower = LowerUtf8(input.completion);
        const std::vector<std::string_view> words = SplitWords(lower);
        DistinctNgrams ngrams(n_, words.size());
        for (const std::string_view word : words) ngrams.AddWord(word);
        return Verdict(ngrams);
      }
    }
  }

 private:
  enum class Unit { kWords, kTokens, kCharacters };

  static Grade Verdict(const DistinctNgrams& ngrams) {
    Score score{1.0, {}, ""};
    if (ngrams.size() > 0)
      score.value = static_cast<double>(ngrams.num_distinct()) / static_cast<double>(ngrams.size());
    score.sub_scores["repeated"] = 1.0 - score.value;
    return score;
  }

  size_t n_ = 4;
  Unit unit_ = Unit::kWords;
};

}  // namespace

RFT_REGISTER_GRADER("repetition", Repetition);

}  // namespace rft
