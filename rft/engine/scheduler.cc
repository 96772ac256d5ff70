#include "rft/engine/scheduler.h"

#include <algorithm>
#include <map>

#include "rft/core/check.h"

namespace rft {

Scheduler::Scheduler(int64_t num_pages, const SchedulerOptions& options,
                     std::function<void(PageId, PageId)> copy_page)
    : options_(options),
      copy_page_(std::move(copy_page)),
      pool_(num_pages),
      prefixes_(pool_, options.page_tokens) {}

void Scheduler::Add(std::shared_ptr<EngineRequest> request) {
  const GenerateRequest& r = request->request;
  auto s = std::make_unique<EngineSequence>(request, EngineSequence::kPrompt);
  std::erase_if(finish_tags_, [&](const auto& f) { return f.second <= virtual_time_; });
  double& finish = finish_tags_.try_emplace(r.client, virtual_time_).first->second;
  s->start_tag = finish;
  finish += static_cast<double>(r.prompt.size()) +
            static_cast<double>(r.num_samples) * r.sampling.max_tokens;
  auto place = waiting_.end();
  while (place != waiting_.begin() && (*std::prev(place))->start_tag > s->start_tag) --place;
  waiting_.insert(place, std::move(s));
}

int64_t Scheduler::VersionOf(const EngineSequence& sequence) const {
  return sequence.owner->weights_id != 0 ? sequence.owner->weights_id : version_;
}

bool Scheduler::UsesCache(const EngineSequence& sequence) const {
  return options_.prefix_cache && sequence.owner->request.use_prefix_cache;
}

void Scheduler::SetVersion(int64_t version) {
  DropVersion(version_);
  version_ = version;
  AddVersion(version);
}

void Scheduler::DropVersion(int64_t version) {
  live_versions_.erase(version);
  prefixes_.Forget(version);
}

void Scheduler::RecomputeForNewVersion() {
  for (auto it = running_.end(); it != running_.begin();) {  // the oldest ends up in front
    const auto here = --it;
    if ((*here)->owner->request.weight_policy != WeightPolicy::kRecompute) continue;
    ++it;
    Requeue(here);
  }
}

void Scheduler::Remember(const EngineSequence& s) {
  const int64_t version = VersionOf(s);
  if (!UsesCache(s) || s.kv_version != version || !live_versions_.contains(version)) return;
  prefixes_.Insert(version, s.tokens, s.pages, s.num_pure / options_.page_tokens,
                   s.owner->request.cache_salt);
}

void Scheduler::Computed(const Work& work) {
  EngineSequence& s = *work.sequence;
  const int64_t version = VersionOf(s);
  const bool was_prefill = s.needs_prefill();
  if (s.num_cached == 0) s.kv_version = version;
  if (s.num_pure == s.num_cached && s.kv_version == version) s.num_pure += work.count;
  s.num_cached += work.count;
  if (was_prefill) Remember(s);
}

bool Scheduler::SharesPrefillUnderWay(const EngineSequence& s, int64_t num_cached) const {
  const int64_t page_end = num_cached + options_.page_tokens;
  if (page_end >= s.size()) return false;
  for (const auto& other : running_)
    if (other->needs_prefill() && other->num_cached < page_end && page_end <= other->size() &&
        UsesCache(*other) && VersionOf(*other) == VersionOf(s) &&
        (other->num_cached == other->num_pure) &&
        other->owner->request.cache_salt == s.owner->request.cache_salt &&
        std::equal(s.tokens.begin(), s.tokens.begin() + page_end, other->tokens.begin()))
      return true;
  return false;
}

bool Scheduler::Place(EngineSequence& s) {
  // Log-probabilities of prompt tokens need every row computed.
  const bool cached = UsesCache(s) && !(s.sample == EngineSequence::kPrompt &&
                                        s.owner->request.want_prompt_logprobs);
  if (cached)
    s.pages = prefixes_.Match(VersionOf(s), s.tokens, s.size() - 1, s.owner->request.cache_salt);
  const int64_t hit = static_cast<int64_t>(s.pages.size()) * options_.page_tokens;
  if ((cached && SharesPrefillUnderWay(s, hit)) || !GrowTo(s, s.size())) {
    FreePages(s);
    return false;
  }
  s.num_cached = s.num_pure = hit;
  s.kv_version = VersionOf(s);
  num_prefix_hit_tokens_ += hit;
  return true;
}

bool Scheduler::GrowTo(EngineSequence& sequence, int64_t tokens) {
  const int64_t missing = PagesFor(tokens) - static_cast<int64_t>(sequence.pages.size());
  if (missing > pool_.free()) return false;
  for (int64_t i = 0; i < missing; ++i) sequence.pages.push_back(pool_.Allocate());
  return true;
}

void Scheduler::FreePages(EngineSequence& sequence) {
  if (sequence.num_cached > 0) Remember(sequence);
  // Last page first: of those that stay known, the end of a text is given up before its beginning.
  while (!sequence.pages.empty()) {
    pool_.Release(sequence.pages.back());
    sequence.pages.pop_back();
  }
  sequence.num_cached = sequence.num_pure = 0;
}

void Scheduler::Requeue(SequenceList::iterator running) {
  FreePages(**running);
  (*running)->start_tag = 0.0;  // nobody who comes later overtakes it
  waiting_.push_front(std::move(*running));
  running_.erase(running);
}

void Scheduler::PreemptYoungest() {
  Requeue(std::prev(running_.end()));
  ++num_preemptions_;
}

std::vector<Scheduler::Work> Scheduler::NextIteration() {
  std::vector<Work> work;
  int64_t tokens = 0;
  num_decoding_ = 0;
  auto add = [&](EngineSequence& s) {  // false: the token budget is used up
    const int64_t count = std::min(s.size() - s.num_cached, options_.max_batch_tokens - tokens);
    if (count <= 0) return false;
    work.push_back({&s, count, s.num_cached + count == s.size()});
    tokens += count;
    return true;
  };
  // Decoding first: one token each, oldest first. Room is made by preempting the youngest, which come later in this loop
  // and so are not in `work` yet; in the end a sequence preempts itself.
  for (auto it = running_.begin(); it != running_.end() && num_decoding_ < options_.max_batch;
       ++it) {
    EngineSequence& s = **it;
    if (s.needs_prefill()) continue;
    bool preempted_itself = false;
    while (!preempted_itself && !GrowTo(s, s.size())) {
      preempted_itself = running_.back().get() == &s;
      PreemptYoungest();
    }
    if (preempted_itself || !add(s)) break;
    ++num_decoding_;
  }
  // Then prompts under way (they hold all their pages), then new ones while slots and pages last.
  for (const auto& s : running_)
    if (s->needs_prefill() && !add(*s)) break;
  while (!waiting_.empty() && tokens < options_.max_batch_tokens &&
         num_running() < options_.max_batch) {
    EngineSequence& s = *waiting_.front();
    if (!Place(s)) break;
    virtual_time_ = std::max(virtual_time_, s.start_tag);
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
    s->num_pure = prompt->num_pure;
    s->kv_version = prompt->kv_version;
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
  std::map<const EngineRequest*, std::set<int32_t>> samples;
  for (const auto& s : running_) {
    RFT_CHECK(static_cast<int64_t>(s->pages.size()) >= PagesFor(s->num_cached));
    RFT_CHECK(static_cast<int64_t>(s->pages.size()) <= PagesFor(s->size()));
    for (PageId page : s->pages) ++references[page];
    RFT_CHECK(samples[s->owner.get()].insert(s->sample).second);
  }
  RFT_CHECK(static_cast<int64_t>(samples.size()) <= options_.max_batch);
  RFT_CHECK(num_decoding_ <= options_.max_batch);
  for (const auto& s : waiting_) {
    RFT_CHECK(s->pages.empty() && s->num_cached == 0);
    RFT_CHECK(samples[s->owner.get()].insert(s->sample).second);
  }
  for (const auto& [owner, held] : samples) {
    RFT_CHECK(held.size() == 1 || !held.contains(EngineSequence::kPrompt));
    RFT_CHECK(*held.rbegin() < owner->request.num_samples);
  }
  RFT_CHECK(static_cast<int64_t>(references.size()) == pool_.used());
  prefixes_.CheckInvariants();
  for (const auto& [page, count] : references) RFT_CHECK(pool_.references(page) == count);
}

}  // namespace rft
