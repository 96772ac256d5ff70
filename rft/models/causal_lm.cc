#include "rft/models/causal_lm.h"

#include <algorithm>
#include <atomic>

#include <c10/util/Exception.h>

namespace rft {

int64_t CausalLm::num_sparse_layers() const {
  if (!config_.moe) return 0;
  return std::count(config_.moe->sparse_layers.begin(), config_.moe->sparse_layers.end(), true);
}

RouteCodec CausalLm::route_codec() const {
  if (!config_.moe) return {};
  return {num_sparse_layers(), config_.moe->router.num_experts, config_.moe->router.top_k};
}

CausalLm::CausalLm(ModelConfig config, at::ScalarType dtype)
    : config_(std::move(config)),
      dtype_(dtype == at::kChar ? at::kBFloat16 : dtype),
      weight_dtype_(dtype),
      rope_(config_.rope, config_.rope.rotary_dim > 0 ? config_.rope.rotary_dim : config_.head_dim,
            config_.max_positions) {}

std::shared_ptr<ModelWeights>* CausalLm::FreeVersion() {
  const auto it = std::find_if(versions_.begin(), versions_.end(),
                               [](const auto& version) { return version.use_count() == 1; });
  return it == versions_.end() ? nullptr : &*it;
}

void CausalLm::ReserveVersion() {
  if (FreeVersion()) return;
  auto fresh = std::make_shared<ModelWeights>();
  Pack(*fresh, {});
  versions_.insert(versions_.begin(), std::move(fresh));
}

void CausalLm::MoveTo(at::Device device, bool offload) {
  TORCH_CHECK(!offload || !device.is_cpu(),
              "model: only weights for a device other than cpu can be offloaded to the host");
  if (device == this->device()) return;
  TORCH_CHECK(!is_int8(), "model: int8 weights are for the CPU");
  TORCH_CHECK(versions_.empty(), "model: its weights are in use, so it stays where it is");
  parameters_->MoveTo(device, offload);
  rope_.MoveTo(device);
}

std::shared_ptr<const ModelWeights> CausalLm::PackNewVersion(const ValueUpdate& update,
                                                             int64_t number) {
  const bool filled = FreeVersion() == nullptr;  // what is made now has the masters' values
  ReserveVersion();
  std::shared_ptr<ModelWeights>* place = FreeVersion();
  ModelWeights& next = **place;
  if (update) {
    std::atomic<int64_t> updated{0};
    Pack(next, [&](const Parameter& p, int64_t begin, int64_t count) {
      update(p, begin, count);
      updated.fetch_add(count, std::memory_order_relaxed);
    });
    TORCH_CHECK(updated == parameters_->num_parameters(), "model: packing updated ", updated.load(),
                " of ", parameters_->num_parameters(), " parameters");
  } else if (!filled) {
    Pack(next, {});
  }
  last_version_ = number > 0 ? number : last_version_ + 1;
  next.version_number = last_version_;
  std::rotate(versions_.begin() + (place - versions_.data()),
              versions_.begin() + (place - versions_.data()) + 1, versions_.end());
  return versions_.back();
}

std::shared_ptr<const ModelWeights> CausalLm::weights() {
  return last_version_ == 0 ? PackNewVersion() : versions_.back();
}

std::vector<const Weight*> LinearWeights(const ModelWeights& weights) {
  std::vector<const Weight*> all;
  for (const ModelWeights::Layer& layer : weights.layers) {
    for (const Weight* w : {&layer.qkv, &layer.latent.q_b, &layer.latent.kv_b, &layer.output,
                            &layer.gate_up, &layer.down, &layer.router})
      if (w->packed.defined()) all.push_back(w);
    for (const ExpertWeights* experts : {&layer.gated_shared, &layer.experts})
      for (int64_t e = 0; e < experts->num_experts(); ++e)
        all.insert(all.end(), {&experts->gate_up[e], &experts->down[e]});
  }
  return all;
}

}  // namespace rft
