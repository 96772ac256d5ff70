#include "graders/group_collector.h"

#include <chrono>

namespace rft {

GroupCollector::GroupCollector(size_t group_size, double max_wait_s, OnGroup on_group)
    : group_size_(group_size), max_wait_s_(max_wait_s), on_group_(std::move(on_group)) {}

GroupCollector::~GroupCollector() { Shutdown(); }

void GroupCollector::Add(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) {
  const bool known = job->group_size > 0;
  const size_t size = known ? static_cast<size_t>(job->group_size) : group_size_;
  if (size == 0)
    return done(GradeError{"how many completions a group has is not known here; set group_size"});
  const Key key = known ? Key(true, job->step, job->group) : Key(false, job->step, job->row->index);
  std::vector<Member> whole;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!shut_down_) {
      Waiting& waiting = groups_[key];
      waiting.members.emplace_back(std::move(job), std::move(done));
      if (waiting.members.size() < size) {
        if (waiting.members.size() == 1) WaitFor(key, waiting);
        return;
      }
      whole = std::move(waiting.members);
      if (waiting.timer != nullptr) waiting.timer->cancel();
      groups_.erase(key);
    }
  }
  if (whole.empty()) return done(GradeError{"shut down"});
  on_group_(std::move(whole));
}

// REQUIRES: mutex_ is held
void GroupCollector::WaitFor(const Key& key, Waiting& waiting) {
  const uint64_t id = waiting.id = next_id_++;
  waiting.timer = std::make_unique<boost::asio::steady_timer>(
      timers_, std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                   std::chrono::duration<double>(max_wait_s_)));
  waiting.timer->async_wait([this, key, id](const boost::system::error_code&) {
    std::vector<Member> late;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto it = groups_.find(key);
      if (shut_down_ || it == groups_.end() || it->second.id != id) return;
      late = std::move(it->second.members);
      groups_.erase(it);
    }
    on_group_(std::move(late));
  });
}

void GroupCollector::Shutdown() {
  std::map<Key, Waiting> waiting;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_down_ = true;
    waiting.swap(groups_);
  }
  for (auto& [key, group] : waiting) {
    group.timer->cancel();
    for (auto& [job, done] : group.members) done(GradeError{"shut down"});
  }
  timers_.join();
}

}  // namespace rft
