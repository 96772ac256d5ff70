// json_valid: score 1 if the completion is JSON, else 0, with the line and column of the mistake as the reason.
//
//   root     any (default) | object | array: what the JSON must be
//   fences   true (default): the last ```json or ``` block counts if there is one
//   input    template, default {{sample.output_text}}
// Text before or after the JSON is a mistake, and so is a key written twice in one object.

#include <string>
#include <utility>

#include "graders/grader.h"
#include "graders/json_text.h"
#include "graders/param_reader.h"
#include "graders/quick_json.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

class JsonValid : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<JsonValid>();
    const std::string root = params.Choice("root", {"any", "object", "array"}, "any");
    if (root != "any") grader->root_ = root == "object" ? Root::kObject : Root::kArray;
    grader->fences_ = params.Bool("fences", true);
    grader->input_ = ReadTemplate(params, "input", "{{sample.output_text}}");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    TextBuffer buffer;
    const absl::StatusOr<std::string_view> text = input_.View(input, &buffer);
    if (!text.ok()) return GradeWithoutText(text.status());
    const std::string_view written = fences_ ? FencedOrAll(*text) : *text;
    QuickJson quick;
    if (const QuickJson::Value* value = quick.Read(written)) return OfRoot(*value);
    const absl::StatusOr<json::value> value = ParseJson(written, {.reject_duplicate_keys = true});
    if (!value.ok()) return Score{0.0, {}, std::string(value.status().message())};
    return OfRoot(*value);
  }

 private:
  enum class Root { kAny, kObject, kArray };

  template <typename Value>
  Grade OfRoot(const Value& value) const {
    if (root_ == Root::kObject && !value.is_object()) return Score{0.0, {}, "not an object"};
    if (root_ == Root::kArray && !value.is_array()) return Score{0.0, {}, "not an array"};
    return Grade(std::in_place_type<Score>, 1.0);
  }

  Root root_ = Root::kAny;
  bool fences_ = true;
  Template input_;
};

}  // namespace

RFT_REGISTER_GRADER("json_valid", JsonValid);

}  // namespace rft
