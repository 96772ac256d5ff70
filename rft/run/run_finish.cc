// Run::Finish: the last checkpoint, the last evaluation, the model and the summary.
#include "absl/strings/str_cat.h"
#include "rft/core/json_writer.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/manifest.h"
#include "rft/run/evaluation.h"
#include "rft/run/model_card.h"
#include "rft/run/run.h"
#include "rft/run/run_options.h"
#include "rft/run/update.h"
#include "rollout/bootstrap.h"

namespace rft {
namespace {

void WriteOrNull(const std::optional<EvalReport>& report, JsonWriter& w) {
  report ? w.Double(report->reward_mean) : w.Null();
}

// [low, high], or null where nothing can be compared.
void WriteInterval(const std::optional<EvalReport>& before, const std::optional<EvalReport>& after,
                   uint64_t seed, JsonWriter& w) {
  if (!before || !after) return w.Null();
  const absl::StatusOr<PairedDifference> difference =
      PairedBootstrap(before->rewards, after->rewards, seed);
  if (!difference.ok()) return w.Null();
  w.BeginArray();
  w.Double(difference->low);
  w.Double(difference->high);
  w.EndArray();
}

double Rate(int64_t tokens, double seconds) {
  return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
}

}  // namespace

absl::Status Run::Finish() {
  if (finished_) return absl::OkStatus();
  finished_ = true;
  if (!IsOver())
    stop_reason_ =
        absl::StrCat("ended by the caller after ", state_.step, " of ", num_steps(), " steps");
  const absl::Status status = SaveResults();
  ShutDownParts();
  return status;
}

absl::Status Run::SaveResults() {
  std::optional<EvalReport> after;
  if (state_.step > 0 && !updating_) {
    if (checkpoint_step_ != state_.step) RFT_RETURN_IF_ERROR(SaveCheckpointNow());
    if (!heldout_.empty() && !failed_ && !stop_requested_.load()) {
      RFT_ASSIGN_OR_RETURN(after, Evaluate());
      RFT_RETURN_IF_ERROR(folder_->WriteAtomically("eval-after.json", EvalReportToJson(*after)));
    }
    if (config_.lora.rank > 0) {
      RFT_ASSIGN_OR_RETURN(auto adapter, FolderCommit::Begin(folder_->Path("adapter"),
                                                             /*replace=*/true, folder_->fs()));
      RFT_RETURN_IF_ERROR(parts_.trainer->SaveAdapter(adapter->dir()));
      RFT_RETURN_IF_ERROR(adapter->Commit());
    }
    RFT_RETURN_IF_ERROR(SaveCheckedModel(after));
  }
  RFT_RETURN_IF_ERROR(folder_->WriteAtomically("summary.json", SummaryJson(after) + "\n"));
  RFT_RETURN_IF_ERROR(folder_->AppendEvent(
      "finished",
      absl::StrCat("\"step\": ", state_.step, ", \"stop_reason\": ", JsonQuote(stop_reason_))));
  return folder_->SyncLogs();
}

// Loaded again and scored on the newest rollouts before the folder gets its name.
absl::Status Run::SaveCheckedModel(const std::optional<EvalReport>& after) {
  RFT_ASSIGN_OR_RETURN(
      auto commit, FolderCommit::Begin(folder_->Path("model"), /*replace=*/true, folder_->fs()));
  RFT_RETURN_IF_ERROR(parts_.trainer->SaveModel(commit->dir()));
  if (parts_.check_export) {
    RFT_ASSIGN_OR_RETURN(export_difference_, parts_.check_export(commit->dir(), last_datums_));
  }
  RFT_RETURN_IF_ERROR(WriteFile(folder_->fs(), JoinPath(commit->dir(), "README.md"),
                                ModelCard(config_, "train", SummaryJson(after), folder_->fs())));
  return commit->Commit();
}

std::string Run::SummaryJson(const std::optional<EvalReport>& after) const {
  JsonWriter w(2);
  w.BeginObject();
  w.Key("name"), w.String(config_.name);
  w.Key("seed"), w.Int(config_.seed);
  w.Key("steps"), w.Int(state_.step);
  w.Key("stop_reason"), w.String(stop_reason_);
  w.Key("before"), WriteOrNull(before_, w);
  w.Key("after"), WriteOrNull(after, w);
  w.Key("diff_ci95"), WriteInterval(before_, after, static_cast<uint64_t>(config_.seed), w);
  w.Key("train_seconds"), w.Double(state_.sample_s + state_.train_s);
  w.Key("tokens_sampled"), w.Int(state_.tokens_sampled);
  w.Key("tokens_trained"), w.Int(state_.tokens_trained);
  w.Key("tokens_per_s_sampling"), w.Double(Rate(state_.tokens_sampled, state_.sample_s));
  w.Key("tokens_per_s_training"), w.Double(Rate(state_.tokens_trained, state_.train_s));
  const bool compared = ComparisonFor(config_) != Comparison::kNone;
  w.Key("logprob_diff_max"), compared ? w.Double(state_.logprob_diff_max) : w.Null();
  w.Key("export_difference");
  export_difference_ ? w.Double(*export_difference_) : w.Null();
  w.EndObject();
  return w.Take();
}

}  // namespace rft
