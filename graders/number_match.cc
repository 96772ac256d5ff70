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
#include <utility>

#include "absl/strings/str_cat.h"
#include "graders/extract.h"
#include "graders/grader.h"
#include "graders/number_text.h"
#include "graders/param_reader.h"
#include "graders/template.h"
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
    grader->extract_ = Extract::Read(params);
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    TextBuffer buffer;
    const absl::StatusOr<std::string_view> expected_text = expected_.View(input, &buffer);
    if (!expected_text.ok()) return GradeWithoutText(expected_text.status());
    const std::optional<std::string_view> part = extract_.Find(input.completion);
    if (extract_.has_pattern() && part.has_value()) {
      const auto found = ParseShortWholeNumber(*part);
      const auto expected = found ? ParseShortWholeNumber(*expected_text) : std::nullopt;
      if (expected.has_value())
        return Verdict(Equal(found->value, expected->value), found->text, expected->text);
    }
    const std::optional<Number> expected = ParseNumber(*expected_text);
    if (!expected.has_value()) {
      return GradeError{absl::StrCat("row ", input.row.index, ": the expected value \"",
                                     std::string(expected_text->substr(0, 100)),
                                     "\" is not a number")};
    }
    const std::optional<Number> found = part.has_value() ? FindIn(*part) : std::nullopt;
    if (!found.has_value()) return Score{0.0, {}, "no number found"};
    return Verdict(Equal(*found, *expected), found->text, expected->text);
  }

 private:
  static Grade Verdict(bool equal, std::string_view found, std::string_view expected) {
    Grade grade(std::in_place_type<Score>, equal ? 1.0 : 0.0);
    if (equal) return grade;
    std::string& reason = std::get<Score>(grade).reason;
    found = found.substr(0, 100);
    reason.reserve(found.size() + expected.size() + 17);
    reason.append("found ").append(found).append(", expected ").append(expected);
    return grade;
  }

  // In what `extract` found, or in all of the completion.
  std::optional<Number> FindIn(std::string_view part) const {
    if (extract_.has_pattern()) return ParseNumber(part);
    return extract_.picks_last() ? FindLastNumber(part) : FindFirstNumber(part);
  }

  bool Equal(const Number& found, const Number& expected) const {
    const double allowed = std::max(tolerance_, relative_ * std::abs(expected.value));
    if (allowed == 0) return found.exact == expected.exact;
    return std::abs(found.value - expected.value) <= allowed;
  }
  // Of short ones, which doubles hold exactly.
  bool Equal(int64_t found, int64_t expected) const {
    const double allowed =
        std::max(tolerance_, relative_ * std::abs(static_cast<double>(expected)));
    if (allowed == 0) return found == expected;
    return static_cast<double>(std::abs(found - expected)) <= allowed;
  }

  Template expected_;
  Extract extract_;
  double tolerance_ = 0.0;
  double relative_ = 0.0;
};

}  // namespace

RFT_REGISTER_GRADER("number_match", NumberMatch);

}  // namespace rft
