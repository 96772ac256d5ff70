#include "rollout/orchestrator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/clock.h"
#include "rft/core/status_macros.h"
#include "rollout/rollout_advantages.h"

namespace rft {
namespace {

absl::Status Validate(const OrchestratorOptions& options, size_t num_prompts) {
  if (num_prompts == 0) return absl::InvalidArgumentError("the training set has no rows");
  if (options.prompts_per_step < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rollout.prompts_per_step: expected at least 1, got ", options.prompts_per_step));
  }
  if (options.group_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("rollout.group_size: expected at least 1, got ", options.group_size));
  }
  if (options.max_refill_rounds < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rollout.max_refill_rounds: expected at least 0, got ", options.max_refill_rounds));
  }
  const absl::Status filter = ValidateGroupFilter(options.filter);
  if (!filter.ok()) {
    return absl::Status(filter.code(), absl::StrCat("filter.", filter.message()));
  }
  if (options.overlong.max_tokens != 0) {
    const absl::Status overlong = ValidateSoftOverlong(options.overlong);
    if (!overlong.ok()) {
      return absl::Status(overlong.code(), absl::StrCat("rollout.overlong ", overlong.message()));
    }
  }
  return absl::OkStatus();
}

// Journalled groups hold the graders' rewards: the penalty is added here, to both kinds.
void PunishOverlong(const SoftOverlong& overlong, Group* group) {
  if (overlong.max_tokens == 0) return;
  for (Rollout& rollout : group->rollouts) {
    if (rollout.scored)
      rollout.reward += SoftOverlongPenalty(rollout.NumCompletionTokens(), overlong);
  }
}

bool Replays(const Group& recorded, const GroupTask& task) {
  return recorded.row->index == task.row->index && recorded.prompt == task.prompt &&
         recorded.rollouts.size() == static_cast<size_t>(task.num_samples) &&
         recorded.rollouts.front().step == task.step;
}

}  // namespace

// One CollectStep in progress.
struct Orchestrator::Collection {
  StepBatch batch;
  int64_t num_draws = 0;  // in this step, replacements included
  int64_t num_replacements = 0;
  std::map<int64_t, uint32_t> times_drawn;  // row -> in this step
};

absl::StatusOr<std::unique_ptr<Orchestrator>> Orchestrator::Create(
    InferenceEngine& engine, const TextCodec& codec, GradeFunction grade,
    std::vector<Prompt> prompts, const OrchestratorOptions& options) {
  RFT_RETURN_IF_ERROR(Validate(options, prompts.size()));
  return std::unique_ptr<Orchestrator>(
      new Orchestrator(engine, codec, std::move(grade), std::move(prompts), options));
}

Orchestrator::Orchestrator(InferenceEngine& engine, const TextCodec& codec, GradeFunction grade,
                           std::vector<Prompt> prompts, const OrchestratorOptions& options)
    : prompts_(std::move(prompts)),
      options_(options),
      cursor_(options.seed, static_cast<int64_t>(prompts_.size()), options.shuffle),
      runner_(engine, codec, std::move(grade), options.limits) {}

void Orchestrator::AddReplay(Group group) {
  const int64_t id = group.id;
  if (group.row != nullptr && !group.rollouts.empty()) replays_[id] = std::move(group);
}

absl::StatusOr<StepBatch> Orchestrator::CollectStep(int64_t step) {
  const double start = Clock::Default().NowSeconds();
  Collection collection;
  collection.batch.step = step;
  for (int64_t i = 0; i < options_.prompts_per_step; ++i) {
    if (absl::Status status = Draw(collection); !status.ok()) {
      runner_.CancelAll();
      return status;
    }
  }
  while (runner_.num_open() > 0) {
    RFT_ASSIGN_OR_RETURN(Group group, runner_.WaitFinished());
    absl::Status status = on_group_ ? on_group_(group) : absl::OkStatus();
    if (status.ok()) status = Take(std::move(group), collection);
    if (!status.ok()) {
      runner_.CancelAll();
      return status;
    }
  }
  num_draws_ += collection.num_draws;
  replays_.erase(replays_.begin(), replays_.lower_bound(num_draws_));
  StepBatch& batch = collection.batch;
  std::sort(batch.groups.begin(), batch.groups.end(),
            [](const Group& a, const Group& b) { return a.id < b.id; });
  AssignAdvantages(options_.advantage, absl::MakeSpan(batch.groups));
  std::sort(batch.dropped.begin(), batch.dropped.end(),
            [](const DroppedGroup& a, const DroppedGroup& b) { return a.group.id < b.group.id; });
  batch.sample_s = Clock::Default().NowSeconds() - start;
  return std::move(batch);
}

absl::Status Orchestrator::Draw(Collection& collection) {
  const int64_t id = num_draws_ + collection.num_draws++;
  const int64_t row_index = cursor_.RowAt(id);
  const Prompt& prompt = prompts_[static_cast<size_t>(row_index)];
  GroupTask task;
  task.step = collection.batch.step;
  task.id = id;
  task.row = prompt.row;
  task.prompt = prompt.ids;
  task.num_samples = options_.group_size;
  task.sampling = options_.sampling;
  task.grammar = options_.grammar;
  task.routes = options_.routes;
  // A row that comes up again in the same step goes on in its stream where the earlier group ended.
  const uint32_t times_drawn = collection.times_drawn[row_index]++;
  task.rng = {options_.seed, static_cast<uint64_t>(task.step), static_cast<uint64_t>(row_index),
              times_drawn * static_cast<uint32_t>(options_.group_size)};
  const auto replay = replays_.find(id);
  // What stopped the run is sampled anew: the grader may have recovered.
  if (replay == replays_.end() || !Replays(replay->second, task) ||
      FindFailure(replay->second, OnFailure::kStop) != nullptr) {
    return runner_.Start(std::move(task));
  }
  Group group = std::move(replay->second);
  replays_.erase(replay);
  group.row = prompt.row;
  ++collection.batch.num_replayed;
  return Take(std::move(group), collection);
}

void Orchestrator::SetFailurePolicy(const std::vector<GraderPool::Policy>& graders) {
  policy_.clear();
  for (const GraderPool::Policy& grader : graders) {
    if (grader.weight != 0) policy_[grader.name] = grader.policy.on_failure;
  }
}

const NamedGrade* Orchestrator::FindFailure(const Group& group, OnFailure on_failure) const {
  for (const Rollout& rollout : group.rollouts) {
    for (const NamedGrade& named : rollout.grades) {
      const auto policy = policy_.find(named.grader);
      if (policy != policy_.end() && policy->second == on_failure && IsFailure(named.grade))
        return &named;
    }
  }
  return nullptr;
}

absl::Status Orchestrator::Take(Group group, Collection& collection) {
  PunishOverlong(options_.overlong, &group);
  if (const NamedGrade* failure = FindFailure(group, OnFailure::kStop)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "grader ", failure->grader, " (on_failure: stop): ", GradeKind(failure->grade), " on row ",
        group.row->index, " of the dataset: ", GradeReason(failure->grade)));
  }
  const bool failed = FindFailure(group, OnFailure::kDropGroup) != nullptr;
  const GroupVerdict verdict =
      failed ? GroupVerdict::kGraderFailed : JudgeGroup(group, options_.filter);
  if (verdict == GroupVerdict::kKeep) {
    collection.batch.groups.push_back(std::move(group));
    return absl::OkStatus();
  }
  for (Rollout& rollout : group.rollouts) rollout.advantage = 0.0;
  collection.batch.dropped.push_back({std::move(group), verdict});
  const int64_t cap = options_.prompts_per_step * options_.max_refill_rounds;
  if (collection.num_replacements >= cap) return absl::OkStatus();
  ++collection.num_replacements;
  return Draw(collection);
}

}  // namespace rft
