// A saved model is called done when it has been read again and says what the trainer says.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/train/trainer.h"

namespace rft {

// Mean |difference| of log-probabilities that rounding the weights to bf16 explains, in nats. More of it is damage where the
// rounded weights are what was trained; an adapter merged in and weights trained in fp32 may have changed by less than bf16 can
// show, which is a warning.
inline constexpr double kExportTolerance = 0.05;

// Every tensor of the folder must be what `trainer` holds (its adapter merged), rounded to bf16, bit for bit. Then the folder
// is loaded as a model of its own, and `datums` (logged rollouts) are scored by both: returns the mean |difference| over
// their predictions in nats; nullopt without datums, or where there is no memory for a second model. `options`: the trainer's.
// Errors: kDataLoss names the tensor, or the difference; those of LoadModel.
absl::StatusOr<std::optional<double>> CheckExport(Trainer& trainer, const TrainerOptions& options,
                                                  const std::string& dir,
                                                  absl::Span<const Datum> datums);

}  // namespace rft
