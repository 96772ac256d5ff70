#include "gmock/gmock.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

struct Case {
  const char* operation;
  const char* completion;
  const char* answer;
  double score;
};

class StringCheckCases : public ::testing::TestWithParam<Case> {};

TEST_P(StringCheckCases, GivesTheScoreOfOpenAisGrader) {
  const Case& c = GetParam();
  const GraderSpec spec =
      Spec("string_check", {{"operation", c.operation}, {"reference", "{{item.answer}}"}});
  EXPECT_EQ(ScoreOf(GradeText(spec, c.completion, {{"answer", c.answer}})), c.score);
}

INSTANTIATE_TEST_SUITE_P(
    Table, StringCheckCases,
    ::testing::Values(Case{"eq", "Paris", "Paris", 1}, Case{"eq", "paris", "Paris", 0},
                      Case{"eq", "Paris ", "Paris", 0}, Case{"eq", "", "", 1},
                      Case{"ne", "Paris", "Paris", 0}, Case{"ne", "Rome", "Paris", 1},
                      Case{"like", "It is Paris.", "Paris", 1},
                      Case{"like", "It is paris.", "Paris", 0}, Case{"like", "x", "", 1},
                      Case{"ilike", "It is paris.", "PARIS", 1}, Case{"ilike", "Rome", "Paris", 0},
                      Case{"ilike", "In M\xC3\x9CNCHEN.", "m\xC3\xBCnchen", 1},
                      Case{"ilike", "caf\xC3\xA9 (a+b)", "(A+B)", 1}));

TEST(StringCheckTest, ComparesTheInputTemplateWhenOneIsGiven) {
  const GraderSpec spec = Spec("string_check", {{"operation", "eq"},
                                                {"reference", "4-{{ item.b }}"},
                                                {"input", "{{sample.output_text}}-{{item.b}}"}});
  EXPECT_EQ(ScoreOf(GradeText(spec, "4", {{"b", "x"}})), 1);
}

TEST(StringCheckTest, ReportsAColumnTheRowLacksAsAnErrorNamingThoseItHas) {
  const GraderSpec spec =
      Spec("string_check", {{"operation", "eq"}, {"reference", "{{item.anwser}}"}});
  const Grade grade = GradeText(spec, "4", {{"answer", "4"}, {"question", "?"}});
  EXPECT_STREQ(GradeKind(grade), "error");
  EXPECT_EQ(GradeReason(grade), "row 7 has no column \"anwser\"; its columns: answer, question");
}

TEST(StringCheckTest, RejectsAnUnknownOperationWithASuggestion) {
  EXPECT_THAT(
      CreationError(Spec("string_check", {{"operation", "equ"}, {"reference", "x"}})),
      HasSubstr(
          "graders[g].operation: \"equ\" is not one of eq, ne, like, ilike; did you mean eq?"));
}

TEST(StringCheckTest, ReportsAllMistakesTogether) {
  const std::string message = CreationError(Spec("string_check", {{"refrence", "x"}}));
  EXPECT_THAT(message, HasSubstr("graders[g].operation: required"));
  EXPECT_THAT(message, HasSubstr("graders[g].reference: required"));
  EXPECT_THAT(message, HasSubstr("graders[g].refrence: unknown key; did you mean reference?"));
}

TEST(StringCheckTest, SaysWhereInTheFileAMistakeIs) {
  GraderSpec spec = Spec("string_check", {{"operation", "eq"}, {"reference", "{{answer}}"}});
  spec.param_locations["reference"] = "run.yaml:14";
  EXPECT_EQ(CreationError(spec),
            "run.yaml:14: graders[g].reference: {{answer}} is unknown; use {{item.COLUMN}} or "
            "{{sample.output_text}}");
}

TEST(StringCheckTest, RejectsATemplateWithoutClosingBraces) {
  EXPECT_THAT(
      CreationError(Spec("string_check", {{"operation", "eq"}, {"reference", "a {{item.b"}})),
      HasSubstr("has no closing }}"));
}

}  // namespace
}  // namespace rft
