#include "graders/formula.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

double ValueOf(const std::string& text, const std::map<std::string, double>& values = {}) {
  const auto formula = Formula::Parse(text);
  EXPECT_TRUE(formula.ok()) << text << ": " << formula.status();
  if (!formula.ok()) return NAN;
  const auto value = formula->Evaluate(values);
  EXPECT_TRUE(value.ok()) << text << ": " << value.status();
  return value.value_or(NAN);
}

std::string ParseError(const std::string& text) {
  const auto formula = Formula::Parse(text);
  EXPECT_FALSE(formula.ok()) << text;
  return std::string(formula.status().message());
}

// Expected values by hand, or from Python with ** for ^.
TEST(FormulaTest, ComputesWhatArithmeticSays) {
  const struct {
    const char* text;
    double value;
  } cases[] = {
      {"1 + 2 * 3", 7},
      {"(1 + 2) * 3", 9},
      {"10 - 4 - 3", 3},
      {"8 / 4 / 2", 1},
      {"2 ^ 3 ^ 2", 512},
      {"-2 ^ 2", -4},
      {"2 ^ -1", 0.5},
      {"2 * -3", -6},
      {"- - 3", 3},
      {"+5", 5},
      {".5 + 1.", 1.5},
      {"1e-2 * 2E+2", 2},
      {"min(3, 1, 2)", 1},
      {"max(3, 1 + 5, 2)", 6},
      {"max(0.25)", 0.25},
      {"abs(-2)", 2},
      {"floor(-1.5) + ceil(1.2)", 0},
      {"sqrt(16) + log(exp(2))", 6},
      {"  ( ( 7 ) ) ", 7},
  };
  for (const auto& c : cases) EXPECT_DOUBLE_EQ(ValueOf(c.text), c.value) << c.text;
}

TEST(FormulaTest, TakesVariablesByName) {
  EXPECT_DOUBLE_EQ(
      ValueOf("0.5 * function_name + 0.5 * arguments", {{"function_name", 1}, {"arguments", 0.25}}),
      0.625);
  EXPECT_DOUBLE_EQ(ValueOf("max + 1", {{"max", 2}}), 3);  // a name, as no '(' follows
  EXPECT_THAT(Formula::Parse("b * a + b")->variables(), ElementsAre("b", "a"));
}

TEST(FormulaTest, SaysWhatIsWrongAndWhere) {
  EXPECT_EQ(ParseError(""), "column 1: expected a number, a grader's name or '(', got the end");
  EXPECT_EQ(ParseError("1 +"), "column 4: expected a number, a grader's name or '(', got the end");
  EXPECT_EQ(ParseError("(1 + 2"), "column 7: expected ')', got the end");
  EXPECT_EQ(ParseError("1 2"), "column 3: expected an operator or the end, got '2'");
  EXPECT_EQ(ParseError("a $ b"), "column 3: expected an operator or the end, got '$'");
  EXPECT_EQ(ParseError("2 ** 3"), "column 4: a power is written with ^");
  EXPECT_EQ(ParseError("min()"), "column 5: expected a number, a grader's name or '(', got ')'");
  EXPECT_EQ(ParseError("abs(1, 2)"), "column 7: abs takes 1 argument");
  EXPECT_EQ(ParseError("1e999"), "column 1: '1e999' is not a number");
  EXPECT_THAT(ParseError("a + sin(1)"),
              HasSubstr("column 5: there is no function sin; known: min,"));
}

TEST(FormulaTest, RefusesResultsThatAreNotFinite) {
  const auto divided = Formula::Parse("a / b")->Evaluate({{"a", 1}, {"b", 0}});
  EXPECT_EQ(divided.status().message(),
            "a / b is inf with a = 1.0, b = 0.0; a score must be finite");
  EXPECT_FALSE(Formula::Parse("log(0)")->Evaluate({}).ok());
  EXPECT_FALSE(Formula::Parse("sqrt(-1)")->Evaluate({}).ok());
  EXPECT_EQ(Formula::Parse("x")->Evaluate({}).status().message(), "there is no value of x");
}

TEST(FormulaTest, BoundsLengthAndDepth) {
  EXPECT_THAT(ParseError(std::string(5000, '1')), HasSubstr("at most 4096"));
  EXPECT_THAT(ParseError(std::string(2000, '(')), HasSubstr("nested too deeply"));
  EXPECT_THAT(ParseError(std::string(2000, '-')), HasSubstr("nested too deeply"));
  std::string powers = "1";
  for (int i = 0; i < 1000; ++i) powers += "^1";
  EXPECT_THAT(ParseError(powers), HasSubstr("nested too deeply"));
}

}  // namespace
}  // namespace rft
