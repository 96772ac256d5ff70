// Expected verdicts: json_schema_golden.json, which data/make_json_schema.py made with the Python package jsonschema.
#include "gmock/gmock.h"
#include "graders/json_schema_validator.h"
#include "tests/graders/golden.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<JsonSchema> Compile(const std::string& text) {
  return JsonSchema::Compile(*ParseJson(text));
}

TEST(JsonSchemaTest, AgreesWithThePythonPackage) {
  const json::value golden = ReadGolden("json_schema_golden.json");
  const json::array& instances = golden.at("instances").as_array();
  int num_checks = 0;
  for (const json::value& one : golden.at("cases").as_array()) {
    const absl::StatusOr<JsonSchema> schema = JsonSchema::Compile(one.at("schema"));
    ASSERT_TRUE(schema.ok()) << schema.status();
    for (size_t i = 0; i < instances.size(); ++i) {
      const auto mistake = schema->Validate(instances[i]);
      ASSERT_TRUE(mistake.ok()) << mistake.status();
      EXPECT_EQ(!mistake->has_value(), one.at("valid").at(i).as_bool())
          << ToJson(one.at("schema")) << " on " << ToJson(instances[i]) << ": "
          << mistake->value_or("valid");
      ++num_checks;
    }
  }
  EXPECT_GE(num_checks, 4000);
}

TEST(JsonSchemaTest, RefusesSchemasItCannotUseAndSaysWhere) {
  const std::map<std::string, std::string> cases = {
      {R"({"properties": {"a": {"pattern": "("}}})", "#/properties/a/pattern: not a valid RE2"},
      {R"x({"pattern": "(?=x)"})x", "#/pattern: not a valid RE2"},
      {R"({"type": "text"})", "#/type: there is no type text"},
      {R"({"$ref": "#/$defs/x"})", "there is no \"#/$defs/x\" in the schema"},
      {R"({"$ref": "other.json"})", "#/$ref: must be a reference into this schema"},
      {R"({"items": 5})", "#/items: a schema must be"},
      {R"({"unevaluatedProperties": false})",
       "#/unevaluatedProperties: this keyword is not supported"}};
  for (const auto& [schema, message] : cases)
    EXPECT_THAT(std::string(Compile(schema).status().message()), HasSubstr(message)) << schema;
}

TEST(JsonSchemaTest, GivesUpOnReferencesWithoutEnd) {
  const absl::StatusOr<JsonSchema> schema = Compile(R"({"$ref": "#"})");
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_EQ(schema->Validate(json::value(1)).status().code(), absl::StatusCode::kResourceExhausted);
  const absl::StatusOr<JsonSchema> wide = Compile(
      R"({"anyOf": [{"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, {"$ref": "#"}], "not": {"$ref": "#"}})");
  ASSERT_TRUE(wide.ok());
  EXPECT_FALSE(wide->Validate(json::value(1)).ok());
}

TEST(JsonSchemaTest, MatchesAPatternOnAMebibyteInLinearTime) {
  const absl::StatusOr<JsonSchema> schema = Compile(R"({"pattern": "^(a+)+$"})");
  std::string text(1 << 20, 'a');
  text.push_back('!');
  EXPECT_TRUE((*schema->Validate(json::value(text))).has_value());
}

TEST(JsonSchemaGraderTest, ScoresAndSaysWhatIsWrong) {
  const GraderSpec spec = Spec(
      "json_schema",
      {{"schema", R"({"properties": {"a": {"items": {"type": "string"}}}, "required": ["a"]})"}});
  EXPECT_EQ(ScoreOf(GradeText(spec, "```json\n{\"a\": [\"x\"]}\n```")), 1.0);
  EXPECT_EQ(ScoreOf(GradeText(spec, "{\"a\": [\"x\", 1]}")), 0.0);
  EXPECT_EQ(GradeReason(GradeText(spec, "{\"a\": [\"x\", 1]}")), "/a/1: is not of type string");
  EXPECT_EQ(GradeReason(GradeText(spec, "{}")), "the whole: a is missing");
  EXPECT_THAT(GradeReason(GradeText(spec, "{")), HasSubstr("not JSON: line 1"));
}

TEST(JsonSchemaGraderTest, TakesTheSchemaOfTheRow) {
  const GraderSpec spec = Spec("json_schema", {{"schema", "{{item.schema}}"}});
  EXPECT_EQ(ScoreOf(GradeText(spec, "5", {{"schema", "{\"type\": \"integer\"}"}})), 1.0);
  EXPECT_EQ(ScoreOf(GradeText(spec, "5", {{"schema", "{\"type\": \"string\"}"}})), 0.0);
  EXPECT_THAT(GradeReason(GradeText(spec, "5", {{"schema", "{\"type\": 3}"}})),
              HasSubstr("schema: #/type"));
  EXPECT_THAT(CreationError(Spec("json_schema", {{"schema", "{\"type\": \"x\"}"}})),
              HasSubstr("graders[g].schema: #/type: there is no type x"));
  EXPECT_THAT(CreationError(Spec("json_schema", {})), HasSubstr("graders[g].schema: required"));
}

}  // namespace
}  // namespace rft
