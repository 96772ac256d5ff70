// Pre-norm decoder with grouped-query attention and gated feed-forward layers, dense or mixtures of experts: Llama, Qwen3,
// Qwen3-MoE and their relatives. Families register it with the features they have (llama.cc, qwen3.cc, qwen3_moe.cc).
#pragma once

#include "rft/models/causal_lm.h"

namespace rft {

// RMSNorm of q and k before rotation.
enum class QkNorm { kNone, kPerHead, kWholeWidth };

struct DecoderFeatures {
  QkNorm qk_norm = QkNorm::kNone;
};

class Decoder : public CausalLm {
 public:
  // Mixture-of-experts layers are those of config.moe.
  Decoder(const ModelConfig& config, at::ScalarType dtype, DecoderFeatures features);
  at::Tensor forward(const ModelWeights& weights, const at::Tensor& ids_T,
                     const at::Tensor& positions_T, AttentionContext& attention, Routing* routing,
                     const at::Tensor& rows_N = {}) const override;

 protected:
  void Pack(ModelWeights& weights, const ValueUpdate& update) override;

 private:
  struct LayerParameters {
    Parameter *input_norm, *post_norm, *q, *k, *v, *o;
    LatentParameters latent;  // in place of q, k and v
    IndexerParameters indexer;
    Parameter *q_norm = nullptr, *k_norm = nullptr;
    Parameter *gate = nullptr, *up = nullptr, *down = nullptr;  // dense, or the shared expert
    // Sparse layers only.
    bool sparse = false;
    Parameter *router = nullptr, *correction_bias = nullptr, *shared_gate = nullptr;
    std::vector<std::vector<Parameter*>> experts_gate_up;
    std::vector<Parameter*> experts_down;
  };
  void PackEmbeddingAndHead(ModelWeights& weights, const ValueUpdate& update);
  LayerParameters FindLayer(int64_t layer);
  // in_TH + the attention of its norm, of layer `l`; of rows_N where defined.
  at::Tensor Attention(size_t l, const LayerParameters& p, const ModelWeights& weights,
                       const ModelWeights::Layer& w, const at::Tensor& in_TH,
                       const at::Tensor& positions_T, AttentionContext& attention,
                       const at::Tensor& rows_N) const;
  // Tells `attention` which keys the tokens of layer `l` attend to. q_latent_TR: ExpandLatent's.
  void SelectKeys(size_t l, const ModelWeights::Layer& w, const at::Tensor& in_TH,
                  const at::Tensor& q_latent_TR, const at::Tensor& positions_T,
                  AttentionContext& attention) const;
  // x_TH + the feed-forward of its norm. `sparse_index` counts the sparse layers before this one.
  at::Tensor FeedForward(const LayerParameters& p, const ModelWeights& weights,
                         const ModelWeights::Layer& w, at::Tensor x_TH, int64_t sparse_index,
                         Routing* routing) const;
  at::Tensor Experts(const ModelWeights& weights, const ModelWeights::Layer& w,
                     const at::Tensor& h_TH, const at::Tensor& x_TH, int64_t sparse_index,
                     Routing* routing) const;

  DecoderFeatures features_;
  HeadLayout layout_;
  Parameter *embedding_, *final_norm_, *head_;
  std::vector<LayerParameters> layers_;
};

}  // namespace rft
