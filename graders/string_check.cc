// string_check: compares two texts, as OpenAI's grader of that name. Score 1 or 0.
//
//   operation   eq | ne | like | ilike     like: `input` contains `reference`; ilike: the same, ignoring case (Unicode)
//   reference   template, e.g. {{item.answer}}
//   input       template, default {{sample.output_text}}
// Nothing is trimmed. GradeError: a column the row doesn't have. Score 0: a part the completion doesn't have (output_json).

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "graders/unicode_text.h"
#include "re2/re2.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

class StringCheck : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<StringCheck>();
    const std::vector<std::string> names = {"eq", "ne", "like", "ilike"};
    const std::string operation = params.Choice("operation", names);
    const auto place = std::find(names.begin(), names.end(), operation) - names.begin();
    grader->operation_ = static_cast<Operation>(place);
    grader->reference_ = ReadTemplate(params, "reference");
    grader->input_ = ReadTemplate(params, "input", "{{sample.output_text}}");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    TextBuffer buffers[2];
    const absl::StatusOr<std::string_view> text = input_.View(input, &buffers[0]);
    if (!text.ok()) return GradeWithoutText(text.status());
    const absl::StatusOr<std::string_view> reference = reference_.View(input, &buffers[1]);
    if (!reference.ok()) return GradeWithoutText(reference.status());
    switch (operation_) {
      case Operation::kEq:
        return Verdict(*text == *reference);
      case Operation::kNe:
        return Verdict(*text != *reference);
      case Operation::kLike:
        return Verdict(text->find(*reference) != std::string_view::npos);
      default:
        return ContainsIgnoringCase(*text, *reference);
    }
  }

 private:
  enum class Operation { kEq, kNe, kLike, kIlike };

  static Grade Verdict(bool passed) { return Grade(std::in_place_type<Score>, passed ? 1.0 : 0.0); }

  static Grade ContainsIgnoringCase(std::string_view text, std::string_view reference) {
    if (ContainsIgnoringAsciiCase(text, reference)) return Verdict(true);
    // Letters beyond ASCII may be equal to those within: the Kelvin sign is a K.
    if (IsAscii(reference) && IsAscii(text)) return Verdict(false);
    RE2::Options options;  // RE2 folds the case of all of Unicode
    options.set_literal(true);
    options.set_case_sensitive(false);
    options.set_log_errors(false);
    options.set_max_mem(int64_t{256} << 20);
    const RE2 literal(re2::StringPiece(reference.data(), reference.size()), options);
    if (!literal.ok())
      return GradeError{"reference can't be compared ignoring case: " + literal.error()};
    return Verdict(RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), literal));
  }

  Operation operation_ = Operation::kEq;
  Template reference_;
  Template input_;
};

}  // namespace

RFT_REGISTER_GRADER("string_check", StringCheck);

}  // namespace rft
