#include "rft/engine/page_pool.h"

#include "rft/core/check.h"

namespace rft {

PagePool::PagePool(int64_t num_pages) : refs_(num_pages, 0) {
  free_.reserve(num_pages);
  for (int64_t i = num_pages; i-- > 0;) free_.push_back(static_cast<PageId>(i));  // low pages first
}

PageId PagePool::Allocate() {
  if (free_.empty()) return -1;
  const PageId page = free_.back();
  free_.pop_back();
  refs_[page] = 1;
  return page;
}

void PagePool::AddRef(PageId page) {
  RFT_CHECK(refs_[page] > 0);
  ++refs_[page];
}

void PagePool::Release(PageId page) {
  RFT_CHECK(refs_[page] > 0);
  if (--refs_[page] == 0) free_.push_back(page);
}

}  // namespace rft
