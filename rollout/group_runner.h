// Samples and grades groups; hands each out the moment its last grade is in.
//
//   Start(task) ── Submit ──▶ engine ── OnFinished ──▶ events ──▶ [decode] ── grade ──▶ graders ── done ──▶ events ─┐
//                            (its thread)               │  ▲                          (their threads)              │
//                                              caller's thread: WaitFinished ◀────────────────────────────────────┘
//
// The engine's thread and the graders' threads only push an event; everything else happens in WaitFinished, on the
// caller's thread. A completion is graded as soon as it ends, whatever the rest of its group does.
//
// Thread safety: belongs to one thread, except Stop. Destruction cancels what is open.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/api/inference_engine.h"
#include "rft/api/text_codec.h"
#include "rft/core/types.h"
#include "rollout/event_queue.h"
#include "rollout/group_buffer.h"

namespace rft {

// Grades one completion: `done` is called exactly once, from any thread. GraderPool::GradeAsync in a run.
using GradesDone = std::function<void(std::vector<NamedGrade>)>;
using GradeFunction = std::function<void(std::shared_ptr<const Row>, std::shared_ptr<const Rollout>,
                                         GradesDone done)>;

// One group to sample.
struct GroupTask {
  int64_t step = 0;
  int64_t id = 0;
  std::shared_ptr<const Row> row;
  std::vector<TokenId> prompt;
  int32_t num_samples = 1;
  SamplingParams sampling;
  std::shared_ptr<const TokenGrammar> grammar;  // null: free text
  RouteCapture routes = RouteCapture::kNone;
  RngKey rng;
};

struct RunnerLimits {
  double silence_s = 600.0;  // longest time without a token, a completion or a grade
  double cancel_s = 10.0;    // longest time to wait for cancelled requests
};

class GroupRunner {
 public:
  // `engine` and `codec` must outlive this object.
  GroupRunner(InferenceEngine& engine, const TextCodec& codec, GradeFunction grade,
              RunnerLimits limits = {});
  ~GroupRunner();
  GroupRunner(const GroupRunner&) = delete;
  GroupRunner& operator=(const GroupRunner&) = delete;

  // The engine's errors of Submit, with the group's id and row.
  absl::Status Start(GroupTask task);

  size_t num_open() const { return buffer_.num_open(); }

  // The next group that is sampled and graded. REQUIRES: num_open() > 0.
  // A completion that failed in the engine is in its group as an unscored rollout with a grade "engine" that says why.
  // Errors, after which nothing is open any more: kCancelled after Stop; kDeadlineExceeded after silence_s of silence, with
  // what was being waited for; kInternal when the engine failed all samples of a group.
  absl::StatusOr<Group> WaitFinished();

  // Any thread: ends a WaitFinished in progress, and all later ones.
  void Stop();

  // Cancels what is open and waits (cancel_s at most) for the engine to say so.
  void CancelAll();

 private:
  struct Event {
    int64_t group = 0;
    int32_t sample = 0;
    bool graded = false;
    Completion completion;             // unless graded
    std::shared_ptr<Rollout> rollout;  // if graded
  };
  using Events = EventQueue<Event>;
  class Sink;

  std::optional<Group> Handle(Event event);
  void StartGrading(std::shared_ptr<Rollout> rollout, std::shared_ptr<const Row> row);

  InferenceEngine& engine_;
  const TextCodec& codec_;
  const GradeFunction grade_;
  const RunnerLimits limits_;
  const std::shared_ptr<Events> events_;
  GroupBuffer buffer_;
  std::map<int64_t, int64_t> steps_;  // group -> step
};

}  // namespace rft
