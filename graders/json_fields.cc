// json_fields: the fields of the completion's JSON object against those of the expected one.
//
//   expected      template, default {{item.answer}}: a JSON object
//   fields        list of top-level fields to compare; default: all of the expected ones
//   score         share (default: equal fields / compared fields) | all (1 if all are equal, else 0)
//   extra         allow (default) | count: fields nobody expects count as wrong ones
//   tolerance     numbers may differ by tolerance * max(1, |expected|), default 0
//   ignore_case   of texts that are fields, default false (Unicode)
//   fences        true (default): the last ```json or ``` block counts if there is one
//   input         template, default {{sample.output_text}}
// Values are compared as JSON: members in any order, 1 is 1.0, "1" is not 1. A completion that is not a JSON object scores 0.
// Sub-scores: 1 or 0 per compared field, as "field/NAME" (the first 32).

#include <boost/json/object.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/json_text.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "graders/unicode_text.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr size_t kMaxSubScores = 32;

class JsonFields : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<JsonFields>();
    grader->expected_ = ReadTemplate(params, "expected", "{{item.answer}}");
    grader->input_ = ReadTemplate(params, "input", "{{sample.output_text}}");
    grader->all_ = params.Choice("score", {"share", "all"}, "share") == "all";
    grader->count_extra_ = params.Choice("extra", {"allow", "count"}, "allow") == "count";
    grader->tolerance_ = params.Double("tolerance", 0.0, 0.0);
    grader->ignore_case_ = params.Bool("ignore_case", false);
    grader->fences_ = params.Bool("fences", true);
    if (const std::string list = params.String("fields", ""); !list.empty()) {
      const absl::StatusOr<json::value> fields = ParseJson(list);
      if (!fields.ok() || !fields->is_array()) {
        params.AddError("fields", "must be a list of names");
      } else {
        for (const json::value& name : fields->get_array()) {
          if (!name.is_string()) params.AddError("fields", "must be a list of names");
          grader->fields_.push_back(name.is_string() ? std::string(name.get_string()) : "");
        }
      }
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    const absl::StatusOr<std::string> expected_text = expected_.Render(input);
    if (!expected_text.ok()) return GradeWithoutText(expected_text.status());
    const absl::StatusOr<json::value> expected = ParseJson(*expected_text);
    if (!expected.ok() || !expected->is_object()) {
      return GradeError{absl::StrCat(
          "row ", input.row.index,
          ": the expected value is not a JSON object: ", expected_text->substr(0, 100))};
    }
    const absl::StatusOr<std::string> text = input_.Render(input);
    if (!text.ok()) return GradeWithoutText(text.status());
    const absl::StatusOr<json::value> found = ParseModelJson(*text, fences_);
    if (!found.ok()) return Score{0.0, {}, "not JSON: " + std::string(found.status().message())};
    if (!found->is_object()) return Score{0.0, {}, "not a JSON object"};
    return Compare(found->get_object(), expected->get_object());
  }

 private:
  Grade Compare(const json::object& found, const json::object& expected) const {
    std::vector<std::string> names = fields_;
    if (names.empty()) {
      for (const auto& member : expected) names.emplace_back(member.key());
    }
    Score score;
    double equal = 0;
    for (const std::string& name : names) {
      const json::value* wanted = expected.if_contains(name);
      const json::value* value = found.if_contains(name);
      const bool same =
          wanted == nullptr ? value == nullptr : value != nullptr && Equal(*value, *wanted);
      if (same) {
        ++equal;
      } else if (score.reason.size() < 200) {
        absl::StrAppend(&score.reason, score.reason.empty() ? "" : "; ", name, ": ",
                        value == nullptr ? "missing" : "is " + ToJson(*value).substr(0, 60));
      }
      if (score.sub_scores.size() < kMaxSubScores)
        score.sub_scores["field/" + name] = same ? 1.0 : 0.0;
    }
    auto total = static_cast<double>(names.size());
    if (count_extra_) {
      for (const auto& member : found) {
        if (expected.contains(member.key())) continue;
        ++total;
        if (score.reason.size() < 200)
          absl::StrAppend(&score.reason, score.reason.empty() ? "" : "; ",
                          std::string(member.key()), ": not expected");
      }
    }
    score.value = all_ ? (equal == total ? 1.0 : 0.0) : (total == 0 ? 1.0 : equal / total);
    return score;
  }

  bool Equal(const json::value& found, const json::value& expected) const {
    if (ignore_case_ && found.is_string() && expected.is_string())
      return LowerUtf8(std::string_view(found.get_string())) ==
             LowerUtf8(std::string_view(expected.get_string()));
    return JsonEqual(found, expected, tolerance_);
  }

  Template expected_;
  Template input_;
  std::vector<std::string> fields_;
  bool all_ = false;
  bool count_extra_ = false;
  bool ignore_case_ = false;
  bool fences_ = true;
  double tolerance_ = 0.0;
};

}  // namespace

RFT_REGISTER_GRADER("json_fields", JsonFields);

}  // namespace rft
