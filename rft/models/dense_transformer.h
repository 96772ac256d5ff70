// Pre-norm decoder with grouped-query attention and SwiGLU: Llama, Qwen3 and their relatives. Families register it with
// the features they have (llama.cc, qwen3.cc).
#pragma once

#include "rft/models/causal_lm.h"

namespace rft {

struct DenseFeatures {
  bool qk_norm = false;  // per-head RMSNorm of q and k before rotation
};

class DenseTransformer : public CausalLm {
 public:
  DenseTransformer(const ModelConfig& config, at::ScalarType dtype, DenseFeatures features);
  at::Tensor forward(const ModelWeights& weights, const at::Tensor& ids_T,
                     const at::Tensor& positions_T, AttentionContext& attention) const override;

 protected:
  void Pack(ModelWeights& weights) override;

 private:
  struct LayerParameters {
    Parameter *input_norm, *post_norm, *q, *k, *v, *o, *gate, *up, *down;
    Parameter *q_norm = nullptr, *k_norm = nullptr;
  };
  DenseFeatures features_;
  HeadLayout layout_;
  Parameter *embedding_, *final_norm_, *head_;
  std::vector<LayerParameters> layers_;
};

}  // namespace rft
