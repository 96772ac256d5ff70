// The part of WorkerPool that goes on where a call hangs.
#include <sys/resource.h>

#include <algorithm>

#include "graders/worker_pool.h"

namespace rft {
namespace {

// Spare workers: an item that usually takes less than kQuickSeconds is taken to hang after kStuckTimes as long, within bounds.
constexpr double kQuickSeconds = 0.005, kQuickCallOfManySeconds = 0.05;
constexpr double kStuckTimes = 100;
constexpr double kStuckLeastSeconds = 0.01, kStuckMostSeconds = 0.05;
constexpr double kStuckTimesAtLeast = 5;
constexpr double kStuckAtFirstSeconds = 0.25;  // a function's first call may have much to get ready
constexpr double kQuickStartSeconds = 3.0;
constexpr int kSlowNiceness = 19;  // of a worker whose call has been given to others
constexpr size_t kMaxSpares = 8;
constexpr double kSpareIdleSeconds = 5.0;

}  // namespace

double WorkerPool::QuickSeconds() const { return many_ ? kQuickCallOfManySeconds : kQuickSeconds; }

bool WorkerPool::SparesHelp() const {
  return options_.spare_workers > 0 && start_s_ > 0 && start_s_ <= kQuickStartSeconds &&
         usual_item_s_ < QuickSeconds() && !stopping_ && !broken_.has_value();
}

bool WorkerPool::MayWork(const Worker& worker) const {
  if (!worker.spare) return true;
  const auto others_at_work =
      std::count_if(workers_.begin(), workers_.end(), [&](const auto& other) {
        return other.get() != &worker && other->ready && !other->stuck &&
               (!other->spare || !other->in_flight.empty());
      });
  return others_at_work < options_.num_workers;
}

// As many as are wanted are ready or starting.
void WorkerPool::KeepSpares() {
  if (!SparesHelp()) return;
  const auto wanted = static_cast<size_t>(options_.spare_workers);
  const size_t most = static_cast<size_t>(options_.num_workers) + std::max(kMaxSpares, wanted);
  size_t idle = 0;
  std::vector<Worker*> not_started;
  for (auto& worker : workers_) {
    if (!worker->spare) continue;
    if (worker->connection == nullptr) not_started.push_back(worker.get());
    if (worker->connection != nullptr && worker->in_flight.empty() && worker->lent.empty()) ++idle;
  }
  for (; idle < wanted; ++idle) {
    if (not_started.empty()) {
      if (workers_.size() == most) return;
      not_started.push_back(
          workers_.emplace_back(std::make_unique<Worker>(io_, /*spare=*/true)).get());
    }
    StartWorker(*not_started.back());
    not_started.pop_back();
  }
}

void WorkerPool::FillOrRest(Worker& worker) {
  Fill(worker);
  if (worker.spare && worker.connection != nullptr && worker.in_flight.empty() &&
      worker.lent.empty())
    ArmTimer(worker, kSpareIdleSeconds, [this, &worker] { EndIfNotWanted(worker); });
}

// A spare that has had nothing to do for a while.
void WorkerPool::EndIfNotWanted(Worker& worker) {
  const auto idle = std::count_if(workers_.begin(), workers_.end(), [](const auto& other) {
    return other->spare && other->connection != nullptr && other->in_flight.empty() &&
           other->lent.empty();
  });
  if (!SparesHelp() || idle > options_.spare_workers) Stop(worker);
}

double WorkerPool::StuckAfterSeconds() const {
  if (usual_item_s_ == 0) return kStuckAtFirstSeconds;
  return std::max(std::clamp(kStuckTimes * usual_item_s_, kStuckLeastSeconds, kStuckMostSeconds),
                  kStuckTimesAtLeast * usual_item_s_);
}

void WorkerPool::OnStuck(Worker& worker) {
  if (usual_item_s_ >= QuickSeconds()) return;
  worker.stuck = true;
  if (worker.batch) {
    Lend(worker);
  } else {
    for (size_t back = worker.connection->starts().TakeBack(worker.in_flight.size()); back > 0;
         --back) {
      queue_.push_front(std::move(worker.in_flight.back()));
      worker.in_flight.pop_back();
    }
  }
  FillAll();
  KeepSpares();
}

// Its call goes on to its deadline, but what comes of it counts only for items that nobody else has begun with. The function is
// slowed down meanwhile, and its worker replaced whatever happens.
void WorkerPool::Lend(Worker& worker) {
  if (options_.groups || worker.in_flight.size() < 2 || !SparesHelp()) return;
  setpriority(PRIO_PROCESS, static_cast<id_t>(worker.connection->pid()), kSlowNiceness);
  for (; !worker.in_flight.empty(); worker.in_flight.pop_back()) {
    Item& item = worker.in_flight.back();
    item.alone = true;
    worker.lent.push_front(item.id);
    queue_.push_front(std::move(item));
  }
}

void WorkerPool::OnLentGraded(Worker& worker, ItemGraded graded) {
  if (worker.lent.front() != graded.id)
    return OnDeath(worker, "answered an item it was not working on");
  worker.lent.pop_front();
  const auto waiting = std::find_if(queue_.begin(), queue_.end(),
                                    [&](const Item& item) { return item.id == graded.id; });
  if (waiting != queue_.end() && IsScore(graded.grade)) {
    Item item = std::move(*waiting);
    queue_.erase(waiting);
    item.done(std::move(graded.grade));
  }
  if (worker.lent.empty()) Replace(worker);
}

}  // namespace rft
