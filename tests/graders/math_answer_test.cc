// Expected verdicts: math_answers_golden.json, which data/make_math_answers.py made with math-verify 0.9.
#include "graders/math_answer.h"

#include "graders/math_value.h"
#include "tests/graders/golden.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

TEST(MathAnswerTest, AgreesWithMathVerifyWhereverItDecides) {
  const json::value golden = ReadGolden("math_answers_golden.json");
  int num_cases = 0, num_decided = 0;
  for (const json::value& one : golden.at("cases").as_array()) {
    const std::string expected(one.at(0).as_string()), answer(one.at(1).as_string());
    const MathVerdict verdict = CompareMath(expected, answer);
    ++num_cases;
    if (verdict == MathVerdict::kUndecided) continue;
    ++num_decided;
    EXPECT_EQ(verdict == MathVerdict::kEqual, one.at(2).as_bool()) << expected << " | " << answer;
  }
  EXPECT_GE(num_cases, 600);
  EXPECT_GE(num_decided, num_cases * 85 / 100);
}

TEST(MathAnswerTest, FindsTheLastBoxOrTakesAShortAnswer) {
  EXPECT_EQ(FindMathAnswer("so \\boxed{1} or rather $\\boxed{\\frac{1}{2}}$."), "\\frac{1}{2}");
  EXPECT_EQ(FindMathAnswer("\\boxed{ \\{1, 2\\} }"), " \\{1, 2\\} ");
  EXPECT_EQ(FindMathAnswer(" $x^2$. "), "x^2");
  EXPECT_EQ(FindMathAnswer("\\(5\\)"), "5");
  EXPECT_EQ(FindMathAnswer("\\boxed{1"), std::nullopt);
  EXPECT_EQ(FindMathAnswer("First,\nthen 5"), std::nullopt);
  EXPECT_EQ(FindMathAnswer(""), std::nullopt);
}

TEST(MathAnswerTest, LeavesWhatItDoesNotKnowUndecided) {
  for (const char* answer :
       {"\\int_0^1 x dx", "\\sin x", "7!", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "1/2x", "x_1",
        "2^{100}", "5 or 6", "99999999999999999999999999",
        "((((((((((((((((((((((((((((((((((((((((5", "", "\\frac", "1/0", "\\sqrt{-1}"}) {
    EXPECT_EQ(CompareMath("5", answer), MathVerdict::kUndecided) << answer;
  }
}

TEST(MathValueTest, SaysNoBeforeItGrowsWithoutBound) {
  const MathValue sum = *Add(*Add(MathValue::Letter('x'), MathValue::Letter('y')),
                             *Add(MathValue::Letter('z'), MathValue::Whole(1)));
  EXPECT_TRUE(Power(sum, 3).has_value());
  EXPECT_FALSE(Power(sum, 30).has_value());
  EXPECT_FALSE(Multiply(MathValue::Whole(INT64_MAX), MathValue::Whole(3)).has_value());
  EXPECT_FALSE(Divide(MathValue::Whole(1), MathValue()).has_value());
}

Grade Equal(Params params, const std::string& completion, const std::string& answer) {
  params.insert({"undecided", "abstain"});
  return GradeText(Spec("math_equal", std::move(params)), completion, {{"answer", answer}});
}

TEST(MathEqualTest, ComparesTheBoxedAnswer) {
  EXPECT_EQ(ScoreOf(Equal({}, "Thus it is $\\boxed{0.5}$, not 3.", "\\frac{1}{2}")), 1.0);
  EXPECT_EQ(ScoreOf(Equal({}, "\\boxed{1} \\boxed{2}", "1")), 0.0);
  EXPECT_EQ(ScoreOf(Equal({}, "1,234", "we get $\\boxed{1234}$")), 1.0);
  EXPECT_EQ(ScoreOf(Equal({}, "", "1")), 0.0);
  EXPECT_EQ(GradeReason(Equal({}, "\\boxed{41}", "42")), "found 41");
}

TEST(MathEqualTest, CutsTheAnswerOut) {
  const Params params = {{"extract", "<answer>(.*?)</answer>"}};
  EXPECT_EQ(ScoreOf(Equal(params, "<answer>$\\sqrt{8}$</answer>", "2\\sqrt{2}")), 1.0);
  EXPECT_EQ(ScoreOf(Equal(params, "\\boxed{5}", "5")), 0.0);
}

TEST(MathEqualTest, FollowsItsPolicyWhereItCannotDecide) {
  EXPECT_STREQ(GradeKind(Equal({}, "\\boxed{7!}", "5040")), "abstain");
  EXPECT_STREQ(GradeKind(Equal({}, "I think\nit is 5", "5")), "abstain");
  EXPECT_EQ(ScoreOf(Equal({{"undecided", "0"}}, "\\boxed{7!}", "5040")), 0.0);
}

}  // namespace
}  // namespace rft
