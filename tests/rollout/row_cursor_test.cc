#include "rollout/row_cursor.h"

#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rft {
namespace {

std::vector<int64_t> Draws(RowCursor cursor, int64_t begin, int64_t end) {
  std::vector<int64_t> rows;
  for (int64_t draw = begin; draw < end; ++draw) rows.push_back(cursor.RowAt(draw));
  return rows;
}

TEST(RowCursorTest, VisitsEveryRowOncePerEpoch) {
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const std::vector<int64_t> rows = Draws(RowCursor(1, 50, true), 50 * epoch, 50 * (epoch + 1));
    EXPECT_EQ(std::set<int64_t>(rows.begin(), rows.end()).size(), 50u);
  }
}

TEST(RowCursorTest, ChangesTheOrderWithTheEpochAndTheSeed) {
  const std::vector<int64_t> first = Draws(RowCursor(1, 50, true), 0, 50);
  EXPECT_NE(first, Draws(RowCursor(1, 50, true), 50, 100));
  EXPECT_NE(first, Draws(RowCursor(2, 50, true), 0, 50));
}

TEST(RowCursorTest, GivesTheSameRowWhateverWasDrawnBefore) {
  RowCursor fresh(1, 50, true), used(1, 50, true);
  used.RowAt(199);
  used.RowAt(0);
  EXPECT_EQ(fresh.RowAt(77), used.RowAt(77));
}

TEST(RowCursorTest, KeepsTheFilesOrderWithoutShuffling) {
  EXPECT_THAT(Draws(RowCursor(1, 3, false), 0, 5), ::testing::ElementsAre(0, 1, 2, 0, 1));
}

}  // namespace
}  // namespace rft
