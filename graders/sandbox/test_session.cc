#include "graders/sandbox/test_session.h"

#include <algorithm>
#include <optional>

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr double kWrapUpS = 0.5;  // for the judge to report after the solution is gone

// What the judge reported. nullopt: nothing final yet. kInvalidArgument: the tests are wrong.
absl::StatusOr<std::optional<TestOutcome>> ReadReport(std::string_view text, size_t& num_tests) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(text));
  const json::object* report = value.if_object();
  if (report == nullptr) return absl::InternalError("the judge's report is not an object");
  if (report->contains("bad_tests")) {
    RFT_ASSIGN_OR_RETURN(const std::string why, GetString(*report, "bad_tests"));
    return absl::InvalidArgumentError(why);
  }
  if (report->contains("tests")) {
    RFT_ASSIGN_OR_RETURN(const int64_t count, GetInt(*report, "tests"));
    num_tests = static_cast<size_t>(count);
    return std::nullopt;
  }
  RFT_ASSIGN_OR_RETURN(const json::array* results, GetArray(*report, "results"));
  TestOutcome outcome;
  for (const json::value& result : *results) {
    const json::array* test = result.if_array();
    if (test == nullptr || test->size() != 3 || !(*test)[0].is_string() || !(*test)[1].is_bool() ||
        !(*test)[2].is_string()) {
      return absl::InternalError("the judge's report has a result of another form");
    }
    outcome.tests.push_back({std::string((*test)[0].get_string()), (*test)[1].get_bool(),
                             std::string((*test)[2].get_string())});
  }
  return outcome;
}

// Nothing came back from the judge: all failed.
TestOutcome NoneOf(size_t num_tests, const std::string& why) {
  TestOutcome outcome;
  for (size_t i = 0; i < std::max<size_t>(num_tests, 1); ++i) {
    outcome.tests.push_back({absl::StrCat("test ", i + 1), false, why});
  }
  return outcome;
}

}  // namespace

absl::StatusOr<TestOutcome> RunTestSession(const TestSession& session, SandboxPool::Bench& bench,
                                           CodeClock& clock) {
  RFT_ASSIGN_OR_RETURN(const std::unique_ptr<SandboxProcess> judge, bench.TakePython());
  RFT_ASSIGN_OR_RETURN(const std::unique_ptr<SandboxProcess> candidate, bench.TakePython());
  clock.Restart();
  judge->WriteFrame(ToJson(json::object{{"role", "judge"},
                                        {"kind", session.tests.kind},
                                        {"tests", session.tests.tests},
                                        {"entry_point", session.entry_point},
                                        {"setup", session.setup}}));
  candidate->WriteFrame(ToJson(json::object{{"role", "candidate"}, {"source", session.code}}));
  SandboxProcess* const processes[] = {judge.get(), candidate.get()};
  size_t num_tests = 0;
  int owed = 1;  // messages that the candidate may send: one per message that it got
  std::string gone;
  const auto end_candidate = [&](const std::string& why) {
    if (!gone.empty()) return;
    gone = why;
    candidate->Kill();
    judge->WriteFrame(ToJson(json::object{{"gone", why}}));
  };
  bool wrapping_up = false;
  while (true) {
    const bool news = clock.Pump(processes);
    while (std::optional<std::string> frame = judge->TakeFrame()) {
      if (frame->starts_with("R")) {
        ++owed;
        candidate->WriteFrame(std::string_view(*frame).substr(1));
        continue;
      }
      RFT_ASSIGN_OR_RETURN(
          const std::optional<TestOutcome> outcome,
          ReadReport(std::string_view(*frame).substr(std::min<size_t>(1, frame->size())),
                     num_tests));
      if (outcome.has_value()) return *outcome;
    }
    while (gone.empty()) {
      const std::optional<std::string> frame = candidate->TakeFrame();
      if (!frame.has_value()) break;
      if (--owed < 0) {
        end_candidate("the solution spoke out of turn");
      } else {
        judge->WriteFrame(*frame);
      }
    }
    if (judge->ended()) return NoneOf(num_tests, "the tests ended early");
    if (candidate->ended()) end_candidate("the solution's process ended");
    if (news) continue;
    if (clock.stopping() || wrapping_up) return NoneOf(num_tests, "time limit");
    wrapping_up = true;
    end_candidate("time limit");
    clock.Extend(kWrapUpS);
  }
}

}  // namespace rft
