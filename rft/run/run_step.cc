// Run::Next: one step of the loop, and what is written about it.
#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/clock.h"
#include "rft/core/json_writer.h"
#include "rft/core/log.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/run/grader_watch.h"
#include "rft/run/rollout_line.h"
#include "rft/run/run.h"
#include "rft/run/run_options.h"
#include "rollout/group_record.h"
#include "rollout/step_metrics.h"

namespace rft {
namespace {

constexpr int64_t kMaxStepsNotFinite = 3;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Whether a kept rollout that is trained on has an advantage: a gradient other than zero.
bool HasSignal(const StepBatch& batch, const DatumOptions& options) {
  for (const Group& group : batch.groups) {
    for (const Rollout& rollout : group.rollouts) {
      const auto& parts = rollout.token_advantages;
      const bool has = rollout.advantage != 0.0 ||
                       std::any_of(parts.begin(), parts.end(), [](float a) { return a != 0.0f; });
      if (has && IsTrainedOn(rollout, options)) return true;
    }
  }
  return false;
}

double Rate(int64_t tokens, double seconds) {
  return seconds > 0.0 ? static_cast<double>(tokens) / seconds : kNaN;
}

}  // namespace

NextStep Run::Next() {
  if (failed_) {
    return absl::FailedPreconditionError(
        absl::StrCat("the run has ", stop_reason_, "; it can only be finished"));
  }
  if (finished_ || IsOver()) return std::nullopt;
  absl::Status status = Begin();
  if (status.ok()) {
    absl::StatusOr<StepReport> report = Step();
    if (report.ok()) return *std::move(report);
    status = report.status();
  }
  failed_ = true;
  stop_reason_ = absl::StrCat("failed in step ", state_.step, ": ", status.message());
  folder_
      ->AppendEvent("failed", absl::StrCat("\"step\": ", state_.step, ", \"error\": ",
                                           JsonQuote(std::string(status.message()))))
      .IgnoreError();
  return status;
}

bool Run::IsOver() {
  if (!stop_reason_.empty()) return true;
  if (state_.step >= num_steps()) {
    stop_reason_ = absl::StrCat("all ", num_steps(), " steps are done");
  } else if (stop_requested_.load()) {
    stop_reason_ =
        absl::StrCat("stopped on request after ", state_.step, " of ", num_steps(), " steps");
  }
  return !stop_reason_.empty();
}

absl::Status Run::Begin() {
  if (graders_->names().empty()) {
    return absl::InvalidArgumentError(
        "there is no grader: add one under graders: or with AddGrader (Python: graders=[...])");
  }
  if (state_.step > 0 || before_ || heldout_.empty()) return absl::OkStatus();
  return Evaluate().status();
}

absl::StatusOr<StepReport> Run::Step() {
  RFT_ASSIGN_OR_RETURN(const StepBatch batch, orchestrator_->CollectStep(state_.step));
  RFT_RETURN_IF_ERROR(journal_->Sync());
  const double start = Clock::Default().NowSeconds();
  UpdateOptions options = UpdateOptionsFor(config_, parts_.loss, state_.step);
  options.custom_loss = custom_loss_;
  updating_ = true;
  RFT_ASSIGN_OR_RETURN(const UpdateResult update,
                       TrainOnBatch(*parts_.trainer, parts_.reference.get(), batch, options));
  if (update.num_updates > 0) {
    RFT_RETURN_IF_ERROR(Publish());
    if (parts_.move_reference) RFT_RETURN_IF_ERROR(parts_.move_reference());
  }
  const double train_s = Clock::Default().NowSeconds() - start;
  KeepSome(batch, options.datums);
  RFT_RETURN_IF_ERROR(WriteRollouts(batch));
  RFT_RETURN_IF_ERROR(RaiseAlarms(batch));
  CountSignal(batch);
  RFT_RETURN_IF_ERROR(CountNotFinite(batch, update));
  StepReport report = MakeReport(batch, update, options.adam.learning_rate, train_s);
  state_.step += 1;
  state_.num_draws = orchestrator_->num_draws();
  state_.tokens_sampled += report.tokens_sampled;
  state_.tokens_trained += update.num_tokens;
  state_.sample_s += report.sample_s;
  state_.train_s += report.train_s;
  if (update.diff.num_tokens > 0)
    state_.logprob_diff_max = std::max(state_.logprob_diff_max, update.diff.max);
  updating_ = false;
  RFT_RETURN_IF_ERROR(EvaluateOnTheWay(&report));
  RFT_RETURN_IF_ERROR(WriteMetrics(report));
  if (config_.checkpoint.every > 0 && state_.step % config_.checkpoint.every == 0)
    RFT_RETURN_IF_ERROR(SaveCheckpointNow());
  return report;
}

absl::Status Run::WriteRollouts(const StepBatch& batch) {
  const DatumOptions datums{.mask_truncated = config_.rollout.mask_truncated};
  const auto write = [&](const Group& group, GroupVerdict verdict) -> absl::Status {
    const std::string prompt = DecodeTokens(*codec_, group.prompt);
    for (const Rollout& rollout : group.rollouts) {
      const bool trained = verdict == GroupVerdict::kKeep && IsTrainedOn(rollout, datums);
      RFT_RETURN_IF_ERROR(
          folder_->AppendRollout(RolloutLine(group, rollout, prompt, verdict, trained)));
    }
    return absl::OkStatus();
  };
  for (const Group& group : batch.groups) RFT_RETURN_IF_ERROR(write(group, GroupVerdict::kKeep));
  for (const DroppedGroup& dropped : batch.dropped)
    RFT_RETURN_IF_ERROR(write(dropped.group, dropped.verdict));
  return absl::OkStatus();
}

absl::Status Run::RaiseAlarms(const StepBatch& batch) {
  for (const GraderAlarm& alarm : FindAlarms(batch, graders_->policies())) {
    LogWarning("step ", state_.step, ": grader ", alarm.grader, " could not judge ",
               alarm.num_failures, " of ", alarm.num_grades, " completions (", alarm.RowsText(),
               "; max_failure_rate ", alarm.max_failure_rate, "); first: ", alarm.reason);
    RFT_RETURN_IF_ERROR(folder_->AppendEvent(
        "grader_alarm",
        absl::StrCat("\"step\": ", state_.step, ", \"grader\": ", JsonQuote(alarm.grader),
                     ", \"failures\": ", alarm.num_failures, ", \"grades\": ", alarm.num_grades,
                     ", \"rows\": [", absl::StrJoin(alarm.rows, ", "),
                     "], \"first\": ", JsonQuote(alarm.reason))));
  }
  return absl::OkStatus();
}

void Run::KeepSome(const StepBatch& batch, const DatumOptions& options) {
  if (batch.groups.empty()) return;
  std::vector<Datum> datums =
      MakeDatums(absl::MakeConstSpan(batch.groups).first(1), options).datums;
  if (!datums.empty()) last_datums_ = std::move(datums);
}

void Run::CountSignal(const StepBatch& batch) {
  if (HasSignal(batch, {.mask_truncated = config_.rollout.mask_truncated})) {
    state_.steps_without_signal = 0;
    state_.drop_reasons.clear();
    return;
  }
  ++state_.steps_without_signal;
  for (const auto& [reason, count] : batch.DropReasons()) state_.drop_reasons[reason] += count;
  if (state_.steps_without_signal < config_.stop.no_signal_steps) return;
  stop_reason_ = absl::StrCat("nothing could be learned in ", state_.steps_without_signal,
                              " steps in a row (groups dropped: ",
                              state_.drop_reasons.empty() ? "none"
                                                          : absl::StrJoin(state_.drop_reasons, ", ",
                                                                          absl::PairFormatter(" ")),
                              ")");
}

absl::Status Run::CountNotFinite(const StepBatch& batch, const UpdateResult& update) {
  if (update.num_skipped == 0) {
    if (update.num_updates > 0) state_.steps_not_finite = 0;
    return absl::OkStatus();
  }
  LogWarning("step ", state_.step, ": NaN or Inf in the gradient",
             update.not_finite.empty() ? "" : absl::StrCat(" (", update.not_finite, ")"),
             "; the update was skipped (see events.jsonl)");
  const std::string groups = absl::StrJoin(
      batch.groups, ", ",
      [](std::string* out, const Group& group) { out->append(GroupToRecord(group)); });
  if (++state_.steps_not_finite >= kMaxStepsNotFinite) {
    stop_reason_ = absl::StrCat("NaN or Inf in the gradient of ", state_.steps_not_finite,
                                " steps in a row", update.not_finite.empty() ? "" : ", lastly of ",
                                update.not_finite, "; their batches are in events.jsonl");
  }
  return folder_->AppendEvent(
      "not_finite",
      absl::StrCat("\"step\": ", state_.step, ", \"updates_skipped\": ", update.num_skipped,
                   ", \"where\": ", JsonQuote(update.not_finite), ", \"groups\": [", groups, "]"));
}

StepReport Run::MakeReport(const StepBatch& batch, const UpdateResult& update, double learning_rate,
                           double train_s) {
  const bool trained = update.num_rollouts > 0, compared = update.diff.num_tokens > 0;
  StepReport report;
  std::map<std::string, double>& m = report.metrics;
  m = StepMetrics(batch);
  m.insert(update.metrics.begin(), update.metrics.end());
  report.index = state_.step;
  report.reward_mean = m["reward_mean"];
  report.reward_std = m["reward_std"];
  report.completion_length_mean = m["completion_length_mean"];
  report.num_groups = static_cast<int64_t>(batch.groups.size());
  report.num_filtered = static_cast<int64_t>(batch.dropped.size());
  report.tokens_sampled = TokensSampled(batch);
  m["kl_max"] = report.kl_max = compared ? update.kl_max : kNaN;
  m["logprob_diff_max"] = report.logprob_diff_max = compared ? update.diff.max : kNaN;
  m["logprob_diff_mean"] = compared ? update.diff.mean : kNaN;
  m["logprob_diff_k3"] = compared ? update.diff.k3 : kNaN;
  m["loss"] = report.loss = trained ? update.loss : kNaN;
  m["grad_norm"] = report.grad_norm = update.num_updates > 0 ? update.grad_norm : kNaN;
  m["learning_rate"] = report.learning_rate = learning_rate;
  report.skipped = update.num_updates == 0 || update.num_skipped > 0;
  m["skipped"] = report.skipped ? 1.0 : 0.0;
  m["num_updates"] = static_cast<double>(update.num_updates);
  m["num_rollouts_trained"] = static_cast<double>(update.num_rollouts);
  m["tokens_trained"] = static_cast<double>(update.num_tokens);
  m["tokens_computed"] = static_cast<double>(update.num_computed_tokens);
  m["sample_s"] = report.sample_s = batch.sample_s;
  m["train_s"] = report.train_s = train_s;
  m["seconds"] = report.seconds = report.sample_s + report.train_s;
  m["tokens_per_s_sampling"] = Rate(report.tokens_sampled, report.sample_s);
  m["tokens_per_s_training"] = Rate(update.num_tokens, report.train_s);
  return report;
}

absl::Status Run::EvaluateOnTheWay(StepReport* report) {
  const bool due = config_.eval.every > 0 && state_.step % config_.eval.every == 0;
  if (!due || heldout_.empty() || stop_requested_.load()) return absl::OkStatus();
  RFT_ASSIGN_OR_RETURN(const EvalReport evaluation, Evaluate());
  for (const auto& [name, value] : evaluation.metrics) report->metrics["heldout/" + name] = value;
  report->metrics["heldout/reward_mean"] = evaluation.reward_mean;  // per row, not per completion
  return absl::OkStatus();
}

absl::Status Run::WriteMetrics(const StepReport& report) {
  JsonWriter w;
  w.BeginObject();
  w.Key("step"), w.Int(report.index);
  for (const auto& [name, value] : report.metrics) w.Key(name), w.Double(value);
  w.EndObject();
  return folder_->AppendMetrics(w.Take());
}

absl::Status Run::SaveCheckpointNow() {
  RFT_RETURN_IF_ERROR(folder_->SyncLogs());
  RFT_ASSIGN_OR_RETURN(state_.log_sizes, folder_->SizesOfLogs());
  RFT_RETURN_IF_ERROR(SaveCheckpoint(*folder_, state_, *parts_.trainer,
                                     parts_.move_reference ? parts_.reference.get() : nullptr,
                                     config_.checkpoint.keep));
  checkpoint_step_ = state_.step;
  RFT_RETURN_IF_ERROR(folder_->AppendEvent("checkpoint", absl::StrCat("\"step\": ", state_.step)));
  return OpenJournal(/*replay=*/false);  // what it holds belongs to the steps before
}

}  // namespace rft
