// What every native grader keeps, whatever a model writes: a finite grade, the same one on every thread, in bounded time.
#include <chrono>
#include <cmath>
#include <thread>

#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

struct Example {
  GraderSpec spec;
  std::string good;  // a completion that scores 1
};

const std::map<std::string, std::string>& Columns() {
  static const std::map<std::string, std::string> columns = {
      {"answer", "42"},
      {"list", "[\"red\", \"green\"]"},
      {"record", "{\"a\": 1, \"b\": [true, null]}"},
      {"calls", "[{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}]"}};
  return columns;
}

std::vector<Example> Examples() {
  const std::string german =
      "Das ist ein ganz gew\xC3\xB6hnlicher Satz in deutscher Sprache, den jeder lesen kann.";
  const std::string number = "{\"type\": \"number_match\"}";
  return {
      {Spec("string_check", {{"operation", "ilike"}, {"reference", "{{item.answer}}"}}),
       "it is 42"},
      {Spec("regex_match", {{"pattern", "4\\d"}}), "it is 42"},
      {Spec("number_match", {}), "it is 42"},
      {Spec("text_similarity",
            {{"evaluation_metric", "rouge_l"}, {"reference", "{{item.answer}}"}}),
       "42"},
      {Spec("text_similarity",
            {{"evaluation_metric", "meteor"}, {"reference", "a"}, {"pass_threshold", "0.1"}}, "m"),
       "a"},
      {Spec("set_match", {{"expected", "{{item.list}}"}}), "Green, red"},
      {Spec("json_valid", {}), "{\"a\": [1, 2]}"},
      {Spec("json_fields", {{"expected", "{{item.record}}"}}), "{\"b\": [true, null], \"a\": 1.0}"},
      {Spec("json_schema", {{"schema", "{\"type\": \"object\", \"required\": [\"a\"]}"}}),
       "{\"a\": 1}"},
      {Spec("math_equal", {{"undecided", "0"}}), "\\boxed{\\frac{84}{2}}"},
      {Spec("length", {{"unit", "words"}, {"max", "3"}, {"ramp", "3"}}), "one two three"},
      {Spec("repetition", {{"n", "2"}}), "one two three"},
      {Spec("language", {{"language", "de"}, {"min_share", "0.9"}}), german},
      {Spec("tag_format", {{"tags", "[\"think\", \"answer\"]"}}),
       "<think>hm</think>\n<answer>42</answer>"},
      {Spec("tool_call", {{"expected", "{{item.calls}}"}}),
       "<tool_call>{\"name\": \"add\", \"arguments\": {\"b\": 2, \"a\": 1}}</tool_call>"},
      {Spec("combine", {{"graders", "{\"a\": " + number + ", \"b\": " + number + "}"}}), "42"},
      {Spec("shape", {{"grader", number}, {"scale", "2"}, {"max", "1"}}), "42"},
  };
}

Grade RunOn(const Grader& grader, const std::string& completion) {
  const Row row = RowWith(Columns());
  return grader.Run(GradeInput{row, completion, {}, FinishReason::kStop});
}

std::string Repeated(const std::string& part, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

class NativeGraderContract : public ::testing::TestWithParam<Example> {};

TEST_P(NativeGraderContract, ScoresAGoodCompletionAboveAnEmptyOne) {
  const auto grader = CreateGrader(GetParam().spec);
  ASSERT_TRUE(grader.ok()) << grader.status();
  EXPECT_EQ(ScoreOf(RunOn(**grader, GetParam().good)), 1.0);
}

TEST_P(NativeGraderContract, StaysFiniteAndQuickWhateverTheModelWrites) {
  const auto grader = CreateGrader(GetParam().spec);
  ASSERT_TRUE(grader.ok()) << grader.status();
  constexpr size_t kMebibyte = size_t{1} << 20;
  const std::vector<std::string> completions = {"",
                                                " ",
                                                std::string(3, '\0'),
                                                "\xFF\xFE\xC3",
                                                "\xF0\x9F\x98",
                                                "42",
                                                "nan",
                                                "inf",
                                                "1e999",
                                                std::string(kMebibyte, '('),
                                                std::string(kMebibyte, '['),
                                                std::string(kMebibyte, '{'),
                                                std::string(kMebibyte, '9'),
                                                Repeated("{\"a\":", kMebibyte),
                                                Repeated("\\frac{1}{", kMebibyte),
                                                Repeated("\\boxed{", kMebibyte),
                                                Repeated("<think></think><answer>", kMebibyte),
                                                Repeated("<tool_call>{}", kMebibyte),
                                                Repeated("```json\n", kMebibyte),
                                                Repeated("a b, c. ", kMebibyte),
                                                Repeated("1,111-1.e", kMebibyte),
                                                Repeated("2^", kMebibyte),
                                                Repeated("\\sqrt", kMebibyte)};
  for (const std::string& completion : completions) {
    const auto start = std::chrono::steady_clock::now();
    const Grade grade = RunOn(**grader, completion);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_LT(took.count(), 2.0) << completion.substr(0, 40);
    if (const Score* score = std::get_if<Score>(&grade)) {
      EXPECT_TRUE(std::isfinite(score->value)) << completion.substr(0, 40);
      for (const auto& [name, value] : score->sub_scores) EXPECT_TRUE(std::isfinite(value)) << name;
      EXPECT_LE(score->reason.size(), 1000u);
    }
  }
}

TEST_P(NativeGraderContract, GivesTheSameGradeOnEveryThread) {
  const auto grader = CreateGrader(GetParam().spec);
  ASSERT_TRUE(grader.ok()) << grader.status();
  std::vector<double> scores(4, -1.0);
  std::vector<std::thread> threads;
  for (double& score : scores) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const Grade grade = RunOn(**grader, GetParam().good);
        score = std::get<Score>(grade).value;
        if (score != 1.0) return;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double score : scores) EXPECT_EQ(score, 1.0);
}

INSTANTIATE_TEST_SUITE_P(Examples, NativeGraderContract, ::testing::ValuesIn(Examples()),
                         [](const auto& info) {
                           const std::string name = info.param.spec.name;
                           return info.param.spec.type + (name == "g" ? "" : "_" + name);
                         });

}  // namespace
}  // namespace rft
