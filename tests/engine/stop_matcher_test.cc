#include "rft/engine/stop_matcher.h"

#include <gtest/gtest.h>

namespace rft {
namespace {

// Index of the piece that completes a stop string; -1 if none does.
int FirstMatch(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(&stops);
  for (size_t i = 0; i < pieces.size(); ++i)
    if (matcher.Add(pieces[i])) return static_cast<int>(i);
  return -1;
}

TEST(StopMatcherTest, FindsAStopStringWhereverItLies) {
  EXPECT_EQ(FirstMatch({"\n\n"}, {"a", "b\n\nc", "d"}), 1);                  // inside a token
  EXPECT_EQ(FirstMatch({"\n\n"}, {"a\n", "\nb"}), 1);                        // over two tokens
  EXPECT_EQ(FirstMatch({"</answer>"}, {"x</", "ans", "we", "r", ">y"}), 4);  // over many
  EXPECT_EQ(FirstMatch({"abc"}, {"a", "b", "c"}), 2);
  EXPECT_EQ(FirstMatch({"x"}, {"", "y", "", "x"}), 3);
}

TEST(StopMatcherTest, FindsAStopStringAcrossAnInterruptedUtf8Character) {
  EXPECT_EQ(FirstMatch({"\u20ac!"}, {"a\xe2", "\x82", "\xac", "!"}),
            3);  // the euro sign in three tokens
  EXPECT_EQ(FirstMatch({"\u20ac"}, {"\xe2\x82", "\xac"}), 1);
}

TEST(StopMatcherTest, IsNotFooledByNearMisses) {
  EXPECT_EQ(FirstMatch({"aab"}, {"a", "a", "a", "b"}), 3);  // the match starts inside a failed one
  EXPECT_EQ(FirstMatch({"abc"}, {"ab", "d", "c"}), -1);
  EXPECT_EQ(FirstMatch({"ab"}, {"a", "c", "b"}), -1);
}

TEST(StopMatcherTest, FindsTheFirstOfSeveralOfDifferentLength) {
  EXPECT_EQ(FirstMatch({"longer stop", "z"}, {"lon", "ger", " st", "z"}), 3);
  EXPECT_EQ(FirstMatch({"z", "longer stop"}, {"lon", "ger", " st", "op"}), 3);
}

TEST(StopMatcherTest, NeverMatchesWithoutStopStrings) {
  EXPECT_EQ(FirstMatch({}, {"a", "", "b"}), -1);
}

TEST(StopMatcherTest, CopiesKeepTheirOwnTail) {
  const std::vector<std::string> stops = {"ab"};
  StopMatcher first(&stops);
  first.Add("a");
  StopMatcher second = first;
  first.Add("x");
  EXPECT_FALSE(first.Add("b"));
  EXPECT_TRUE(second.Add("b"));
}

}  // namespace
}  // namespace rft
