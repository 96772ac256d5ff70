// Weights and optimizer state as safetensors, by parameter name: "NAME", "adam_m.NAME", "adam_v.NAME", all float32, whatever
// format the moments are kept in (reading it back gives the same bits); the step count is in the metadata. Before the first step
// there are no moments to write.
// An entry may also be in ranges of its flattened numbers, "NAME[begin:end]": what several processes that each hold a shard write,
// each into a file of its own. Whoever reads a state takes either kind, whatever number of shards it has itself.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "rft/models/parameter_store.h"
#include "rft/train/optimizer.h"

namespace rft {

inline constexpr char kTrainerStateFile[] = "trainer.safetensors";

// Of an entry of n numbers, those from n * index / count up to n * (index + 1) / count.
struct StateShard {
  int64_t index = 0, count = 1;
};

// Into kTrainerStateFile, or, with a count above 1, trainer-00001-of-00004.safetensors: the state is there when all of them are.
// A shard takes the place of a whole state in the folder. kInvalidArgument for an index that is not in 0 .. count - 1.
absl::Status SaveTrainerState(const std::string& dir, ParameterStore& parameters,
                              Optimizer& optimizer, StateShard shard = {});
// Everything is checked before anything is written: on an error, nothing has changed. kInvalidArgument names the tensor, kNotFound
// the shard that is missing.
absl::Status LoadTrainerState(const std::string& dir, ParameterStore& parameters,
                              Optimizer& optimizer);

}  // namespace rft
