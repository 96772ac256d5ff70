// Rows of plain numbers for loss tests: packed into a LossInput, run, and the gradient handed back
// row by row.
#pragma once

#include <cstdint>
#include <vector>

#include "losses/loss.h"

namespace rft::testing {

struct LossRow {
  std::vector<double> logp, old_logp, mask, advantage;
  // Empty in every row: left undefined in the input.
  std::vector<double> sampling_logp, ref_logp, entropy, held_logp, sft_weight;
};

// What a step's loss is, after the caller's division.
struct LossResult {
  double loss = 0.0;
  std::vector<std::vector<double>> gradient;  // [row][token], d loss / d logp
  LossOutput output;
};

// Ragged rows of 1..11 tokens with holes in the mask, moderate ratios and mismatch, a reference,
// one advantage per row.
std::vector<LossRow> RandomRows(uint64_t seed, int num_rows);

LossInput PackRows(const std::vector<LossRow>& rows, at::ScalarType dtype);

// Sum and gradient divided by `denominator`; negative = the output's own. 0 = not divided.
LossResult RunLoss(const std::vector<LossRow>& rows, const LossConfig& config,
                   at::ScalarType dtype = at::kDouble, double denominator = -1.0);

// Several calls of a step, given as row indices: sums and denominators are added, then divided
// once. The gradient is in the order of `rows`.
LossResult RunLossInCalls(const std::vector<LossRow>& rows,
                          const std::vector<std::vector<int>>& calls, const LossConfig& config,
                          at::ScalarType dtype = at::kDouble, double denominator = -1.0);

// Largest RelativeDifference over all tokens; infinite when the shapes differ or a number is NaN.
double GradientDifference(const std::vector<std::vector<double>>& actual,
                          const std::vector<std::vector<double>>& expected);

}  // namespace rft::testing
