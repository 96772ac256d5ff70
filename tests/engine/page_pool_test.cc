#include "rft/engine/page_pool.h"

#include <set>

#include <gtest/gtest.h>

namespace rft {
namespace {

TEST(PagePoolTest, HandsOutEveryPageOnceAndThenNone) {
  PagePool pool(5);
  std::set<PageId> pages;
  for (int i = 0; i < 5; ++i) pages.insert(pool.Allocate());
  EXPECT_EQ(pages, (std::set<PageId>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.Allocate(), -1);
  EXPECT_EQ(pool.used(), 5);
}

TEST(PagePoolTest, FreesAPageWithItsLastReference) {
  PagePool pool(1);
  const PageId page = pool.Allocate();
  pool.AddRef(page);
  pool.Release(page);
  EXPECT_EQ(pool.references(page), 1);
  EXPECT_EQ(pool.Allocate(), -1);
  pool.Release(page);
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.Allocate(), page);
}

}  // namespace
}  // namespace rft
