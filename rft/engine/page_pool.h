// Reference-counted pages of the state cache. A page that is retained keeps its content after its last reference is gone,
// until a page is needed and no other is free: the least recently used one first. Torch-free; not thread-safe (the engine's
// thread owns it).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <vector>

namespace rft {

using PageId = int32_t;

class PagePool {
 public:
  explicit PagePool(int64_t num_pages);

  // A page with one reference; -1 when there is none. May reuse a retained one, after telling `on_reuse`.
  PageId Allocate();
  // Also takes up a retained page that nobody refers to.
  void AddRef(PageId page);
  void Release(PageId page);

  // From now on the page's content is worth keeping. REQUIRES: it has a reference.
  void Retain(PageId page);
  // No longer.
  void Forget(PageId page);
  // Called when a retained page is about to be overwritten, after it was forgotten.
  void set_on_reuse(std::function<void(PageId)> on_reuse) { on_reuse_ = std::move(on_reuse); }

  int64_t total() const { return static_cast<int64_t>(refs_.size()); }
  int64_t used() const { return total() - free(); }
  // Pages that Allocate can hand out; `idle` of them are retained.
  int64_t free() const { return static_cast<int64_t>(free_.size() + idle_.size()); }
  int64_t idle() const { return static_cast<int64_t>(idle_.size()); }
  int64_t num_reused() const { return num_reused_; }
  int32_t references(PageId page) const { return refs_[page]; }
  bool retained(PageId page) const { return retained_[page]; }

 private:
  std::vector<int32_t> refs_;
  std::vector<bool> retained_;
  std::vector<PageId> free_;
  std::list<PageId> idle_;                          // retained, no reference; longest unused first
  std::vector<std::list<PageId>::iterator> place_;  // of an idle page
  std::function<void(PageId)> on_reuse_;
  int64_t num_reused_ = 0;
};

}  // namespace rft
