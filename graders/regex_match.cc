// regex_match: score 1 if the completion matches a regular expression, else 0.
//
//   pattern   RE2 syntax; "." matches a newline only with (?s), case is ignored with (?i)
//   full      true: the whole completion must match; false (default): some part of it
// Time is linear in the completion's length whatever the pattern (RE2), so a completion can't hang it.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/quick_regex.h"
#include "graders/unicode_text.h"
#include "graders/user_regex.h"
#include "re2/filtered_re2.h"
#include "re2/re2.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

// Patterns with counted repetitions may have automata of thousands of states, which take tens of milliseconds to make. Most texts
// that don't match lack a literal that every match has: those are told without.
class Prefilter {
 public:
  static constexpr int kBigProgram = 500;  // RE2::ProgramSize

  explicit Prefilter(const std::string& pattern) : filter_(/*min_atom_len=*/1) {
    int id = 0;
    if (filter_.Add(pattern, UserRegexOptions(), &id) == RE2::NoError) filter_.Compile(&atoms_);
  }

  // False: `text` does not match. REQUIRES: it is ASCII.
  bool MayMatch(std::string_view text) const {
    if (atoms_.empty()) return true;
    const std::string lower = LowerUtf8(text);  // as atoms are
    std::vector<int> found, possible;
    for (size_t i = 0; i < atoms_.size(); ++i) {
      if (lower.find(atoms_[i]) != std::string::npos) found.push_back(static_cast<int>(i));
    }
    filter_.AllPotentials(found, &possible);
    return !possible.empty();
  }

 private:
  re2::FilteredRE2 filter_;
  std::vector<std::string> atoms_;
};

class RegexMatch : public Grader {
 public:
  RegexMatch(const std::string& pattern, bool full)
      : regex_(pattern, UserRegexOptions()), full_(full) {}

  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    const std::string pattern = params.Required("pattern");
    const bool full = params.Bool("full", false);
    auto grader = std::make_unique<RegexMatch>(pattern, full);
    if (!grader->regex_.ok()) {
      params.AddError("pattern",
                      absl::StrCat("\"", pattern, "\" is not a valid RE2 regular expression: ",
                                   grader->regex_.error()));
    } else if (grader->regex_.ProgramSize() >= Prefilter::kBigProgram) {
      grader->prefilter_ = std::make_unique<Prefilter>(pattern);
    } else if (!full) {
      grader->quick_ = QuickRegex::Compile(pattern);
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    if (quick_.has_value()) {
      if (const std::optional<bool> matched = quick_->Matches(input.completion))
        return Verdict(*matched);
    }
    if (prefilter_ != nullptr && IsAscii(input.completion) &&
        !prefilter_->MayMatch(input.completion))
      return Verdict(false);
    const re2::StringPiece text(input.completion.data(), input.completion.size());
    const bool matched = full_ ? RE2::FullMatch(text, regex_) : RE2::PartialMatch(text, regex_);
    return Verdict(matched);
  }

 private:
  static Grade Verdict(bool matched) {
    return Grade(std::in_place_type<Score>, matched ? 1.0 : 0.0);
  }

  RE2 regex_;
  std::optional<QuickRegex> quick_;       // of patterns it takes
  std::unique_ptr<Prefilter> prefilter_;  // of big ones
  bool full_;
};

}  // namespace

RFT_REGISTER_GRADER("regex_match", RegexMatch);

}  // namespace rft
