// Multi-head latent attention (DeepSeek-V2, 2405.04434, section 2.1): queries, keys and values come from narrow latents, and the
// rotated part of a key is one for all heads.
//
// Here the latents are expanded before attention, so that the cache and the kernels are those of every other family: each head's
// key is its own part and the shared rotated one, its value is padded with zeros to the key's width. That is exact, and costs a
// cache of 2 A D values per token and layer where the latents are kv_rank + rope (DeepSeek-V3: 49,152 against 576). Heads are laid out [rotated | plain], the rotated part with its pairs (2i, 2i + 1) taken apart to
// (i, i + R / 2): the order within a head is the same for queries and keys and has no other meaning.
//
// Shapes: T tokens, H hidden, A heads of D = nope + rope dims.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "rft/models/model_config.h"
#include "rft/models/parameter_store.h"

namespace rft {

struct ModelWeights;

// Reads qk_nope_head_dim, q_lora_rank, ... and sets `latent`, head_dim, num_kv_heads and the rotation accordingly.
// kInvalidArgument naming the key.
absl::Status ReadLatentConfig(ModelConfig& config);

// Of one layer, found by name.
struct LatentParameters {
  Parameter* q = nullptr;  // from the hidden states: the queries' latent, or the queries
  Parameter *q_norm = nullptr, *q_b = nullptr;  // null without a latent for queries
  Parameter* kv = nullptr;  // from the hidden states: the latent of keys and values
  Parameter *kv_norm = nullptr, *kv_b = nullptr;
};

void AddLatentSpecs(const std::string& attention, const ModelConfig& config,
                    std::vector<ParameterStore::Spec>& specs);
LatentParameters FindLatent(const std::string& attention, ParameterStore& parameters);

// Per version.
struct LatentWeights {
  Weight q_b, kv_b;
  at::Tensor q_norm_R, kv_norm_R;  // float32
};

// From projected_TX = h [q; kv]^T to [q heads | k heads | v heads], [T, 3 A D], not rotated yet. `q_latent_TR`, if not null, receives
// the queries' latent, normed; undefined without one.
at::Tensor ExpandLatent(const ModelConfig& config, const LatentParameters& p,
                        const LatentWeights& w, const at::Tensor& projected_TX,
                        const ModelWeights& weights, at::Tensor* q_latent_TR = nullptr);

// [T, A D] of padded values -> [T, A V].
at::Tensor TakeValues(const LatentConfig& latent, const at::Tensor& attended_TX);

}  // namespace rft
