#include "rft/run/run.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graders/text_generators.h"
#include "rft/io/json.h"
#include "rft/run/evaluation.h"
#include "rft/run/grader_watch.h"
#include "tests/run/fake_run.h"

namespace rft {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using testing::FakeAnswer;
using ::testing::HasSubstr;

class RunTest : public ::testing::Test {
 protected:
  void Start(std::vector<std::string> overrides = {}, const std::string& resume_dir = "") {
    run_.reset();
    auto made = fake_.Create(std::move(overrides), resume_dir);
    ASSERT_TRUE(made.ok()) << made.status();
    run_ = *std::move(made);
  }
  // Steps until the run ends or `max_steps` are done.
  std::vector<StepReport> Train(int max_steps = 100) {
    std::vector<StepReport> reports;
    for (int i = 0; i < max_steps; ++i) {
      NextStep step = run_->Next();
      EXPECT_TRUE(step.ok()) << step.status();
      if (!step) break;
      reports.push_back(*step);
    }
    return reports;
  }
  void Finish() {
    const absl::Status status = run_->Finish();
    EXPECT_TRUE(status.ok()) << status;
  }
  std::string Error(std::vector<std::string> overrides) {
    return std::string(fake_.Create(std::move(overrides)).status().message());
  }
  json::object ReadJson(const std::string& name) {
    absl::StatusOr<json::value> value = ParseJson(fake_.Read(run_->dir() + "/" + name));
    EXPECT_TRUE(value.ok()) << name << ": " << value.status();
    return value.ok() && value->is_object() ? value->get_object() : json::object();
  }
  bool Exists(const std::string& name) {
    return FileSystem::Default().Exists(run_->dir() + "/" + name);
  }

  testing::FakeRun fake_;
  std::unique_ptr<rft::Run> run_;  // ::testing::Test has a private Run of its own
};

TEST_F(RunTest, GoesFromAConfigurationToASummary) {
  Start();
  const std::vector<StepReport> steps = Train();
  Finish();
  ASSERT_EQ(steps.size(), 4u);
  EXPECT_EQ(steps[3].index, 3);
  EXPECT_EQ(run_->stop_reason(), "all 4 steps are done");
  const json::object summary = ReadJson("summary.json");
  for (const char* key :
       {"name", "seed", "steps", "stop_reason", "before", "after", "diff_ci95", "train_seconds",
        "tokens_sampled", "tokens_per_s_sampling", "tokens_per_s_training", "logprob_diff_max"}) {
    EXPECT_TRUE(summary.contains(key)) << key;
  }
  EXPECT_EQ(GetInt(summary, "steps").value(), 4);
  EXPECT_EQ(GetInt(summary, "tokens_sampled").value(), run_->tokens_sampled());
  EXPECT_EQ(GetArray(summary, "diff_ci95").value()->size(), 2u);
  for (const char* name : {"config.json", "eval-before.json", "eval-after.json",
                           "model/manifest.json", "checkpoints/step-4/manifest.json"})
    EXPECT_TRUE(Exists(name)) << name;
}

TEST_F(RunTest, PublishesTheWeightsOfEveryStep) {
  Start();
  EXPECT_EQ(fake_.engine->version(), 0);
  Train(2);
  EXPECT_EQ(fake_.engine->version(), 2);
}

TEST_F(RunTest, WritesOneMetricsLinePerStepAndOneLinePerRollout) {
  Start();
  const std::vector<StepReport> steps = Train();
  int64_t num_rollouts = 0;
  for (const StepReport& step : steps) num_rollouts += 4 * (step.num_groups + step.num_filtered);
  EXPECT_EQ(fake_.ReadLines(run_->dir() + "/metrics.jsonl").size(), 4u);
  const std::vector<std::string> rollouts = fake_.ReadLines(run_->dir() + "/rollouts.jsonl");
  EXPECT_EQ(static_cast<int64_t>(rollouts.size()), num_rollouts);
  const json::object first = ParseJson(rollouts[0])->get_object();
  EXPECT_THAT(GetString(first, "prompt").value(), HasSubstr("q"));
  EXPECT_EQ(GetString(GetArray(first, "grades").value()->at(0).get_object(), "grader").value(),
            "exact");
}

TEST_F(RunTest, TakesTheLearningRateFromTheSchedule) {
  Start();
  const std::vector<StepReport> steps = Train();
  EXPECT_THAT(fake_.trainer->learning_rates, ElementsAre(0.5, 0.375, 0.25, 0.125));
  EXPECT_EQ(steps[1].learning_rate, 0.375);
}

TEST_F(RunTest, MeasuresTheDifferenceBetweenSamplerAndTrainer) {
  Start();
  fake_.trainer->logprob_offset = 0.25f;
  const std::vector<StepReport> steps = Train(1);
  EXPECT_EQ(steps[0].logprob_diff_max, 0.25);
  EXPECT_NEAR(steps[0].kl_max, std::expm1(0.25) - 0.25, 1e-12);
}

TEST_F(RunTest, GivesNoNameToAModelThatIsNotWhatWasTrained) {
  fake_.check_export = [](const std::string& dir, absl::Span<const Datum> datums) {
    EXPECT_TRUE(FileSystem::Default().Exists(dir));
    EXPECT_FALSE(datums.empty());  // the newest rollouts
    return absl::DataLossError("model.norm.weight: differs");
  };
  Start({"trainer.steps=1"});
  Train();
  EXPECT_EQ(run_->Finish(), absl::DataLossError("model.norm.weight: differs"));
  EXPECT_FALSE(Exists("model"));
  EXPECT_FALSE(Exists("summary.json"));
}

TEST_F(RunTest, ResumesToTheMetricsOfAnUninterruptedRun) {
  Start({"checkpoint.every=2", "trainer.steps=6"});
  Train();
  Finish();
  const std::vector<std::string> whole = fake_.StableMetrics(run_->dir());
  const std::string rollouts = fake_.Read(run_->dir() + "/rollouts.jsonl");

  const std::string other = fake_.Path("other");
  const std::vector<std::string> overrides = {"checkpoint.every=2", "trainer.steps=6",
                                              "run_dir=" + other};
  Start(overrides);
  Train(3);  // one more than the checkpoint has
  Start(overrides, other);
  EXPECT_EQ(run_->step_index(), 2);
  Train();
  Finish();
  EXPECT_EQ(fake_.StableMetrics(other), whole);
  EXPECT_EQ(fake_.Read(other + "/rollouts.jsonl"), rollouts);
}

TEST_F(RunTest, ResumeUsesTheJournalInsteadOfSamplingAgain) {
  Start();
  const std::vector<StepReport> before = Train(2);
  const std::string dir = run_->dir();
  Start({}, dir);  // no checkpoint: from the start
  EXPECT_EQ(run_->step_index(), 0);
  const std::vector<StepReport> after = Train(2);
  EXPECT_EQ(after[1].reward_mean, before[1].reward_mean);
  for (const GenerateRequest& request : fake_.engine->requests())
    EXPECT_EQ(request.num_samples, 1);  // the evaluation's
}

TEST_F(RunTest, ResumeDoesNotUseTheJournalOfAnotherConfiguration) {
  Start({"data.heldout="});
  Train(1);
  const std::string dir = run_->dir();
  Start({"data.heldout=", "rollout.temperature=0.5"}, dir);
  Train(1);
  EXPECT_GE(fake_.engine->requests().size(), 3u);
}

TEST_F(RunTest, ResumeReportsAGraderThatHasChangedAndJudgesAnew) {
  fake_.Write("grader.json",
              R"({"type": "string_check", "operation": "eq", "input": "{{sample.output_text}}",
                                 "reference": "{{item.answer}}"})");
  const std::vector<std::string> overrides = {
      "data.heldout=",
      "graders=[{type: openai, name: mine, file: " + fake_.Path("grader.json") + "}]"};
  Start(overrides);
  Train(1);
  const std::string dir = run_->dir();
  Start(overrides, dir);
  EXPECT_THAT(fake_.Read(dir + "/events.jsonl"), ::testing::Not(HasSubstr("graders_changed")));
  fake_.Write("grader.json",
              R"({"type": "string_check", "operation": "ne", "input": "{{sample.output_text}}",
                                 "reference": "{{item.answer}}"})");
  Start(overrides, dir);
  EXPECT_THAT(fake_.Read(dir + "/events.jsonl"),
              HasSubstr("\"graders_changed\", \"graders\": [\"mine\"]"));
  Train(1);
  EXPECT_GE(fake_.engine->requests().size(), 3u);  // not from the journal
}

TEST_F(RunTest, TheModelMayRankItsOwnGroups) {
  fake_.max_context = 4096;
  fake_.script = [](const GenerateRequest& request, int32_t sample) {
    if (request.sampling.max_tokens == 500)
      return FakeAnswer{.text = R"({"reasoning": "why not", "result": [1, 2, 3, 4]})"};
    return FakeAnswer{.text = std::to_string(sample)};
  };
  Start({"data.heldout=",
         "graders=[{type: llm_judge, method: rank, generator: policy, max_tokens: 500}]"});
  const std::vector<StepReport> reports = Train(1);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_DOUBLE_EQ(reports[0].reward_mean, 0.5);  // 1, 2/3, 1/3 and 0 in each group
  run_.reset();
  EXPECT_EQ(FindTextGenerator("policy"), nullptr);
}

TEST_F(RunTest, RaisesAnAlarmWhenAGraderFailsTooOften) {
  Start({"data.heldout=", "graders.0.reference='{{item.answer.x}}'",
         "graders.0.max_failure_rate=0.5"});
  Train(1);
  EXPECT_THAT(fake_.Read(run_->dir() + "/events.jsonl"),
              HasSubstr("\"grader_alarm\", \"step\": 0, \"grader\": \"exact\", \"failures\": 48, "
                        "\"grades\": 48, \"rows\": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], \"first\": "
                        "\"error: row "));
}

TEST(GraderAlarmTest, NamesTenRowsAndCountsTheOthers) {
  GraderAlarm alarm{.rows = {3}};
  EXPECT_EQ(alarm.RowsText(), "row 3");
  alarm.rows = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30};
  EXPECT_EQ(alarm.RowsText(), "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more");
}

TEST_F(RunTest, EndsWhereAGraderThatMayNotFailFails) {
  Start({"data.heldout=", "graders.0.reference='{{item.answer.x}}'", "graders.0.on_failure=stop"});
  EXPECT_THAT(std::string(run_->Next().status().message()),
              HasSubstr("grader exact (on_failure: stop): error"));
}

TEST_F(RunTest, ResumeSkipsADamagedCheckpoint) {
  Start({"checkpoint.every=1"});
  Train(2);
  const std::string dir = run_->dir();
  fake_.Write("run/checkpoints/step-2/num_updates", "9");
  Start({"checkpoint.every=1"}, dir);
  EXPECT_EQ(run_->step_index(), 1);
}

TEST_F(RunTest, KeepsTheNewestCheckpoints) {
  Start({"checkpoint.every=1", "checkpoint.keep=2"});
  Train();
  EXPECT_FALSE(Exists("checkpoints/step-2"));
  EXPECT_TRUE(Exists("checkpoints/step-3"));
  EXPECT_TRUE(Exists("checkpoints/step-4"));
}

TEST_F(RunTest, StopsOnRequestAfterTheStepAndSaves) {
  Start();
  Train(1);
  run_->RequestStop();
  EXPECT_FALSE(run_->Next());
  Finish();
  EXPECT_EQ(run_->stop_reason(), "stopped on request after 1 of 4 steps");
  EXPECT_TRUE(Exists("checkpoints/step-1"));
  EXPECT_TRUE(ReadJson("summary.json").at("after").is_null());
}

TEST_F(RunTest, StopsWhenNothingCanBeLearnedAndSaysWhy) {
  fake_.script = [](const GenerateRequest&, int32_t) { return FakeAnswer{.text = "7"}; };
  Start({"stop.no_signal_steps=2", "rollout.max_refill_rounds=0"});
  const std::vector<StepReport> steps = Train();
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_TRUE(steps[1].skipped);
  EXPECT_EQ(run_->stop_reason(),
            "nothing could be learned in 2 steps in a row (groups dropped: all_right 6)");
}

TEST_F(RunTest, SkipsUpdatesThatAreNotFiniteAndStopsAfterThree) {
  Start();
  fake_.trainer->finite = false;
  const std::vector<StepReport> steps = Train();
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_TRUE(steps[0].skipped);
  EXPECT_TRUE(fake_.trainer->learning_rates.empty());
  EXPECT_THAT(run_->stop_reason(), HasSubstr("NaN or Inf in the gradient of 3 steps in a row"));
  EXPECT_THAT(run_->stop_reason(), ContainsRegex("lastly of row [0-9]+, group [0-9]+, rollout "
                                                 "[0-3]: advantages\\[2\\] is nan"));
  EXPECT_THAT(fake_.Read(run_->dir() + "/events.jsonl"), HasSubstr("\"sampling_logprobs\""));
}

TEST_F(RunTest, MakesSeveralUpdatesWithTheLogprobsFromBeforeTheFirst) {
  Start({"trainer.updates_per_step=3"});
  Train(1);
  ASSERT_EQ(fake_.trainer->calls.size(), 3u);
  for (const std::vector<Datum>& call : fake_.trainer->calls) {
    EXPECT_EQ(call.size(), 4u);  // one group each
    ASSERT_FALSE(call[0].old_logprobs.empty());
    EXPECT_EQ(call[0].old_logprobs.back(), -1.0f);
  }
}

TEST_F(RunTest, LeavesOldLogprobsOutWithOneUpdate) {
  Start();
  Train(1);
  ASSERT_EQ(fake_.trainer->calls.size(), 1u);
  EXPECT_TRUE(fake_.trainer->calls[0][0].old_logprobs.empty());
}

TEST_F(RunTest, AnErrorEndsTheRunWithoutACheckpointOfHalfAStep) {
  Start();
  fake_.trainer->optim_error = absl::ResourceExhaustedError("out of memory");
  EXPECT_EQ(run_->Next().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(run_->Next().status().code(), absl::StatusCode::kFailedPrecondition);
  Finish();
  EXPECT_EQ(run_->stop_reason(), "failed in step 0: out of memory");
  EXPECT_FALSE(Exists("checkpoints/step-0"));
  EXPECT_TRUE(Exists("summary.json"));
}

TEST_F(RunTest, EvaluatesTheSameRowsWithTheSameRandomNumbers) {
  Start();
  const absl::StatusOr<EvalReport> before = run_->Evaluate();
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_EQ(before->rewards.size(), 5u);
  EXPECT_EQ(before->samples[0].prompt, "q0");
  Train();
  const absl::StatusOr<EvalReport> after = run_->Evaluate();
  for (size_t row = 0; row < 5; ++row) EXPECT_GE(after->rewards[row], before->rewards[row]) << row;
}

TEST_F(RunTest, EvaluatesOnTheWayAndReportsItWithTheStep) {
  Start({"eval.every=2"});
  const std::vector<StepReport> steps = Train();
  EXPECT_EQ(steps[0].metrics.count("heldout/reward_mean"), 0u);
  EXPECT_EQ(steps[1].metrics.count("heldout/reward_mean"), 1u);
}

TEST_F(RunTest, TakesALambdaAsAGrader) {
  Start();
  ASSERT_TRUE(
      run_->AddGrader(
              "short", [](const GradeInput& input) { return input.completion.size() < 8; }, 0.5)
          .ok());
  const std::vector<StepReport> steps = Train(1);
  EXPECT_EQ(steps[0].metrics.at("grader/short"), 1.0);
}

TEST_F(RunTest, RefusesToRunWithoutAGrader) {
  fake_.Write("run.yaml",
              "name: x\nmodel: none\ndata: {train: train.jsonl}\nrollout: {max_tokens: 8}\n");
  Start();
  EXPECT_THAT(std::string(run_->Next().status().message()), HasSubstr("there is no grader"));
}

TEST_F(RunTest, NamesFileAndLineOfAPromptThatIsTooLong) {
  const std::string row = R"({"messages": [{"role": "user", "content": "short"}], "answer": "7"})";
  const std::string long_row = R"({"messages": [{"role": "user", "content": ")" +
                               std::string(80, 'x') + R"("}], "answer": "7"})";
  fake_.Write("train.jsonl", row + "\n\n" + long_row + "\n");
  const std::string error = Error({});
  EXPECT_THAT(error, HasSubstr("train.jsonl:3: the prompt has 82 tokens; at most 56 fit"));
  EXPECT_THAT(error, HasSubstr("context of 64 tokens"));
  EXPECT_FALSE(FileSystem::Default().Exists(fake_.Path("run")));
}

TEST_F(RunTest, ReportsTheMistakesOfBothDatasetsAtOnce) {
  fake_.Write("train.jsonl", "{}\n[]\n");
  fake_.Write("heldout.jsonl", "{\"messages\": []}\n");
  const std::string error = Error({});
  for (const char* line : {"train.jsonl:1: ", "train.jsonl:2: ", "heldout.jsonl:1: "})
    EXPECT_THAT(error, HasSubstr(line));
}

TEST_F(RunTest, ChecksFolderAndGradersBeforeTheData) {
  Start();
  fake_.Write("train.jsonl", "{}\n");
  EXPECT_THAT(Error({}), HasSubstr("already holds a run"));
  EXPECT_THAT(Error({"run_dir=" + fake_.Path("other"), "graders.0.operation=nonsense"}),
              HasSubstr("graders[exact].operation"));
}

TEST_F(RunTest, NamesTheColumnsThatBothDatasetsLack) {
  fake_.Write("heldout.jsonl", R"({"messages": [{"role": "user", "content": "q"}]})");
  const std::string error = Error({"graders.0.reference='{{item.anser}}'"});
  EXPECT_THAT(error, HasSubstr("graders[exact].reference: no row of "));
  EXPECT_THAT(error, HasSubstr("train.jsonl has a column \"anser\"; did you mean answer? (columns: "
                               "answer)"));
  EXPECT_THAT(error, HasSubstr("heldout.jsonl has a column \"anser\" (columns: none"));
  EXPECT_FALSE(FileSystem::Default().Exists(fake_.Path("run")));
}

TEST_F(RunTest, RefusesAnEmptyDataset) {
  fake_.Write("train.jsonl", "\n\n");
  EXPECT_THAT(Error({}), HasSubstr("train.jsonl: the dataset has no rows"));
}

TEST_F(RunTest, RefusesGreedySamplingAndAFolderThatHoldsARun) {
  EXPECT_THAT(Error({"rollout.temperature=0"}), HasSubstr("rollout.temperature: must be above 0"));
  Start();
  EXPECT_THAT(Error({}), HasSubstr("already holds a run"));
}

TEST_F(RunTest, EvaluatesMoreRowsThanAreSampledAtOnce) {
  std::string rows;
  for (int i = 0; i < 30; ++i)
    rows += R"({"messages": [{"role": "user", "content": "q"}], "answer": "7"})"
            "\n";
  fake_.Write("heldout.jsonl", rows);
  Start({"eval.samples=500"});
  EXPECT_EQ(run_->Evaluate()->rewards.size(), 30u);
  EXPECT_LE(fake_.engine->max_open(), 4096);
}

TEST_F(RunTest, ReadsBackTheEvaluationItWrote) {
  const EvalReport report{.reward_mean = 0.5, .num_rows = 2, .rewards = {0.5, std::nan("")}};
  const absl::StatusOr<EvalReport> read = EvalReportFromJson(EvalReportToJson(report));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->rewards[0], 0.5);
  EXPECT_TRUE(std::isnan(read->rewards[1]));
}

}  // namespace
}  // namespace rft
