#include "graders/sandbox/overhead.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include <boost/json.hpp>

#include "graders/sandbox/sandbox_pool.h"
#include "graders/sandbox/stdio_cases.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

using Clock = SandboxProcess::Clock;
constexpr char kProgram[] = "print(6 * 7)";
constexpr auto kLimit = std::chrono::seconds(30);

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

absl::Status RunToTheEnd(SandboxProcess& process) {
  process.CloseInput();
  process.ReadRaw(1 << 20);
  SandboxProcess* const processes[] = {&process};
  while (!process.ended()) {
    if (process.raw() == std::string("42\n").append(kProgramDone)) return absl::OkStatus();
    if (!SandboxProcess::Pump(processes, Clock::now() + kLimit))
      return absl::DeadlineExceededError("no output");
  }
  if (process.ExitStatus(Clock::now() + kLimit) != 0 || process.raw() != "42\n") {
    return absl::InternalError("the program did not print 42: " + process.raw() +
                               process.printed());
  }
  return absl::OkStatus();
}

absl::StatusOr<double> BareMilliseconds(const std::string& python) {
  const Clock::time_point start = Clock::now();
  RFT_ASSIGN_OR_RETURN(const std::unique_ptr<SandboxProcess> process,
                       SandboxProcess::Start({.argv = {python, "-I", "-S", "-B", "-c", kProgram}}));
  RFT_RETURN_IF_ERROR(RunToTheEnd(*process));
  return MillisecondsSince(start);
}

absl::Status RunIn(SandboxPool::Bench& bench) {
  RFT_ASSIGN_OR_RETURN(const std::unique_ptr<SandboxProcess> process, bench.TakePython());
  process->ReadRaw(1 << 20);
  process->WriteFrame(boost::json::serialize(boost::json::object{
      {"role", "program"}, {"source", kProgram}, {"done", std::string(kProgramDone)}}));
  return RunToTheEnd(*process);
}

// Waits for the job: the time is what a grader would see.
absl::StatusOr<double> PooledMilliseconds(SandboxPool& pool) {
  std::promise<absl::Status> done;
  const Clock::time_point start = Clock::now();
  pool.Submit([&done](SandboxPool::Bench& bench) { done.set_value(RunIn(bench)); });
  RFT_RETURN_IF_ERROR(done.get_future().get());
  return MillisecondsSince(start);
}

}  // namespace

absl::StatusOr<SandboxOverhead> MeasureSandboxOverhead(int num_executions) {
  RFT_ASSIGN_OR_RETURN(const std::shared_ptr<const Sandbox> sandbox, Sandbox::Create({}));
  SandboxPool pool(sandbox, 1, 2);
  std::vector<double> bare, warm, back_to_back;
  for (int i = 0; i < num_executions; ++i) {
    std::this_thread::sleep_for(
        std::chrono::milliseconds(500));  // the pool gets ready, as between a run's completions
    RFT_ASSIGN_OR_RETURN(const double warm_ms, PooledMilliseconds(pool));
    std::this_thread::sleep_for(
        std::chrono::milliseconds(100));  // its replacement starts: not beside the bare one
    RFT_ASSIGN_OR_RETURN(const double bare_ms, BareMilliseconds(sandbox->python()));
    warm.push_back(warm_ms);
    bare.push_back(bare_ms);
  }
  for (int i = 0; i < num_executions; ++i) {
    RFT_ASSIGN_OR_RETURN(const double ms, PooledMilliseconds(pool));
    back_to_back.push_back(ms);
  }
  return SandboxOverhead{Median(bare), Median(warm), Median(back_to_back)};
}

}  // namespace rft
