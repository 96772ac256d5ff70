#include "rft/train/gradient_accumulator.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include "losses/distillation.h"
#include "rft/api/not_finite.h"
#include "rft/core/status_macros.h"
#include "rft/tensor/checkpoint.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/try_torch.h"
#include "rft/train/batcher.h"
#include "rft/train/distillation.h"
#include "rft/train/loss_inputs.h"
#include "rft/train/preference.h"
#include "rft/train/step_metrics.h"

namespace rft {

GradientAccumulator::Result GradientAccumulator::AddPolicy(absl::Span<const Datum> datums,
                                                           const Loss& loss,
                                                           const LossConfig& config, int64_t step) {
  ++num_passes_;
  return Accumulated(TryTorch([&] {
    ForwardBackwardResult result;
    result.logprobs = EmptyRows(datums);
    StepMetrics metrics;
    RoutingSums routing_sums;
    const auto batch_loss = [&](const MicroBatch& batch, const ModelWeights& weights,
                                Routing& routing) {
      routing.summarize = true;
      routing.penalty = {options_.router_load_balance_coef, options_.router_z_coef};
      at::Tensor entropy_N, logprobs_N = forward_.Logprobs(weights, batch, routing, &entropy_N);
      Scatter(batch, logprobs_N, result.logprobs);
      LossInput input = LossInputs(datums, batch, logprobs_N);
      if (config.top_entropy || config.entropy_coef != 0.0) input.entropy_T = entropy_N;
      const LossOutput output = loss.forward(input, config);
      metrics.Add(output, entropy_N);
      denominator_ += output.denominator;
      routing.penalty.weight = output.denominator;
      routing_sums.Add(routing.sums);
      return output.sum;
    };
    OverMicroBatches(datums, step, batch_loss, result);
    metrics.Finish(datums, result);
    AddRoutingMetrics(routing_sums, result.metrics);
    NameNotFinite(datums, {}, &result);
    return result;
  }));
}

GradientAccumulator::Result GradientAccumulator::AddCustom(absl::Span<const Datum> datums,
                                                           const CustomLoss& loss, int64_t step) {
  const uint64_t masks = ++num_passes_;  // both forwards see the same dropout
  RFT_ASSIGN_OR_RETURN(
      auto logprobs, TryTorch([&] {
        at::NoGradGuard no_grad;
        std::vector<std::vector<float>> rows = EmptyRows(datums);
        for (const MicroBatch& batch : MakeMicroBatches(datums, options_.token_budget)) {
          const auto weights = weights_.InTraining(batch, step, masks);
          Routing routing = forward_.MakeRouting(datums, batch);
          Scatter(batch, forward_.Logprobs(*weights, batch, routing), rows);
        }
        return rows;
      }));
  RFT_ASSIGN_OR_RETURN(const CustomLossResult custom, loss(logprobs));
  RFT_RETURN_IF_ERROR(ValidateCustomLoss(custom, datums));
  return Accumulated(TryTorch([&] {
    ForwardBackwardResult result;
    RoutingSums routing_sums;
    result.loss_sum = custom.loss_sum;
    result.metrics = custom.metrics;
    result.finite = std::isfinite(custom.loss_sum);
    poisoned_ = poisoned_ || !result.finite;
    const auto batch_loss = [&](const MicroBatch& batch, const ModelWeights& weights,
                                Routing& routing) {
      std::vector<float> gradient;
      for (const auto& p : batch.predictions)
        gradient.push_back(custom.dlogprobs[p.datum][p.token]);
      routing.summarize = true;
      routing.penalty = {options_.router_load_balance_coef, options_.router_z_coef,
                         custom.denominator * static_cast<double>(batch.datums.size()) /
                             static_cast<double>(datums.size())};
      const at::Tensor logprobs_N = forward_.Logprobs(weights, batch, routing);
      routing_sums.Add(routing.sums);
      return (logprobs_N * at::tensor(gradient, at::kFloat)).sum();
    };
    OverMicroBatches(datums, step, batch_loss, result);
    denominator_ += custom.denominator;
    AddRoutingMetrics(routing_sums, result.metrics);
    result.logprobs = std::move(logprobs);
    NameNotFinite(datums, custom.dlogprobs, &result);
    return result;
  }));
}

GradientAccumulator::Result GradientAccumulator::AddPreference(absl::Span<const Datum> datums,
                                                               const PreferenceLoss& loss,
                                                               const PreferenceConfig& config,
                                                               bool gradient, int64_t step) {
  auto result = TryTorch([&] {
    at::AutoGradMode recording(gradient);
    if (gradient) weights_.parameters().EnableGradients();
    const uint64_t masks = gradient ? ++num_passes_ : 0;
    ForwardBackwardResult result;
    result.logprobs = EmptyRows(datums);
    double denominator = 0.0;
    for (const auto& [begin, end] : PreferenceChunks(datums, loss, options_.token_budget)) {
      const absl::Span<const Datum> chunk = datums.subspan(begin, end - begin);
      const MicroBatch batch = MakeMicroBatches(chunk, INT64_MAX)[0];
      const auto weights = gradient ? weights_.InTraining(batch, step, masks) : weights_.current();
      const ops::CheckpointScope scope(options_.checkpoint_every);
      Routing routing = forward_.MakeRouting(chunk, batch);
      const at::Tensor logprobs_N = forward_.Logprobs(*weights, batch, routing);
      const PreferenceOutput output =
          loss.forward(PreferenceInputs(chunk, batch, logprobs_N, loss), config);
      result.loss_sum += output.sum.item<double>();
      denominator += output.denominator;
      for (const auto& [name, value] : output.metric_sums) result.metrics[name] += value;
      result.num_tokens += static_cast<int64_t>(batch.predictions.size());
      result.num_computed_tokens += static_cast<int64_t>(batch.ids.size());
      const float* values = Data<float>(logprobs_N);
      for (size_t i = 0; i < batch.predictions.size(); ++i)
        result.logprobs[begin + batch.predictions[i].datum][batch.predictions[i].token] = values[i];
      if (gradient) Backward(output.sum, result.finite);
    }
    result.num_rows = static_cast<int64_t>(datums.size());
    result.metrics["loss"] = result.loss_sum;
    for (auto& [name, value] : result.metrics) value /= std::max(1.0, denominator);
    if (gradient) denominator_ += denominator;
    NameNotFinite(datums, {}, &result);
    return result;
  });
  return gradient ? Accumulated(std::move(result)) : result;
}

GradientAccumulator::Result GradientAccumulator::AddDistillation(absl::Span<const Datum> datums,
                                                                 const Description& teacher,
                                                                 const DistillationConfig& config,
                                                                 int64_t step) {
  ++num_passes_;
  return Accumulated(TryTorch([&] {
    ForwardBackwardResult result;
    double weight_sum = 0.0;
    const auto batch_loss = [&](const MicroBatch& batch, const ModelWeights& weights,
                                Routing& routing) {
      const TeacherTokens tokens = TeacherTokensOf(datums, batch, teacher);
      const at::Tensor student_NK = forward_.LogprobsOf(tokens.ids_NK, weights, batch, routing);
      at::Tensor sum =
          (DistillationDivergence(student_NK, tokens.logprobs_NK, config) * tokens.weights_N).sum();
      result.loss_sum += sum.item<double>();
      weight_sum += tokens.weights_N.sum().item<double>();
      return sum;
    };
    OverMicroBatches(datums, step, batch_loss, result);
    denominator_ += weight_sum;
    result.metrics["divergence"] = weight_sum > 0.0 ? result.loss_sum / weight_sum : 0.0;
    NameNotFinite(datums, {}, &result);
    return result;
  }));
}

void GradientAccumulator::OverMicroBatches(absl::Span<const Datum> datums, int64_t step,
                                           BatchLoss loss, ForwardBackwardResult& result) {
  weights_.parameters().EnableGradients();
  for (const MicroBatch& batch : MakeMicroBatches(datums, options_.token_budget)) {
    const auto weights = weights_.InTraining(batch, step, num_passes_);
    const ops::CheckpointScope scope(options_.checkpoint_every);
    Routing routing = forward_.MakeRouting(datums, batch);
    const at::Tensor sum = loss(batch, *weights, routing);
    result.num_tokens += static_cast<int64_t>(batch.predictions.size());
    result.num_rows += static_cast<int64_t>(batch.datums.size());
    result.num_computed_tokens += static_cast<int64_t>(batch.ids.size());
    Backward(sum, result.finite);
  }
}

void GradientAccumulator::Backward(const at::Tensor& sum, bool& finite) {
  const SerialOpenMp serial;
  if (std::isfinite(sum.item<double>())) {
    if (sum.requires_grad()) sum.backward();
  } else {
    finite = false;
    poisoned_ = true;
  }
}

GradientAccumulator::Result GradientAccumulator::Accumulated(Result result) {
  weights_.parameters().set_gradient_owner(this);
  accumulated_ = true;
  if (!result.ok()) Clear();
  return result;
}

void GradientAccumulator::Clear() {
  weights_.parameters().ZeroGradients();
  Forget();
}

void GradientAccumulator::Forget() {
  ParameterStore& trained = weights_.parameters();
  if (trained.gradient_owner() == this) trained.set_gradient_owner(nullptr);
  denominator_ = 0.0;
  accumulated_ = poisoned_ = false;
  num_passes_ = 0;
}

}  // namespace rft
