#include "losses/metrics.h"

#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>

#include "losses/aggregate.h"

namespace rft {
namespace {

at::Tensor ReplaceInactive(const PackedRows& rows, const at::Tensor& x_T, double value) {
  const at::Tensor wide_T = x_T.detach().to(at::kDouble);
  return at::where(rows.active_T(), wide_T, at::full_like(wide_T, value));
}

}  // namespace

void MetricCollector::AddSum(const std::string& name, const at::Tensor& x_T) {
  at::NoGradGuard no_grad;
  sums_.emplace_back(name, ReplaceInactive(rows_, x_T, 0.0).sum());
}

void MetricCollector::AddMax(const std::string& name, const at::Tensor& x_T) {
  at::NoGradGuard no_grad;
  if (x_T.numel() == 0) return;
  maxima_.emplace_back(
      name, ReplaceInactive(rows_, x_T, -std::numeric_limits<double>::infinity()).amax());
}

void MetricCollector::AddMin(const std::string& name, const at::Tensor& x_T) {
  at::NoGradGuard no_grad;
  if (x_T.numel() == 0) return;
  minima_.emplace_back(name,
                       ReplaceInactive(rows_, x_T, std::numeric_limits<double>::infinity()).amin());
}

void MetricCollector::AddRatio(const at::Tensor& ratio_T) {
  AddSum("ratio_mean", ratio_T);
  AddMin("ratio_min", ratio_T);
  AddMax("ratio_max", ratio_T);
}

void MetricCollector::Finish(const LossConfig& config, LossOutput* output) const {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> scalars = {rows_.counts_R().sum(),
                                     (rows_.counts_R() > 0).sum().to(at::kDouble)};
  for (const Named* list : {&sums_, &maxima_, &minima_}) {
    for (const auto& [name, value] : *list) scalars.push_back(value);
  }
  const at::Tensor host = at::stack(scalars).to(at::kCPU);
  const double* next = host.const_data_ptr<double>();
  output->num_tokens = *next++;
  output->num_rows = *next++;
  output->num_masked = static_cast<double>(rows_.active_T().numel()) - output->num_tokens;
  const double counted_rows = config.row_denominator == RowDenominator::kAll
                                  ? static_cast<double>(rows_.num_rows())
                                  : output->num_rows;
  output->denominator = AggregateDenominator(output->num_tokens, counted_rows, config);
  for (const auto& [name, value] : sums_) output->metric_sums[name] = *next++;
  if (output->num_tokens == 0.0) return;
  for (const auto& [name, value] : maxima_) output->metric_maxima[name] = *next++;
  for (const auto& [name, value] : minima_) output->metric_minima[name] = *next++;
}

}  // namespace rft
