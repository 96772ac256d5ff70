// set_match, json_valid, json_fields.
#include "gmock/gmock.h"
#include "graders/json_text.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

double SetScore(Params params, const std::string& completion, const std::string& answer) {
  return ScoreOf(GradeText(Spec("set_match", std::move(params)), completion, {{"answer", answer}}));
}

TEST(SetMatchTest, IgnoresOrderCaseBulletsAndRepetition) {
  for (const char* good : {"red, green", "Green; RED", "- red\n- green", "[\"green\", \"red\"]",
                           "red, green, red.", "{red, green}"})
    EXPECT_EQ(SetScore({}, good, "red, green"), 1.0) << good;
  for (const char* bad : {"", "red", "red, green, blue", "redgreen"})
    EXPECT_EQ(SetScore({}, bad, "[\"red\", \"green\"]"), 0.0) << bad;
}

TEST(SetMatchTest, GivesPartialCredit) {
  EXPECT_DOUBLE_EQ(SetScore({{"score", "f1"}}, "a, b, x", "a, b, c, d"), 4.0 / 7.0);
  EXPECT_DOUBLE_EQ(SetScore({{"score", "jaccard"}}, "a, b, x", "a, b, c, d"), 2.0 / 5.0);
  EXPECT_DOUBLE_EQ(SetScore({{"score", "precision"}}, "a, b, x", "a, b, c, d"), 2.0 / 3.0);
  EXPECT_DOUBLE_EQ(SetScore({{"score", "recall"}}, "a, b, x", "a, b, c, d"), 0.5);
}

TEST(SetMatchTest, TellsCaseApartWhenAskedAndFoldsAllOfUnicode) {
  EXPECT_EQ(SetScore({}, "\xC3\x89t\xC3\xA9", "\xC3\xA9t\xC3\xA9"), 1.0);
  EXPECT_EQ(SetScore({{"ignore_case", "false"}}, "Red", "red"), 0.0);
}

TEST(SetMatchTest, CutsTheListOutOfTheCompletion) {
  const Params params = {{"extract", "<answer>(.*?)</answer>"}};
  EXPECT_EQ(SetScore(params, "I think x, y. <answer>b, a</answer>", "a, b"), 1.0);
  EXPECT_EQ(SetScore(params, "a, b", "a, b"), 0.0);
}

TEST(SetMatchTest, SaysWhatIsMissing) {
  const Grade grade = GradeText(Spec("set_match", {}), "a", {{"answer", "a, b, c"}});
  EXPECT_EQ(GradeReason(grade), "missing: b, c");
}

TEST(JsonValidTest, TellsJsonFromWhatIsNot) {
  const GraderSpec spec = Spec("json_valid", {});
  for (const char* good :
       {"{}", " [1, 2.5e3] ", "\"x\"", "null", "Here:\n```json\n{\"a\": 1}\n```\nDone."})
    EXPECT_EQ(ScoreOf(GradeText(spec, good)), 1.0) << good;
  for (const char* bad : {"", "{a: 1}", "{\"a\": 1,}", "{} {}", "NaN", "{\"a\": 1, \"a\": 2}",
                          "'x'", "```json\n{\n```"})
    EXPECT_EQ(ScoreOf(GradeText(spec, bad)), 0.0) << bad;
}

TEST(JsonValidTest, ChecksTheRootAndSaysWhereTheMistakeIs) {
  EXPECT_EQ(ScoreOf(GradeText(Spec("json_valid", {{"root", "object"}}), "[1]")), 0.0);
  EXPECT_EQ(ScoreOf(GradeText(Spec("json_valid", {{"root", "array"}}), "[1]")), 1.0);
  EXPECT_EQ(ScoreOf(GradeText(Spec("json_valid", {{"fences", "false"}}), "```json\n1\n```")), 0.0);
  EXPECT_THAT(GradeReason(GradeText(Spec("json_valid", {}), "{\n\"a\": x}")), HasSubstr("line 2"));
}

Grade Fields(Params params, const std::string& completion) {
  return GradeText(Spec("json_fields", std::move(params)), completion,
                   {{"answer", "{\"name\": \"Ann\", \"age\": 30, \"tags\": [\"a\", {\"b\": 1}]}"}});
}

TEST(JsonFieldsTest, ComparesValuesWhateverTheOrderOfMembers) {
  EXPECT_EQ(
      ScoreOf(Fields(
          {}, "{\"age\": 30.0, \"tags\": [\"a\", {\"b\": 1}], \"name\": \"Ann\", \"extra\": 1}")),
      1.0);
  EXPECT_DOUBLE_EQ(ScoreOf(Fields({}, "{\"age\": \"30\", \"name\": \"Ann\"}")), 1.0 / 3.0);
  EXPECT_EQ(ScoreOf(Fields({}, "[]")), 0.0);
  EXPECT_EQ(ScoreOf(Fields({}, "no json")), 0.0);
}

TEST(JsonFieldsTest, ReportsEachField) {
  const Grade grade = Fields({}, "{\"age\": 31, \"name\": \"Ann\"}");
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("field/name"), 1.0);
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("field/age"), 0.0);
  EXPECT_EQ(GradeReason(grade), "age: is 31; tags: missing");
}

TEST(JsonFieldsTest, FollowsItsOptions) {
  const char* close = "{\"age\": 30.2, \"name\": \"ANN\", \"tags\": [\"a\", {\"b\": 1}], \"x\": 0}";
  EXPECT_DOUBLE_EQ(ScoreOf(Fields({}, close)), 1.0 / 3.0);
  EXPECT_EQ(ScoreOf(Fields({{"tolerance", "0.01"}, {"ignore_case", "true"}}, close)), 1.0);
  EXPECT_EQ(ScoreOf(Fields({{"fields", "[\"tags\"]"}}, close)), 1.0);
  EXPECT_EQ(ScoreOf(Fields({{"score", "all"}}, close)), 0.0);
  EXPECT_DOUBLE_EQ(ScoreOf(Fields({{"extra", "count"}}, close)), 1.0 / 4.0);
}

TEST(JsonFieldsTest, ReportsAnExpectedValueThatIsNoObjectAsAnError) {
  const Grade grade = GradeText(Spec("json_fields", {}), "{}", {{"answer", "5"}});
  EXPECT_STREQ(GradeKind(grade), "error");
}

TEST(JsonTextTest, ComparesWholeNumbersBeyondADoubleExactly) {
  EXPECT_FALSE(JsonEqual(*ParseJson("9007199254740993"), *ParseJson("9007199254740992")));
  EXPECT_TRUE(JsonEqual(*ParseJson("18446744073709551615"), *ParseJson("18446744073709551615")));
  EXPECT_TRUE(JsonEqual(*ParseJson("1"), *ParseJson("1.0")));
}

}  // namespace
}  // namespace rft
