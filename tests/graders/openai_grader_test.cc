#include "gmock/gmock.h"
#include "graders/openai_json.h"
#include "rft/io/json.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

Grade GradeWith(const std::string& grader, const std::string& completion,
                std::map<std::string, std::string> columns = {}) {
  return GradeText(Spec("openai", {{"grader", grader}}), completion, std::move(columns));
}

std::vector<std::string> Mistakes(const std::string& grader) {
  std::vector<std::string> lines;
  for (const OpenAiMistake& mistake : CheckOpenAiGrader(ParseJson(grader).value()))
    lines.push_back(mistake.code + " " + mistake.param + ": " + mistake.message);
  return lines;
}

// The graders of OpenAI's guide ("Details on grading tool calls").
constexpr char kToolCalls[] = R"({
  "type": "multi",
  "graders": {
    "function_name": {"name": "function_name", "type": "string_check", "input": "get_acceptors",
                      "reference": "{{sample.output_tools[0].function.name}}", "operation": "eq"},
    "arguments": {"name": "arguments", "type": "string_check", "input": "{\"smiles\": \"{{item.smiles}}\"}",
                  "reference": "{{sample.output_tools[0].function.arguments}}", "operation": "eq"}
  },
  "calculate_output": "0.5 * function_name + 0.5 * arguments"
})";

TEST(OpenAiGraderTest, RunsTheGuidesToolCallGrader) {
  const std::map<std::string, std::string> row = {{"smiles", "CCO"}};
  const auto call = [](const std::string& name, const std::string& smiles) {
    return "<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": {\"smiles\": \"" + smiles +
           "\"}}\n</tool_call>";
  };
  EXPECT_EQ(ScoreOf(GradeWith(kToolCalls, call("get_acceptors", "CCO"), row)), 1.0);
  EXPECT_EQ(ScoreOf(GradeWith(kToolCalls, call("get_acceptors", "CC"), row)), 0.5);
  EXPECT_EQ(ScoreOf(GradeWith(kToolCalls, call("get_donors", "CC"), row)), 0.0);
}

TEST(OpenAiGraderTest, ScoresTheLowestWhereTheModelCalledNoTool) {
  const Grade grade = GradeWith(kToolCalls, "I would rather not.", {{"smiles", "CCO"}});
  EXPECT_EQ(ScoreOf(grade), 0.0);
  EXPECT_THAT(GradeReason(grade),
              HasSubstr("the completion has no sample.output_tools[0].function.name"));
}

TEST(OpenAiGraderTest, ReadsAFileBesideTheRunFile) {
  GraderSpec spec = Spec("openai", {{"file", "openai_string_check.json"}});
  spec.base_dir = std::string(RFT_TEST_DATA_DIR) + "/graders/data";
  EXPECT_EQ(ScoreOf(GradeText(spec, "It is Paris.", {{"capital", "paris"}})), 1.0);
  EXPECT_THAT(CreationError(Spec("openai", {{"file", "/nowhere/grader.json"}})),
              HasSubstr("/nowhere/grader.json"));
}

TEST(OpenAiGraderTest, ReportsMistakesAsTheServiceDoes) {
  EXPECT_THAT(
      Mistakes(R"({"type": "string_check", "operation": "eqq", "refrence": "x", "input": 3})"),
      ::testing::UnorderedElementsAre(
          "invalid_type grader.input: Invalid type for 'grader.input': expected a string, but got "
          "an "
          "integer instead.",
          "missing_required_parameter grader.reference: Missing required parameter: "
          "'grader.reference'.",
          "invalid_value grader.operation: Invalid value: 'eqq'. Supported values are: 'eq', 'ne', "
          "'like', and 'ilike'.",
          "unknown_parameter grader.refrence: Unknown parameter: 'grader.refrence'. Did you mean "
          "'reference'?"));
  EXPECT_THAT(
      Mistakes(
          R"({"type": "multi", "graders": {"a": {"type": "pyton"}}, "calculate_output": "a"})"),
      ::testing::ElementsAre(
          HasSubstr("grader.graders.a.type: Invalid value: 'pyton'. Supported values are: ")));
  EXPECT_THAT(Mistakes("[]"),
              ::testing::ElementsAre(HasSubstr("expected an object, but got an array instead.")));
  EXPECT_THAT(Mistakes("{}"),
              ::testing::ElementsAre(HasSubstr("Missing required parameter: 'grader.type'.")));
}

TEST(OpenAiGraderTest, ChecksTheKeysOfEveryType) {
  const struct {
    const char* grader;
    const char* wrong;  // part of the only mistake; empty: none
  } cases[] = {
      {R"({"type": "text_similarity", "name": "t", "input": "a", "reference": "b", "evaluation_metric": "rouge_6"})",
       "'rouge_5', and 'rouge_l'"},
      {R"({"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "bleu",
           "pass_threshold": 0.5})",
       ""},
      {R"({"type": "python", "name": "p", "source": "def grade(sample, item): return 1.0", "image_tag": "2025-05-08"})",
       ""},
      {R"({"type": "python"})", "'grader.source'"},
      {R"({"type": "score_model", "model": "m", "input": [{"role": "user", "content": "x"}], "range": [0, 7],
           "sampling_params": {"temperature": 0, "seed": 1, "top_p": 1, "max_completions_tokens": 32768}})",
       ""},
      {R"({"type": "score_model", "model": "m", "input": [{"role": "user", "content": "x"}], "range": [1, 0]})",
       "the first number must be below the second"},
      {R"({"type": "score_model", "model": "m", "input": "x"})", "expected an array of messages"},
      {R"({"type": "score_model", "model": "m", "input": [{"role": "tool", "content": "x"}]})",
       "'grader.input[0].role"},
      {R"({"type": "score_model", "model": "m", "input": [{"role": "user", "content":
           {"type": "input_text", "text": "x"}}]})",
       ""},
      {R"({"type": "label_model", "name": "l", "model": "m", "input": [{"role": "user", "content": "x"}],
           "labels": ["good", "bad"], "passing_labels": ["god"]})",
       "'god' is not one of the labels"},
      {R"({"type": "multi", "graders": {}, "calculate_output": "1"})",
       "expected at least one grader"},
  };
  for (const auto& c : cases) {
    const std::vector<std::string> mistakes = Mistakes(c.grader);
    if (*c.wrong == '\0') {
      EXPECT_THAT(mistakes, ::testing::IsEmpty()) << c.grader;
    } else if (std::string(c.grader).find("\"tool\"") != std::string::npos) {
      EXPECT_THAT(mistakes, ::testing::ElementsAre(HasSubstr("Invalid value: 'tool'"))) << c.grader;
    } else {
      EXPECT_THAT(mistakes, ::testing::ElementsAre(HasSubstr(c.wrong))) << c.grader;
    }
  }
}

TEST(OpenAiGraderTest, NamesTheGraderAndThePlaceOfEachMistake) {
  GraderSpec spec =
      Spec("openai", {{"grader", R"({"type": "string_check", "operation": "eq", "input": "a"})"}},
           "exact");
  spec.param_locations["grader"] = "run.yaml:9";
  EXPECT_EQ(CreationError(spec),
            "run.yaml:9: graders[exact].grader: Missing required parameter: 'grader.reference'.");
  EXPECT_THAT(CreationError(Spec("openai", {{"grader", "{"}})),
              HasSubstr("the text ends before the JSON value does"));
  EXPECT_THAT(CreationError(Spec("openai", {})), HasSubstr("graders[g].file: required"));
  EXPECT_THAT(CreationError(
                  Spec("openai", {{"grader", R"({"type": "string_check", "operation": "eq", "input":
                                                         "{{answer}}", "reference": ""})"}})),
              HasSubstr("{{answer}} is unknown"));
}

}  // namespace
}  // namespace rft
