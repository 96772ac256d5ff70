// Holds the completions of a group until all of them are there, for graders that compare (llm_judge's rank, Python functions of
// style group).
//
//   Add(job, done), Add(job, done), ... --> on_group({(job, done), ...})     when it is whole, or max_wait_s after its first one
//
// How many belong together the job says (GradeJob::group_size), or whoever configured the grader; what belongs together: jobs of
// one group id where the job says how many, else of one row and step.
// Thread safety: Add from any thread; Shutdown too, but not from on_group. on_group is called on the thread of the last Add or
// on one of its own, and not after Shutdown.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include "graders/async_grader.h"

namespace rft {

class GroupCollector {
 public:
  using Member = std::pair<std::shared_ptr<const GradeJob>, std::function<void(Grade)>>;
  using OnGroup = std::function<void(std::vector<Member>)>;

  // `group_size`: where a job does not say it; 0: such a job is a GradeError.
  GroupCollector(size_t group_size, double max_wait_s, OnGroup on_group);
  ~GroupCollector();  // Shutdown

  void Add(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done);

  // Answers those that wait with GradeError("shut down"). Idempotent.
  void Shutdown();

 private:
  using Key = std::tuple<bool, int64_t, int64_t>;
  struct Waiting {
    std::vector<Member> members;
    std::unique_ptr<boost::asio::steady_timer> timer;
    uint64_t id = 0;  // a timer that fired late must not take the next group of the key
  };
  void WaitFor(const Key& key, Waiting& waiting);

  const size_t group_size_;
  const double max_wait_s_;
  const OnGroup on_group_;
  std::mutex mutex_;
  bool shut_down_ = false;
  uint64_t next_id_ = 0;
  std::map<Key, Waiting> groups_;
  boost::asio::thread_pool timers_{1};
};

}  // namespace rft
