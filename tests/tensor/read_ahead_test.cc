#include "rft/tensor/read_ahead.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace rft {
namespace {

class ReadAheadTest : public ::testing::Test {
 protected:
  void TearDown() override { SetReadAhead({}); }
  char memory_[1000];
};

TEST_F(ReadAheadTest, HandsOutTheRangesInOrderInPiecesOfAtMostTheSizeAskedFor) {
  SetReadAhead({{memory_, 150}, {memory_ + 500, 64}});
  std::vector<std::pair<const void*, int64_t>> pieces;
  for (MemoryRange r = TakeReadAhead(100); r.bytes > 0; r = TakeReadAhead(100))
    pieces.emplace_back(r.begin, r.bytes);
  EXPECT_EQ(pieces, (std::vector<std::pair<const void*, int64_t>>{
                        {memory_, 100}, {memory_ + 100, 50}, {memory_ + 500, 64}}));
  EXPECT_EQ(TakeReadAhead(100).bytes, 0);
}

TEST_F(ReadAheadTest, ANewListReplacesWhatIsLeft) {
  SetReadAhead({{memory_, 500}});
  EXPECT_EQ(TakeReadAhead(64).begin, memory_);
  SetReadAhead({{memory_ + 700, 10}});
  EXPECT_EQ(TakeReadAhead(64).begin, memory_ + 700);
  SetReadAhead({{memory_, 500}});
  SetReadAhead({});
  EXPECT_EQ(TakeReadAhead(64).bytes, 0);
}

TEST_F(ReadAheadTest, GivesEachByteToOneThreadOnly) {
  SetReadAhead({{memory_, 600}, {memory_ + 600, 400}});
  std::vector<std::atomic<int>> taken(1000);
  auto take = [&] {
    for (MemoryRange r = TakeReadAhead(7); r.bytes > 0; r = TakeReadAhead(7))
      for (int64_t i = 0; i < r.bytes; ++i)
        ++taken[static_cast<const char*>(r.begin) - memory_ + i];
  };
  std::thread a(take), b(take);
  a.join();
  b.join();
  for (const auto& count : taken) ASSERT_EQ(count, 1);
}

}  // namespace
}  // namespace rft
