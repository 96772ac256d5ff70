#include "rft/train/packed_forward.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include "rft/core/status_macros.h"
#include "rft/models/lora.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/top_tokens.h"

namespace rft {
namespace {

at::Tensor IntTensor(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device);
}

}  // namespace

std::vector<std::vector<float>> EmptyRows(absl::Span<const Datum> datums) {
  std::vector<std::vector<float>> rows;
  for (const Datum& d : datums) rows.emplace_back(d.ids.size(), 0.0f);
  return rows;
}

void Scatter(const MicroBatch& batch, const at::Tensor& values_N,
             std::vector<std::vector<float>>& rows) {
  const float* values = Data<float>(values_N);
  for (size_t i = 0; i < batch.predictions.size(); ++i)
    rows[batch.predictions[i].datum][batch.predictions[i].token] = values[i];
}

PackedForward::PackedForward(std::shared_ptr<const CausalLm> model, double temperature,
                             bool replay_routes)
    : model_(std::move(model)),
      temperature_(temperature),
      replay_routes_(replay_routes),
      codec_(model_->route_codec()) {}

absl::Status PackedForward::Validate(absl::Span<const Datum> datums) const {
  const ModelConfig& config = model_->config();
  RFT_RETURN_IF_ERROR(ValidateDatums(datums, config.vocab_size, config.max_positions));
  return replay_routes_ ? ValidateRoutes(datums, codec_) : absl::OkStatus();
}

Routing PackedForward::MakeRouting(absl::Span<const Datum> datums, const MicroBatch& batch) const {
  Routing routing;
  if (replay_routes_) routing.replay_TMK = ReplayedExperts(datums, batch, codec_);
  return routing;
}

at::Tensor PackedForward::WantedStates(const ModelWeights& weights, const MicroBatch& batch,
                                       Routing& routing) {
  const SerialOpenMp serial;
  std::vector<int64_t> sources;
  for (const auto& p : batch.predictions) sources.push_back(p.source);
  attention_ = std::make_unique<PackedAttention>(batch.sequences);
  const at::Device device = model_->device();
  return model_->forward(weights, IntTensor(batch.ids, device), IntTensor(batch.positions, device),
                         *attention_, &routing, IntTensor(sources, device));
}

at::Tensor PackedForward::Logprobs(const ModelWeights& weights, const MicroBatch& batch,
                                   Routing& routing, at::Tensor* entropy_N, at::Tensor* hidden_NH) {
  const SerialOpenMp serial;
  std::vector<int64_t> targets;
  for (const auto& p : batch.predictions) targets.push_back(p.target);
  const at::Tensor wanted_NH = WantedStates(weights, batch, routing);
  if (hidden_NH) *hidden_NH = wanted_NH;
  const at::Tensor logprobs_N =
      ops::TokenLogprobs(wanted_NH, weights.head, IntTensor(targets, model_->device()),
                         temperature_, entropy_N, AdapterOfHead(weights));
  if (entropy_N) *entropy_N = entropy_N->cpu();
  return logprobs_N.cpu();
}

at::Tensor PackedForward::LogprobsOf(const at::Tensor& targets_NK, const ModelWeights& weights,
                                     const MicroBatch& batch, Routing& routing) {
  const at::Tensor wanted_NH = WantedStates(weights, batch, routing);
  return ops::TokenLogprobs(wanted_NH, weights.head, targets_NK.to(model_->device()), temperature_,
                            nullptr, AdapterOfHead(weights))
      .cpu();
}

ForwardResult PackedForward::Score(absl::Span<const Datum> datums, const ModelWeights& weights,
                                   int64_t token_budget) {
  const at::NoGradGuard no_grad;
  ForwardResult result;
  result.logprobs = EmptyRows(datums);
  result.routes = EmptyRoutes(datums, codec_);
  for (const MicroBatch& batch : MakeMicroBatches(datums, token_budget)) {
    Routing routing = MakeRouting(datums, batch);
    routing.capture = !result.routes.empty();
    Scatter(batch, Logprobs(weights, batch, routing), result.logprobs);
    if (routing.capture) ScatterRoutes(datums, batch, routing.used_TMK, codec_, result.routes);
  }
  return result;
}

Description PackedForward::Describe(absl::Span<const Datum> datums, const ModelWeights& weights,
                                    int64_t token_budget, int32_t top_k) {
  const at::NoGradGuard no_grad;
  Description result;
  result.top_k = top_k;
  result.logprobs = result.entropies = EmptyRows(datums);
  for (const Datum& d : datums) {
    result.top_ids.emplace_back(d.ids.size() * top_k, -1);
    result.top_logprobs.emplace_back(d.ids.size() * top_k, 0.0f);
  }
  for (const MicroBatch& batch : MakeMicroBatches(datums, token_budget)) {
    at::Tensor hidden_NH;
    Routing routing = MakeRouting(datums, batch);
    Scatter(batch, Logprobs(weights, batch, routing, nullptr, &hidden_NH), result.logprobs);
    const ops::TopTokens top =
        ops::TopLogprobs(hidden_NH, weights.head, top_k, temperature_, AdapterOfHead(weights));
    const at::Tensor ids_NK = top.ids_NK.cpu(), logprobs_NK = top.logprobs_NK.cpu();
    Scatter(batch, top.entropy_N.cpu(), result.entropies);
    for (size_t i = 0; i < batch.predictions.size(); ++i) {
      const auto& p = batch.predictions[i];
      for (int64_t j = 0; j < top_k; ++j) {
        result.top_ids[p.datum][p.token * top_k + j] =
            static_cast<TokenId>(Data<int64_t>(ids_NK)[i * top_k + j]);
        result.top_logprobs[p.datum][p.token * top_k + j] = Data<float>(logprobs_NK)[i * top_k + j];
      }
    }
  }
  return result;
}

}  // namespace rft
