// language: how much of the completion is written in the expected language, told by CLD2 (83 languages).
//
//   language    template, e.g. de or {{item.language}}: ISO 639-1 code, or zh-Hant
//   min_share   given: score 1 where at least this share is in the language, else 0; default: the share itself is the score
//   undecided   abstain (default) | 0 | 1: the grade where CLD2 can't tell
//   input       template, default {{sample.output_text}}; `extract` and `pick` (graders/extract.h) cut the part out
// Limits: CLD2 can't tell texts of a few words (below about 20 letters), formulas, or code; close relatives (Bosnian, Croatian,
// Serbian; Indonesian, Malay) are easily mixed up; a share is a multiple of a hundredth of the text's letters.
// Sub-score: share. GradeError: a language CLD2 doesn't know.

#include <cstdio>  // cld2 uses FILE without it

#include <cld2/internal/lang_script.h>
#include <cld2/public/compact_lang_det.h>

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "graders/extract.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"

namespace rft {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;  // what is read of a longer text

class Language : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<Language>();
    grader->language_ = ReadTemplate(params, "language");
    grader->input_ = ReadTemplate(params, "input", "{{sample.output_text}}");
    grader->extract_ = Extract::Read(params);
    if (params.Has("min_share")) grader->min_share_ = params.Double("min_share", 1.0, 0.0);
    grader->undecided_ = params.Choice("undecided", {"abstain", "0", "1"}, "abstain");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    const absl::StatusOr<std::string> code = language_.Render(input);
    if (!code.ok()) return GradeWithoutText(code.status());
    const absl::StatusOr<std::string> text = input_.Render(input);
    if (!text.ok()) return GradeWithoutText(text.status());
    const CLD2::Language expected = CLD2::GetLanguageFromName(code->c_str());
    if (expected == CLD2::UNKNOWN_LANGUAGE)
      return GradeError{
          absl::StrCat("\"", code->substr(0, 40),
                       "\" is not a language CLD2 knows; use a code such as en or de")};
    const std::optional<std::string_view> part = extract_.Find(*text);
    if (!part.has_value()) return Score{0.0, {}, "`extract` matches nothing"};
    return Detect(part->substr(0, kMaxBytes), expected);
  }

 private:
  Grade Detect(std::string_view part, CLD2::Language expected) const {
    const std::string text = ReplaceInvalidUtf8(part);  // CLD2 reads beyond what is broken
    CLD2::Language languages[3];
    int percents[3];
    int num_bytes = 0;
    bool reliable = false;
    CLD2::ExtDetectLanguageSummary(text.data(), static_cast<int>(text.size()),
                                   /*is_plain_text=*/true, languages, percents, &num_bytes,
                                   &reliable);
    if (!reliable || languages[0] == CLD2::UNKNOWN_LANGUAGE) {
      if (undecided_ == "abstain") return Abstain{"the language can't be told"};
      return Score{undecided_ == "1" ? 1.0 : 0.0, {}, "the language can't be told"};
    }
    double share = 0.0;
    std::string reason;
    for (int i = 0; i < 3; ++i) {
      if (percents[i] == 0) continue;
      if (languages[i] == expected) share = percents[i] / 100.0;
      absl::StrAppend(&reason, reason.empty() ? "" : ", ", percents[i], " % ",
                      CLD2::LanguageCode(languages[i]));
    }
    const double value = min_share_.has_value() ? (share >= *min_share_ ? 1.0 : 0.0) : share;
    return Score{value, {{"share", share}}, std::move(reason)};
  }

  Template language_;
  Template input_;
  Extract extract_;
  std::optional<double> min_share_;
  std::string undecided_;
};

}  // namespace

RFT_REGISTER_GRADER("language", Language);

}  // namespace rft
