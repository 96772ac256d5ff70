// Which weights the pieces of an iteration are computed with: requests of several adapters, and of several versions of the
// base, go through one engine.
#pragma once

#include <memory>
#include <vector>

#include "rft/engine/scheduler.h"
#include "rft/models/lora.h"

namespace rft {

// REQUIRES: every piece's request has its `weights`.
// Requests of one base, and within them of one adapter, side by side; otherwise in the order they had.
void SortByWeights(std::vector<Scheduler::Work>& work);

// Sorted work, cut where the base's version changes: one forward each.
std::vector<std::vector<Scheduler::Work>> SplitByBase(const std::vector<Scheduler::Work>& work);

// The weights for one forward over pieces of one base: its adapters, each for the rows of its requests.
std::shared_ptr<const ModelWeights> MixedWeights(const std::vector<Scheduler::Work>& work);

}  // namespace rft
