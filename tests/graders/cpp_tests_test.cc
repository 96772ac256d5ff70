#include <gmock/gmock.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/graders/grader_testing.h"
#include "tests/security/sandbox_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

class CppTestsTest : public ::testing::Test {
 protected:
  Grade Run(const std::string& body) {
    if (grader_ == nullptr) {
      GraderSpec spec = Spec(
          "cpp_tests",
          {{"tests", R"([{"input": "1 2", "output": "3"}, {"input": "5 5", "output": "10\n"}])"},
           {"score", "fraction"},
           {"workers", "1"},
           {"flags", R"(["-std=c++20", "-O0"])"}});
      spec.deadline_s = 1.5;
      auto grader = CreateGrader(spec);
      EXPECT_TRUE(grader.ok()) << grader.status();
      grader_ = *std::move(grader);
    }
    const Row row = RowWith({});
    const std::string code = absl::StrCat(
        "```cpp\n#include <cstdio>\n#include <cstdlib>\n#include <unistd.h>\nint main() {\n", body,
        "\n}\n```");
    return grader_->Run(GradeInput{row, code, {}, FinishReason::kStop});
  }

  std::unique_ptr<Grader> grader_;
};

TEST_F(CppTestsTest, CompilesAndRunsOnEachInput) {
  const Grade right = Run("int a, b; scanf(\"%d %d\", &a, &b); printf(\"%d\\n\", a + b);");
  EXPECT_EQ(ScoreOf(right), 1.0) << GradeReason(right);
  EXPECT_EQ(ScoreOf(Run("puts(\"3\");")), 0.5);
}

TEST_F(CppTestsTest, WhatDoesNotCompileOrEndHasNotPassed) {
  const Grade broken = Run("return nonsense;");
  EXPECT_EQ(ScoreOf(broken), 0.0);
  EXPECT_THAT(GradeReason(broken), HasSubstr("does not compile: error: "));
  for (const char* body :
       {"while (true) {}", "puts(\"3\"); return 1;", "exit(0);", "if (fork() >= 0) puts(\"3\");"}) {
    EXPECT_LT(ScoreOf(Run(body)), 0.1) << body;
  }
  EXPECT_EQ(ScoreOf(Run("}\n#include \"/etc/passwd\"\nvoid f() {")), 0.0);
  grader_.reset();
  EXPECT_EQ(SandboxProcessesLeft(), 0);
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::temp_directory_path())) {
    EXPECT_EQ(entry.path().filename().string().rfind(absl::StrCat("rft-box-", getpid(), "-"), 0),
              std::string::npos)
        << entry.path();
  }
}

}  // namespace
}  // namespace rft
