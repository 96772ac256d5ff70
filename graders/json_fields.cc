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

#include <algorithm>
#include <boost/json/object.hpp>
#include <string>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/json_text.h"
#include "graders/param_reader.h"
#include "graders/quick_json.h"
#include "graders/template.h"
#include "graders/unicode_text.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr size_t kMaxSubScores = 32;
constexpr std::string_view kPrefix = "field/";

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
    grader->fields_ = params.Texts("fields", "names");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    TextBuffer buffers[2];
    const absl::StatusOr<std::string_view> expected_text = expected_.View(input, &buffers[0]);
    if (!expected_text.ok()) return GradeWithoutText(expected_text.status());
    const absl::StatusOr<std::string_view> text = input_.View(input, &buffers[1]);
    if (text.ok()) {
      QuickJson reader;
      const QuickJson::Value* found = reader.Read(fences_ ? FencedOrAll(*text) : *text);
      const QuickJson::Value* expected =
          found == nullptr ? nullptr : QuickJson::ReadRemembered(*expected_text);
      if (expected != nullptr && found->is_object() && expected->is_object())
        return Compare(found->object(), expected->object());
    }
    const absl::StatusOr<json::value> expected = ParseJson(*expected_text);
    if (!expected.ok() || !expected->is_object()) {
      return GradeError{absl::StrCat("row ", input.row.index,
                                     ": the expected value is not a JSON object: ",
                                     std::string(expected_text->substr(0, 100)))};
    }
    if (!text.ok()) return GradeWithoutText(text.status());
    const absl::StatusOr<json::value> found = ParseModelJson(*text, fences_);
    if (!found.ok()) return Score{0.0, {}, "not JSON: " + std::string(found.status().message())};
    if (!found->is_object()) return Score{0.0, {}, "not a JSON object"};
    return Compare(found->get_object(), expected->get_object());
  }

 private:
  // Of json::object or QuickObject.
  template <typename Object>
  Grade Compare(const Object& found, const Object& expected) const {
    Grade grade(std::in_place_type<Score>);
    Score& score = std::get<Score>(grade);
    double equal = 0, total = 0;
    absl::InlinedVector<std::pair<std::string_view, bool>, 8> compared;
    const auto compare = [&](std::string_view name, const auto& wanted) {
      const auto value = Member(found, name);
      const bool same = !wanted ? !value : value && Equal(*value, *wanted);
      ++total;
      if (same) {
        ++equal;
      } else if (score.reason.size() < 200) {
        score.reason.append(score.reason.empty() ? "" : "; ").append(name);
        if (value) {
          score.reason.append(": is ").append(ToJson(*value), 0, 60);
        } else {
          score.reason.append(": missing");
        }
      }
      if (compared.size() < kMaxSubScores) compared.emplace_back(name, same);
    };
    if (!fields_.empty()) {
      for (const std::string& name : fields_) compare(name, Member(expected, name));
    } else {
      for (const auto& member : expected) compare(KeyOf(member), ValueOf(member));
    }
    if (count_extra_) {
      for (const auto& member : found) {
        if (Member(expected, KeyOf(member))) continue;
        ++total;
        if (score.reason.size() < 200)
          absl::StrAppend(&score.reason, score.reason.empty() ? "" : "; ",
                          std::string(KeyOf(member)), ": not expected");
      }
    }
    // In their order each goes to the end of the map.
    std::sort(compared.begin(), compared.end());
    std::string key(kPrefix);
    for (const auto& [name, same] : compared) {
      key.resize(kPrefix.size());
      key.append(name);
      score.sub_scores.emplace_hint(score.sub_scores.end(), key, same ? 1.0 : 0.0);
    }
    score.value = all_ ? (equal == total ? 1.0 : 0.0) : (total == 0 ? 1.0 : equal / total);
    return grade;
  }

  template <typename Value>
  bool Equal(const Value& found, const Value& expected) const {
    if (ignore_case_) {
      const auto a = TextOf(found), b = TextOf(expected);
      if (a && b) return LowerUtf8(*a) == LowerUtf8(*b);
    }
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
