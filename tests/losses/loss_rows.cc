#include "tests/losses/loss_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include "tests/testing/loss_golden.h"

namespace rft::testing {
namespace {

template <typename T>
at::Tensor ToTensor(const std::vector<T>& values, at::ScalarType dtype) {
  at::Tensor tensor =
      at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions().dtype(dtype));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<T>());
  return tensor;
}

at::Tensor Pack(const std::vector<LossRow>& rows, std::vector<double> LossRow::*column,
                at::ScalarType dtype) {
  std::vector<double> all;
  for (const LossRow& row : rows) all.insert(all.end(), (row.*column).begin(), (row.*column).end());
  return ToTensor(all, at::kDouble).to(dtype);
}

std::vector<std::vector<double>> SplitByRow(const at::Tensor& x_T, const std::vector<LossRow>& rows,
                                            double divisor) {
  const at::Tensor wide = x_T.to(at::kDouble).contiguous();
  const double* next = wide.const_data_ptr<double>();
  std::vector<std::vector<double>> result;
  for (const LossRow& row : rows) {
    result.emplace_back();
    for (size_t t = 0; t < row.logp.size(); ++t) result.back().push_back(*next++ / divisor);
  }
  return result;
}

}  // namespace

std::vector<LossRow> RandomRows(uint64_t seed, int num_rows) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> length(1, 11);
  std::bernoulli_distribution active(0.7);
  std::vector<LossRow> rows(num_rows);
  for (LossRow& row : rows) {
    const double advantage = normal(engine);
    for (int t = length(engine); t > 0; --t) {
      row.logp.push_back(-std::abs(0.9 + 0.8 * normal(engine)) - 1e-3);
      row.old_logp.push_back(row.logp.back() - 0.35 * normal(engine));
      row.sampling_logp.push_back(row.old_logp.back() - 0.4 * normal(engine));
      row.ref_logp.push_back(row.logp.back() - 0.5 * normal(engine));
      row.mask.push_back(active(engine) ? 1.0 : 0.0);
      row.entropy.push_back(std::abs(1.0 + normal(engine)));
      row.advantage.push_back(advantage);
    }
  }
  return rows;
}

LossInput PackRows(const std::vector<LossRow>& rows, at::ScalarType dtype) {
  std::vector<int64_t> offsets = {0};
  for (const LossRow& row : rows)
    offsets.push_back(offsets.back() + static_cast<int64_t>(row.logp.size()));
  LossInput input;
  input.row_offsets_R1 = ToTensor(offsets, at::kLong);
  input.logprobs_T = Pack(rows, &LossRow::logp, dtype).requires_grad_(true);
  input.old_logprobs_T = Pack(rows, &LossRow::old_logp, dtype);
  input.advantages_T = Pack(rows, &LossRow::advantage, dtype);
  input.mask_T = Pack(rows, &LossRow::mask, dtype);
  const auto optional = [&](std::vector<double> LossRow::*column, at::Tensor* x_T) {
    if (rows.empty() || !(rows[0].*column).empty()) *x_T = Pack(rows, column, dtype);
  };
  optional(&LossRow::sampling_logp, &input.sampling_logprobs_T);
  optional(&LossRow::ref_logp, &input.ref_logprobs_T);
  optional(&LossRow::entropy, &input.entropy_T);
  optional(&LossRow::held_logp, &input.held_logprobs_T);
  optional(&LossRow::sft_weight, &input.sft_weights_T);
  return input;
}

LossResult RunLoss(const std::vector<LossRow>& rows, const LossConfig& config, at::ScalarType dtype,
                   double denominator) {
  const LossInput input = PackRows(rows, dtype);
  LossResult result;
  result.output = FindLoss(config.name).forward(input, config);
  result.output.sum.backward();
  const at::Tensor& gradient = input.logprobs_T.grad();
  if (denominator < 0.0) denominator = result.output.denominator;
  const double divisor = denominator == 0.0 ? 1.0 : denominator;
  result.loss = result.output.sum.item<double>() / divisor;
  result.gradient =
      SplitByRow(gradient.defined() ? gradient : at::zeros_like(input.logprobs_T), rows, divisor);
  return result;
}

LossResult RunLossInCalls(const std::vector<LossRow>& rows,
                          const std::vector<std::vector<int>>& calls, const LossConfig& config,
                          at::ScalarType dtype, double denominator) {
  LossResult total;
  total.gradient.resize(rows.size());
  double own_denominator = 0.0;
  for (const std::vector<int>& call : calls) {
    std::vector<LossRow> chosen;
    for (int i : call) chosen.push_back(rows[i]);
    const LossResult part = RunLoss(chosen, config, dtype, /*denominator=*/0.0);
    total.loss += part.loss;
    own_denominator += part.output.denominator;
    total.output.num_tokens += part.output.num_tokens;
    total.output.num_rows += part.output.num_rows;
    for (const auto& [name, sum] : part.output.metric_sums) total.output.metric_sums[name] += sum;
    for (size_t i = 0; i < call.size(); ++i) total.gradient[call[i]] = part.gradient[i];
  }
  total.output.denominator = own_denominator;
  if (denominator < 0.0) denominator = own_denominator;
  if (denominator == 0.0) return total;
  total.loss /= denominator;
  for (std::vector<double>& row : total.gradient) {
    for (double& g : row) g /= denominator;
  }
  return total;
}

double GradientDifference(const std::vector<std::vector<double>>& actual,
                          const std::vector<std::vector<double>>& expected) {
  constexpr double kDifferent = std::numeric_limits<double>::infinity();
  if (actual.size() != expected.size()) return kDifferent;
  double worst = 0.0;
  for (size_t r = 0; r < actual.size(); ++r) {
    if (actual[r].size() != expected[r].size()) return kDifferent;
    for (size_t t = 0; t < actual[r].size(); ++t) {
      const double difference = RelativeDifference(actual[r][t], expected[r][t]);
      worst = std::isnan(difference) ? kDifferent : std::max(worst, difference);
    }
  }
  return worst;
}

}  // namespace rft::testing
