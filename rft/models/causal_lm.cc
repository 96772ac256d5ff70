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

std::shared_ptr<const ModelWeights> CausalLm::PackNewVersion(const ValueUpdate& update) {
  std::shared_ptr<ModelWeights> next;
  for (auto it = versions_.begin(); it != versions_.end(); ++it) {
    if (it->use_count() ==
        1) {  // nobody samples or trains on it: its memory becomes the new version
      next = std::move(*it);
      versions_.erase(it);
      break;
    }
  }
  if (!next) {  // memory may run out on the way: no half-done updates
    next = std::make_shared<ModelWeights>();
    if (update) parameters_->Update(update);
    Pack(*next, {});
  } else if (update) {
    std::atomic<int64_t> updated{0};
    Pack(*next, [&](const Parameter& p, int64_t begin, int64_t count) {
      update(p, begin, count);
      updated.fetch_add(count, std::memory_order_relaxed);
    });
    TORCH_CHECK(updated == parameters_->num_parameters(), "model: packing updated ", updated.load(),
                " of ", parameters_->num_parameters(), " parameters");
  } else {
    Pack(*next, {});
  }
  next->version_number = ++last_version_;
  versions_.push_back(next);
  return next;
}

std::shared_ptr<const ModelWeights> CausalLm::weights() {
  return versions_.empty() ? PackNewVersion() : versions_.back();
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
