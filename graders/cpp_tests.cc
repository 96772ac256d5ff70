// cpp_tests: compiles the C++ that the model wrote and runs it on the row's inputs; compiler and program each in a sandbox
// (graders/sandbox). Score: the share of cases that passed, or 1 if all did. Expected output stays outside.
//
//   tests                    template: [{"input": text, "output": text}, ...] or {"inputs": [...], "outputs": [...]}
//   compiler                 default g++; below /usr
//   flags                    JSON list, default ["-std=c++20", "-O1"]
//   compile_deadline_s       default 30; deadline_s is the time of all cases together
//   code                     fenced: the last ```cpp block (the whole text if there is no fence) | all; default fenced
//   score                    all: 1 if every case passed, else 0 | fraction; default all
//   workers, memory_limit_mb (of the program; the compiler has 2 GiB), bwrap, python, allow_unisolated_code: as python_tests
// Code that does not compile has not passed. GradeError: no sandbox, no compiler, no tests.

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "graders/sandbox/code_grader.h"
#include "graders/sandbox/code_text.h"
#include "graders/sandbox/stdio_cases.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr int64_t kCompilerMemoryMb = 2048;

// A folder of this machine that one sandbox writes and the next one reads; gone with the object.
class BoxFolder {
 public:
  BoxFolder() {
    std::error_code error;
    std::string pattern = (std::filesystem::temp_directory_path(error) /
                           absl::StrCat("rft-box-", getpid(), "-XXXXXX"))
                              .string();
    if (mkdtemp(pattern.data()) != nullptr) path_ = pattern;
  }
  ~BoxFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  BoxFolder(const BoxFolder&) = delete;
  BoxFolder& operator=(const BoxFolder&) = delete;
  const std::string& path() const { return path_; }  // "": it could not be made

  // Source in, and the sandbox's user as the owner.
  bool Write(const std::string& code, int owner) const {
    std::ofstream(path_ + "/solution.cc") << code;
    return owner == 0 ||
           chown(path_.c_str(), static_cast<uid_t>(owner), static_cast<gid_t>(owner)) == 0;
  }

 private:
  std::string path_;
};

class CppTests : public CodeGrader {
 public:
  using CodeGrader::CodeGrader;
  ~CppTests() override { Shutdown(); }

  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    CodeGraderOptions options = ReadOptions(params, spec);
    options.num_warm = 0;  // no interpreter is needed
    auto grader = std::make_unique<CppTests>(std::move(options));
    grader->compiler_ = params.String("compiler", "/usr/bin/g++");
    if (grader->compiler_.find('/') == std::string::npos)
      grader->compiler_ = "/usr/bin/" + grader->compiler_;
    if (!grader->compiler_.starts_with("/usr/") || access(grader->compiler_.c_str(), X_OK) != 0) {
      params.AddError("compiler", absl::StrCat("there is no program ", grader->compiler_,
                                               " (apt-get install g++)"));
    }
    if (params.Has("flags")) grader->flags_ = params.Texts("flags", "texts");
    grader->compile_deadline_s_ = params.Double("compile_deadline_s", 30.0, 0.1);
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

 protected:
  absl::StatusOr<TestOutcome> Judge(const GradeJob& job, SandboxPool::Bench& bench,
                                    CodeClock& clock) const override {
    const Sandbox& sandbox = bench.sandbox();
    RFT_ASSIGN_OR_RETURN(const std::string tests_text, TestsFor(job));
    RFT_ASSIGN_OR_RETURN(const CodeTests tests, ParseTests(tests_text, ""));
    if (tests.stdio.empty())
      return absl::InvalidArgumentError("cpp_tests takes cases of input and output");
    const std::string code = CodeOf(job, {"cpp", "c++", "cc", "cxx"});
    const BoxFolder folder;
    if (folder.path().empty() || !folder.Write(code, sandbox.run_as_id())) {
      return absl::ResourceExhaustedError("can't make a temporary folder");
    }
    RFT_ASSIGN_OR_RETURN(const std::string why, Compile(sandbox, folder.path(), clock));
    if (!why.empty()) {
      TestOutcome outcome;
      for (size_t i = 0; i < tests.stdio.size(); ++i) {
        outcome.tests.push_back({absl::StrCat("case ", i + 1), false, why});
      }
      return outcome;
    }
    clock.Restart();
    const std::string program = sandbox.isolated() ? "/box/program" : folder.path() + "/program";
    return RunStdioCases(
        tests.stdio, "",
        [&](bool) -> absl::StatusOr<std::unique_ptr<SandboxProcess>> {
          RFT_ASSIGN_OR_RETURN(SandboxCommand command,
                               sandbox.Program({program}, Processes::kNone, folder.path()));
          return SandboxProcess::Start(command.spawn);
        },
        clock);
  }

 private:
  // "" or why it did not compile.
  absl::StatusOr<std::string> Compile(const Sandbox& sandbox, const std::string& folder,
                                      CodeClock& clock) const {
    const std::string box = sandbox.isolated() ? "/box" : folder;
    std::vector<std::string> argv = {compiler_};
    argv.insert(argv.end(), flags_.begin(), flags_.end());
    argv.insert(argv.end(), {"-fdiagnostics-color=never", "-fmax-errors=3", "-o", box + "/program",
                             box + "/solution.cc"});
    RFT_ASSIGN_OR_RETURN(SandboxCommand command,
                         sandbox.Program(argv, Processes::kFork, folder, /*writable=*/true));
    command.spawn.memory_limit_mb = std::max(command.spawn.memory_limit_mb, kCompilerMemoryMb);
    for (auto& [resource, limit] : command.spawn.limits) {
      if (resource == RLIMIT_CPU) limit = static_cast<uint64_t>(compile_deadline_s_) + 1;
    }
    RFT_ASSIGN_OR_RETURN(const std::unique_ptr<SandboxProcess> process,
                         SandboxProcess::Start(command.spawn));
    process->ReadRaw(1 << 20);
    process->CloseInput();
    clock.Restart(compile_deadline_s_);
    SandboxProcess* const processes[] = {process.get()};
    while (!process->ended()) {
      if (!clock.Pump(processes)) return std::string("does not compile within compile_deadline_s");
    }
    if (process->ExitStatus(clock.deadline()) == 0) return std::string();
    const std::string& printed = process->printed();
    if (printed.starts_with("bwrap: ")) return absl::FailedPreconditionError(printed);
    const size_t error = std::min(printed.find("error: "), printed.size());
    return absl::StrCat("does not compile: ",
                        ReplaceInvalidUtf8(printed.substr(
                            error, std::min<size_t>(300, printed.find('\n', error) - error))));
  }

  std::string compiler_;
  std::vector<std::string> flags_ = {"-std=c++20", "-O1"};
  double compile_deadline_s_ = 30.0;
};

}  // namespace

RFT_REGISTER_GRADER("cpp_tests", CppTests);

}  // namespace rft
