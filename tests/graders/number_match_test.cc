#include "gmock/gmock.h"
#include "graders/number_text.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

Grade Match(Params params, const std::string& completion, const std::string& answer) {
  return GradeText(Spec("number_match", std::move(params)), completion, {{"answer", answer}});
}

struct Case {
  const char* completion;
  const char* answer;
  double score;
};

class LastNumberCases : public ::testing::TestWithParam<Case> {};

TEST_P(LastNumberCases, ComparesTheLastNumberOfTheText) {
  const Case& c = GetParam();
  EXPECT_EQ(ScoreOf(Match({}, c.completion, c.answer)), c.score) << c.completion;
}

INSTANTIATE_TEST_SUITE_P(
    Table, LastNumberCases,
    ::testing::Values(
        Case{"2 + 3 = 5", "5", 1}, Case{"It is 5.", "5", 1}, Case{"5 or 6", "5", 0},
        Case{"no idea", "5", 0}, Case{"", "5", 0}, Case{"-5", "-5", 1}, Case{"x=-5", "-5", 1},
        Case{"5-3", "3", 1}, Case{"10 - 3", "3", 1}, Case{"(2)-3", "3", 1}, Case{"-$5", "-5", 1},
        Case{"\xE2\x88\x92"
             "4",
             "-4", 1},
        Case{"+4", "4", 1}, Case{"$1,234,567.50", "1234567.5", 1}, Case{"1,23", "23", 1},
        Case{"1,2345", "2345", 1}, Case{"1234,567", "567", 1}, Case{".5", "0.50", 1},
        Case{"1e2", "100.0", 1}, Case{"6.02E23", "6.02e+23", 1}, Case{"25e-1", "2.5", 1},
        Case{"-0", "0", 1}, Case{"007", "7", 1}, Case{"50%", "50", 1}, Case{"1e999", "5", 0},
        Case{"5 1e999999999999999999999", "5", 1}, Case{"9007199254740993", "9007199254740992", 0},
        Case{"0.30000000000000001", "0.3", 0}, Case{"0.1", "0.1000", 1}));

TEST(NumberMatchTest, AllowsAnAbsoluteTolerance) {
  EXPECT_EQ(ScoreOf(Match({{"tolerance", "0.01"}}, "3.14", "3.1416")), 1);
  EXPECT_EQ(ScoreOf(Match({{"tolerance", "0.001"}}, "3.14", "3.1416")), 0);
}

TEST(NumberMatchTest, AllowsARelativeTolerance) {
  EXPECT_EQ(ScoreOf(Match({{"relative", "0.01"}}, "-101", "-100")), 1);
  EXPECT_EQ(ScoreOf(Match({{"relative", "0.01"}}, "-102", "-100")), 0);
}

TEST(NumberMatchTest, ExtractsTheNumberWithARegexGroup) {
  const Params params = {{"extract", "<answer>(.*?)</answer>"}};
  EXPECT_EQ(ScoreOf(Match(params, "5 <answer> 7 </answer> 8", "7")), 1);
  EXPECT_EQ(ScoreOf(Match(params, "<answer>6</answer><answer>7</answer>", "7")), 1);
  EXPECT_EQ(ScoreOf(Match(params, "7", "7")), 0);
  EXPECT_EQ(ScoreOf(Match(params, "<answer>7 apples</answer>", "7")), 0);
}

TEST(NumberMatchTest, PicksTheFirstWhenAsked) {
  EXPECT_EQ(ScoreOf(Match({{"pick", "first"}}, "5 or 6", "5")), 1);
  EXPECT_EQ(ScoreOf(Match({{"pick", "first"}, {"extract", "=(\\d+)"}}, "=5 =6", "5")), 1);
}

TEST(NumberMatchTest, EndsWhenThePatternMatchesNothingAtAll) {
  EXPECT_EQ(ScoreOf(Match({{"extract", "(\\d*)"}, {"pick", "first"}}, "7 x", "7")), 1);
  EXPECT_EQ(ScoreOf(Match({{"extract", "(\\d*)"}}, "7 x", "7")), 0);
}

TEST(NumberMatchTest, SaysWhatItFoundAndWhatItExpected) {
  EXPECT_EQ(GradeReason(Match({}, "it is 41", "42")), "found 41, expected 42");
}

TEST(NumberMatchTest, TakesTheExpectedValueFromATemplate) {
  const GraderSpec spec = Spec("number_match", {{"expected", "{{item.total}}"}});
  EXPECT_EQ(ScoreOf(GradeText(spec, "12", {{"total", "12"}})), 1);
}

TEST(NumberMatchTest, ReportsAnExpectedValueThatIsNotANumberAsAnError) {
  const Grade grade = Match({}, "5", "five");
  EXPECT_STREQ(GradeKind(grade), "error");
  EXPECT_EQ(GradeReason(grade), "row 7: the expected value \"five\" is not a number");
}

TEST(NumberMatchTest, ReportsARowWithoutTheAnswerColumnAsAnError) {
  EXPECT_THAT(GradeReason(GradeText(Spec("number_match", {}), "5", {{"b", "1"}})),
              HasSubstr("no column \"answer\""));
}

TEST(NumberMatchTest, RejectsBadParametersNamingTheirKeys) {
  EXPECT_THAT(CreationError(Spec("number_match", {{"extract", "["}})),
              HasSubstr("graders[g].extract: "));
  EXPECT_THAT(CreationError(Spec("number_match", {{"extract", "\\d+"}})),
              HasSubstr("has no (group)"));
  EXPECT_THAT(CreationError(Spec("number_match", {{"tolerance", "-1"}})),
              HasSubstr("graders[g].tolerance: -1 is too small"));
  EXPECT_THAT(CreationError(Spec("number_match", {{"relative", "nan"}})),
              HasSubstr("not a finite number"));
}

TEST(NumberMatchTest, ReadsAMebibyteOfDigitsAndSeparators) {
  std::string text;
  while (text.size() < (1 << 20)) text += "1,111-1.e";
  EXPECT_EQ(ScoreOf(Match({}, text + " 42", "42")), 1);
  EXPECT_EQ(ScoreOf(Match({}, std::string(1 << 20, '9'), "42")), 0);
}

TEST(NumberTextTest, ParsesOnlyAWholeNumber) {
  for (const char* good : {"5", " -5 ", "$5", "1,000", "5%", ".5", "1e3"})
    EXPECT_TRUE(ParseNumber(good)) << good;
  for (const char* bad :
       {"", "five", "5 6", "a5", "5a", "#### 5", "--5", "5.", "1/2", "nan", "inf", "0x10"}) {
    EXPECT_FALSE(ParseNumber(bad)) << bad;
  }
}

}  // namespace
}  // namespace rft
