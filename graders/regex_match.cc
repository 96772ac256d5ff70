// regex_match: score 1 if the completion matches a regular expression, else 0.
//
//   pattern   RE2 syntax; "." matches a newline only with (?s), case is ignored with (?i)
//   full      true: the whole completion must match; false (default): some part of it
// Time is linear in the completion's length whatever the pattern (RE2), so a completion can't hang it.

#include <string>

#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/user_regex.h"
#include "re2/re2.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

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
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    const re2::StringPiece text(input.completion.data(), input.completion.size());
    const bool matched = full_ ? RE2::FullMatch(text, regex_) : RE2::PartialMatch(text, regex_);
    return Score{matched ? 1.0 : 0.0, {}, ""};
  }

 private:
  RE2 regex_;
  bool full_;
};

}  // namespace

RFT_REGISTER_GRADER("regex_match", RegexMatch);

}  // namespace rft
