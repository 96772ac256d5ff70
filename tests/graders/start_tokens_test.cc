#include "graders/start_tokens.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

namespace rft {
namespace {

class StartTokensTest : public ::testing::Test {
 protected:
  // What the worker takes, one byte per item; "" where there is none.
  std::string Take(size_t count) {
    std::string taken(count, '\0');
    const ssize_t size = read(tokens_.worker_fd(), taken.data(), count);
    taken.resize(size < 0 ? 0 : static_cast<size_t>(size));
    return taken;
  }

  StartTokens tokens_ = *StartTokens::Create();
};

TEST_F(StartTokensTest, TakesBackWhatHasNotStarted) {
  tokens_.Give(4);
  EXPECT_EQ(Take(1), "s");
  EXPECT_EQ(tokens_.TakeBack(4), 3u);
  EXPECT_EQ(Take(9), "xxx");
}

TEST_F(StartTokensTest, LeavesTheItemThatIsAboutToStart) {
  tokens_.Give(3);
  EXPECT_EQ(tokens_.TakeBack(3), 2u);
  EXPECT_EQ(Take(9), "sxx");
}

TEST_F(StartTokensTest, ItemsTakenBackEarlierAreSkippedBeforeNewOnesStart) {
  tokens_.Give(3);
  EXPECT_EQ(Take(1), "s");
  EXPECT_EQ(tokens_.TakeBack(3), 2u);  // the worker answers the first, and gets three more
  tokens_.Give(3);
  EXPECT_EQ(tokens_.TakeBack(3), 2u);
  EXPECT_EQ(Take(9), "xxsxx");
}

TEST_F(StartTokensTest, NothingIsLeftToTakeBackWhereAllHaveStarted) {
  tokens_.Give(2);
  EXPECT_EQ(Take(2), "ss");
  EXPECT_EQ(tokens_.TakeBack(1), 0u);
  EXPECT_EQ(Take(1), "");
}

}  // namespace
}  // namespace rft
