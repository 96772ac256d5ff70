#include "rollout/group_runner.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graders/combine.h"

namespace rft {
namespace {

Rollout MakeRollout(const Group& group, int64_t step, int32_t sample, Completion completion,
                    const TextCodec& codec) {
  Rollout rollout;
  rollout.step = step;
  rollout.group = group.id;
  rollout.index = sample;
  rollout.finish_reason = completion.finish_reason;
  rollout.completion_text = DecodeTokens(codec, completion.ids);
  Segment prompt;
  prompt.kind = SegmentKind::kPrompt;
  prompt.ids = group.prompt;
  prompt.routes = std::move(completion.prompt_routes);
  Segment model;
  model.kind = SegmentKind::kModel;
  model.loss_mask.assign(completion.ids.size(), 1);
  model.ids = std::move(completion.ids);
  model.logprobs = std::move(completion.logprobs);
  model.sampling_logprobs = std::move(completion.sampling_logprobs);
  model.versions = std::move(completion.versions);
  model.routes = std::move(completion.routes);
  rollout.segments.push_back(std::move(prompt));
  rollout.segments.push_back(std::move(model));
  return rollout;
}

bool Failed(const Rollout& rollout) {
  return rollout.finish_reason == FinishReason::kError ||
         rollout.finish_reason == FinishReason::kCancelled;
}

// The engine's message if it failed every sample; empty otherwise.
std::string EngineFailure(const Group& group) {
  const bool all_failed = std::all_of(group.rollouts.begin(), group.rollouts.end(), Failed);
  if (!all_failed || group.rollouts.empty()) return "";
  return GradeReason(group.rollouts.front().grades.front().grade);
}

}  // namespace

// Called from the engine's thread: it only hands over.
class GroupRunner::Sink : public CompletionSink {
 public:
  Sink(std::shared_ptr<Events> events, int64_t group) : events_(std::move(events)), group_(group) {}

  void OnTokens(int32_t, const Completion&, size_t) override { events_->Touch(); }
  void OnFinished(int32_t sample, Completion completion) override {
    events_->Push({group_, sample, false, std::move(completion), nullptr});
  }

 private:
  const std::shared_ptr<Events> events_;
  const int64_t group_;
};

GroupRunner::GroupRunner(InferenceEngine& engine, const TextCodec& codec, GradeFunction grade,
                         RunnerLimits limits)
    : engine_(engine),
      codec_(codec),
      grade_(std::move(grade)),
      limits_(limits),
      events_(std::make_shared<Events>()) {}

GroupRunner::~GroupRunner() { CancelAll(); }

absl::Status GroupRunner::Start(GroupTask task) {
  GenerateRequest request;
  request.prompt = task.prompt;
  request.sampling = task.sampling;
  request.grammar = task.grammar;
  request.num_samples = task.num_samples;
  request.routes = task.routes;
  request.rng = task.rng;
  // A completion may end before Submit returns; its event then waits until the group is open.
  absl::StatusOr<RequestHandle> handle =
      engine_.Submit(std::move(request), std::make_shared<Sink>(events_, task.id));
  if (!handle.ok()) {
    return absl::Status(handle.status().code(),
                        absl::StrCat("engine: group ", task.id, " (row ", task.row->index,
                                     " of the dataset): ", handle.status().message()));
  }
  steps_[task.id] = task.step;
  Group group;
  group.id = task.id;
  group.row = std::move(task.row);
  group.prompt = std::move(task.prompt);
  buffer_.Open(std::move(group), task.num_samples, *handle);
  return absl::OkStatus();
}

absl::StatusOr<Group> GroupRunner::WaitFinished() {
  while (true) {
    std::optional<Event> event = events_->Pop(limits_.silence_s);
    if (!event) {
      const std::string what = buffer_.Describe();
      const bool stopped = events_->interrupted();
      CancelAll();
      if (stopped) return absl::CancelledError(absl::StrCat("stopped while waiting for ", what));
      return absl::DeadlineExceededError(absl::StrCat(
          "no token, completion or grade for ", limits_.silence_s, " s while waiting for ", what));
    }
    std::optional<Group> finished = Handle(*std::move(event));
    if (!finished) continue;
    steps_.erase(finished->id);
    if (std::string why = EngineFailure(*finished); !why.empty()) {
      CancelAll();
      return absl::InternalError(
          absl::StrCat("engine: all completions of group ", finished->id, " failed: ", why));
    }
    return *std::move(finished);
  }
}

std::optional<Group> GroupRunner::Handle(Event event) {
  const Group* group = buffer_.Find(event.group);
  if (group == nullptr) return std::nullopt;  // of a group that was cancelled
  if (event.graded) {
    const CombinedReward reward = Combine(event.rollout->grades);
    event.rollout->scored = reward.scored;
    event.rollout->reward = reward.reward;
    return buffer_.Finish(event.group, event.sample, std::move(*event.rollout));
  }
  const std::string error =
      event.completion.error.empty() ? "cancelled by the engine" : event.completion.error;
  auto rollout = std::make_shared<Rollout>(
      MakeRollout(*group, steps_[event.group], event.sample, std::move(event.completion), codec_));
  if (Failed(*rollout)) {
    rollout->grades.push_back({"engine", 0.0, GradeError{error}});
    return buffer_.Finish(event.group, event.sample, std::move(*rollout));
  }
  buffer_.MarkSampled(event.group, event.sample);
  StartGrading(std::move(rollout), group->row);
  return std::nullopt;
}

void GroupRunner::StartGrading(std::shared_ptr<Rollout> rollout, std::shared_ptr<const Row> row) {
  // The graders read their copy of the pointer; the grades are put into the rollout after they all answered.
  const int64_t group = rollout->group;
  const int32_t sample = rollout->index;
  std::shared_ptr<const Rollout> readable = rollout;
  grade_(std::move(row), std::move(readable),
         [events = events_, rollout = std::move(rollout), group,
          sample](std::vector<NamedGrade> grades) {
           rollout->grades = std::move(grades);
           events->Push({group, sample, true, {}, rollout});
         });
}

void GroupRunner::Stop() { events_->Interrupt(); }

void GroupRunner::CancelAll() {
  if (buffer_.num_open() == 0) return;
  for (RequestHandle handle : buffer_.Handles()) engine_.Cancel(handle);
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(limits_.cancel_s);
  // What the engine or the graders still say about these groups is taken in and forgotten. A completion that ended before
  // the cancellation is not graded any more.
  int64_t num_sampling = buffer_.NumSampling();
  while (num_sampling > 0) {
    const double left =
        std::chrono::duration<double>(deadline - std::chrono::steady_clock::now()).count();
    std::optional<Event> event = left > 0 ? events_->Drain(left) : std::nullopt;
    if (!event) break;
    if (!event->graded && buffer_.Find(event->group) != nullptr) --num_sampling;
  }
  buffer_.Clear();
  steps_.clear();
}

}  // namespace rft
