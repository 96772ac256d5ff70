// checkpoints/step-N/ of a run folder: the trainer's state and the run's, there completely or not at all.
//
//   step-20/manifest.json    hashes of everything (rft/io/manifest.h)
//   step-20/run_state.json   RunState       step-20/<what TrainingClient::SaveState writes>
//
// step-N is the state after N steps. Only a folder whose manifest verifies is trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/api/training_client.h"
#include "rft/run/run_folder.h"

namespace rft {

// Everything a run counts, besides what the trainer keeps.
struct RunState {
  int64_t step = 0;       // steps done
  int64_t num_draws = 0;  // of the row cursor
  int64_t tokens_sampled = 0;
  int64_t tokens_trained = 0;
  double sample_s = 0.0;
  double train_s = 0.0;
  double logprob_diff_max = 0.0;                // of all steps
  int64_t steps_without_signal = 0;             // in a row, up to now
  std::map<std::string, int64_t> drop_reasons;  // of those steps
  int64_t steps_not_finite = 0;                 // in a row, up to now
  LogSizes log_sizes;
};

std::string RunStateToJson(const RunState& state);
absl::StatusOr<RunState> RunStateFromJson(std::string_view text);

// Writes checkpoints/step-<state.step>/, then removes all but the newest `keep`.
// `moving_reference`, if not null, goes into its folder reference/.
absl::Status SaveCheckpoint(const RunFolder& folder, const RunState& state, TrainingClient& trainer,
                            TrainingClient* moving_reference, int64_t keep);
inline constexpr char kReferenceFolder[] = "reference";

struct Checkpoint {
  std::string dir;
  RunState state;
};

// The newest checkpoint that verifies; nullopt if there is none. Damaged ones are skipped with a warning that names the file.
absl::StatusOr<std::optional<Checkpoint>> FindNewestCheckpoint(const RunFolder& folder);

}  // namespace rft
