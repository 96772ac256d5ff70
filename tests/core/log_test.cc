#include "rft/core/log.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "rft/core/clock.h"

namespace rft {
namespace {

class LogTest : public ::testing::Test {
 protected:
  LogTest() {
    SetLogSink([this](LogLevel level, std::string_view line) { lines_.emplace_back(level, line); });
  }
  ~LogTest() override {
    SetLogSink({});
    SetLogLevel(LogLevel::kInfo);
  }
  std::vector<std::pair<LogLevel, std::string>> lines_;
};

TEST_F(LogTest, DropsLinesBelowTheLevel) {
  SetLogLevel(LogLevel::kWarning);
  LogInfo("step ", 1);
  LogWarning("step ", 2, ": slow");
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0], std::pair(LogLevel::kWarning, std::string("step 2: slow")));
}

TEST_F(LogTest, IsSilentWhenOff) {
  SetLogLevel(LogLevel::kOff);
  LogError("lost");
  EXPECT_TRUE(lines_.empty());
}

TEST(LogStderrTest, WritesALevelLetterAndTheLine) {
  ::testing::internal::CaptureStderr();
  LogWarning("step 3 group 7: {} stays as it is");
  EXPECT_NE(::testing::internal::GetCapturedStderr().find(" W step 3 group 7: {} stays as it is\n"),
            std::string::npos);
}

TEST(ParseLogLevelTest, KnowsTheFiveNames) {
  EXPECT_EQ(ParseLogLevel("debug"), LogLevel::kDebug);
  EXPECT_EQ(ParseLogLevel("off"), LogLevel::kOff);
  EXPECT_EQ(ParseLogLevel("loud"), std::nullopt);
}

TEST(ManualClockTest, MovesOnlyWhenTold) {
  ManualClock clock;
  EXPECT_EQ(clock.NowSeconds(), 0.0);
  clock.Advance(61.5);
  EXPECT_EQ(clock.NowSeconds(), 61.5);
  EXPECT_EQ(clock.WallIso(), "1970-01-01T00:01:01Z");
}

TEST(ClockTest, NeverGoesBack) {
  const double before = Clock::Default().NowSeconds();
  EXPECT_GE(Clock::Default().NowSeconds(), before);
}

}  // namespace
}  // namespace rft
