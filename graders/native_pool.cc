#include "graders/native_pool.h"

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kWaitAtShutdown = std::chrono::seconds(1);

struct Call {
  std::shared_ptr<const Grader> grader;
  std::shared_ptr<const GradeJob> job;
  double deadline_s = 0.0;
  std::function<void(Grade)> done;
  std::thread::id thread;  // that runs it; under State::mutex, as is:
  bool answered = false;
};

Grade CheckedRun(const Grader& grader, const GradeJob& job) {
  try {
    Grade grade = grader.Run(job.Input());
    if (const Score* score = std::get_if<Score>(&grade)) {
      if (!std::isfinite(score->value))
        return GradeError{absl::StrCat("the score is ", score->value)};
      for (const auto& [name, value] : score->sub_scores) {
        if (!std::isfinite(value))
          return GradeError{absl::StrCat("sub-score \"", name, "\" is ", value)};
      }
    }
    return grade;
  } catch (const std::exception& error) {
    return GradeError{absl::StrCat("the grader threw: ", error.what())};
  } catch (...) {
    return GradeError{"the grader threw something that is not a std::exception"};
  }
}

}  // namespace

struct NativePool::State : std::enable_shared_from_this<NativePool::State> {
  using Calls = std::multimap<Clock::time_point, std::shared_ptr<Call>>;

  std::mutex mutex;
  std::condition_variable work;               // queue, closing
  std::condition_variable deadlines_changed;  // running, closing
  std::condition_variable idle;               // a running call ended
  std::deque<std::shared_ptr<Call>> queue;
  Calls running;                                   // by deadline
  std::map<std::thread::id, std::thread> threads;  // those not lost
  std::thread watcher;
  int num_lost = 0;        // threads let go that have not come back
  bool shut_down = false;  // no more grading
  bool closing = false;    // threads end
  Stats stats;

  static void GradeUntilClosed(std::shared_ptr<State> state) {
    std::unique_lock<std::mutex> lock(state->mutex);
    while (true) {
      state->work.wait(lock, [&] { return state->closing || !state->queue.empty(); });
      if (state->queue.empty()) return;
      std::shared_ptr<Call> call = std::move(state->queue.front());
      state->queue.pop_front();
      if (!state->RunCall(lock, call)) return;
    }
  }

  // False if this thread was let go meanwhile.
  bool RunCall(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Call>& call) {
    if (shut_down || num_lost >= kMaxLost) {
      call->answered = true;
      Grade grade =
          GradeError{shut_down ? "shut down"
                               : absl::StrCat(num_lost, " grader calls hang; no more are started")};
      lock.unlock();
      call->done(std::move(grade));
      lock.lock();
      return true;
    }
    call->thread = std::this_thread::get_id();
    const auto limit = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(call->deadline_s));
    const auto position = running.emplace(Clock::now() + limit, call);
    if (position == running.begin()) deadlines_changed.notify_one();
    lock.unlock();
    Grade grade = CheckedRun(*call->grader, *call->job);
    lock.lock();
    if (call->answered) {
      ++stats.num_late_answers;
      --num_lost;
      idle.notify_all();
      return false;
    }
    call->answered = true;
    running.erase(position);
    lock.unlock();
    call->done(std::move(grade));
    lock.lock();
    idle.notify_all();
    return true;
  }

  // Answers in the call's stead and puts a new thread in the place of the one that is lost.
  void GiveUp(std::unique_lock<std::mutex>& lock, Calls::iterator late, Grade grade) {
    const std::shared_ptr<Call> call = late->second;
    running.erase(late);
    call->answered = true;
    auto thread = threads.find(call->thread);
    thread->second.detach();
    threads.erase(thread);
    ++num_lost;
    StartThread();
    idle.notify_all();
    lock.unlock();
    call->done(std::move(grade));
    lock.lock();
  }

  // REQUIRES: mutex is held
  void StartThread() {
    std::thread thread(GradeUntilClosed, shared_from_this());
    const std::thread::id id = thread.get_id();
    threads.emplace(id, std::move(thread));
  }

  static void WatchDeadlines(std::shared_ptr<State> state) {
    std::unique_lock<std::mutex> lock(state->mutex);
    while (!state->closing) {
      if (state->running.empty()) {
        state->deadlines_changed.wait(lock);
        continue;
      }
      const auto first = state->running.begin();
      if (Clock::now() < first->first) {
        const Clock::time_point until = first->first;
        state->deadlines_changed.wait_until(lock, until);
        continue;
      }
      ++state->stats.num_timeouts;
      state->GiveUp(lock, first, Timeout{first->second->deadline_s});
    }
  }
};

NativePool::NativePool(int num_threads) : state_(std::make_shared<State>()) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  for (int i = 0; i < num_threads; ++i) state_->StartThread();
  state_->watcher = std::thread(State::WatchDeadlines, state_);
}

NativePool::~NativePool() {
  Shutdown();
  std::map<std::thread::id, std::thread> threads;
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->closing = true;
    threads.swap(state_->threads);
  }
  state_->work.notify_all();
  state_->deadlines_changed.notify_all();
  for (auto& [id, thread] : threads) thread.join();
  state_->watcher.join();
}

void NativePool::Run(std::shared_ptr<const Grader> grader, std::shared_ptr<const GradeJob> job,
                     double deadline_s, std::function<void(Grade)> done) {
  auto call = std::make_shared<Call>();
  call->grader = std::move(grader);
  call->job = std::move(job);
  call->deadline_s = deadline_s;
  call->done = std::move(done);
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->queue.push_back(std::move(call));
  }
  state_->work.notify_one();
}

void NativePool::Shutdown() {
  std::unique_lock<std::mutex> lock(state_->mutex);
  state_->shut_down = true;  // what is queued is answered by the threads
  state_->idle.wait_for(lock, kWaitAtShutdown, [this] { return state_->running.empty(); });
  while (!state_->running.empty())
    state_->GiveUp(lock, state_->running.begin(), GradeError{"shut down"});
}

NativePool::Stats NativePool::stats() const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->stats;
}

}  // namespace rft
