#include "graders/grader_pool.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <future>
#include <limits>
#include <mutex>
#include <thread>

#include "gmock/gmock.h"
#include "graders/function_grader.h"
#include "graders/worker_command.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kTests = RFT_TEST_DATA_DIR;

// Holds up graders until it is opened. Shared: a grader that was let go may still be in Wait when its test ends.
class Gate {
 public:
  void Open() { opened_.set_value(); }
  void Wait() const { open_.wait(); }

 private:
  std::promise<void> opened_;
  std::shared_future<void> open_ = opened_.get_future().share();
};

class GraderPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("PYTHONPATH", (kTests + "/../bindings/python").c_str(), 1);
    SetWorkerCommand({RFT_TEST_PYTHON, "-m", "rft._worker"});
    Build({});
  }
  void TearDown() override { SetWorkerCommand({}); }

  void Build(const std::vector<GraderSpec>& specs) {
    auto pool = GraderPool::Create(specs, {.num_threads = 2});
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

  template <typename Function>
  void Add(const std::string& name, Function function, double deadline_s = 10) {
    GraderSpec spec;
    spec.name = name;
    spec.deadline_s = deadline_s;
    const absl::Status status = pool_->AddGrader(spec, MakeFunctionGrader(std::move(function)));
    ASSERT_TRUE(status.ok()) << status;
  }

  std::future<std::vector<NamedGrade>> Start(const std::string& completion) {
    auto rollout = std::make_shared<Rollout>();
    rollout->completion_text = completion;
    rollout->segments = {{SegmentKind::kPrompt, {1, 2}, {}, {}, {}, {}, {}},
                         {SegmentKind::kModel, {3, 4, 5}, {}, {}, {}, {}, {}}};
    auto promise = std::make_shared<std::promise<std::vector<NamedGrade>>>();
    pool_->GradeAsync(
        std::make_shared<Row>(RowWith({{"answer", "4"}})), rollout,
        [promise](std::vector<NamedGrade> grades) { promise->set_value(std::move(grades)); });
    return promise->get_future();
  }
  std::vector<NamedGrade> Grades(const std::string& completion) { return Start(completion).get(); }

  GraderSpec Python(double deadline_s) {
    GraderSpec spec = Spec("python", {{"function", "data/misbehaving.py:act"}}, "py");
    spec.base_dir = kTests + "/graders";
    spec.deadline_s = deadline_s;
    return spec;
  }

  std::unique_ptr<GraderPool> pool_;
};

TEST_F(GraderPoolTest, ReturnsOneGradePerGraderInOrderWithNameAndWeight) {
  GraderSpec number = Spec("number_match", {}, "number");
  number.weight = 0.5;
  Build({Python(20), number, Spec("regex_match", {{"pattern", "^score"}}, "")});
  const std::vector<NamedGrade> grades = Grades("score 4");
  ASSERT_EQ(grades.size(), 3u);
  EXPECT_THAT(pool_->names(), ElementsAre("py", "number", "regex_match"));
  EXPECT_THAT(pool_->weights(), ElementsAre(1, 0.5, 1));
  EXPECT_EQ(grades[0].grader, "py");
  EXPECT_EQ(ScoreOf(grades[0].grade), 4);
  EXPECT_EQ(ScoreOf(grades[1].grade), 1);
  EXPECT_EQ(grades[1].weight, 0.5);
  EXPECT_EQ(ScoreOf(grades[2].grade), 1);
}

TEST_F(GraderPoolTest, GivesAGraderTheModelsTokensOnly) {
  Add("tokens", [](const GradeInput& in) { return in.token_ids.size() + in.token_ids[0] / 10.0; });
  EXPECT_DOUBLE_EQ(ScoreOf(Grades("x")[0].grade), 3.3);
}

TEST_F(GraderPoolTest, CallsDoneWithNothingWhenThereAreNoGraders) {
  EXPECT_TRUE(Grades("x").empty());
}

TEST_F(GraderPoolTest, AsksAGraderThatFailsAgainAsOftenAsItsSpecSays) {
  auto calls = std::make_shared<std::atomic<int>>(0);
  const auto third_time = [calls](const GradeInput&) -> Grade {
    if (++*calls % 3 != 0) return GradeError{"not yet"};
    return Score{1.0};
  };
  for (const auto& [name, retries] : std::map<std::string, int64_t>{{"a", 2}, {"b", 1}}) {
    GraderSpec spec;
    spec.name = name;
    spec.params["retries"] = std::to_string(retries);
    ASSERT_TRUE(pool_->AddGrader(spec, MakeFunctionGrader(third_time)).ok());
    *calls = 0;
    const Grade grade = Grades("x").back().grade;
    EXPECT_EQ(GradeKind(grade), std::string(retries == 2 ? "score" : "error"));
    Build({});
  }
}

TEST_F(GraderPoolTest, AsksAPythonGraderAgainWhoseWorkerDied) {
  GraderSpec spec = Python(20);
  spec.params["retries"] = "1";
  Build({spec, Spec("regex_match", {{"pattern", "x"}})});
  EXPECT_EQ(GradeKind(Grades("exit")[0].grade), std::string("killed"));  // both times
  EXPECT_EQ(ScoreOf(Grades("score 4")[0].grade), 4);
}

TEST_F(GraderPoolTest, TakesTheWeightOfAnAbstentionWhereTheSpecSaysSkip) {
  const auto abstain = [](const GradeInput&) -> Grade { return Abstain{"not mine"}; };
  for (const char* name : {"mask", "skip"}) {
    GraderSpec spec;
    spec.name = name;
    spec.params["on_abstain"] = spec.name;
    ASSERT_TRUE(pool_->AddGrader(spec, MakeFunctionGrader(abstain)).ok());
  }
  const std::vector<NamedGrade> grades = Grades("x");
  EXPECT_EQ(grades[0].weight, 1.0);
  EXPECT_EQ(grades[1].weight, 0.0);
}

TEST_F(GraderPoolTest, ReportsMistakesOfTheFailurePolicy) {
  const std::string message(GraderPool::Create({Spec("regex_match", {{"pattern", "x"},
                                                                     {"on_failure", "zero"},
                                                                     {"retries", "-1"},
                                                                     {"max_failure_rate", "2"}})})
                                .status()
                                .message());
  EXPECT_THAT(message,
              HasSubstr("graders[g].on_failure: \"zero\" is not one of mask, drop_group, stop"));
  EXPECT_THAT(message, HasSubstr("graders[g].retries: -1 is not between 0 and 100"));
  EXPECT_THAT(message, HasSubstr("graders[g].max_failure_rate: is a share: at most 1"));
  EXPECT_THAT(
      CreationError(Spec("multi", {{"graders", R"({"a": {"type": "number_match", "retries": 2}})"},
                                   {"calculate_output", "a"}})),
      HasSubstr("graders[g].graders.a.retries: belongs to the whole grader"));
}

TEST_F(GraderPoolTest, CallsDoneOffTheCallersThread) {
  Add("one", [](const GradeInput&) { return 1; });
  std::promise<std::thread::id> id;
  pool_->GradeAsync(std::make_shared<Row>(), std::make_shared<Rollout>(),
                    [&](std::vector<NamedGrade>) { id.set_value(std::this_thread::get_id()); });
  EXPECT_NE(id.get_future().get(), std::this_thread::get_id());
}

TEST_F(GraderPoolTest, TurnsExceptionsAndValuesThatAreNotFiniteIntoErrors) {
  Add("throws", [](const GradeInput&) -> double { throw std::runtime_error("no good"); });
  Add("throws_int", [](const GradeInput&) -> double { throw 3; });
  Add("nan", [](const GradeInput&) { return std::numeric_limits<double>::quiet_NaN(); });
  Add("inf", [](const GradeInput&) { return -std::numeric_limits<double>::infinity(); });
  Add("part", [](const GradeInput&) -> Grade { return Score{1, {{"a", NAN}}, ""}; });
  Add("fine", [](const GradeInput&) { return true; });
  const std::vector<NamedGrade> grades = Grades("x");
  for (size_t i = 0; i < 5; ++i)
    EXPECT_STREQ(GradeKind(grades[i].grade), "error") << grades[i].grader;
  EXPECT_EQ(GradeReason(grades[0].grade), "the grader threw: no good");
  EXPECT_EQ(ScoreOf(grades[5].grade), 1);
}

TEST_F(GraderPoolTest, ReportsAHangingGraderAsTimeoutAndCountsItsLateAnswer) {
  auto gate = std::make_shared<Gate>();
  Add(
      "hangs",
      [gate](const GradeInput& in) { return in.completion == "hang" ? (gate->Wait(), 1) : 1; },
      0.05);
  Add("fine", [](const GradeInput&) { return 1; });
  std::vector<std::future<std::vector<NamedGrade>>> hanging;
  for (int i = 0; i < 5; ++i) hanging.push_back(Start("hang"));  // more than there are threads
  for (auto& grades : hanging) {
    const std::vector<NamedGrade> got = grades.get();
    EXPECT_STREQ(GradeKind(got[0].grade), "timeout");
    EXPECT_EQ(ScoreOf(got[1].grade), 1);
  }
  EXPECT_EQ(ScoreOf(Grades("quick")[0].grade), 1);
  EXPECT_EQ(pool_->num_late_answers(), 0);
  gate->Open();
  for (int i = 0; i < 1000 && pool_->num_late_answers() < 5; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(pool_->num_late_answers(), 5);
}

TEST_F(GraderPoolTest, StopsStartingGradersWhenTooManyHang) {
  auto gate = std::make_shared<Gate>();
  Add(
      "hangs", [gate](const GradeInput&) { return (gate->Wait(), 1); }, 0.001);
  std::vector<NamedGrade> grades;
  for (int i = 0; i <= NativePool::kMaxLost; ++i) grades = Grades("x");
  EXPECT_EQ(GradeReason(grades[0].grade), "64 grader calls hang; no more are started");
  gate->Open();
}

TEST_F(GraderPoolTest, GradesManyCompletionsFromSeveralThreadsExactlyOnceEach) {
  Build({Python(20)});
  Add("length", [](const GradeInput& in) { return static_cast<double>(in.completion.size()); });
  std::atomic<int> num_done{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i) {
        auto rollout = std::make_shared<Rollout>();
        rollout->completion_text = "score " + std::to_string(i);
        pool_->GradeAsync(std::make_shared<Row>(), rollout,
                          [&num_done, i](std::vector<NamedGrade> grades) {
                            if (ScoreOf(grades[0].grade) == i) ++num_done;
                          });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 2000 && num_done < 1000; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(num_done, 1000);
}

TEST_F(GraderPoolTest, AnswersEverythingInFlightAtShutdown) {
  Build({Python(20)});
  auto gate = std::make_shared<Gate>();
  Add("hangs",
      [gate](const GradeInput& in) { return in.completion == "hang x" ? (gate->Wait(), 1) : 1; });
  std::vector<std::future<std::vector<NamedGrade>>> waiting;
  for (int i = 0; i < 4; ++i) waiting.push_back(Start("hang /dev/null"));
  for (int i = 0; i < 4; ++i) waiting.push_back(Start("hang x"));
  pool_->Shutdown();
  for (auto& grades : waiting) EXPECT_EQ(GradeReason(grades.get()[0].grade), "shut down");
  EXPECT_EQ(GradeReason(Grades("score 1")[1].grade), "shut down");
  gate->Open();
  pool_.reset();
}

TEST_F(GraderPoolTest, ReportsTheMistakesOfAllGradersTogether) {
  GraderSpec backwards = Spec("number_match", {}, "c");
  backwards.deadline_s = -1;
  auto pool = GraderPool::Create({Spec("regex_match", {}, "a"), Spec("no_such", {}, "b"), backwards,
                                  Spec("number_match", {}, "d"), Spec("number_match", {}, "d")});
  const std::string message(pool.status().message());
  EXPECT_THAT(message, HasSubstr("graders[a].pattern: required\n"));
  EXPECT_THAT(message, HasSubstr("graders[b].type: unknown grader type \"no_such\""));
  EXPECT_THAT(message, HasSubstr("graders[c].deadline_s: -1 is not"));
  EXPECT_THAT(message, HasSubstr("graders[d]: there are two graders of this name"));
}

TEST_F(GraderPoolTest, FailsEarlyWhenAPythonFunctionCanNotBeLoaded) {
  GraderSpec spec = Python(10);
  spec.params["function"] = "data/misbehaving.py:atc";
  auto pool = GraderPool::Create({spec});
  EXPECT_EQ(pool.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(pool.status().message()), HasSubstr("graders[py]: "));
  EXPECT_THAT(std::string(pool.status().message()), HasSubstr("no function named 'atc'"));
}

TEST_F(GraderPoolTest, NamesTheColumnsThatADatasetLacks) {
  GraderSpec reference =
      Spec("string_check",
           {{"operation", "eq"}, {"reference", "{{item.messages}}{{item.anwser.x}}"}}, "a");
  reference.param_locations["reference"] = "run.yaml:9";
  GraderSpec python = Python(10);
  python.params["function"] = "data/misbehaving.py:wants_columns";
  const std::string judge =
      R"({"type": "score_model", "name": "x", "model": "m", "input": [{"role": "user", "content": "{{item.e}}"}]})";
  Build(
      {reference, Spec("number_match", {}, "b"), python,
       Spec("combine",
            {{"graders", R"({"c": {"type": "number_match", "expected": "{{item.d}}"}})"}}, "whole"),
       Spec("openai", {{"grader", judge}}, "judge"),
       Spec("regex_match", {{"pattern", "x"}}, "none")});
  const auto row = std::make_shared<const Row>(RowWith({{"answer", "4"}}));
  const absl::Status status = pool_->CheckColumns("train.jsonl", {row, row});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      std::string(status.message()),
      "run.yaml:9: graders[a].reference: no row of train.jsonl has a column \"anwser\"; did "
      "you mean answer? (columns: answer)\n"
      "graders[whole.c].expected: no row of train.jsonl has a column \"d\" (columns: answer)\n"
      "graders[judge].input: no row of train.jsonl has a column \"e\" (columns: answer)");
  const absl::Status bare =
      pool_->CheckColumns("bare.jsonl", {std::make_shared<const Row>(RowWith({}))});
  EXPECT_THAT(std::string(bare.message()),
              HasSubstr("graders[b].expected: no row of bare.jsonl has a column \"answer\" "
                        "(columns: none but messages)\ngraders[py]: no row of bare.jsonl"));
  EXPECT_TRUE(pool_->CheckColumns("empty.jsonl", {}).ok());
}

TEST_F(GraderPoolTest, CountsTheRowsThatLackAColumnUnlessTheGraderHasNoWeight) {
  const auto has = std::make_shared<const Row>(RowWith({{"answer", "4"}}));
  Row lacking;
  lacking.index = 3;
  const std::vector<std::shared_ptr<const Row>> rows = {has, std::make_shared<const Row>(lacking)};
  GraderSpec spec = Spec("number_match", {}, "n");
  Build({spec});
  EXPECT_EQ(std::string(pool_->CheckColumns("d.jsonl", rows).message()),
            "graders[n].expected: 1 of 2 rows of d.jsonl have no column \"answer\", the first of "
            "them is row 3 (blank lines aside, counted from 0)");
  spec.weight = 0.0;
  Build({spec});
  EXPECT_TRUE(pool_->CheckColumns("d.jsonl", rows).ok());
  EXPECT_FALSE(pool_->CheckColumns("d.jsonl", {rows[1]}).ok());
}

}  // namespace
}  // namespace rft
