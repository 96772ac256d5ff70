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
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/json_text.h"
#include "graders/param_reader.h"
#include "graders/quick_json.h"
#include "graders/remembered.h"
#include "graders/template.h"
#include "graders/unicode_text.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr size_t kMaxSubScores = 32;
constexpr std::string_view kPrefix = "field/";
constexpr size_t kEnoughReason = 200;  // bytes

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
      if (found != nullptr && found->is_object()) {
        thread_local Remembered<QuickExpected> memory;
        const QuickExpected& expected =
            memory.Of(*expected_text, id_, [this](std::string_view text, QuickExpected* made) {
              made->value = made->reader.Read(text);
              if (made->value != nullptr && made->value->is_object())
                made->fields = FieldsOf<QuickValue>(made->value->object());
            });
        if (expected.value != nullptr && expected.value->is_object())
          return Compare(found->object(), expected.value->object(), expected.fields);
      }
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
    const json::object& object = expected->get_object();
    return Compare(found->get_object(), object, FieldsOf<json::value>(object));
  }

 private:
  // What is compared.
  template <typename Value>
  struct Fields {
    struct Field {
      std::string_view name;
      const Value* value;  // null: it is expected to be missing
    };
    std::vector<Field> list;
    std::vector<std::pair<std::string, size_t>> parts;  // sub-scores: name, in their order; field
  };
  struct QuickExpected {
    QuickJson reader;
    const QuickValue* value = nullptr;
    Fields<QuickValue> fields;
  };

  // Of json::object or QuickObject, which must outlive them.
  template <typename Value, typename Object>
  Fields<Value> FieldsOf(const Object& expected) const {
    Fields<Value> fields;
    if (!fields_.empty()) {
      for (const std::string& name : fields_) fields.list.push_back({name, Member(expected, name)});
    } else {
      for (const auto& member : expected) fields.list.push_back({KeyOf(member), ValueOf(member)});
    }
    std::map<std::string_view, size_t> ordered;
    for (size_t i = 0; i < std::min(fields.list.size(), kMaxSubScores); ++i)
      ordered.emplace(fields.list[i].name, i);
    for (const auto& [name, i] : ordered)
      fields.parts.emplace_back(std::string(kPrefix).append(name), i);
    return fields;
  }

  template <typename Object, typename Value>
  Grade Compare(const Object& found, const Object& expected, const Fields<Value>& fields) const {
    Grade grade(std::in_place_type<Score>, 0.0);
    Score& score = std::get<Score>(grade);
    const auto mistake = [&score](std::string_view name) -> std::string& {
      return score.reason.append(score.reason.empty() ? "" : "; ").append(name);
    };
    auto total = static_cast<double>(fields.list.size());
    double equal = 0;
    absl::InlinedVector<bool, kMaxSubScores> is_same(fields.list.size(), false);
    for (size_t i = 0; i < fields.list.size(); ++i) {
      const auto& [name, wanted] = fields.list[i];
      const Value* value = Member(found, name);
      is_same[i] =
          wanted == nullptr ? value == nullptr : value != nullptr && Equal(*value, *wanted);
      if (is_same[i]) {
        ++equal;
      } else if (score.reason.size() >= kEnoughReason) {
        continue;
      } else if (value != nullptr) {
        mistake(name).append(": is ").append(ToJson(*value), 0, 60);
      } else {
        mistake(name).append(": missing");
      }
    }
    if (count_extra_) {
      for (const auto& member : found) {
        if (Member(expected, KeyOf(member)) != nullptr) continue;
        ++total;
        if (score.reason.size() < kEnoughReason) mistake(KeyOf(member)).append(": not expected");
      }
    }
    std::vector<SubScores::value_type> parts;
    parts.reserve(fields.parts.size());
    for (const auto& [name, field] : fields.parts)
      parts.emplace_back(name, is_same[field] ? 1.0 : 0.0);
    score.sub_scores = SubScores::Ordered(std::move(parts));
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
  const uint64_t id_ = NewReadingId();
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
