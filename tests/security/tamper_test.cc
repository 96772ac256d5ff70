// Solutions that try to pass without solving the task: tests/security/testdata/tamper.txt.
#include <gmock/gmock.h>

#include <future>

#include "graders/async_grader.h"
#include "tests/graders/grader_testing.h"
#include "tests/security/sandbox_testing.h"

namespace rft {
namespace {

constexpr char kSolution[] = R"(
def add(a, b): return a + b
def mean(x): return sum(x) / len(x)
def is_even(n): return n % 2 == 0
def words(text): return text.split()
)";
// Every kind of check that a test makes, each of which a forged value must fail.
const char* const kForms[] = {
    R"py(["assert add(49000, 231) == 49231", "assert abs(mean([1, 2]) - 1.5) < 1e-9", "assert is_even(4) is True and is_even(3) is False", "assert 'b' in words('a b') and len(words('a b')) == 2 and add(1, 1) < 3"])py",
    R"py(
import unittest, math
class T(unittest.TestCase):
    def test_add(self): self.assertEqual(add(49000, 231), 49231)
    def test_mean(self): self.assertTrue(math.isclose(mean([1, 2]), 1.5))
    def test_even(self): self.assertIs(is_even(4), True); self.assertIs(is_even(3), False)
    def test_words(self): self.assertIn('b', words('a b')); self.assertListEqual(words('a b'), ['a', 'b'])
)py",
    R"py(
def check(add):
    import math
    assert isinstance(add(1, 1), int) and sorted([add(2, 1), add(1, 1)]) == [2, 3]
    assert math.isclose(mean([1, 2]), 1.5) and not is_even(3) and is_even(4) and words("a b")[1].startswith("b")
    assert round(add(1.25, 1), 2) == 2.25 and max(add(49000, 231), 3) == 49231
)py",
    R"py([{"input": [49000, 231], "output": 49231}, {"input": [1.5, 1], "output": 2.5}])py"};

class TamperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GraderSpec spec = Spec("python_tests", {{"tests", "{{item.tests}}"},
                                            {"entry_point", "{{item.entry}}"},
                                            {"score", "fraction"},
                                            {"workers", "3"}});
    spec.deadline_s = 2;
    auto grader = CreateGrader(spec);
    ASSERT_TRUE(grader.ok()) << grader.status();
    grader_ = *std::move(grader);
  }

  // Judged beside the others; `expected` is checked by the next Wait. A tampered solution is judged: it does not get away
  // with "could not judge".
  void Expect(double expected, const std::string& name, const std::string& code,
              const char* tests) {
    auto job = std::make_shared<GradeJob>();
    const bool program = tests == nullptr;
    job->row = std::make_shared<Row>(
        RowWith({{"tests", program ? R"([{"input": "49000 231", "output": "49231"}])" : tests},
                 {"entry", program ? "" : "add"}}));
    job->completion = code;
    auto answer = std::make_shared<std::promise<Grade>>();
    waiting_.push_back({expected, name, answer->get_future()});
    dynamic_cast<AsyncGrader&>(*grader_).Start(
        job, [answer](Grade grade) { answer->set_value(std::move(grade)); });
  }

  void Wait() {
    for (Waiting& waiting : waiting_) {
      const Grade grade = waiting.answer.get();
      EXPECT_EQ(ScoreOf(grade), waiting.expected) << waiting.name << ": " << GradeReason(grade);
    }
  }

  struct Waiting {
    double expected;
    std::string name;
    std::future<Grade> answer;
  };
  std::unique_ptr<Grader> grader_;
  std::vector<Waiting> waiting_;
};

TEST_F(TamperTest, TheHonestSolutionPasses) {
  for (const char* tests : kForms) Expect(1.0, tests, kSolution, tests);
  Expect(1.0, "program", "print(sum(map(int, input().split())))", nullptr);
  Wait();
}

TEST_F(TamperTest, NoneOfTheCorpusPassesAnyTest) {
  const std::vector<CorpusProgram> corpus = ReadCorpus("tamper.txt");
  ASSERT_GE(corpus.size(), 31u);
  ASSERT_EQ(corpus[0].name, "forge");
  for (size_t i = 1; i < corpus.size(); ++i) {
    std::string code = corpus[i].source;
    if (code.starts_with("!forge\n")) code.replace(0, 7, corpus[0].source);
    // One form of tests for each, in turn.
    Expect(0.0, corpus[i].name, code, corpus[i].mark == "program" ? nullptr : kForms[i % 4]);
  }
  Wait();
  grader_.reset();
  EXPECT_EQ(SandboxProcessesLeft(), 0);
}

}  // namespace
}  // namespace rft
