// Decides what the next iteration computes: which sequences decode, which prompts are prefilled and how far, who is
// preempted when pages run out. Torch-free and single-threaded, so that it is tested without a model.
//
// Invariants (CheckInvariants, every iteration in tests): a page is referenced exactly as often as sequences list it;
// every running sequence's pages cover its cached tokens; no finished sequence holds a page.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "rft/engine/sequence.h"

namespace rft {

struct SchedulerOptions {
  int64_t max_batch = 64;
  int64_t max_batch_tokens = 1024;
  int64_t page_tokens = 16;
};

class Scheduler {
 public:
  // `copy_page(from, to)` copies the contents of a page (a forked sample's partly filled last page).
  Scheduler(int64_t num_pages, const SchedulerOptions& options,
            std::function<void(PageId, PageId)> copy_page);

  // One piece of the next iteration: tokens [num_cached, num_cached + count) of the sequence. `wants_logits`: these are
  // all tokens there are, so the next one is to be sampled.
  struct Work {
    EngineSequence* sequence;
    int64_t count;
    bool wants_logits;
  };

  void Add(std::shared_ptr<EngineRequest> request);
  // What to compute now; empty when there is nothing to do.
  std::vector<Work> NextIteration();
  // The piece has been computed.
  void Computed(const Work& work) { work.sequence->num_cached += work.count; }
  // The prompt of `prompt` is cached: makes its samples, sharing its pages, and forgets it. Those that find no page for
  // their copy of the last page are queued for recomputation.
  std::vector<EngineSequence*> Fork(EngineSequence* prompt);
  // Takes a sequence out and frees its pages.
  std::unique_ptr<EngineSequence> Remove(EngineSequence* sequence);
  // Takes out all sequences of cancelled requests, or all there are.
  std::vector<std::unique_ptr<EngineSequence>> RemoveCancelled();
  std::vector<std::unique_ptr<EngineSequence>> RemoveAll();

  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t num_preemptions() const { return num_preemptions_; }
  const PagePool& pool() const { return pool_; }
  int64_t PagesFor(int64_t tokens) const {
    return (tokens + options_.page_tokens - 1) / options_.page_tokens;
  }
  // Aborts the process when one is broken.
  void CheckInvariants() const;

 private:
  bool GrowTo(EngineSequence& sequence, int64_t tokens);  // all or nothing
  void FreePages(EngineSequence& sequence);
  // Moves the youngest running sequence to the front of the queue; its tokens will be recomputed.
  void PreemptYoungest();
  std::vector<std::unique_ptr<EngineSequence>> RemoveIf(
      const std::function<bool(const EngineSequence&)>& wanted);

  SchedulerOptions options_;
  std::function<void(PageId, PageId)> copy_page_;
  PagePool pool_;
  SequenceList running_;  // have (some of) their tokens cached, oldest first
  SequenceList waiting_;  // hold no pages, in order of arrival; preempted ones in front
  int64_t num_preemptions_ = 0;
};

}  // namespace rft
