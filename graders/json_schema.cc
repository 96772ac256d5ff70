// json_schema: score 1 if the completion is JSON that fits a JSON Schema, else 0, with the first thing that is wrong as reason.
//
//   schema   the schema (a map in YAML), or a template such as {{item.schema}} that renders to one
//   fences   true (default): the last ```json or ``` block counts if there is one
//   input    template, default {{sample.output_text}}
// Which keywords are known: graders/json_schema_validator.h. GradeError: a row's schema that can't be used.
// Sub-score: json (1: it is JSON at all).

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/json_schema_validator.h"
#include "graders/json_text.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr size_t kMaxCached = 256;  // schemas of rows

absl::StatusOr<JsonSchema> CompileText(const std::string& text) {
  RFT_ASSIGN_OR_RETURN(const json::value schema, ParseJson(text));
  return JsonSchema::Compile(schema);
}

class JsonSchemaGrader : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<JsonSchemaGrader>();
    const std::string schema = params.String("schema", "");
    if (schema.find("{{") != std::string::npos) {
      grader->schema_of_row_ = ReadTemplate(params, "schema");
    } else if (!params.Has("schema")) {
      params.AddError("schema", "required");
    } else if (absl::StatusOr<JsonSchema> compiled = CompileText(schema); compiled.ok()) {
      grader->schema_ = *std::move(compiled);
    } else {
      params.AddError("schema", std::string(compiled.status().message()));
    }
    grader->fences_ = params.Bool("fences", true);
    grader->input_ = ReadTemplate(params, "input", "{{sample.output_text}}");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    const absl::StatusOr<JsonSchema> schema = SchemaFor(input);
    if (!schema.ok()) return GradeError{absl::StrCat("schema: ", schema.status().message())};
    const absl::StatusOr<std::string> text = input_.Render(input);
    if (!text.ok()) return GradeWithoutText(text.status());
    const absl::StatusOr<json::value> value = ParseModelJson(*text, fences_);
    if (!value.ok())
      return Score{0.0, {{"json", 0.0}}, "not JSON: " + std::string(value.status().message())};
    const absl::StatusOr<std::optional<std::string>> mistake = schema->Validate(*value);
    if (!mistake.ok()) return GradeError{std::string(mistake.status().message())};
    if (mistake->has_value()) return Score{0.0, {{"json", 1.0}}, (*mistake)->substr(0, 300)};
    return Score{1.0, {{"json", 1.0}}, ""};
  }

 private:
  absl::StatusOr<JsonSchema> SchemaFor(const GradeInput& input) const {
    if (schema_.has_value()) return *schema_;
    RFT_ASSIGN_OR_RETURN(const std::string text, schema_of_row_.Render(input));
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (const auto found = cache_.find(text); found != cache_.end()) return found->second;
    }
    RFT_ASSIGN_OR_RETURN(JsonSchema schema, CompileText(text));
    std::lock_guard<std::mutex> lock(mutex_);
    if (cache_.size() >= kMaxCached) cache_.clear();
    cache_[text] = schema;
    return schema;
  }

  std::optional<JsonSchema> schema_;
  Template schema_of_row_;
  Template input_;
  bool fences_ = true;
  mutable std::mutex mutex_;
  mutable std::map<std::string, JsonSchema> cache_;
};

}  // namespace

RFT_REGISTER_GRADER("json_schema", JsonSchemaGrader);

}  // namespace rft
