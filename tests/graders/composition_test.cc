// combine, shape, and tool_call.
#include "gmock/gmock.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

// Scores 0.25, 0.5 and 1 for a completion of one character.
constexpr const char* kParts =
    R"({"a": {"type": "length", "unit": "characters", "max": 0, "ramp": 2}, "b": {"type": "regex_match", "pattern": "x"},
        "c": {"type": "shape", "offset": -0.25, "grader": {"type": "length", "unit": "characters", "max": 0, "ramp": 2}}})";

double Combined(Params params) {
  params.insert({"graders", kParts});
  return ScoreOf(GradeText(Spec("combine", std::move(params)), "x"));
}

TEST(CombineGraderTest, KnowsTheUsualWays) {
  EXPECT_DOUBLE_EQ(Combined({}), (0.5 + 1 + 0.25) / 3);
  EXPECT_DOUBLE_EQ(Combined({{"weights", R"({"a": 2, "c": 0})"}}), (2 * 0.5 + 1) / 3);
  EXPECT_DOUBLE_EQ(Combined({{"how", "sum"}, {"weights", R"({"a": -1})"}}), -0.5 + 1 + 0.25);
  EXPECT_DOUBLE_EQ(Combined({{"how", "min"}}), 0.25);
  EXPECT_DOUBLE_EQ(Combined({{"how", "max"}}), 1.0);
  EXPECT_DOUBLE_EQ(Combined({{"how", "product"}}), 0.125);
}

TEST(CombineGraderTest, OpensTheGateWhereTheNamedGradersPass) {
  EXPECT_DOUBLE_EQ(Combined({{"how", "gated"}, {"gate", R"(["b"])"}}), (0.5 + 0.25) / 2);
  EXPECT_DOUBLE_EQ(Combined({{"how", "gated"}, {"gate", R"(["b", "a"])"}, {"gate_score", "-1"}}),
                   -1.0);
  EXPECT_DOUBLE_EQ(
      Combined({{"how", "gated"}, {"gate", R"(["b", "a"])"}, {"gate_at_least", "0.5"}}), 0.25);
  EXPECT_DOUBLE_EQ(
      Combined({{"how", "gated"}, {"gate", R"(["a", "b", "c"])"}, {"gate_at_least", "0"}}), 1.0);
}

TEST(CombineGraderTest, ReportsItsPartsAsSubScores) {
  const Grade grade = GradeText(Spec("combine", {{"graders", kParts}}), "x");
  const auto& parts = std::get<Score>(grade).sub_scores;
  EXPECT_EQ(parts.at("a"), 0.5);
  EXPECT_EQ(parts.at("c"), 0.25);
  EXPECT_EQ(parts.at("c/raw"), 0.5);
}

TEST(CombineGraderTest, GivesNoScoreWhereAPartGivesNone) {
  const Params params = {
      {"graders",
       R"({"a": {"type": "regex_match", "pattern": "x"}, "n": {"type": "number_match"}})"}};
  const Grade grade = GradeText(Spec("combine", params), "x 5", {{"answer", "five"}});
  EXPECT_STREQ(GradeKind(grade), "error");
  EXPECT_THAT(GradeReason(grade), HasSubstr("n: row 7"));
}

TEST(CombineGraderTest, NamesItsMistakes) {
  EXPECT_THAT(CreationError(Spec("combine", {})), HasSubstr("graders[g].graders: required"));
  EXPECT_THAT(CreationError(Spec("combine", {{"graders", kParts}, {"weights", R"({"bb": 1})"}})),
              HasSubstr("there is no grader bb; did you mean b? (graders: a, b, c)"));
  EXPECT_THAT(CreationError(Spec("combine", {{"graders", kParts}, {"how", "gated"}})),
              HasSubstr("graders[g].gate: required"));
  EXPECT_THAT(CreationError(Spec("combine", {{"graders", kParts}, {"weights", R"({"a": -5})"}})),
              HasSubstr("add up to more than 0"));
}

double Shaped(Params params) {
  params.insert({"grader", R"({"type": "length", "unit": "characters", "max": 0, "ramp": 2})"});
  return ScoreOf(GradeText(Spec("shape", std::move(params)), "x"));  // 0.5 before
}

TEST(ShapeTest, StandardisesScalesAndClips) {
  EXPECT_DOUBLE_EQ(Shaped({}), 0.5);
  EXPECT_DOUBLE_EQ(Shaped({{"mean", "0.25"}, {"std", "0.5"}}), 0.5);
  EXPECT_DOUBLE_EQ(Shaped({{"scale", "-2"}, {"offset", "3"}}), 2.0);
  EXPECT_DOUBLE_EQ(Shaped({{"scale", "10"}, {"max", "1"}}), 1.0);
  EXPECT_DOUBLE_EQ(Shaped({{"offset", "-10"}, {"min", "-1"}}), -1.0);
  EXPECT_DOUBLE_EQ(Shaped({{"at_least", "0.5"}}), 1.0);
  EXPECT_DOUBLE_EQ(Shaped({{"at_least", "0.6"}}), 0.0);
}

TEST(ShapeTest, NamesItsMistakes) {
  EXPECT_THAT(CreationError(Spec("shape", {})), HasSubstr("graders[g].grader: required"));
  EXPECT_THAT(CreationError(Spec("shape", {{"grader", R"({"type": "regex_match"})"}})),
              HasSubstr("pattern: required"));
  EXPECT_THAT(CreationError(Spec(
                  "shape", {{"grader", R"({"type": "json_valid"})"}, {"min", "2"}, {"max", "1"}})),
              HasSubstr("greater than max"));
}

constexpr const char* kCalls =
    R"([{"name": "add", "arguments": {"a": 1, "b": 2}}, {"name": "now", "arguments": {}}])";

Grade Calls(Params params, const std::string& completion) {
  return GradeText(Spec("tool_call", std::move(params)), completion, {{"answer", kCalls}});
}

std::string Hermes(const std::vector<std::string>& calls) {
  std::string text = "Let me see.\n";
  for (const std::string& call : calls) text += "<tool_call>\n" + call + "\n</tool_call>\n";
  return text;
}

TEST(ToolCallTest, AcceptsCallsInAnyOrderAndSpelling) {
  const std::string add = R"({"name": "add", "arguments": {"b": 2.0, "a": 1}})",
                    now = R"({"name": "now"})";
  EXPECT_EQ(ScoreOf(Calls({}, Hermes({add, now}))), 1.0);
  EXPECT_EQ(ScoreOf(Calls({}, Hermes({now, add}))), 1.0);
  EXPECT_EQ(ScoreOf(Calls({}, "```json\n[" + now + ", " + add + "]\n```")), 1.0);
  EXPECT_EQ(
      ScoreOf(Calls(
          {},
          R"([{"type": "function", "function": {"name": "add", "arguments": "{\"a\": 1, \"b\": 2}"}},)"
          R"({"function": {"name": "now", "arguments": "{}"}}])")),
      1.0);
  EXPECT_EQ(ScoreOf(Calls({{"ordered", "true"}}, Hermes({now, add}))), 0.0);
}

TEST(ToolCallTest, RejectsWrongMissingAndSurplusCalls) {
  const std::string add = R"({"name": "add", "arguments": {"a": 1, "b": 2}})",
                    now = R"({"name": "now"})";
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{
           {},
           {add},
           {add, now, now},
           {add, add},
           {now, R"({"name": "add", "arguments": {"a": 1}})"},
           {now, R"({"name": "add", "arguments": {"a": 1, "b": 2, "c": 3}})"},
           {now, R"({"name": "Add", "arguments": {"a": 1, "b": 2}})"}}) {
    EXPECT_EQ(ScoreOf(Calls({}, Hermes(bad))), 0.0) << Hermes(bad);
  }
}

TEST(ToolCallTest, GivesPartialCreditAndSubScores) {
  const Grade grade =
      Calls({{"score", "share"}},
            Hermes({R"({"name": "add", "arguments": {"a": 9}})", R"({"name": "now"})", "{}"}));
  EXPECT_EQ(ScoreOf(grade), 0.5);
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("name"), 1.0);
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("arguments"), 0.5);
  EXPECT_THAT(GradeReason(grade), HasSubstr("called add({\"a\": 9}) now({})"));
}

TEST(ToolCallTest, ExpectsNoCallForAnEmptyList) {
  const GraderSpec spec = Spec("tool_call", {{"expected", "[]"}});
  EXPECT_EQ(ScoreOf(GradeText(spec, "Just text.")), 1.0);
  EXPECT_EQ(ScoreOf(GradeText(spec, Hermes({R"({"name": "now"})"}))), 0.0);
  EXPECT_STREQ(GradeKind(GradeText(Spec("tool_call", {{"expected", "5"}}), "x")), "error");
}

}  // namespace
}  // namespace rft
