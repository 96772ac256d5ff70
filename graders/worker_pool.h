// Worker processes that grade, and the one thread that talks to them.
//
//   Submit --> queue_ --batch--> worker 0: [current | next | next ...]  <-- deadline timer, restarted per reply
//     any      |                 worker 1: [current | ...]
//    thread    '----- items behind a killed current go back to the front, for the replacement
//   .................................. pool thread (io_context) ..................................
//
// A worker handles its items one at a time, in order, and answers each as it finishes. The deadline is the current item's
// alone: it starts when the previous reply arrives. An item still unanswered then is Timeout, its worker's process group is
// killed, waited for and replaced. A worker that dies makes its current item Killed. Nothing is graded twice.
//
// A function that takes many completions at once (its worker says so when it is ready) gets all that wait, batch_size at
// most, in one call, and the deadline is that call's. When such a call fails, each of its items is tried once more in a call
// of its own, so that the one to blame is found and the others get their grade. Groups are judged as a whole: they get one call,
// and fail together.
//
// Where items usually take milliseconds, one that does not come back soon is likely to hang. While it waits for its deadline, what
// was sent behind it is taken back (graders/start_tokens.h) and a spare worker goes on with the queue, so a few calls that hang
// cost one deadline, not one each. Spares are started ahead, if that is quick: a function that loads much is not loaded again.
// They have nothing to do until then, so that no more than num_workers items are worked on but for those that hang. The items
// of a call of many that is likely to hang are tried in calls of their own at once, and the first score counts.
//
// Thread safety: Submit, WaitReady, stats and columns from any thread; Shutdown from any thread but the pool's.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/status/status.h"
#include "graders/async_grader.h"
#include "graders/worker_connection.h"
#include "graders/worker_messages.h"

namespace rft {

struct WorkerPoolOptions {
  std::string name;   // of the grader, for the thread
  std::string where;  // in messages: "run.yaml:9: graders[NAME]"
  SpawnOptions spawn;
  std::string init_message;  // JSON, the first frame every worker gets
  int num_workers = 1;
  int spare_workers = 2;     // kept ready for when calls hang
  double deadline_s = 10.0;  // per item
  int batch_size = 32;       // items per call, for functions that take many
  bool groups = false;       // calls are of whole groups (SubmitGroup), which fail as one
  double startup_deadline_s =
      120.0;  // from spawn to {"ready": true}: the user's module may import much
};

class WorkerPool {
 public:
  using Done = std::function<void(Grade)>;

  struct Stats {
    int64_t num_started = 0;   // processes, replacements included, spares not
    int64_t num_timeouts = 0;  // items
    int64_t num_killed = 0;    // items whose worker died
  };

  explicit WorkerPool(WorkerPoolOptions options);
  ~WorkerPool();  // Shutdown
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Waits until one worker can grade. kFailedPrecondition: the function can't be loaded, or workers don't start; all
  // items, now and later, get a GradeError with the same message.
  absl::Status WaitReady();

  // `done` is called exactly once: on the pool thread, or on the caller's after Shutdown.
  void Submit(std::shared_ptr<const GradeJob> job, Done done);
  // All of them in one call. REQUIRES: WorkerPoolOptions::groups and a function that takes many, or just one member.
  void SubmitGroup(std::vector<std::pair<std::shared_ptr<const GradeJob>, Done>> members);

  // Answers all items with GradeError("shut down"), kills and reaps the workers. Idempotent. Not from a `done`.
  void Shutdown();

  Stats stats() const;
  // What the function can't be called without; known once WaitReady has returned.
  std::vector<std::string> columns() const;

 private:
  struct Item {
    int64_t id = 0;
    std::string encoded;
    Done done;
    bool alone = false;  // to be graded in a call of its own
    size_t group = 1;    // that many, from this one on, are one call
  };
  struct Worker {
    explicit Worker(boost::asio::io_context& io, bool spare = false)
        : spare(spare), timer(io), slow_timer(io) {}
    const bool spare;
    std::shared_ptr<WorkerConnection> connection;  // null: not running
    bool ready = false;
    bool batch = false;          // all items in flight are one call
    bool stuck = false;          // the current item takes much longer than usual
    std::deque<Item> in_flight;  // front = current
    std::deque<int64_t> lent;  // of a stuck call of many: its items, now in the queue or elsewhere
    bool no_answer_yet = false;  // to the latest call
    boost::asio::steady_timer
        timer;  // start-up, deadline of the current item, or delay before a retry
    boost::asio::steady_timer slow_timer;  // until it is stuck
    uint64_t timer_use = 0;                // a timer that fired before it was re-armed must not act
    std::chrono::steady_clock::time_point since;  // the current item's start
    double item_s = 0.0;                          // smoothed time per item; 0 = not known yet
    int failed_starts = 0;                        // since it last graded something
  };

  void StartWorker(Worker& worker);
  void Replace(Worker& worker);
  void OnFrame(Worker& worker, std::string_view payload);
  void OnDeath(Worker& worker, const std::string& cause);
  void OnItemDeadline(Worker& worker);
  void OnStartFailed(Worker& worker, const std::string& why);
  void ArmTimer(Worker& worker, double seconds, std::function<void()> on_expiry);
  void CancelTimer(Worker& worker);
  void StartClock(Worker& worker);  // the current item's
  void Stop(Worker& worker);        // kills it and puts its in_flight items back into the queue
  void FinishCurrent(Worker& worker, Grade grade);
  void FailCurrent(Worker& worker, const Grade& grade);  // of groups: all of it
  void Enqueue(std::vector<Item> items);
  bool RetryEachAlone(Worker& worker);  // false: the current item was alone
  size_t NumToSend(const Worker& worker) const;
  void Fill(Worker& worker);
  void FillAll();
  void FailAll(const std::string& message);
  void Reap();
  void StopEverything();

  // graders/spare_workers.cc
  double QuickSeconds() const;
  double StuckAfterSeconds() const;
  bool SparesHelp() const;
  bool MayWork(const Worker& worker) const;  // a regular one, or a spare that is needed
  void KeepSpares();
  void FillOrRest(Worker& worker);
  void EndIfNotWanted(Worker& worker);
  void OnStuck(Worker& worker);
  void Lend(Worker& worker);
  void OnLentGraded(Worker& worker, ItemGraded graded);

  const WorkerPoolOptions options_;
  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::steady_timer reap_timer_;
  // Pool thread only.
  std::vector<std::unique_ptr<Worker>> workers_;
  std::deque<Item> queue_;
  bool many_ = false;                  // the function takes many items at once
  double usual_item_s_ = 0.0;          // smoothed, of all workers; of a call, if many_; 0 = unknown
  double start_s_ = 0.0;               // how long the quickest start took; 0 = none yet
  std::vector<pid_t> dying_;           // killed, not yet reaped
  std::optional<std::string> broken_;  // why nothing can be graded any more
  bool stopping_ = false;
  std::chrono::steady_clock::time_point reap_until_ = std::chrono::steady_clock::time_point::max();

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool accepting_ = true;
  bool ready_ = false;
  std::vector<std::string> columns_;
  absl::Status failure_;
  int64_t next_id_ = 0;
  Stats stats_;

  std::thread thread_;
};

}  // namespace rft
