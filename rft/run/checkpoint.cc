#include "rft/run/checkpoint.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "rft/core/json_writer.h"
#include "rft/core/log.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/io/manifest.h"

namespace rft {
namespace {

constexpr std::string_view kPrefix = "step-";
constexpr const char* kStateFile = "run_state.json";

void WriteCounts(const std::map<std::string, int64_t>& counts, JsonWriter& w) {
  w.BeginObject();
  for (const auto& [name, count] : counts) w.Key(name), w.Int(count);
  w.EndObject();
}

absl::StatusOr<std::map<std::string, int64_t>> ReadCounts(const json::object& object,
                                                          std::string_view key) {
  RFT_ASSIGN_OR_RETURN(const json::object* members, GetObject(object, key));
  std::map<std::string, int64_t> counts;
  for (const json::key_value_pair& member : *members) {
    const std::string name(member.key().data(), member.key().size());
    RFT_ASSIGN_OR_RETURN(counts[name], GetInt(*members, name));
  }
  return counts;
}

// Steps of the folders step-N, newest first.
absl::StatusOr<std::vector<int64_t>> CheckpointSteps(const RunFolder& folder) {
  RFT_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                       folder.fs().ListDir(folder.Path("checkpoints")));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    int64_t step = 0;
    if (name.starts_with(kPrefix) && absl::SimpleAtoi(name.substr(kPrefix.size()), &step))
      steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::string CheckpointDir(const RunFolder& folder, int64_t step) {
  return folder.Path(absl::StrCat("checkpoints/", std::string(kPrefix), step));
}

absl::StatusOr<Checkpoint> ReadCheckpoint(const RunFolder& folder, int64_t step) {
  Checkpoint checkpoint{CheckpointDir(folder, step), {}};
  RFT_RETURN_IF_ERROR(VerifyManifest(checkpoint.dir, folder.fs()));
  const std::string path = JoinPath(checkpoint.dir, kStateFile);
  RFT_ASSIGN_OR_RETURN(const std::string text, folder.fs().ReadFile(path));
  absl::StatusOr<RunState> state = RunStateFromJson(text);
  if (!state.ok()) return absl::DataLossError(absl::StrCat(path, ": ", state.status().message()));
  checkpoint.state = *std::move(state);
  return checkpoint;
}

}  // namespace

std::string RunStateToJson(const RunState& state) {
  JsonWriter w(2);
  w.BeginObject();
  w.Key("format"), w.Int(1);
  w.Key("step"), w.Int(state.step);
  w.Key("num_draws"), w.Int(state.num_draws);
  w.Key("tokens_sampled"), w.Int(state.tokens_sampled);
  w.Key("tokens_trained"), w.Int(state.tokens_trained);
  w.Key("sample_s"), w.Double(state.sample_s);
  w.Key("train_s"), w.Double(state.train_s);
  w.Key("logprob_diff_max"), w.Double(state.logprob_diff_max);
  w.Key("steps_without_signal"), w.Int(state.steps_without_signal);
  w.Key("drop_reasons"), WriteCounts(state.drop_reasons, w);
  w.Key("steps_not_finite"), w.Int(state.steps_not_finite);
  w.Key("log_sizes"), WriteCounts(state.log_sizes, w);
  w.EndObject();
  return w.Take() + "\n";
}

absl::StatusOr<RunState> RunStateFromJson(std::string_view text) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(text));
  if (!value.is_object()) return absl::InvalidArgumentError("must be a JSON object");
  const json::object& object = value.get_object();
  RFT_ASSIGN_OR_RETURN(const int64_t format, GetInt(object, "format"));
  if (format != 1)
    return absl::InvalidArgumentError(
        absl::StrCat("format ", format, " is newer than this program"));
  RunState state;
  RFT_ASSIGN_OR_RETURN(state.step, GetInt(object, "step"));
  RFT_ASSIGN_OR_RETURN(state.num_draws, GetInt(object, "num_draws"));
  RFT_ASSIGN_OR_RETURN(state.tokens_sampled, GetInt(object, "tokens_sampled"));
  RFT_ASSIGN_OR_RETURN(state.tokens_trained, GetInt(object, "tokens_trained"));
  RFT_ASSIGN_OR_RETURN(state.sample_s, GetDouble(object, "sample_s"));
  RFT_ASSIGN_OR_RETURN(state.train_s, GetDouble(object, "train_s"));
  RFT_ASSIGN_OR_RETURN(state.logprob_diff_max, GetDouble(object, "logprob_diff_max"));
  RFT_ASSIGN_OR_RETURN(state.steps_without_signal, GetInt(object, "steps_without_signal"));
  RFT_ASSIGN_OR_RETURN(state.drop_reasons, ReadCounts(object, "drop_reasons"));
  RFT_ASSIGN_OR_RETURN(state.steps_not_finite, GetInt(object, "steps_not_finite"));
  RFT_ASSIGN_OR_RETURN(state.log_sizes, ReadCounts(object, "log_sizes"));
  return state;
}

absl::Status SaveCheckpoint(const RunFolder& folder, const RunState& state, TrainingClient& trainer,
                            TrainingClient* moving_reference, int64_t keep) {
  FileSystem& fs = folder.fs();
  RFT_ASSIGN_OR_RETURN(
      auto commit, FolderCommit::Begin(CheckpointDir(folder, state.step), /*replace=*/true, fs));
  RFT_RETURN_IF_ERROR(trainer.SaveState(commit->dir()));
  if (moving_reference != nullptr) {
    const std::string dir = JoinPath(commit->dir(), kReferenceFolder);
    RFT_RETURN_IF_ERROR(fs.CreateDirs(dir));
    RFT_RETURN_IF_ERROR(moving_reference->SaveState(dir));
  }
  RFT_RETURN_IF_ERROR(WriteFile(fs, JoinPath(commit->dir(), kStateFile), RunStateToJson(state)));
  RFT_RETURN_IF_ERROR(commit->Commit());
  RFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CheckpointSteps(folder));
  for (size_t i = static_cast<size_t>(std::max<int64_t>(1, keep)); i < steps.size(); ++i)
    RFT_RETURN_IF_ERROR(fs.RemoveAll(CheckpointDir(folder, steps[i])));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Checkpoint>> FindNewestCheckpoint(const RunFolder& folder) {
  RFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CheckpointSteps(folder));
  for (int64_t step : steps) {
    absl::StatusOr<Checkpoint> checkpoint = ReadCheckpoint(folder, step);
    if (checkpoint.ok()) return std::optional<Checkpoint>(*std::move(checkpoint));
    LogWarning("checkpoint step-", step,
               " is not used: ", std::string(checkpoint.status().message()));
  }
  return std::optional<Checkpoint>();
}

}  // namespace rft
