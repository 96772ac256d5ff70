// Reference-counted pages of the state cache. Torch-free; not thread-safe (the engine's thread owns it).
#pragma once

#include <cstdint>
#include <vector>

namespace rft {

using PageId = int32_t;

class PagePool {
 public:
  explicit PagePool(int64_t num_pages);

  // A free page with one reference; -1 when there is none.
  PageId Allocate();
  void AddRef(PageId page);
  // Frees the page with its last reference.
  void Release(PageId page);

  int64_t total() const { return static_cast<int64_t>(refs_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t used() const { return total() - free(); }
  int32_t references(PageId page) const { return refs_[page]; }

 private:
  std::vector<int32_t> refs_;
  std::vector<PageId> free_;
};

}  // namespace rft
