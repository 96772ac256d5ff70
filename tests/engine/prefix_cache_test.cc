#include "rft/engine/prefix_cache.h"

#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/core/rng.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kPage = 4;

class PrefixCacheTest : public ::testing::Test {
 protected:
  static std::vector<TokenId> Tokens(int64_t count, TokenId first = 0) {
    std::vector<TokenId> tokens(count);
    std::iota(tokens.begin(), tokens.end(), first);
    return tokens;
  }
  // A text that was computed and then let go of: its pages, oldest first.
  std::vector<PageId> Store(const std::vector<TokenId>& tokens, int64_t version = 1) {
    std::vector<PageId> pages;
    for (size_t i = 0; i < tokens.size() / kPage; ++i) pages.push_back(pool_.Allocate());
    cache_.Insert(version, tokens, pages, static_cast<int64_t>(pages.size()));
    Drop(pages);
    return pages;
  }
  void Drop(std::vector<PageId> pages) {
    for (; !pages.empty(); pages.pop_back()) pool_.Release(pages.back());
    cache_.CheckInvariants();
  }
  std::vector<PageId> Match(const std::vector<TokenId>& tokens, int64_t version = 1) {
    return cache_.Match(version, tokens, static_cast<int64_t>(tokens.size()) - 1);
  }

  PagePool pool_{8};
  PrefixCache cache_{pool_, kPage};
};

TEST_F(PrefixCacheTest, FindsTheLongestKnownBeginningInWholePages) {
  const auto pages = Store(Tokens(12));
  EXPECT_EQ(pool_.used(), 0);
  std::vector<TokenId> other = Tokens(12);
  other[9] = 99;
  EXPECT_THAT(Match(other), ElementsAre(pages[0], pages[1]));
  EXPECT_EQ(pool_.used(), 2);
  other[0] = 99;
  EXPECT_THAT(Match(other), IsEmpty());
}

TEST_F(PrefixCacheTest, LeavesATokenToCompute) {
  const auto pages = Store(Tokens(8));
  EXPECT_THAT(Match(Tokens(8)), ElementsAre(pages[0]));
  EXPECT_THAT(Match(Tokens(9)), ElementsAre(pages[0], pages[1]));
}

TEST_F(PrefixCacheTest, KnowsEachVersionForItself) {
  const auto one = Store(Tokens(8), 1), two = Store(Tokens(8), 2);
  EXPECT_THAT(Match(Tokens(9), 2), ElementsAre(two[0], two[1]));
  EXPECT_THAT(Match(Tokens(9), 3), IsEmpty());
  cache_.Forget(1);
  EXPECT_THAT(Match(Tokens(9), 1), IsEmpty());
  EXPECT_EQ(cache_.num_pages(), 2);
  cache_.CheckInvariants();
}

TEST_F(PrefixCacheTest, KnowsEachSaltForItself) {
  const auto store = [&](const char* salt) {
    const std::vector<PageId> pages = {pool_.Allocate(), pool_.Allocate()};
    cache_.Insert(1, Tokens(8), pages, 2, salt);
    Drop(pages);
    return pages;
  };
  const auto none = store(""), one = store("s");
  EXPECT_THAT(cache_.Match(1, Tokens(9), 8, "s"), ElementsAre(one[0], one[1]));
  EXPECT_THAT(cache_.Match(1, Tokens(9), 8, "t"), IsEmpty());
  EXPECT_THAT(Match(Tokens(9)), ElementsAre(none[0], none[1]));
  Drop(one);
  Drop(none);
  for (int i = 0; i < 8; ++i) EXPECT_GE(pool_.Allocate(), 0);  // all are taken back
  cache_.CheckInvariants();
  EXPECT_EQ(cache_.num_pages(), 0);
}

TEST_F(PrefixCacheTest, KnowsNothingAfterItWasCleared) {
  Store(Tokens(8));
  const auto running = Match(Tokens(9));  // still referred to
  Store(Tokens(8, 100));
  cache_.Clear();
  EXPECT_EQ(cache_.num_pages(), 0);
  EXPECT_EQ(pool_.idle(), 0);
  EXPECT_THAT(Match(Tokens(9)), IsEmpty());
  Drop(running);
  EXPECT_EQ(pool_.used(), 0);
  const auto again = Store(Tokens(8));
  EXPECT_THAT(Match(Tokens(9)), ElementsAre(again[0], again[1]));
}

TEST_F(PrefixCacheTest, KeepsTheFirstOfTwoPagesWithOneContent) {
  const auto first = Store(Tokens(8));
  Store(Tokens(8));
  EXPECT_EQ(cache_.num_pages(), 2);
  EXPECT_EQ(Match(Tokens(9)), first);
}

TEST_F(PrefixCacheTest, GivesUpTheLeastRecentlyUsedAndEndsBeforeBeginnings) {
  const auto old = Store(Tokens(16)), recent = Store(Tokens(16, 100));
  Drop(Match(
      Tokens(16)));  // old is used again, but for its last page, which nothing is computed after
  for (PageId expected : {old[3], recent[3], recent[2], recent[1]})
    EXPECT_EQ(pool_.Allocate(), expected);
  EXPECT_THAT(Match(Tokens(17)), ElementsAre(old[0], old[1], old[2]));
  EXPECT_THAT(Match(Tokens(17, 100)), ElementsAre(recent[0]));
  EXPECT_EQ(pool_.Allocate(), -1);
  EXPECT_EQ(pool_.num_reused(), 4);
  cache_.CheckInvariants();
}

TEST_F(PrefixCacheTest, KeepsItsInvariantsThroughARandomSoak) {
  auto random = [n = uint64_t{0}](int64_t low, int64_t high) mutable {
    return low + static_cast<int64_t>(BitsAt(7, 1, n++) % static_cast<uint64_t>(high - low + 1));
  };
  std::map<PageId, std::vector<TokenId>> content;  // everything up to the end of the page
  std::vector<std::vector<PageId>> running;
  int64_t hits = 0;
  for (int i = 0; i < 4000; ++i) {
    std::vector<TokenId> tokens(random(1, 5) * kPage);
    for (TokenId& t : tokens) t = static_cast<TokenId>(random(0, 20) == 0);
    std::vector<PageId> pages = Match(tokens);
    for (size_t p = 0; p < pages.size(); ++p)
      ASSERT_EQ(content[pages[p]],
                std::vector<TokenId>(tokens.begin(), tokens.begin() + (p + 1) * kPage));
    hits += static_cast<int64_t>(pages.size());
    const int64_t needed = static_cast<int64_t>(tokens.size()) / kPage;
    while (static_cast<int64_t>(pages.size()) < needed && pool_.free() > 0) {
      pages.push_back(pool_.Allocate());
      content[pages.back()].assign(tokens.begin(), tokens.begin() + pages.size() * kPage);
    }
    if (random(0, 3) > 0) cache_.Insert(1, tokens, pages, static_cast<int64_t>(pages.size()));
    running.push_back(pages);
    while (!running.empty() && (pool_.free() == 0 || random(0, 1) == 0)) {
      const int64_t victim = random(0, static_cast<int64_t>(running.size()) - 1);
      Drop(running[victim]);
      running.erase(running.begin() + victim);
    }
    cache_.CheckInvariants();
  }
  EXPECT_GT(hits, 1000);
  EXPECT_GT(pool_.num_reused(), 1000);
}

}  // namespace
}  // namespace rft
