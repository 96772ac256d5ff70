// Checkpoints that hold a layer's experts in two tensors instead of 3 E: "X.experts.gate_up_proj" [E, 2 I, H] (gate rows first)
// and "X.experts.down_proj" [E, H, I]. Inside, experts are parameters of their own ("X.experts.N.gate_proj.weight", ...).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/io/safetensors.h"
#include "rft/io/safetensors_writer.h"

namespace rft {

// Whether the checkpoint has stacked experts.
bool HasStackedExperts(const TensorMap& tensors);

// The tensor of that name, or its part of a stacked one. Errors as FindTensor, and kInvalidArgument for a stacked tensor of the
// wrong shape.
absl::StatusOr<TensorView> FindParameterTensor(const TensorMap& tensors, const std::string& name,
                                               const std::vector<int64_t>& shape);

// Replaces the tensors of each layer's experts by its two stacked ones. REQUIRES: a layer's experts are consecutive, in order,
// each as gate, up, down of equal shapes.
std::vector<TensorToWrite> StackExperts(std::vector<TensorToWrite> tensors);

}  // namespace rft
