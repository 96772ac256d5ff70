#include "rft/core/sub_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "rft/core/grade.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(SubScoresTest, AreOrderedByName) {
  SubScores parts;
  parts["length"] = 12;
  parts["answer"] = 0.5;
  parts["format"] = 1;
  parts["answer"] += 0.25;
  EXPECT_THAT(parts, ElementsAre(Pair("answer", 0.75), Pair("format", 1.0), Pair("length", 12.0)));
  EXPECT_EQ(parts, (SubScores{{"length", 12}, {"format", 1}, {"answer", 0.75}}));
}

TEST(GradeReasonTest, ATimeoutSaysItsDeadlineInAsFewDigitsAsThereAre) {
  EXPECT_EQ(GradeReason(Timeout{2.0}), "no answer within 2 s");
  EXPECT_EQ(GradeReason(Timeout{0.25}), "no answer within 0.25 s");
}

TEST(SubScoresTest, KeepTheLastOfEqualNamesMadeAtOnce) {
  const SubScores parts = {{"b", 1}, {"a", 2}, {"b", 3}, {"a", 4}, {"b", 5}};
  EXPECT_THAT(parts, ElementsAre(Pair("a", 4.0), Pair("b", 5.0)));
}

TEST(SubScoresTest, OfAScoreAreEmptyUntilTheyAreGiven) {
  const Score score{1.0, {}, "right"};
  EXPECT_TRUE(score.sub_scores.empty());
  EXPECT_FALSE(score.sub_scores.contains(""));
  const Score with{1.0, {{"similarity", 0.5}}, ""};
  EXPECT_EQ(with.sub_scores.at("similarity"), 0.5);
}

TEST(SubScoresTest, HoldWhatAMapHolds) {
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    std::map<std::string, double> map;
    SubScores parts;
    std::vector<SubScores::value_type> given;
    for (size_t n = random() % 20; n > 0; --n) {
      const std::string name(random() % 3, static_cast<char>('a' + random() % 4));
      const double value = static_cast<double>(random() % 100);
      map[name] = parts[name] = value;
      given.emplace_back(name, value);
    }
    ASSERT_EQ(std::vector<SubScores::value_type>(parts.begin(), parts.end()),
              std::vector<SubScores::value_type>(map.begin(), map.end()));
    EXPECT_EQ(SubScores(given), parts);
    EXPECT_EQ(SubScores::Ordered({map.begin(), map.end()}), parts);
    for (const char* name : {"", "a", "bb", "zz"}) EXPECT_EQ(parts.contains(name), map.count(name));
  }
}

}  // namespace
}  // namespace rft
