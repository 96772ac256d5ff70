#include "rft/models/dense_transformer.h"

#include <cmath>
#include <string>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

std::string LayerName(int64_t layer, const char* name) {
  return "model.layers." + std::to_string(layer) + "." + name + ".weight";
}

std::vector<ParameterStore::Spec> Specs(const ModelConfig& c, DenseFeatures features) {
  const int64_t h = c.hidden_size, i = c.intermediate_size, d = c.head_dim;
  std::vector<ParameterStore::Spec> specs = {{"model.embed_tokens.weight", {c.vocab_size, h}}};
  for (int64_t l = 0; l < c.num_layers; ++l) {
    specs.push_back({LayerName(l, "input_layernorm"), {h}});
    specs.push_back({LayerName(l, "self_attn.q_proj"), {c.num_heads * d, h}});
    specs.push_back({LayerName(l, "self_attn.k_proj"), {c.num_kv_heads * d, h}});
    specs.push_back({LayerName(l, "self_attn.v_proj"), {c.num_kv_heads * d, h}});
    specs.push_back({LayerName(l, "self_attn.o_proj"), {h, c.num_heads * d}});
    if (features.qk_norm) {
      specs.push_back({LayerName(l, "self_attn.q_norm"), {d}});
      specs.push_back({LayerName(l, "self_attn.k_norm"), {d}});
    }
    specs.push_back({LayerName(l, "post_attention_layernorm"), {h}});
    specs.push_back({LayerName(l, "mlp.gate_proj"), {i, h}});
    specs.push_back({LayerName(l, "mlp.up_proj"), {i, h}});
    specs.push_back({LayerName(l, "mlp.down_proj"), {h, i}});
  }
  specs.push_back({"model.norm.weight", {h}});
  if (!c.tie_word_embeddings) specs.push_back({"lm_head.weight", {c.vocab_size, h}});
  return specs;
}

// A version's own float32 copy of a norm weight.
void CopyNorm(const Parameter* from, at::Tensor& to) {
  if (!to.defined()) to = at::empty_like(from->value);
  to.copy_(from->value);
}

void PackWeight(std::vector<Parameter*> parts, at::ScalarType dtype, Weight& weight) {
  if (weight.packed.defined())
    weight.Repack();
  else
    weight = Weight::Create(std::move(parts), dtype);
}

void CopyRows(const at::Tensor& from, at::ScalarType dtype, at::Tensor& to) {
  if (!to.defined()) to = at::empty(from.sizes(), from.options().dtype(dtype));
  DispatchFloat(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t n = from.size(1);
    ParallelFor(from.size(0), GrainFor(n), [&](int64_t begin, int64_t end) {
      GetKernels().typed<T>().from_float(Data<float>(from) + begin * n, (end - begin) * n,
                                         Data<T>(to) + begin * n);
    });
  });
}

}  // namespace

DenseTransformer::DenseTransformer(const ModelConfig& config, at::ScalarType dtype,
                                   DenseFeatures features)
    : CausalLm(config, dtype), features_(features), layout_(head_layout()) {
  parameters_ = std::make_unique<ParameterStore>(Specs(config, features));
  auto find = [&](const std::string& name) { return parameters_->Find(name); };
  embedding_ = find("model.embed_tokens.weight");
  final_norm_ = find("model.norm.weight");
  head_ = config.tie_word_embeddings ? embedding_ : find("lm_head.weight");
  for (int64_t l = 0; l < config.num_layers; ++l) {
    auto p = [&](const char* name) { return find(LayerName(l, name)); };
    LayerParameters layer{p("input_layernorm"),  p("post_attention_layernorm"),
                          p("self_attn.q_proj"), p("self_attn.k_proj"),
                          p("self_attn.v_proj"), p("self_attn.o_proj"),
                          p("mlp.gate_proj"),    p("mlp.up_proj"),
                          p("mlp.down_proj")};
    if (features.qk_norm) {
      layer.q_norm = p("self_attn.q_norm");
      layer.k_norm = p("self_attn.k_norm");
    }
    layers_.push_back(layer);
  }
}

void DenseTransformer::Pack(ModelWeights& weights) {
  weights.model = this;
  weights.layers.resize(layers_.size());
  CopyRows(embedding_->value, dtype_, weights.embedding_VH);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const LayerParameters& p = layers_[l];
    ModelWeights::Layer& w = weights.layers[l];
    CopyNorm(p.input_norm, w.input_norm_H);
    CopyNorm(p.post_norm, w.post_norm_H);
    if (features_.qk_norm) {
      CopyNorm(p.q_norm, w.q_norm_D);
      CopyNorm(p.k_norm, w.k_norm_D);
    }
    PackWeight({p.q, p.k, p.v}, dtype_, w.qkv);
    PackWeight({p.o}, dtype_, w.output);
    PackWeight({p.gate, p.up}, dtype_, w.gate_up);
    PackWeight({p.down}, dtype_, w.down);
  }
  CopyNorm(final_norm_, weights.final_norm_H);
  PackWeight({head_}, dtype_, weights.head);
}

at::Tensor DenseTransformer::forward(const ModelWeights& weights, const at::Tensor& ids_T,
                                     const at::Tensor& positions_T,
                                     AttentionContext& attention) const {
  const double eps = config_.rms_norm_eps,
               scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  at::Tensor x_TH = ops::Embedding(ids_T, weights.embedding_VH, embedding_);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const LayerParameters& p = layers_[l];
    const ModelWeights::Layer& w = weights.layers[l];
    const ops::HeadNorm head_norm{w.q_norm_D, w.k_norm_D, p.q_norm, p.k_norm, eps};
    at::Tensor qkv =
        ops::Linear(ops::RmsNorm(x_TH, w.input_norm_H, p.input_norm, eps, dtype_), w.qkv);
    qkv = ops::RotateHeads(qkv, layout_, head_norm, positions_T, rope_.cos(), rope_.sin());
    x_TH = ops::LinearAdd(attention.Attend(static_cast<int64_t>(l), qkv, layout_, scale), w.output,
                          x_TH);
    const at::Tensor gate_up =
        ops::Linear(ops::RmsNorm(x_TH, w.post_norm_H, p.post_norm, eps, dtype_), w.gate_up);
    x_TH = ops::LinearAdd(ops::SwiGlu(gate_up), w.down, x_TH);
  }
  return ops::RmsNorm(x_TH, weights.final_norm_H, final_norm_, eps, dtype_);
}

}  // namespace rft
