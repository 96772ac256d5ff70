#include "graders/worker_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include <boost/asio/post.hpp>

#include "absl/strings/str_cat.h"
#include "graders/worker_messages.h"
#include "rft/core/text.h"

namespace rft {
namespace {

using Clock = std::chrono::steady_clock;

// Items are sent ahead so that a worker with quick items never waits for us, but no more than it does in this time, so
// that a slow item holds up few others.
constexpr double kAheadSeconds = 0.02;
constexpr size_t kMaxInFlight = 16;
constexpr size_t kMaxBatchBytes = kMaxFrameBytes / 2;
constexpr int kMaxFailedStarts = 3;
constexpr double kRetryDelaySeconds = 0.2;
constexpr auto kReapInterval = std::chrono::milliseconds(2);
constexpr auto kReapAtShutdown = std::chrono::seconds(5);
constexpr size_t kOutputInMessage = 2048;
constexpr char kShutDown[] = "shut down";

std::string WithOutput(std::string message, const std::string& output) {
  if (output.empty()) return message;
  const bool cut = output.size() > kOutputInMessage;
  return absl::StrCat(
      message, "\n--- the worker printed", cut ? " (end)" : "", ":\n",
      ReplaceInvalidUtf8(cut ? output.substr(output.size() - kOutputInMessage) : output));
}

}  // namespace

WorkerPool::WorkerPool(WorkerPoolOptions options)
    : options_(std::move(options)), work_(io_.get_executor()), reap_timer_(io_) {
  for (int i = 0; i < options_.num_workers; ++i) workers_.push_back(std::make_unique<Worker>(io_));
  boost::asio::post(io_, [this] {
    for (auto& worker : workers_) StartWorker(*worker);
  });
  thread_ = std::thread([this] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all,
                    nullptr);  // SIGPIPE (WorkerConnection), and SIGINT belongs to other threads
    pthread_setname_np(pthread_self(), ("grade:" + options_.name).substr(0, 15).c_str());
    io_.run();
  });
}

WorkerPool::~WorkerPool() { Shutdown(); }

absl::Status WorkerPool::WaitReady() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] {
    return ready_ || !failure_.ok() || !accepting_;
  });  // bounded by the start-up deadline
  if (!failure_.ok()) return failure_;
  return accepting_ ? absl::OkStatus() : absl::CancelledError(kShutDown);
}

void WorkerPool::Submit(std::shared_ptr<const GradeJob> job, Done done) {
  std::vector<std::pair<std::shared_ptr<const GradeJob>, Done>> one;
  one.emplace_back(std::move(job), std::move(done));
  SubmitGroup(std::move(one));
}

void WorkerPool::SubmitGroup(
    std::vector<std::pair<std::shared_ptr<const GradeJob>, Done>> members) {
  std::vector<Item> items(members.size());
  size_t bytes = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      items[i].id = next_id_++;
    }
    items[i].encoded = EncodeItem(items[i].id, *members[i].first);
    items[i].done = std::move(members[i].second);
    items[i].group = items.size() - i;
    bytes += items[i].encoded.size();
  }
  if (bytes > kMaxBatchBytes) {
    for (Item& item : items)
      item.done(GradeError{absl::StrCat("row and completion are ", bytes,
                                        " bytes of JSON together; a worker takes at most ",
                                        kMaxBatchBytes)});
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (accepting_) {
      boost::asio::post(io_,
                        [this, items = std::move(items)]() mutable { Enqueue(std::move(items)); });
      return;
    }
  }
  for (Item& item : items) item.done(GradeError{kShutDown});
}

void WorkerPool::Shutdown() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!accepting_) return;
    accepting_ = false;
    boost::asio::post(io_, [this] { StopEverything(); });
  }
  changed_.notify_all();
  thread_.join();  // ends when the workers are reaped
}

WorkerPool::Stats WorkerPool::stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

std::vector<std::string> WorkerPool::columns() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return columns_;
}

// ---------------------------------------------------------------- pool thread from here on

void WorkerPool::Enqueue(std::vector<Item> items) {
  for (Item& item : items) {
    if (broken_.has_value() || stopping_) {
      item.done(GradeError{broken_.value_or(kShutDown)});
    } else {
      queue_.push_back(std::move(item));
    }
  }
  FillAll();
}

void WorkerPool::StartWorker(Worker& worker) {
  if (stopping_ || broken_.has_value()) return;
  WorkerConnection::Events events;
  events.on_frame = [this, &worker](std::string_view payload) { OnFrame(worker, payload); };
  events.on_death = [this, &worker](std::string cause) { OnDeath(worker, cause); };
  auto connection = WorkerConnection::Start(io_, options_.spawn, std::move(events));
  if (!connection.ok()) {
    return OnStartFailed(worker, std::string(connection.status().message()));
  }
  if (!worker.spare) {
    std::lock_guard<std::mutex> lock(mutex_);
    ++stats_.num_started;
  }
  worker.connection = *std::move(connection);
  worker.since = Clock::now();
  worker.ready = false;
  worker.item_s = 0.0;
  worker.connection->Send(options_.init_message);
  ArmTimer(worker, options_.startup_deadline_s, [this, &worker] {
    OnStartFailed(worker, absl::StrCat("no answer within ", options_.startup_deadline_s,
                                       " s of being started"));
  });
}

void WorkerPool::OnFrame(Worker& worker, std::string_view payload) {
  absl::StatusOr<WorkerMessage> message = ParseWorkerMessage(payload);
  if (!message.ok())
    return OnDeath(worker, absl::StrCat("broken reply: ", message.status().message()));
  if (const auto* failed = std::get_if<WorkerFailed>(&*message)) {
    return FailAll(WithOutput(failed->message, worker.connection->TakeOutput()));
  }
  if (auto* graded = std::get_if<ItemGraded>(&*message)) {
    if (!worker.lent.empty()) return OnLentGraded(worker, std::move(*graded));
    if (worker.in_flight.empty() || worker.in_flight.front().id != graded->id) {
      return OnDeath(worker, "answered an item it was not working on");
    }
    worker.failed_starts = 0;
    const double took_s = std::chrono::duration<double>(Clock::now() - worker.since).count();
    for (double* smoothed : {&worker.item_s, &usual_item_s_}) {
      if (worker.batch && !worker.no_answer_yet)
        break;  // a call's other answers come with its first
      *smoothed = *smoothed == 0.0 ? took_s : 0.8 * *smoothed + 0.2 * took_s;
    }
    worker.no_answer_yet = false;
    const std::string output = worker.connection->TakeOutput();
    if (auto* error = std::get_if<GradeError>(&graded->grade))
      error->message = WithOutput(error->message, output);
    FinishCurrent(worker, std::move(graded->grade));
    return FillOrRest(worker);
  }
  const double start_s = std::chrono::duration<double>(Clock::now() - worker.since).count();
  start_s_ = start_s_ == 0.0 ? start_s : std::min(start_s_, start_s);
  worker.ready = true;
  WorkerReady& said = std::get<WorkerReady>(*message);
  many_ = worker.batch = said.batch;
  CancelTimer(worker);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ready_ = true;
    columns_ = std::move(said.columns);
  }
  changed_.notify_all();
  FillOrRest(worker);
  KeepSpares();
}

void WorkerPool::OnDeath(Worker& worker, const std::string& cause) {
  const std::string what = WithOutput("the worker " + cause, worker.connection->TakeOutput());
  if (!worker.lent.empty()) return Replace(worker);
  if (!worker.ready || worker.in_flight.empty()) return OnStartFailed(worker, what);
  if (!RetryEachAlone(worker)) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++stats_.num_killed;
    }
    FailCurrent(worker, Killed{what});
  }
  Replace(worker);
}

void WorkerPool::OnItemDeadline(Worker& worker) {
  if (!worker.lent.empty()) return Replace(worker);
  if (const std::optional<std::string> cause = worker.connection->Exited())
    return OnDeath(worker, *cause);
  if (!RetryEachAlone(worker)) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++stats_.num_timeouts;
    }
    FailCurrent(worker, Timeout{options_.deadline_s});
  }
  Replace(worker);
}

void WorkerPool::Replace(Worker& worker) {
  Stop(worker);
  if (!worker.spare) StartWorker(worker);
  FillAll();  // what it had, meanwhile
  KeepSpares();
}

// Also a worker that died with nothing to do: nobody's item is to blame.
void WorkerPool::OnStartFailed(Worker& worker, const std::string& why) {
  Stop(worker);
  if (worker.spare) return;
  if (++worker.failed_starts >= kMaxFailedStarts) {
    return FailAll(absl::StrCat("workers don't start (", kMaxFailedStarts, " attempts): ", why));
  }
  ArmTimer(worker, kRetryDelaySeconds * worker.failed_starts,
           [this, &worker] { StartWorker(worker); });
}

void WorkerPool::ArmTimer(Worker& worker, double seconds, std::function<void()> on_expiry) {
  worker.timer.expires_after(
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  const uint64_t use = ++worker.timer_use;
  worker.timer.async_wait(
      [&worker, use, on_expiry = std::move(on_expiry)](const boost::system::error_code& error) {
        if (!error && worker.timer_use == use) on_expiry();
      });
}

void WorkerPool::CancelTimer(Worker& worker) {
  ++worker.timer_use;
  worker.timer.cancel();
}

void WorkerPool::Stop(Worker& worker) {
  CancelTimer(worker);
  worker.slow_timer.cancel();
  if (worker.connection != nullptr) {
    worker.connection->Kill();
    dying_.push_back(worker.connection->pid());
    worker.connection = nullptr;
    Reap();
  }
  worker.ready = worker.stuck = false;
  worker.lent.clear();
  while (!worker.in_flight.empty()) {
    queue_.push_front(std::move(worker.in_flight.back()));
    worker.in_flight.pop_back();
  }
}

void WorkerPool::FinishCurrent(Worker& worker, Grade grade) {
  Item item = std::move(worker.in_flight.front());
  worker.in_flight.pop_front();
  CancelTimer(worker);
  worker.slow_timer.cancel();
  worker.stuck = false;
  if (!worker.in_flight.empty()) StartClock(worker);
  item.done(std::move(grade));
}

void WorkerPool::FailCurrent(Worker& worker, const Grade& grade) {
  do {
    FinishCurrent(worker, grade);
  } while (options_.groups && !worker.in_flight.empty());
}

bool WorkerPool::RetryEachAlone(Worker& worker) {
  if (options_.groups || !worker.batch || worker.in_flight.size() < 2) return false;
  for (Item& item : worker.in_flight) item.alone = true;
  return true;
}

size_t WorkerPool::NumToSend(const Worker& worker) const {
  // The others get their share of a short queue.
  const auto running =
      static_cast<size_t>(std::count_if(workers_.begin(), workers_.end(), [&](const auto& other) {
        return other.get() == &worker ||
               (!other->stuck && (!other->spare || !other->in_flight.empty()));
      }));
  const size_t share = (queue_.size() + running - 1) / running;
  if (worker.batch) {
    if (!worker.in_flight.empty()) return 0;
    if (options_.groups) return queue_.front().group;
    if (queue_.front().alone) return 1;
    const auto alone =
        std::find_if(queue_.begin(), queue_.end(), [](const Item& item) { return item.alone; });
    return std::min({share, static_cast<size_t>(options_.batch_size),
                     static_cast<size_t>(alone - queue_.begin())});
  }
  size_t depth = 1;
  const double item_s = worker.item_s > 0 ? worker.item_s : usual_item_s_;
  if (item_s > 0)
    depth = static_cast<size_t>(std::clamp(kAheadSeconds / item_s, 1.0, double{kMaxInFlight}));
  if (worker.in_flight.size() > depth / 2) return 0;
  return std::min(depth - worker.in_flight.size(), share);
}

void WorkerPool::Fill(Worker& worker) {
  if (worker.connection == nullptr || !worker.ready) return;
  if (queue_.empty() || worker.stuck || !MayWork(worker)) return;
  const size_t count = NumToSend(worker);
  const bool was_idle = worker.in_flight.empty();
  std::vector<std::string> batch;
  size_t bytes = 0;
  while (batch.size() < count && !queue_.empty()) {
    if (!batch.empty() && bytes + queue_.front().encoded.size() > kMaxBatchBytes) break;
    bytes += queue_.front().encoded.size();
    batch.push_back(queue_.front().encoded);
    worker.in_flight.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  if (batch.empty()) return;
  worker.connection->Send(EncodeItems(batch));
  worker.connection->starts().Give(worker.batch ? 1 : batch.size());
  worker.no_answer_yet = true;
  if (was_idle) StartClock(worker);
}

void WorkerPool::StartClock(Worker& worker) {
  worker.since = Clock::now();
  ArmTimer(worker, options_.deadline_s, [this, &worker] { OnItemDeadline(worker); });
  worker.slow_timer.expires_after(std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(StuckAfterSeconds())));
  const uint64_t use = worker.timer_use;
  worker.slow_timer.async_wait([this, &worker, use](const boost::system::error_code& error) {
    if (!error && worker.timer_use == use) OnStuck(worker);
  });
}

void WorkerPool::FillAll() {
  for (auto& worker : workers_) {
    if (worker->in_flight.empty()) Fill(*worker);  // the idle first
  }
  for (auto& worker : workers_) Fill(*worker);
}

void WorkerPool::FailAll(const std::string& message) {
  broken_ = message;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    failure_ = absl::FailedPreconditionError(message);
  }
  changed_.notify_all();
  for (auto& worker : workers_) Stop(*worker);
  std::deque<Item> items = std::move(queue_);
  queue_.clear();
  for (Item& item : items) item.done(GradeError{message});
}

// Until every killed process is waited for. One that is stuck in the kernel keeps this timer going and nothing else; a
// shutdown gives up on it after a while.
void WorkerPool::Reap() {
  dying_.erase(std::remove_if(dying_.begin(), dying_.end(), TryReap), dying_.end());
  if (dying_.empty() || Clock::now() > reap_until_) return;
  reap_timer_.expires_after(kReapInterval);
  reap_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) Reap();
  });
}

void WorkerPool::StopEverything() {
  stopping_ = true;
  reap_until_ = Clock::now() + kReapAtShutdown;
  for (auto& worker : workers_) Stop(*worker);
  std::deque<Item> items = std::move(queue_);
  queue_.clear();
  for (Item& item : items) item.done(GradeError{kShutDown});
  work_.reset();
}

}  // namespace rft
