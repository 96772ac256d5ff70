#include "rft/engine/page_pool.h"

#include "rft/core/check.h"

namespace rft {

PagePool::PagePool(int64_t num_pages)
    : refs_(num_pages, 0), retained_(num_pages, false), place_(num_pages) {
  free_.reserve(num_pages);
  for (int64_t i = num_pages; i-- > 0;) free_.push_back(static_cast<PageId>(i));  // low pages first
}

PageId PagePool::Allocate() {
  if (free_.empty() && !idle_.empty()) {
    const PageId page = idle_.front();
    Forget(page);
    ++num_reused_;
    if (on_reuse_) on_reuse_(page);
  }
  if (free_.empty()) return -1;
  const PageId page = free_.back();
  free_.pop_back();
  refs_[page] = 1;
  return page;
}

void PagePool::AddRef(PageId page) {
  RFT_CHECK(refs_[page] > 0 || retained_[page]);
  if (refs_[page]++ == 0) idle_.erase(place_[page]);
}

void PagePool::Release(PageId page) {
  RFT_CHECK(refs_[page] > 0);
  if (--refs_[page] > 0) return;
  if (retained_[page])
    place_[page] = idle_.insert(idle_.end(), page);
  else
    free_.push_back(page);
}

void PagePool::Retain(PageId page) {
  RFT_CHECK(refs_[page] > 0);
  retained_[page] = true;
}

void PagePool::Forget(PageId page) {
  if (!retained_[page]) return;
  retained_[page] = false;
  if (refs_[page] > 0) return;
  idle_.erase(place_[page]);
  free_.push_back(page);
}

}  // namespace rft
