#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "graders/async_grader.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

// One grader for many completions, as a run has it.
class PythonTestsTest : public ::testing::Test {
 protected:
  void Build(Params params, double deadline_s = 10) {
    params.try_emplace("tests", "{{item.tests}}");
    params.try_emplace("workers", "1");
    GraderSpec spec = Spec("python_tests", std::move(params));
    spec.deadline_s = deadline_s;
    auto grader = CreateGrader(spec);
    ASSERT_TRUE(grader.ok()) << grader.status();
    grader_ = *std::move(grader);
    const absl::Status ready = dynamic_cast<AsyncGrader&>(*grader_).Prepare();
    ASSERT_TRUE(ready.ok()) << ready;
  }

  Grade Run(const std::string& code, const std::string& tests) {
    const Row row = RowWith({{"tests", tests}});
    return grader_->Run(GradeInput{row, code, {}, FinishReason::kStop});
  }

  std::unique_ptr<Grader> grader_;
};

constexpr char kAdd[] = "def add(a, b):\n    return a + b\n";

TEST_F(PythonTestsTest, TakesTestsInAllTheFormsOfDatasets) {
  Build({{"entry_point", "add"}});
  for (const char* tests :
       {R"(["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"])",
        R"([{"input": [1, 2], "output": 3}, {"input": [[1], [2]], "output": [1, 2]}])",
        R"({"inputs": [[1, 2], [0.1, 0.2]], "outputs": [3, 0.3]})", "assert add(1, 2) == 3",
        "def check(candidate):\n    assert candidate(1, 2) == 3",
        "from solution import add\ndef test_it():\n    assert add(1, 2) == 3",
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        "
        "self.assertEqual(add(1, 2), 3)"}) {
    const Grade right = Run(kAdd, tests);
    EXPECT_EQ(ScoreOf(right), 1.0) << tests << "\n" << GradeReason(right);
    EXPECT_EQ(ScoreOf(Run("def add(a, b):\n    return a - b if type(a) is int else 7", tests)), 0.0)
        << tests;
  }
}

TEST_F(PythonTestsTest, RunsProgramsOnTheirInputs) {
  Build({{"score", "fraction"}});
  const std::string tests =
      R"([{"input": "1 2\n", "output": "3\n"}, {"input": "5 5\n", "output": "10"}])";
  EXPECT_EQ(ScoreOf(Run("print(sum(map(int, input().split())))", tests)), 1.0);
  EXPECT_EQ(ScoreOf(Run("import sys\nprint(sum(int(x) for x in sys.stdin.buffer.read().split()))",
                        tests)),
            1.0);
  EXPECT_EQ(ScoreOf(Run("if __name__ == '__main__':\n    input()\n    print(3)", tests)), 0.5);
  const Grade raised = Run("print(3); raise ValueError('no')", tests);
  EXPECT_EQ(ScoreOf(raised), 0.0);
  EXPECT_THAT(GradeReason(raised), HasSubstr("case 1: ended with status 1: ValueError: no"));
}

TEST_F(PythonTestsTest, TakesTheLastFencedBlock) {
  Build({{"entry_point", "add"}});
  const std::string text =
      absl::StrCat("First:\n```python\nadd = None\n```\nBetter:\n```python\n", kAdd, "```\nDone.");
  EXPECT_EQ(ScoreOf(Run(text, R"(["assert add(1, 2) == 3"])")), 1.0);
}

TEST_F(PythonTestsTest, PassesPlainValuesExactly) {
  Build({});
  const std::string code = R"(
def same(x): return x
def kinds(): return [1, 1.5, 'x', None, True, (1, 2), {3}, frozenset({4}), b'5', 1+2j, {'k': (1,)}, 1 << 200]
def bad(x): raise ValueError('no')
def apply(f, x): return f(x) + 1
class Custom(KeyError): pass
def custom(): raise Custom('c')
def pair():
    from collections import namedtuple
    return namedtuple('P', 'a b')(1, 2)
def counted():
    yield from range(3)
)";
  const std::string tests = R"py(
def test_kinds():
    assert kinds() == [1, 1.5, 'x', None, True, (1, 2), {3}, frozenset({4}), b'5', 1+2j, {'k': (1,)}, 1 << 200]
    assert [type(x) for x in same((1, 1.0, True))] == [int, float, bool]
    nan = same(float('nan'))
    assert nan != nan and same(float('-inf')) == float('-inf')
    assert same('\ud800\u00e9') == '\ud800\u00e9'
def test_exceptions():
    for call, error in ((lambda: bad(1), ValueError), (custom, KeyError), (custom, Custom), (lambda: same(1, 2), TypeError)):
        try:
            call()
        except error:
            continue
        assert False, error
def test_callbacks():
    assert apply(lambda x: x * 10, 4) == 41
    assert pair() == (1, 2)
    assert list(counted()) == [0, 1, 2]
)py";
  const Grade grade = Run(code, tests);
  EXPECT_EQ(ScoreOf(grade), 1.0) << GradeReason(grade);
}

TEST_F(PythonTestsTest, TestsMayUseClassesOfTheSolution) {
  Build({});
  const std::string code = R"(
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x); return self
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __getitem__(self, i): return self.items[i]
class Vector:
    def __init__(self, x, y): self.x, self.y = x, y
    def __add__(self, o): return Vector(self.x + o.x, self.y + o.y)
    def __mul__(self, k): return Vector(self.x * k, self.y * k)
    def __eq__(self, o): return (self.x, self.y) == (o.x, o.y)
    def __hash__(self): return hash((self.x, self.y))
    def __str__(self): return f'({self.x}, {self.y})'
def counter():
    n = 0
    def step(by):
        nonlocal n
        n += by
        return n
    return step
)";
  const std::string tests = R"py(
s = Stack()
s.push(1).push([2])
assert len(s) == 2 and list(s) == [1, [2]] and s[0] == 1 and 1 in s and 9 not in s
assert s.pop() == [2] and s.pop() == 1 and len(s) == 0
try:
    s.pop()
    assert False
except IndexError:
    pass
assert Vector(1, 2) + Vector(3, 4) == Vector(4, 6) and Vector(1, 2) != Vector(2, 1)
assert (Vector(1, 2) * 3).x == 3 and str(Vector(1, 2)) == '(1, 2)'
c = counter()
assert c(2) == 2 and c(3) == 5
)py";
  const Grade grade = Run(code, tests);
  EXPECT_EQ(ScoreOf(grade), 1.0) << GradeReason(grade);
}

TEST_F(PythonTestsTest, NamesTheTestThatFailed) {
  Build({{"score", "fraction"}});
  const Grade grade =
      Run("def f(x):\n    return 1 if x else 1 / x", R"(["assert f(1) == 1", "assert f(0) == 1"])");
  EXPECT_EQ(ScoreOf(grade), 0.5);
  EXPECT_THAT(GradeReason(grade), HasSubstr("1 of 2 tests passed; test 2: ZeroDivisionError"));
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("tests_passed"), 0.5);
}

TEST_F(PythonTestsTest, CodeThatDoesNotLoadHasNotPassed) {
  Build({});
  for (const char* code :
       {"def f(:", "raise SystemExit(0)", "import os; os._exit(0)", "", "I don't know.", "\0"}) {
    EXPECT_EQ(ScoreOf(Run(code, "assert f(1) == 1")), 0.0) << code;
  }
}

TEST_F(PythonTestsTest, TellsWrongTestsFromWrongCode) {
  Build({{"entry_point", "{{item.entry}}"}});
  const Row row = RowWith({{"tests", "assert ("}, {"entry", ""}});
  const Grade grade = grader_->Run(GradeInput{row, kAdd, {}, FinishReason::kStop});
  EXPECT_STREQ(GradeKind(grade), "error");
  EXPECT_THAT(GradeReason(grade), HasSubstr("the tests are not Python"));
  const Row missing = RowWith({{"entry", ""}});
  EXPECT_STREQ(GradeKind(grader_->Run(GradeInput{missing, kAdd, {}, FinishReason::kStop})),
               "error");
  const Row none = RowWith({{"tests", " "}, {"entry", ""}});
  EXPECT_STREQ(GradeKind(grader_->Run(GradeInput{none, kAdd, {}, FinishReason::kStop})), "error");
}

TEST_F(PythonTestsTest, RefusesWithoutIsolationUnlessAllowed) {
  GraderSpec spec =
      Spec("python_tests", {{"tests", "{{item.tests}}"}, {"bwrap", "/nonexistent/bwrap"}});
  auto grader = CreateGrader(spec);
  ASSERT_TRUE(grader.ok());
  const absl::Status refused = dynamic_cast<AsyncGrader&>(**grader).Prepare();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("allow_unisolated_code: true"));
  const Row row = RowWith({{"tests", "assert add(1, 2) == 3"}});
  EXPECT_STREQ(GradeKind((*grader)->Run(GradeInput{row, kAdd, {}, FinishReason::kStop})), "error");
  Build({{"bwrap", "/nonexistent/bwrap"}, {"allow_unisolated_code", "true"}});
  EXPECT_EQ(ScoreOf(Run(kAdd, "assert add(1, 2) == 3")), 1.0);
}

TEST_F(PythonTestsTest, WorksAsAnotherUserAndAsRootWithinItsNamespaces) {
  // An interpreter in a folder that only its owner may enter can't be used as nobody.
  GraderSpec spec =
      Spec("python_tests", {{"tests", "assert add(1, 2) == 3"}, {"python", RFT_TEST_PYTHON}});
  const Grade grade = GradeText(spec, kAdd);
  EXPECT_EQ(ScoreOf(grade), 1.0) << GradeReason(grade);
}

}  // namespace
}  // namespace rft
