// string_check: compares two texts, as OpenAI's grader of that name. Score 1 or 0.
//
//   operation   eq | ne | like | ilike     like: `input` contains `reference`; ilike: the same, ignoring case (Unicode)
//   reference   template, e.g. {{item.answer}}
//   input       template, default {{sample.output_text}}
// Nothing is trimmed. GradeError: a column the row doesn't have. Score 0: a part the completion doesn't have (output_json).

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "re2/re2.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x80; });
}

class StringCheck : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<StringCheck>();
    grader->operation_ = params.Choice("operation", {"eq", "ne", "like", "ilike"});
    grader->reference_ = ReadTemplate(params, "reference");
    grader->input_ = ReadTemplate(params, "input", "{{sample.output_text}}");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    absl::StatusOr<std::string> text = input_.Render(input);
    if (!text.ok()) return GradeWithoutText(text.status());
    absl::StatusOr<std::string> reference = reference_.Render(input);
    if (!reference.ok()) return GradeWithoutText(reference.status());
    if (operation_ == "eq") return Verdict(*text == *reference);
    if (operation_ == "ne") return Verdict(*text != *reference);
    if (operation_ == "like") return Verdict(text->find(*reference) != std::string::npos);
    return ContainsIgnoringCase(*text, *reference);
  }

 private:
  static Grade Verdict(bool passed) { return Score{passed ? 1.0 : 0.0, {}, ""}; }

  static Grade ContainsIgnoringCase(const std::string& text, const std::string& reference) {
    if (IsAscii(reference) && IsAscii(text)) {
      return Verdict(
          absl::StrContains(absl::AsciiStrToLower(text), absl::AsciiStrToLower(reference)));
    }
    RE2::Options options;  // RE2 folds the case of all of Unicode
    options.set_literal(true);
    options.set_case_sensitive(false);
    options.set_log_errors(false);
    options.set_max_mem(int64_t{256} << 20);
    const RE2 literal(reference, options);
    if (!literal.ok())
      return GradeError{"reference can't be compared ignoring case: " + literal.error()};
    return Verdict(RE2::PartialMatch(text, literal));
  }

  std::string operation_;
  Template reference_;
  Template input_;
};

}  // namespace

RFT_REGISTER_GRADER("string_check", StringCheck);

}  // namespace rft
