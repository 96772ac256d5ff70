#include "bindings/offline_grading.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <functional>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graders/grader_pool.h"
#include "rft/core/status_macros.h"
#include "rft/io/dataset.h"
#include "rft/io/json.h"

namespace rft::python {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

double Since(SteadyTime start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Seconds per completion of one grader, by the row's index. Atomic: a C++ grader that timed out may write late.
using SharedSeconds = std::shared_ptr<std::vector<std::atomic<double>>>;

// A C++ grader: the time of its call.
class TimedGrader : public Grader {
 public:
  TimedGrader(std::unique_ptr<Grader> inner, SharedSeconds seconds)
      : inner_(std::move(inner)), seconds_(std::move(seconds)) {}

  Grade Run(const GradeInput& input) const override {
    const SteadyTime start = std::chrono::steady_clock::now();
    Grade grade = inner_->Run(input);
    (*seconds_)[static_cast<size_t>(input.row.index)].store(Since(start));
    return grade;
  }

 private:
  const std::unique_ptr<Grader> inner_;
  const SharedSeconds seconds_;
};

// A grader that answers later: the time since its previous answer.
class TimedAsyncGrader : public AsyncGrader {
 public:
  TimedAsyncGrader(std::unique_ptr<AsyncGrader> inner, SharedSeconds seconds)
      : inner_(std::move(inner)), seconds_(std::move(seconds)), last_(std::make_shared<Last>()) {}

  absl::Status Prepare() const override { return inner_->Prepare(); }
  void Shutdown() const override { inner_->Shutdown(); }
  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override {
    const auto index = static_cast<size_t>(job->row->index);
    inner_->Start(std::move(job),
                  [seconds = seconds_, last = last_, index,
                   start = std::chrono::steady_clock::now(), done = std::move(done)](Grade grade) {
                    {
                      std::lock_guard<std::mutex> lock(last->mutex);
                      (*seconds)[index].store(Since(std::max(start, last->answer)));
                      last->answer = std::chrono::steady_clock::now();
                    }
                    done(std::move(grade));
                  });
  }

 private:
  struct Last {
    std::mutex mutex;
    SteadyTime answer;
  };
  const std::unique_ptr<AsyncGrader> inner_;
  const SharedSeconds seconds_;
  const std::shared_ptr<Last> last_;
};

std::unique_ptr<Grader> Timed(std::unique_ptr<Grader> grader, SharedSeconds seconds) {
  if (auto* async = dynamic_cast<AsyncGrader*>(grader.get())) {
    grader.release();
    return std::make_unique<TimedAsyncGrader>(std::unique_ptr<AsyncGrader>(async),
                                              std::move(seconds));
  }
  return std::make_unique<TimedGrader>(std::move(grader), std::move(seconds));
}

absl::Status AddAll(const std::vector<GraderSpec>& specs, const std::vector<SharedSeconds>& seconds,
                    GraderPool& pool) {
  std::vector<std::unique_ptr<Grader>> graders;
  std::vector<std::string> mistakes;
  for (const GraderSpec& spec : specs) {
    absl::StatusOr<std::unique_ptr<Grader>> grader = CreateGrader(spec);
    if (grader.ok()) {
      graders.push_back(*std::move(grader));
    } else {
      mistakes.emplace_back(grader.status().message());
    }
  }
  if (!mistakes.empty()) return absl::InvalidArgumentError(absl::StrJoin(mistakes, "\n"));
  for (size_t g = 0; g < specs.size(); ++g) {
    RFT_RETURN_IF_ERROR(pool.AddGrader(specs[g], Timed(std::move(graders[g]), seconds[g])));
  }
  return absl::OkStatus();
}

// Counts completions that have all their grades.
class Countdown {
 public:
  explicit Countdown(size_t n) : left_(n) {}
  void Done() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--left_ == 0) finished_.notify_all();
  }
  // Every grader has a deadline of its own, so this ends.
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [&] { return left_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable finished_;
  size_t left_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Row>> ParseGradedRow(const std::string& line, int64_t index) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(line));
  if (!value.is_object()) return absl::InvalidArgumentError("must be a JSON object");
  if (value.get_object().contains("messages")) {
    RFT_ASSIGN_OR_RETURN(Row row, ParseRow(line, index));
    return std::make_shared<const Row>(std::move(row));
  }
  auto row = std::make_shared<Row>();
  row->index = index;
  row->json = line;
  for (const json::key_value_pair& member : value.get_object()) {
    row->columns[std::string(member.key())] = ColumnText(member.value());
  }
  return row;
}

absl::StatusOr<std::vector<std::vector<TimedGrade>>> GradeOffline(
    const std::vector<GraderSpec>& specs, const std::vector<std::shared_ptr<const Row>>& rows,
    const std::vector<std::string>& completions, const std::vector<std::vector<TokenId>>& token_ids,
    int num_threads, double over_s, double settle_s) {
  std::vector<SharedSeconds> seconds;
  for (size_t g = 0; g < specs.size(); ++g)
    seconds.push_back(std::make_shared<std::vector<std::atomic<double>>>(rows.size()));
  RFT_ASSIGN_OR_RETURN(const std::unique_ptr<GraderPool> pool,
                       GraderPool::Create({}, {.num_threads = std::max(num_threads, 1)}));
  RFT_RETURN_IF_ERROR(AddAll(specs, seconds, *pool));
  std::vector<std::vector<TimedGrade>> results(rows.size());
  if (specs.empty() || rows.empty()) return results;
  // Completions of the same line are a group.
  std::map<std::string_view, std::pair<int64_t, int32_t>> groups;  // id, size
  for (const auto& row : rows)
    ++groups.try_emplace(row->json, static_cast<int64_t>(groups.size()), 0).first->second.second;
  std::this_thread::sleep_for(std::chrono::duration<double>(settle_s));
  Countdown countdown(rows.size());
  const SteadyTime start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::chrono::duration<double> due(over_s * static_cast<double>(i) /
                                            static_cast<double>(rows.size()));
    std::this_thread::sleep_until(start + std::chrono::duration_cast<SteadyTime::duration>(due));
    auto rollout = std::make_shared<Rollout>();
    rollout->index = static_cast<int32_t>(i);
    rollout->completion_text = completions[i];
    rollout->segments.push_back({.kind = SegmentKind::kModel, .ids = token_ids[i]});
    const auto& [group, group_size] = groups.at(rows[i]->json);
    rollout->group = group;
    const auto done = [&, i](std::vector<NamedGrade> grades) {
      for (NamedGrade& named : grades) results[i].push_back({std::move(named.grade), 0.0});
      countdown.Done();
    };
    pool->GradeAsync(rows[i], rollout, done, group_size);
  }
  countdown.Wait();
  pool->Shutdown();
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t g = 0; g < results[i].size(); ++g) {
      const auto* timeout = std::get_if<Timeout>(&results[i][g].grade);
      results[i][g].seconds = timeout != nullptr ? timeout->deadline_s : (*seconds[g])[i].load();
    }
  }
  return results;
}

absl::StatusOr<double> TimeGrader(const GraderSpec& spec,
                                  const std::vector<std::shared_ptr<const Row>>& rows,
                                  const std::vector<std::string>& completions, int repeats) {
  RFT_ASSIGN_OR_RETURN(const std::unique_ptr<Grader> grader, CreateGrader(spec));
  const auto cpu_seconds = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double start = cpu_seconds();
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const Grade grade =
          grader->Run(GradeInput{*rows[i], completions[i], {}, FinishReason::kStop});
      if (!IsScore(grade))
        return absl::FailedPreconditionError(absl::StrCat("row ", i, ": ", GradeReason(grade)));
    }
  }
  return cpu_seconds() - start;
}

}  // namespace rft::python
