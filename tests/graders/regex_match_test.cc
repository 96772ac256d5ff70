#include <chrono>

#include "gmock/gmock.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

double Match(Params params, const std::string& completion) {
  return ScoreOf(GradeText(Spec("regex_match", std::move(params)), completion));
}

TEST(RegexMatchTest, FindsThePatternAnywhereUnlessFull) {
  EXPECT_EQ(Match({{"pattern", "<a>\\d+</a>"}}, "so <a>12</a>!"), 1);
  EXPECT_EQ(Match({{"pattern", "<a>\\d+</a>"}}, "so <a>x</a>!"), 0);
  EXPECT_EQ(Match({{"pattern", "<a>\\d+</a>"}, {"full", "true"}}, "so <a>12</a>!"), 0);
  EXPECT_EQ(Match({{"pattern", "<a>\\d+</a>"}, {"full", "true"}}, "<a>12</a>"), 1);
}

TEST(RegexMatchTest, MatchesNewlinesWithADotOnlyWhenAsked) {
  EXPECT_EQ(Match({{"pattern", "a.b"}}, "a\nb"), 0);
  EXPECT_EQ(Match({{"pattern", "(?s)a.b"}}, "a\nb"), 1);
}

TEST(RegexMatchTest, RejectsAnInvalidPatternNamingTheKey) {
  EXPECT_THAT(
      CreationError(Spec("regex_match", {{"pattern", "a(b"}}, "format")),
      HasSubstr(
          "graders[format].pattern: \"a(b\" is not a valid RE2 regular expression: missing )"));
}

TEST(RegexMatchTest, RejectsAMissingPatternAndAWrongFlag) {
  const std::string message = CreationError(Spec("regex_match", {{"full", "yes"}}));
  EXPECT_THAT(message, HasSubstr("graders[g].pattern: required"));
  EXPECT_THAT(message, HasSubstr("graders[g].full: \"yes\" is not true or false"));
}

TEST(RegexMatchTest, FinishesAMebibyteThatABacktrackerNeverWould) {
  const std::string text(1 << 20, 'a');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Match({{"pattern", "(a+)+$"}, {"full", "true"}}, text + "b"), 0);
  EXPECT_EQ(Match({{"pattern", "(a|a)*b"}}, text), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

// Its literals are looked for before the automaton is made; the verdict is the automaton's.
TEST(RegexMatchTest, BigPatternsMatchWhatTheyMatch) {
  for (const auto& [text, matches] : std::vector<std::pair<std::string, bool>>{
           {std::string(100, 'a'), false},
           {"b" + std::string(100, 'a'), false},
           {std::string(100, 'a') + "b", true},
           {std::string(100, 'A') + "b", false},
           {"\xC3\xA9" + std::string(100, 'a'), false},
           {"\xC3\xA9" + std::string(100, 'a') + "b", true}}) {
    EXPECT_EQ(Match({{"pattern", "(a{1,30}){1,30}b"}}, text), matches) << text;
  }
}

}  // namespace
}  // namespace rft
