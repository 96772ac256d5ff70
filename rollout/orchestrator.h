// The rollout half of the loop: rows in, groups with advantages out.
//
//   row (JSONL) -> prompt (ids) -> group of rollouts (ids, logprobs, version) -> grades -> rewards -> [zero-variance filter, refill]
//       -> advantages -> datums -> packed micro-batches -> loss -> gradients -> optimizer step -> weight version + 1 -> engine
//
//   row_cursor ─▶ prompt_set ─▶ group_runner (engine, graders) ─▶ zero_variance_filter ─┬─ keep ─▶ advantage ─▶ StepBatch ─▶ datums
//        ▲                                                                               └─ drop, counted
//        └────────────────── refill: one more prompt at once, while the cap allows ◀─────────┘
//
// Draw n of the run is group n. A dropped group is replaced at once, so there are always as many groups open as are still
// missing. Which rows a step draws is nevertheless independent of what finishes first: the step ends after the first N
// draws of which prompts_per_step are kept, whatever the order. Kept groups enter the step by id.
//
// Example: prompts_per_step 2, draws 0..3, groups 0 and 1 have equal rewards: 2 and 3 replace them; had group 1 finished
// after group 2, the step would still be {2, 3}.
//
// Thread safety: belongs to one thread, except Stop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "graders/grader_pool.h"
#include "graders/soft_overlong.h"
#include "rollout/advantage.h"
#include "rollout/group_runner.h"
#include "rollout/prompt_set.h"
#include "rollout/row_cursor.h"
#include "rollout/step_batch.h"
#include "rollout/zero_variance_filter.h"

namespace rft {

struct OrchestratorOptions {
  uint64_t seed = 0;
  bool shuffle = true;
  int64_t prompts_per_step = 8;   // groups per step
  int32_t group_size = 8;         // rollouts per group
  int64_t max_refill_rounds = 3;  // at most this many times prompts_per_step replacements per step
  SamplingParams sampling;
  std::shared_ptr<const TokenGrammar> grammar;  // of every completion; null: free text
  RouteCapture routes = RouteCapture::kNone;
  GroupFilterOptions filter;
  AdvantageOptions advantage;
  SoftOverlong overlong;  // added to rewards before anything else; max_tokens 0: none
  RunnerLimits limits;
};

class Orchestrator {
 public:
  // Called with each group when its last grade is in, before anything is done with it (the journal). Not with groups that
  // came from the journal.
  using OnGroup = std::function<absl::Status(const Group&)>;

  // kInvalidArgument: no prompts, or an option out of range. `engine` and `codec` must outlive this object.
  static absl::StatusOr<std::unique_ptr<Orchestrator>> Create(InferenceEngine& engine,
                                                              const TextCodec& codec,
                                                              GradeFunction grade,
                                                              std::vector<Prompt> prompts,
                                                              const OrchestratorOptions& options);

  // Collects prompts_per_step groups worth learning from; fewer (or none) when the cap on refills is reached.
  // Errors are those of GroupRunner and of OnGroup; the draws of the step are then not counted as made.
  absl::StatusOr<StepBatch> CollectStep(int64_t step);

  // Any thread: ends a CollectStep in progress with kCancelled, and all later ones.
  void Stop() { runner_.Stop(); }

  void set_on_group(OnGroup on_group) { on_group_ = std::move(on_group); }
  // A group that an earlier process sampled and graded: used when the same draw comes up for the same row, prompt, step and
  // number of rollouts; otherwise it is sampled anew.
  void AddReplay(Group group);

  // What a failed grade means beyond its rollout (OnFailure), for graders with weight. A group dropped for it counts as
  // grader_failed; kStop makes CollectStep fail with kFailedPrecondition and the grader's message.
  void SetFailurePolicy(const std::vector<GraderPool::Policy>& graders);

  // Draws made by all finished steps: what a checkpoint keeps.
  int64_t num_draws() const { return num_draws_; }
  void set_num_draws(int64_t num_draws) { num_draws_ = num_draws; }

 private:
  Orchestrator(InferenceEngine& engine, const TextCodec& codec, GradeFunction grade,
               std::vector<Prompt> prompts, const OrchestratorOptions& options);

  struct Collection;
  absl::Status Draw(Collection& collection);
  absl::Status Take(Group group, Collection& collection);
  // The first failed grade of a grader with that policy; nullptr if there is none.
  const NamedGrade* FindFailure(const Group& group, OnFailure on_failure) const;

  const std::vector<Prompt> prompts_;
  const OrchestratorOptions options_;
  RowCursor cursor_;
  GroupRunner runner_;
  OnGroup on_group_;
  std::map<int64_t, Group> replays_;  // by id
  std::map<std::string, OnFailure> policy_;
  int64_t num_draws_ = 0;
};

}  // namespace rft
