// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC11).
//
// A draw is a pure function of its key and counter, so batch composition, worker count and restarts can't change it:
// nothing is ever "consumed". Checked against the paper's known-answer vectors in tests/core/rng_test.cc.
#pragma once

#include <array>
#include <cstdint>

namespace rft {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Names one stream of draws: one rollout of one row in one step of one run.
struct RngKey {
  uint64_t run_seed = 0;
  uint64_t step = 0;
  uint64_t row = 0;
  uint32_t rollout = 0;
};

// Uniform in [0, 1) with 53 random bits. `token` is the position of the draw within the stream.
double UniformAt(const RngKey& key, uint32_t token);

// 64 random bits for purpose `salt`: shuffles, bootstrap resampling, seeds of sub-streams.
uint64_t BitsAt(uint64_t seed, uint64_t salt, uint64_t counter);

}  // namespace rft
