#include "graders/sandbox/stdio_cases.h"

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"

namespace rft {
namespace {

constexpr size_t kMaxPrinted = size_t{4} << 20;  // beyond what is expected

// "" if it passed.
std::string RunCase(const StdioCase& test, const std::string& prologue, SandboxProcess& process,
                    CodeClock& clock) {
  process.ReadRaw(test.output.size() + kMaxPrinted);
  process.Write(prologue);
  process.Write(test.input);
  process.CloseInput();
  SandboxProcess* const processes[] = {&process};
  while (!process.ended()) {
    if (process.raw().ends_with(kProgramDone)) {
      const std::string_view printed =
          std::string_view(process.raw()).substr(0, process.raw().size() - kProgramDone.size());
      return SameOutput(printed, test.output) ? "" : "printed something else";
    }
    if (!clock.Pump(processes)) return "time limit";
  }
  if (process.overflowed()) return "printed too much";
  const int status = process.ExitStatus(clock.deadline());
  if (status != 0) {
    if (status < 0 && SandboxProcess::Clock::now() >= clock.deadline()) return "time limit";
    const std::string& printed = process.printed();
    const size_t line = printed.find_last_not_of('\n') == std::string::npos
                            ? 0
                            : printed.rfind('\n', printed.find_last_not_of('\n')) + 1;
    return absl::StrCat("ended with status ", status, ": ",
                        ReplaceInvalidUtf8(printed.substr(line, 300)));
  }
  std::string_view printed = process.raw();
  if (printed.ends_with(kProgramDone)) printed.remove_suffix(kProgramDone.size());
  return SameOutput(printed, test.output) ? "" : "printed something else";
}

}  // namespace

absl::StatusOr<TestOutcome> RunStdioCases(const std::vector<StdioCase>& cases,
                                          const std::string& prologue, const StartProgram& start,
                                          CodeClock& clock) {
  TestOutcome outcome;
  bool out_of_time = false;
  for (size_t i = 0; i < cases.size(); ++i) {
    std::string why = "time limit";
    if (!out_of_time) {
      const SandboxProcess::Clock::time_point before = SandboxProcess::Clock::now();
      RFT_ASSIGN_OR_RETURN(const std::unique_ptr<SandboxProcess> process,
                           start(i + 1 < cases.size()));
      const auto starting = SandboxProcess::Clock::now() - before;  // is not the program's time
      clock.Extend(std::chrono::duration<double>(starting).count());
      why = RunCase(cases[i], prologue, *process, clock);
      out_of_time = why == "time limit";
    }
    outcome.tests.push_back({absl::StrCat("case ", i + 1), why.empty(), why});
  }
  return outcome;
}

}  // namespace rft
