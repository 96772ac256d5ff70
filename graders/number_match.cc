// number_match: score 1 if the number in the completion is the expected one, else 0.
//
//   expected    template, default {{item.answer}}; must be one number, otherwise a GradeError
//   extract     RE2 regex whose first group is the number, e.g. <answer>(.*?)</answer>; default: any number in the text
//   pick        last (default) | first: which match of `extract`, or which number, counts
//   tolerance   absolute, default 0        relative   as a fraction of |expected|, default 0
// Equal means |found - expected| <= max(tolerance, relative * |expected|); with both 0 the decimal values are compared
// exactly ("1e2" is "100.0"; whole numbers of any length). A completion without a number scores 0.
// How numbers are read: graders/number_text.h. "$x$", "1/2" or words are not numbers.

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/number_text.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "re2/re2.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

class NumberMatch : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<NumberMatch>();
    grader->expected_ = ReadTemplate(params, "expected", "{{item.answer}}");
    grader->tolerance_ = params.Double("tolerance", 0.0, 0.0);
    grader->relative_ = params.Double("relative", 0.0, 0.0);
    grader->last_ = params.Choice("pick", {"last", "first"}, "last") == "last";
    if (const std::string pattern = params.String("extract", ""); !pattern.empty()) {
      grader->extract_ = std::make_unique<RE2>(pattern, RE2::Quiet);
      if (!grader->extract_->ok()) {
        params.AddError("extract",
                        absl::StrCat("\"", pattern, "\" is not a valid RE2 regular expression: ",
                                     grader->extract_->error()));
      } else if (grader->extract_->NumberOfCapturingGroups() < 1) {
        params.AddError("extract",
                        absl::StrCat("\"", pattern, "\" has no (group) around the number"));
      }
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    absl::StatusOr<std::string> expected_text = expected_.Render(input);
    if (!expected_text.ok()) return GradeError{std::string(expected_text.status().message())};
    const std::optional<Number> expected = ParseNumber(*expected_text);
    if (!expected.has_value()) {
      return GradeError{absl::StrCat("row ", input.row.index, ": the expected value \"",
                                     expected_text->substr(0, 100), "\" is not a number")};
    }
    const std::optional<Number> found = FindIn(input.completion);
    if (!found.has_value()) return Score{0.0, {}, "no number found"};
    if (Equal(*found, *expected)) return Score{1.0, {}, ""};
    return Score{
        0.0, {}, absl::StrCat("found ", found->text.substr(0, 100), ", expected ", expected->text)};
  }

 private:
  std::optional<Number> FindIn(std::string_view text) const {
    if (extract_ == nullptr) return last_ ? FindLastNumber(text) : FindFirstNumber(text);
    const re2::StringPiece whole(text.data(), text.size());
    re2::StringPiece match[2];  // the whole match and its first group
    re2::StringPiece chosen;
    bool any = false;
    for (size_t begin = 0; begin <= whole.size();) {
      if (!extract_->Match(whole, begin, whole.size(), RE2::UNANCHORED, match, 2)) break;
      chosen = match[1];
      any = true;
      if (!last_) break;
      begin = static_cast<size_t>(match[0].data() + match[0].size() - whole.data());
      if (match[0].empty())
        ++begin;  // a pattern may match nothing; don't find the same nothing for ever
    }
    if (!any) return std::nullopt;
    return ParseNumber(std::string_view(chosen.data(), chosen.size()));
  }

  bool Equal(const Number& found, const Number& expected) const {
    const double allowed = std::max(tolerance_, relative_ * std::abs(expected.value));
    if (allowed == 0) return found.canonical == expected.canonical;
    return std::abs(found.value - expected.value) <= allowed;
  }

  Template expected_;
  std::unique_ptr<RE2> extract_;
  bool last_ = true;
  double tolerance_ = 0.0;
  double relative_ = 0.0;
};

}  // namespace

RFT_REGISTER_GRADER("number_match", NumberMatch);

}  // namespace rft
