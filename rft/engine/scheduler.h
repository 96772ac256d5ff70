// Decides what the next iteration computes: which sequences decode, which prompts are prefilled and how far, who is
// preempted when pages run out. Torch-free and single-threaded, so that it is tested without a model.
//
// Invariants (CheckInvariants, every iteration in tests): a page is referenced exactly as often as sequences list it;
// every running sequence's pages cover its cached tokens, and none lies beyond its tokens; no waiting or finished sequence
// holds a page; the prefix cache knows exactly the pages that the pool retains. A sample has one place, running or waiting,
// and its prompt none beside it; at most max_batch requests run and at most max_batch sequences decode in an iteration (a
// fork may leave more running than that: they take turns).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "rft/engine/prefix_cache.h"
#include "rft/engine/sequence.h"

namespace rft {

struct SchedulerOptions {
  int64_t max_batch = 64;
  int64_t max_batch_tokens = 1024;
  int64_t page_tokens = 16;
  bool prefix_cache = true;
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

  // Queues a request. Clients take turns in proportion to the tokens they ask for: start-time fair queueing (Goyal, Vin and
  // Cheng, SIGCOMM 1996), which for one client is the order of arrival.
  void Add(std::shared_ptr<EngineRequest> request);
  // A number for the weights that are computed with from now on, like no other before; requests that compute with others
  // (EngineRequest::weights_id) keep theirs.
  void SetVersion(int64_t version);
  // Other weights that requests may come for, an adapter's: their texts are remembered, too, until they are dropped.
  void AddVersion(int64_t version) { live_versions_.insert(version); }
  void DropVersion(int64_t version);
  int64_t version() const { return version_; }
  // Makes the prefix cache empty; running sequences keep their pages.
  void ForgetPrefixes() { prefixes_.Clear(); }
  // Puts running sequences of WeightPolicy::kRecompute back in the queue, without their pages.
  void RecomputeForNewVersion();
  // What to compute now; empty when there is nothing to do.
  std::vector<Work> NextIteration();
  // The piece has been computed. REQUIRES: SetVersion was not called in between.
  void Computed(const Work& work);
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
  int64_t num_prefix_hit_tokens() const { return num_prefix_hit_tokens_; }
  const PagePool& pool() const { return pool_; }
  int64_t PagesFor(int64_t tokens) const {
    return (tokens + options_.page_tokens - 1) / options_.page_tokens;
  }
  // Aborts the process when one is broken.
  void CheckInvariants() const;

 private:
  bool GrowTo(EngineSequence& sequence, int64_t tokens);  // all or nothing
  // Gives a waiting sequence what the prefix cache has for it and pages for the rest; false (and nothing) if they don't fit.
  bool Place(EngineSequence& sequence);
  // Whether a running prefill is about to compute a page that `sequence`, which waits, begins with too.
  bool SharesPrefillUnderWay(const EngineSequence& sequence, int64_t num_cached) const;
  bool UsesCache(const EngineSequence& sequence) const;
  int64_t VersionOf(const EngineSequence& sequence) const;
  // Makes the sequence's whole pages known.
  void Remember(const EngineSequence& sequence);
  void FreePages(EngineSequence& sequence);
  void Requeue(SequenceList::iterator running);
  // Moves the youngest running sequence to the front of the queue; its tokens will be recomputed.
  void PreemptYoungest();
  std::vector<std::unique_ptr<EngineSequence>> RemoveIf(
      const std::function<bool(const EngineSequence&)>& wanted);

  SchedulerOptions options_;
  std::function<void(PageId, PageId)> copy_page_;
  PagePool pool_;
  PrefixCache prefixes_;
  int64_t version_ = 0;
  std::set<int64_t> live_versions_ = {0};  // whose texts are remembered
  SequenceList running_;                   // have (some of) their tokens cached, oldest first
  SequenceList waiting_;                   // hold no pages, by start tag; preempted ones in front
  double virtual_time_ = 0.0;              // start tag of the latest admitted request
  std::map<uint64_t, double>
      finish_tags_;  // by client, of its latest request; those in the past are dropped
  int64_t num_preemptions_ = 0, num_prefix_hit_tokens_ = 0;
  int64_t num_decoding_ = 0;  // sequences of the latest iteration
};

}  // namespace rft
