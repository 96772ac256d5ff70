#include "graders/grader_pool.h"

#include <cmath>
#include <thread>

#include <boost/asio/post.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graders/combine.h"
#include "rft/core/status_macros.h"

namespace rft {

struct GraderPool::Pending {
  std::vector<NamedGrade> grades;  // slot i is written by grader i alone
  std::atomic<size_t> remaining{0};
  Done done;
};

GraderPool::GraderPool(const GraderPoolOptions& options) : native_(options.num_threads) {}

GraderPool::~GraderPool() {
  Shutdown();
  callbacks_.join();
}

absl::StatusOr<std::unique_ptr<GraderPool>> GraderPool::Create(const std::vector<GraderSpec>& specs,
                                                               const GraderPoolOptions& options) {
  if (options.num_threads < 1)
    return absl::InvalidArgumentError("graders: num_threads must be at least 1");
  std::unique_ptr<GraderPool> pool(new GraderPool(options));
  RFT_RETURN_IF_ERROR(pool->AddAll(specs));

  // Side by side: each may import much.
  std::vector<absl::Status> prepared(pool->entries_.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < prepared.size(); ++i) {
    if (pool->entries_[i].async == nullptr) continue;
    threads.emplace_back([&, i] { prepared[i] = pool->entries_[i].async->Prepare(); });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<std::string> mistakes;
  for (const absl::Status& status : prepared) {
    if (!status.ok()) mistakes.emplace_back(status.message());
  }
  if (!mistakes.empty()) return absl::FailedPreconditionError(absl::StrJoin(mistakes, "\n"));
  return pool;
}

absl::Status GraderPool::AddAll(const std::vector<GraderSpec>& specs) {
  std::vector<std::string> mistakes;
  for (const GraderSpec& spec : specs) {
    std::vector<ColumnUse> columns;
    GraderSpec noting = spec;
    noting.columns = &columns;
    absl::StatusOr<std::unique_ptr<Grader>> grader = CreateGrader(noting);
    const absl::Status added = grader.ok() ? Add(spec, *std::move(grader)) : grader.status();
    if (added.ok()) {
      entries_.back().columns = std::move(columns);
    } else {
      mistakes.emplace_back(added.message());
    }
  }
  return mistakes.empty() ? absl::OkStatus()
                          : absl::InvalidArgumentError(absl::StrJoin(mistakes, "\n"));
}

absl::Status GraderPool::AddGrader(GraderSpec spec, std::unique_ptr<Grader> grader) {
  RFT_RETURN_IF_ERROR(Add(std::move(spec), std::move(grader)));
  absl::Status prepared =
      entries_.back().async == nullptr ? absl::OkStatus() : entries_.back().async->Prepare();
  if (!prepared.ok()) entries_.pop_back();
  return prepared;
}

absl::Status GraderPool::Add(GraderSpec spec, std::unique_ptr<Grader> grader) {
  if (spec.name.empty()) spec.name = spec.type;
  if (spec.name.empty()) return absl::InvalidArgumentError("graders: a grader needs a name");
  const std::string where = absl::StrCat("graders[", spec.name, "]");
  for (const Entry& entry : entries_) {
    if (entry.spec.name == spec.name) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": there are two graders of this name; give one another `name`"));
    }
  }
  if (!std::isfinite(spec.weight)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ".weight: ", spec.weight, " is not a finite number"));
  }
  if (!std::isfinite(spec.deadline_s) || spec.deadline_s <= 0 || spec.deadline_s > 1e6) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ".deadline_s: ", spec.deadline_s,
                     " is not a number of seconds above 0 and up to 1e6"));
  }
  if (grader == nullptr)
    return absl::InvalidArgumentError(absl::StrCat(where, ": no grader given"));
  Entry entry;
  RFT_ASSIGN_OR_RETURN(entry.policy, ReadFailurePolicy(spec));
  entry.spec = std::move(spec);
  entry.grader = std::move(grader);
  entry.async = std::dynamic_pointer_cast<const AsyncGrader>(entry.grader);
  entries_.push_back(std::move(entry));
  return absl::OkStatus();
}

void GraderPool::GradeAsync(std::shared_ptr<const Row> row, std::shared_ptr<const Rollout> rollout,
                            Done done, int32_t group_size) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++num_pending_;
  }
  auto pending = std::make_shared<Pending>();
  pending->done = std::move(done);
  pending->remaining =
      entries_.size() + 1;  // one for this function: no grade can finish it half-built
  for (const Entry& entry : entries_)
    pending->grades.push_back({entry.spec.name, entry.spec.weight, Grade{}});
  const std::shared_ptr<const GradeJob> job = GradeJob::From(std::move(row), *rollout, group_size);
  for (size_t i = 0; i < entries_.size(); ++i) {
    const FailurePolicy& policy = entries_[i].policy;
    const auto store = [this, pending, i, rollout, skip = policy.skip_abstain](Grade grade) {
      NamedGrade& named = pending->grades[i];
      if (skip && std::holds_alternative<Abstain>(grade)) named.weight = 0.0;
      named.grade = CheckParts(*rollout, std::move(grade));
      Finish(pending);
    };
    Start(i, job, policy.retries, store);
  }
  Finish(pending);
}

void GraderPool::Start(size_t entry, std::shared_ptr<const GradeJob> job, int64_t tries_left,
                       std::function<void(Grade)> done) {
  if (shut_down_) return done(GradeError{"shut down"});
  const Entry& asked = entries_[entry];
  auto answer = [this, entry, job, tries_left, done = std::move(done)](Grade grade) {
    if (!IsFailure(grade) || tries_left == 0 || shut_down_) return done(std::move(grade));
    Start(entry, job, tries_left - 1, done);
  };
  if (asked.async != nullptr) {
    asked.async->Start(std::move(job), std::move(answer));
  } else {
    native_.Run(asked.grader, std::move(job), asked.spec.deadline_s, std::move(answer));
  }
}

void GraderPool::Finish(const std::shared_ptr<Pending>& pending) {
  if (pending->remaining.fetch_sub(1) != 1) return;
  boost::asio::post(callbacks_, [this, pending] {
    pending->done(std::move(pending->grades));
    std::lock_guard<std::mutex> lock(mutex_);
    if (--num_pending_ == 0) all_done_.notify_all();
  });
}

void GraderPool::Shutdown() {
  shut_down_ = true;
  for (const Entry& entry : entries_) {
    if (entry.async != nullptr) entry.async->Shutdown();
  }
  native_.Shutdown();
  std::unique_lock<std::mutex> lock(mutex_);
  all_done_.wait(lock,
                 [this] { return num_pending_ == 0; });  // bounded: everything has been answered
}

std::vector<std::string> GraderPool::names() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_) names.push_back(entry.spec.name);
  return names;
}

std::vector<GraderPool::Policy> GraderPool::policies() const {
  std::vector<Policy> policies;
  for (const Entry& entry : entries_)
    policies.push_back({entry.spec.name, entry.spec.weight, entry.policy});
  return policies;
}

std::vector<double> GraderPool::weights() const {
  std::vector<double> weights;
  for (const Entry& entry : entries_) weights.push_back(entry.spec.weight);
  return weights;
}

}  // namespace rft
