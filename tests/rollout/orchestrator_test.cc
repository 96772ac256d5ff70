#include "rollout/orchestrator.h"

#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/core/clock.h"
#include "tests/rollout/orchestrator_testing.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using testing::FakeAnswer;
using testing::FakeEngine;
using testing::GroupIds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class OrchestratorTest : public ::testing::Test {
 protected:
  Orchestrator& Build(FakeEngine::Script script, GradeFunction grade = testing::GradeByText(),
                      int num_rows = 20) {
    orchestrator_.reset();
    engine_ = std::make_unique<FakeEngine>(std::move(script));
    auto made = Orchestrator::Create(*engine_, codec_, std::move(grade),
                                     testing::MakePrompts(num_rows), options_);
    EXPECT_TRUE(made.ok()) << made.status();
    orchestrator_ = *std::move(made);
    return *orchestrator_;
  }
  StepBatch Collect(int64_t step = 0) {
    absl::StatusOr<StepBatch> batch = orchestrator_->CollectStep(step);
    EXPECT_TRUE(batch.ok()) << batch.status();
    return batch.ok() ? *std::move(batch) : StepBatch{};
  }

  OrchestratorOptions options_ = testing::SmallOptions();
  testing::FakeCodec codec_;
  std::unique_ptr<FakeEngine> engine_;
  std::unique_ptr<Orchestrator> orchestrator_;
};

FakeAnswer SampleIndex(const GenerateRequest&, int32_t sample) {
  return {.text = std::to_string(sample)};
}

TEST_F(OrchestratorTest, GivesEachStepTheNextRowsWithRewardsAndAdvantages) {
  Build(SampleIndex);
  const StepBatch first = Collect(0), second = Collect(1);
  EXPECT_THAT(GroupIds(first), ElementsAre(0, 1));
  EXPECT_THAT(GroupIds(second), ElementsAre(2, 3));
  EXPECT_EQ(second.groups[0].row->index, 2);
  EXPECT_EQ(first.groups[0].rollouts[1].reward, 1.0);
  EXPECT_EQ(first.groups[0].rollouts[1].advantage, -first.groups[0].rollouts[0].advantage);
  EXPECT_EQ(second.groups[0].rollouts[0].step, 1);
}

TEST_F(OrchestratorTest, ReplacesGroupsOfEqualRewardsAndCountsWhy) {
  Build([](const GenerateRequest& request, int32_t sample) {
    const int64_t row = testing::RowOf(request);
    if (row == 0) return FakeAnswer{.text = "1"};
    if (row == 1) return FakeAnswer{.text = "0"};
    if (row == 2) return FakeAnswer{.text = "0.5"};
    return FakeAnswer{.text = std::to_string(sample)};
  });
  const StepBatch batch = Collect();
  EXPECT_THAT(GroupIds(batch), ElementsAre(3, 4));
  EXPECT_EQ(batch.DropReasons(), (std::map<std::string, int64_t>{
                                     {"all_right", 1}, {"all_wrong", 1}, {"zero_variance", 1}}));
  EXPECT_EQ(orchestrator_->num_draws(), 5);
}

TEST_F(OrchestratorTest, StopsReplacingAtTheCap) {
  Build([](const GenerateRequest&, int32_t) { return FakeAnswer{.text = "1"}; });
  const StepBatch batch = Collect();
  EXPECT_THAT(batch.groups, IsEmpty());
  EXPECT_EQ(batch.dropped.size(), 6u);  // 2 prompts and 2 rounds of 2 replacements
}

TEST_F(OrchestratorTest, MasksARolloutThatCouldNotBeGradedWithoutChangingItsSiblings) {
  options_.group_size = 4;
  const auto text = [](const GenerateRequest&, int32_t sample) {
    return FakeAnswer{.text = std::to_string(0.1 * sample)};
  };
  Build(text, testing::GradeBy([](const Row&, const Rollout& rollout) -> Grade {
          if (rollout.index == 3) return GradeError{"lost connection"};
          return Score{std::stod(rollout.completion_text)};
        }));
  const StepBatch with = Collect();
  options_.group_size = 3;
  Build(text);
  const StepBatch without = Collect();
  EXPECT_FALSE(with.groups[0].rollouts[3].scored);
  EXPECT_EQ(with.groups[0].rollouts[3].advantage, 0.0);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(with.groups[0].rollouts[i].advantage, without.groups[0].rollouts[i].advantage) << i;
}

Grade FailOnRowZeroSampleOne(const Row& row, const Rollout& rollout) {
  if (row.index == 0 && rollout.index == 1) return Killed{"exited with status 3"};
  return Score{static_cast<double>(rollout.index)};
}

TEST_F(OrchestratorTest, DropsTheGroupWhereThePolicyOfTheFailedGraderSaysSo) {
  options_.group_size = 3;
  Build(SampleIndex, testing::GradeBy(FailOnRowZeroSampleOne));
  orchestrator_->SetFailurePolicy({{"rule", 1.0, {.on_failure = OnFailure::kDropGroup}}});
  const StepBatch batch = Collect();
  EXPECT_THAT(GroupIds(batch), ElementsAre(1, 2));
  EXPECT_EQ(batch.DropReasons(), (std::map<std::string, int64_t>{{"grader_failed", 1}}));
  Build(SampleIndex, testing::GradeBy(FailOnRowZeroSampleOne));
  orchestrator_->SetFailurePolicy({{"rule", 0.0, {.on_failure = OnFailure::kDropGroup}}});
  EXPECT_THAT(GroupIds(Collect()), ElementsAre(0, 1));  // without weight it decides nothing
}

TEST_F(OrchestratorTest, EndsTheStepWhereThePolicyOfTheFailedGraderSaysSo) {
  Build(SampleIndex, testing::GradeBy(FailOnRowZeroSampleOne));
  orchestrator_->SetFailurePolicy({{"rule", 1.0, {.on_failure = OnFailure::kStop}}});
  const absl::Status status = orchestrator_->CollectStep(0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr(
          "grader rule (on_failure: stop): killed on row 0 of the dataset: exited with status 3"));
}

TEST_F(OrchestratorTest, DropsAGroupWithTooFewGrades) {
  Build(SampleIndex, testing::GradeBy([](const Row& row, const Rollout& rollout) -> Grade {
          if (row.index == 0 && rollout.index == 0) return Timeout{1.0};
          return Score{static_cast<double>(rollout.index)};
        }));
  const StepBatch batch = Collect();
  EXPECT_THAT(GroupIds(batch), ElementsAre(1, 2));
  EXPECT_EQ(batch.DropReasons(), (std::map<std::string, int64_t>{{"too_few_graded", 1}}));
}

TEST_F(OrchestratorTest, KeepsARolloutThatFailedInTheEngineAsUnscored) {
  options_.group_size = 3;
  Build([](const GenerateRequest&, int32_t sample) {
    if (sample == 1)
      return FakeAnswer{.finish_reason = FinishReason::kError, .error = "out of pages"};
    return FakeAnswer{.text = std::to_string(sample)};
  });
  const StepBatch batch = Collect();
  const Rollout& failed = batch.groups[0].rollouts[1];
  EXPECT_FALSE(failed.scored);
  EXPECT_EQ(failed.grades[0].grader, "engine");
  EXPECT_EQ(GradeReason(failed.grades[0].grade), "out of pages");
}

TEST_F(OrchestratorTest, ReportsAnEngineThatFailsAWholeGroup) {
  Build([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.finish_reason = FinishReason::kError, .error = "device lost"};
  });
  const absl::Status status = orchestrator_->CollectStep(0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("device lost"));
}

TEST_F(OrchestratorTest, GivesTheSameBatchWhateverFinishesFirst) {
  options_.prompts_per_step = 4;
  options_.shuffle = true;
  std::vector<std::vector<int64_t>> kept, rows;
  for (int order = 0; order < 4; ++order) {
    Build([order](const GenerateRequest& request, int32_t sample) {
      const int64_t row = testing::RowOf(request);
      const double delay_s = 0.002 * static_cast<double>((row * 7 + sample * 3) * (order + 1) % 5);
      return FakeAnswer{.text = std::to_string(row % 3 == 0 ? 1 : sample), .delay_s = delay_s};
    });
    const StepBatch batch = Collect();
    kept.push_back(GroupIds(batch));
    rows.emplace_back();
    for (const Group& group : batch.groups) rows.back().push_back(group.row->index);
  }
  for (int order = 1; order < 4; ++order) {
    EXPECT_EQ(kept[order], kept[0]);
    EXPECT_EQ(rows[order], rows[0]);
  }
}

TEST_F(OrchestratorTest, GradesACompletionWhileItsSiblingsAreStillBeingSampled) {
  std::atomic<bool> graded_early{false};
  options_.prompts_per_step = 1;
  Build(
      [](const GenerateRequest&, int32_t sample) {
        return FakeAnswer{.text = std::to_string(sample), .delay_s = sample == 0 ? 0.0 : 0.2};
      },
      testing::GradeBy([&](const Row&, const Rollout& rollout) -> Grade {
        if (rollout.index == 0) graded_early = engine_->num_open() > 0;
        return Score{static_cast<double>(rollout.index)};
      }));
  Collect();
  EXPECT_TRUE(graded_early);
}

TEST_F(OrchestratorTest, DoesNotReuseTheStreamOfARowDrawnTwiceInAStep) {
  Build([](const GenerateRequest&, int32_t) { return FakeAnswer{.text = "1"}; },
        testing::GradeByText(), /*num_rows=*/2);
  Collect();
  std::set<std::pair<uint64_t, uint32_t>> streams;
  for (const GenerateRequest& request : engine_->requests()) {
    for (int32_t sample = 0; sample < request.num_samples; ++sample)
      streams.insert({request.rng.row, request.rng.rollout + static_cast<uint32_t>(sample)});
  }
  EXPECT_EQ(streams.size(), 12u);  // 6 groups of 2
}

TEST_F(OrchestratorTest, StopEndsAStepPromptlyAndCancelsItsRequests) {
  Build([](const GenerateRequest&, int32_t) { return FakeAnswer{.text = "1", .delay_s = 60.0}; });
  engine_->set_cancel_delay_s(0.05);
  std::thread stopper([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    orchestrator_->Stop();
  });
  const double start = Clock::Default().NowSeconds();
  const absl::Status status = orchestrator_->CollectStep(0).status();
  stopper.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_LT(Clock::Default().NowSeconds() - start, 5.0);
  EXPECT_EQ(engine_->num_cancelled(), 4);
  EXPECT_EQ(engine_->num_open(), 0);
  EXPECT_EQ(orchestrator_->num_draws(), 0);
}

TEST_F(OrchestratorTest, SaysWhatItWaitsForWhenNothingMoves) {
  options_.limits = {.silence_s = 0.1, .cancel_s = 0.1};
  Build(SampleIndex, [](std::shared_ptr<const Row>, std::shared_ptr<const Rollout>, GradesDone) {});
  const absl::Status status = orchestrator_->CollectStep(0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("4 being graded, in 2 groups (0, 1)"));
}

TEST_F(OrchestratorTest, SurvivesGradesAndCompletionsThatComeAfterItIsGone) {
  options_.limits = {.silence_s = 0.05, .cancel_s = 0.0};
  std::vector<GradesDone> late;
  Build([](const GenerateRequest&,
           int32_t sample) { return FakeAnswer{.text = "1", .delay_s = sample == 0 ? 0.0 : 0.3}; },
        [&](std::shared_ptr<const Row>, std::shared_ptr<const Rollout>, GradesDone done) {
          late.push_back(done);
        });
  engine_->set_cancel_delay_s(0.2);
  EXPECT_FALSE(orchestrator_->CollectStep(0).ok());
  orchestrator_.reset();
  ASSERT_EQ(late.size(), 2u);
  for (GradesDone& done : late) done({{"late", 1.0, Score{1.0}}});
  engine_->Shutdown();
}

TEST_F(OrchestratorTest, UsesAReplayedGroupInsteadOfSamplingIt) {
  std::vector<Group> journal;
  Build(SampleIndex).set_on_group([&](const Group& group) {
    journal.push_back(group);
    return absl::OkStatus();
  });
  const StepBatch sampled = Collect();
  Build(SampleIndex);
  for (const Group& group : journal) orchestrator_->AddReplay(group);
  const StepBatch replayed = Collect();
  EXPECT_THAT(engine_->requests(), IsEmpty());
  EXPECT_EQ(replayed.num_replayed, 2);
  EXPECT_EQ(GroupIds(replayed), GroupIds(sampled));
  EXPECT_EQ(replayed.groups[1].rollouts[0].advantage, sampled.groups[1].rollouts[0].advantage);
}

TEST_F(OrchestratorTest, DoesNotReplayAGroupOfAnotherStep) {
  std::vector<Group> journal;
  Build(SampleIndex).set_on_group([&](const Group& group) {
    journal.push_back(group);
    return absl::OkStatus();
  });
  Collect(0);
  Build(SampleIndex);
  for (const Group& group : journal) orchestrator_->AddReplay(group);
  EXPECT_EQ(Collect(1).num_replayed, 0);
  EXPECT_EQ(engine_->requests().size(), 2u);
}

TEST_F(OrchestratorTest, CountsNoDrawsForAStepWhoseJournalFailed) {
  Build(SampleIndex).set_on_group([](const Group&) {
    return absl::ResourceExhaustedError("disk full");
  });
  EXPECT_EQ(orchestrator_->CollectStep(0).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(orchestrator_->num_draws(), 0);
  EXPECT_EQ(engine_->num_open(), 0);
}

TEST_F(OrchestratorTest, RefusesAnEmptyTrainingSetAndOptionsOutOfRange) {
  FakeEngine engine(SampleIndex);
  const auto create = [&](int num_rows) {
    return Orchestrator::Create(engine, codec_, testing::GradeByText(),
                                testing::MakePrompts(num_rows), options_)
        .status();
  };
  EXPECT_THAT(std::string(create(0).message()), HasSubstr("no rows"));
  options_.prompts_per_step = 0;
  EXPECT_THAT(std::string(create(3).message()), HasSubstr("rollout.prompts_per_step"));
  options_ = testing::SmallOptions();
  options_.filter.tolerance = -1;
  EXPECT_THAT(std::string(create(3).message()), HasSubstr("filter.tolerance"));
}

}  // namespace
}  // namespace rft
