#include "graders/sandbox/code_grader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graders/sandbox/code_text.h"
#include "rft/core/log.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr auto kSlice = std::chrono::milliseconds(50);  // between looks at the shutdown flag

}  // namespace

CodeClock::CodeClock(double deadline_s, const std::atomic<bool>& stopping)
    : deadline_s_(deadline_s), stopping_(stopping) {
  Restart();
}

void CodeClock::Restart(double deadline_s) {
  deadline_ = Clock::now();
  Extend(deadline_s);
}

bool CodeClock::Pump(absl::Span<SandboxProcess* const> processes) const {
  while (!stopping_) {
    const Clock::time_point now = Clock::now();
    if (now >= deadline_) return false;
    if (SandboxProcess::Pump(processes, std::min(deadline_, now + kSlice))) return true;
  }
  return false;
}

CodeGrader::~CodeGrader() { Shutdown(); }

CodeGraderOptions CodeGrader::ReadOptions(ParamReader& params, const GraderSpec& spec) {
  CodeGraderOptions options;
  options.name = spec.name.empty() ? spec.type : spec.name;
  options.deadline_s = spec.deadline_s;
  options.num_workers = static_cast<int>(params.Int("workers", 2, 1, 256));
  options.sandbox.memory_limit_mb = params.Int("memory_limit_mb", 512, 64, 1 << 20);
  options.sandbox.cpu_limit_s = spec.deadline_s + 1;
  options.sandbox.python = params.String("python", "");
  options.sandbox.bwrap = params.String("bwrap", "bwrap");
  options.sandbox.allow_unisolated = params.Bool("allow_unisolated_code", false);
  options.tests = ReadTemplate(params, "tests");
  options.fenced = params.Choice("code", {"fenced", "all"}, "fenced") == "fenced";
  options.fraction = params.Choice("score", {"all", "fraction"}, "all") == "fraction";
  return options;
}

absl::StatusOr<std::string> CodeGrader::TestsFor(const GradeJob& job) const {
  return options_.tests.Render(job.Input());
}

std::string CodeGrader::CodeOf(const GradeJob& job,
                               const std::vector<std::string>& languages) const {
  return options_.fenced ? ExtractCode(job.completion, languages) : job.completion;
}

Grade CodeGrader::Execute(const GradeJob& job, SandboxPool::Bench& bench, CodeClock& clock) const {
  const absl::StatusOr<TestOutcome> outcome = Judge(job, bench, clock);
  if (!outcome.ok()) return GradeError{std::string(outcome.status().message())};
  return outcome->ToScore(options_.fraction);
}

absl::Status CodeGrader::Begin() const {
  if (shut_down_) return absl::CancelledError("shut down");
  if (pool_ != nullptr || !refused_.ok()) return refused_;
  absl::StatusOr<std::shared_ptr<const Sandbox>> sandbox = Sandbox::Create(options_.sandbox);
  if (!sandbox.ok()) {
    refused_ =
        absl::Status(sandbox.status().code(),
                     absl::StrCat("graders[", options_.name, "]: ", sandbox.status().message()));
    return refused_;
  }
  if (!(*sandbox)->isolated()) {
    LogWarning(
        "graders[" + options_.name +
        "]: allow_unisolated_code: what the model writes runs with your rights, files and network");
  }
  pool_ = std::make_shared<SandboxPool>(*sandbox, options_.num_workers, options_.num_warm);
  return absl::OkStatus();
}

absl::Status CodeGrader::Prepare() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return Begin();
}

void CodeGrader::Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const {
  absl::Status status;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    status = Begin();
    if (status.ok()) {
      const uint64_t id = next_id_++;
      pending_[id] = std::move(done);
      pool_->Submit([this, id, job = std::move(job)](SandboxPool::Bench& bench) {
        CodeClock clock(options_.deadline_s, stopping_);
        Grade grade = Execute(*job, bench, clock);
        if (stopping_) grade = GradeError{"shut down"};
        std::function<void(Grade)> answer;
        {
          std::lock_guard<std::mutex> lock(mutex_);
          auto it = pending_.find(id);
          answer = std::move(it->second);
          pending_.erase(it);
        }
        answer(std::move(grade));
      });
      return;
    }
  }
  done(GradeError{std::string(status.message())});
}

void CodeGrader::Shutdown() const {
  std::shared_ptr<SandboxPool> pool;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_down_ = true;
    stopping_ = true;
    pool = pool_;
  }
  if (pool != nullptr) pool->Shutdown();
  std::map<uint64_t, std::function<void(Grade)>> unanswered;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    unanswered.swap(pending_);
  }
  for (auto& [id, done] : unanswered) done(GradeError{"shut down"});
}

}  // namespace rft
