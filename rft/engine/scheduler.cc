#include "rft/engine/scheduler.h"

#include <algorithm>
#include <map>

#include "rft/core/check.h"

namespace rft {

Scheduler::Scheduler(int64_t num_pages, const SchedulerOptions& options,
                     std::function<void(PageId, PageId)> copy_page)
    : options_(options), copy_page_(std::move(copy_page)), pool_(num_pages) {}

void Scheduler::Add(std::shared_ptr<EngineRequest> request) {
  waiting_.push_back(std::make_unique<EngineSequence>(std::move(request), EngineSequence::kPrompt));
}

bool Scheduler::GrowTo(EngineSequence& sequence, int64_t tokens) {
  const int64_t missing = PagesFor(tokens) - static_cast<int64_t>(sequence.pages.size());
  if (missing > pool_.free()) return false;
  for (int64_t i = 0; i < missing; ++i) sequence.pages.push_back(pool_.Allocate());
  return true;
}

void Scheduler::FreePages(EngineSequence& sequence) {
  for (PageId page : sequence.pages) pool_.Release(page);
  sequence.pages.clear();
  sequence.num_cached = 0;
}

void Scheduler::PreemptYoungest() {
  FreePages(*running_.back());
  waiting_.push_front(std::move(running_.back()));
  running_.pop_back();
  ++num_preemptions_;
}

std::vector<Scheduler::Work> Scheduler::NextIteration() {
  std::vector<Work> work;
  int64_t tokens = 0, slots = 0;
  auto add = [&](EngineSequence& s) {  // false: the token budget is used up
    const int64_t count = std::min(s.size() - s.num_cached, options_.max_batch_tokens - tokens);
    if (count <= 0) return false;
    work.push_back({&s, count, s.num_cached + count == s.size()});
    tokens += count;
    return true;
  };
  // Decoding first: one token each, oldest first. Room is made by preempting the youngest, which come later in this loop
  // and so are not in `work` yet; in the end a sequence preempts itself.
  for (auto it = running_.begin(); it != running_.end() && slots < options_.max_batch; ++it) {
    EngineSequence& s = **it;
    if (s.needs_prefill()) continue;
    bool preempted_itself = false;
    while (!preempted_itself && !GrowTo(s, s.size())) {
      preempted_itself = running_.back().get() == &s;
      PreemptYoungest();
    }
    if (preempted_itself || !add(s)) break;
    ++slots;
  }
  // Then prompts under way (they hold all their pages), then new ones while slots and pages last.
  for (const auto& s : running_)
    if (s->needs_prefill() && !add(*s)) break;
  while (!waiting_.empty() && tokens < options_.max_batch_tokens &&
         num_running() < options_.max_batch) {
    EngineSequence& s = *waiting_.front();
    if (!GrowTo(s, s.size())) break;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    add(s);
  }
  return work;
}

std::vector<EngineSequence*> Scheduler::Fork(EngineSequence* prompt) {
  std::vector<EngineSequence*> samples;
  const std::shared_ptr<EngineRequest> owner = prompt->owner;
  const int64_t whole_pages = prompt->size() / options_.page_tokens;
  const bool has_tail = whole_pages < static_cast<int64_t>(prompt->pages.size());
  for (int32_t i = 0; i < owner->request.num_samples; ++i) {
    auto s = std::make_unique<EngineSequence>(owner, i);
    const PageId tail = has_tail ? pool_.Allocate() : -1;
    samples.push_back(s.get());
    if (has_tail &&
        tail < 0) {  // no page left: recomputed later, with the token that is about to be sampled
      waiting_.push_front(std::move(s));
      continue;
    }
    for (int64_t p = 0; p < whole_pages; ++p) {
      pool_.AddRef(prompt->pages[p]);
      s->pages.push_back(prompt->pages[p]);
    }
    if (has_tail) {
      copy_page_(prompt->pages.back(), tail);
      s->pages.push_back(tail);
    }
    s->num_cached = prompt->num_cached;
    running_.push_back(std::move(s));
  }
  Remove(prompt);
  return samples;
}

std::unique_ptr<EngineSequence> Scheduler::Remove(EngineSequence* sequence) {
  auto removed = RemoveIf([&](const EngineSequence& s) { return &s == sequence; });
  RFT_CHECK(removed.size() == 1);
  return std::move(removed[0]);
}

std::vector<std::unique_ptr<EngineSequence>> Scheduler::RemoveCancelled() {
  return RemoveIf([](const EngineSequence& s) { return s.owner->cancelled; });
}

std::vector<std::unique_ptr<EngineSequence>> Scheduler::RemoveAll() {
  return RemoveIf([](const EngineSequence&) { return true; });
}

std::vector<std::unique_ptr<EngineSequence>> Scheduler::RemoveIf(
    const std::function<bool(const EngineSequence&)>& wanted) {
  std::vector<std::unique_ptr<EngineSequence>> removed;
  for (SequenceList* list : {&running_, &waiting_}) {
    for (auto it = list->begin(); it != list->end();) {
      if (!wanted(**it)) {
        ++it;
        continue;
      }
      FreePages(**it);
      removed.push_back(std::move(*it));
      it = list->erase(it);
    }
  }
  return removed;
}

void Scheduler::CheckInvariants() const {
  std::map<PageId, int> references;
  for (const auto& s : running_) {
    RFT_CHECK(static_cast<int64_t>(s->pages.size()) >= PagesFor(s->num_cached));
    for (PageId page : s->pages) ++references[page];
  }
  for (const auto& s : waiting_) RFT_CHECK(s->pages.empty() && s->num_cached == 0);
  RFT_CHECK(static_cast<int64_t>(references.size()) == pool_.used());
  for (const auto& [page, count] : references) RFT_CHECK(pool_.references(page) == count);
}

}  // namespace rft
