// python_tests: runs the Python that the model wrote against the row's tests, in sandboxes (graders/sandbox). Score: the share
// of tests that passed, or 1 if all did. The tests and the expected answers never enter the sandbox of the model's code.
//
//   tests                   template, e.g. {{item.tests}}; the forms are listed in graders/sandbox/code_text.h
//   entry_point             template: the function that cases call and that check(candidate) gets; default none
//   setup                   template: Python run before the tests (imports); default none
//   code                    fenced: the last ```python block (the whole text if there is no fence) | all; default fenced
//   score                   all: 1 if every test passed, else 0 | fraction; default all
//   workers                 completions judged at once, default 2
//   memory_limit_mb         of each sandbox, default 512
//   python                  interpreter in the sandbox, default: the system's
//   bwrap                   bubblewrap's program, default bwrap
//   allow_unisolated_code   true: run without isolation where the kernel refuses it; default false
// deadline_s is the time that the code of a completion has. GradeError: no sandbox; tests that are not Python, or are missing.

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "graders/sandbox/code_grader.h"
#include "graders/sandbox/code_text.h"
#include "graders/sandbox/stdio_cases.h"
#include "graders/sandbox/test_session.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

class PythonTests : public CodeGrader {
 public:
  using CodeGrader::CodeGrader;
  ~PythonTests() override { Shutdown(); }

  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<PythonTests>(ReadOptions(params, spec));
    if (params.Has("entry_point")) grader->entry_point_ = ReadTemplate(params, "entry_point");
    if (params.Has("setup")) grader->setup_ = ReadTemplate(params, "setup");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

 protected:
  absl::StatusOr<TestOutcome> Judge(const GradeJob& job, SandboxPool::Bench& bench,
                                    CodeClock& clock) const override {
    const GradeInput input = job.Input();
    RFT_ASSIGN_OR_RETURN(const std::string tests_text, TestsFor(job));
    RFT_ASSIGN_OR_RETURN(const std::string entry_point, entry_point_.Render(input));
    RFT_ASSIGN_OR_RETURN(const std::string setup, setup_.Render(input));
    RFT_ASSIGN_OR_RETURN(const CodeTests tests, ParseTests(tests_text, entry_point));
    const std::string code = CodeOf(job, {"python", "py", "python3"});
    if (tests.stdio.empty()) return RunTestSession({tests, entry_point, setup, code}, bench, clock);
    const std::string message = boost::json::serialize(boost::json::object{
        {"role", "program"}, {"source", code}, {"done", std::string(kProgramDone)}});
    return RunStdioCases(
        tests.stdio, message.size() > kMaxFrameBytes ? "" : EncodeFrame(message),
        [&](bool more) -> absl::StatusOr<std::unique_ptr<SandboxProcess>> {
          RFT_ASSIGN_OR_RETURN(std::unique_ptr<SandboxProcess> process, bench.TakePython());
          if (more) bench.WarmUp();  // the next case's, while this one runs
          return process;
        },
        clock);
  }

 private:
  Template entry_point_;
  Template setup_;
};

}  // namespace

RFT_REGISTER_GRADER("python_tests", PythonTests);

}  // namespace rft
