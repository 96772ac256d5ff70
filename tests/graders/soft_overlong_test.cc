#include "graders/soft_overlong.h"

#include <string>

#include <gtest/gtest.h>
#include <boost/json/value.hpp>

#include "tests/testing/loss_golden.h"

namespace rft {
namespace {

constexpr SoftOverlong kSmall = {.max_tokens = 20, .buffer_tokens = 4, .factor = 1.0};

TEST(SoftOverlongTest, MatchesTheOracle) {
  const auto cases = testing::LossGoldenCases("overlong");
  ASSERT_EQ(cases.size(), 1u);
  const auto lengths = testing::Doubles(cases[0].at("inputs").at("lengths"));
  const auto expected = testing::Doubles(cases[0].at("expected").at("penalty"));
  ASSERT_EQ(lengths.size(), 8u);
  for (size_t i = 0; i < lengths.size(); ++i) {
    EXPECT_DOUBLE_EQ(SoftOverlongPenalty(static_cast<int64_t>(lengths[i]), kSmall), expected[i]);
  }
}

TEST(SoftOverlongTest, ScalesWithItsFactor) {
  EXPECT_DOUBLE_EQ(SoftOverlongPenalty(18, {.max_tokens = 20, .buffer_tokens = 4, .factor = 0.5}),
                   -0.25);
  EXPECT_DOUBLE_EQ(SoftOverlongPenalty(21, {.max_tokens = 20, .buffer_tokens = 4, .factor = 0.5}),
                   -0.5);
}

TEST(SoftOverlongTest, WithoutABufferItIsACliff) {
  constexpr SoftOverlong kCliff = {.max_tokens = 20, .buffer_tokens = 0, .factor = 1.0};
  EXPECT_EQ(SoftOverlongPenalty(20, kCliff), 0.0);
  EXPECT_EQ(SoftOverlongPenalty(21, kCliff), -1.0);
}

TEST(SoftOverlongTest, ValidationNamesTheField) {
  EXPECT_TRUE(ValidateSoftOverlong(kSmall).ok());
  EXPECT_EQ(std::string(ValidateSoftOverlong({.max_tokens = 0}).message()),
            "max_tokens: expected at least 1, got 0");
  EXPECT_EQ(std::string(ValidateSoftOverlong({.max_tokens = 4, .buffer_tokens = 5}).message()),
            "buffer_tokens: expected 0 to max_tokens (4), got 5");
  EXPECT_FALSE(ValidateSoftOverlong({.max_tokens = 4, .buffer_tokens = 1, .factor = -1.0}).ok());
}

}  // namespace
}  // namespace rft
