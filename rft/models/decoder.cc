#include "rft/models/decoder.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "rft/models/lora.h"
#include "rft/tensor/checkpoint.h"
#include "rft/tensor/copy.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/router.h"

namespace rft {
namespace {

std::string LayerName(const ModelConfig& c, int64_t layer, const char* name) {
  return c.LayerPrefix(layer) + "." + name + ".weight";
}

std::string AttentionName(const ModelConfig& c, int64_t layer) {
  return c.LayerPrefix(layer) + ".self_attn";
}

// Names and shapes of a gated feed-forward network of width `width`.
void AddFeedForward(const std::string& prefix, const MoeConfig& names, int64_t h, int64_t width,
                    std::vector<ParameterStore::Spec>& specs) {
  specs.push_back({prefix + "." + names.gate + ".weight", {width, h}});
  specs.push_back({prefix + "." + names.up + ".weight", {width, h}});
  specs.push_back({prefix + "." + names.down + ".weight", {h, width}});
}

std::string BlockName(const ModelConfig& c, int64_t layer, const MoeConfig& moe) {
  return c.LayerPrefix(layer) + "." + moe.block;
}
std::string ExpertName(const ModelConfig& c, int64_t layer, int64_t expert) {
  return BlockName(c, layer, *c.moe) + ".experts." + std::to_string(expert);
}

bool IsSparse(const ModelConfig& c, int64_t layer) { return c.moe && c.moe->sparse_layers[layer]; }

// Rows are left out of the last layer if they are more than one of so many: picking the others out costs a copy of each.
constexpr int64_t kWorthNarrowing = 16;

const MoeConfig kDenseNames;  // "mlp", "gate_proj", "up_proj", "down_proj"

std::vector<ParameterStore::Spec> Specs(const ModelConfig& c, DecoderFeatures features) {
  const int64_t h = c.hidden_size, d = c.head_dim;
  std::vector<ParameterStore::Spec> specs = {{c.body + ".embed_tokens.weight", {c.vocab_size, h}}};
  for (int64_t l = 0; l < c.num_layers; ++l) {
    specs.push_back({LayerName(c, l, "input_layernorm"), {h}});
    if (c.latent) {
      AddLatentSpecs(AttentionName(c, l), c, specs);
    } else {
      specs.push_back({LayerName(c, l, "self_attn.q_proj"), {c.num_heads * d, h}});
      specs.push_back({LayerName(c, l, "self_attn.k_proj"), {c.num_kv_heads * d, h}});
      specs.push_back({LayerName(c, l, "self_attn.v_proj"), {c.num_kv_heads * d, h}});
      specs.push_back({LayerName(c, l, "self_attn.o_proj"), {h, c.num_heads * d}});
    }
    if (features.qk_norm != QkNorm::kNone) {
      const bool whole = features.qk_norm == QkNorm::kWholeWidth;
      specs.push_back({LayerName(c, l, "self_attn.q_norm"), {whole ? c.num_heads * d : d}});
      specs.push_back({LayerName(c, l, "self_attn.k_norm"), {whole ? c.num_kv_heads * d : d}});
    }
    specs.push_back({LayerName(c, l, "post_attention_layernorm"), {h}});
    if (!IsSparse(c, l)) {
      AddFeedForward(BlockName(c, l, kDenseNames), kDenseNames, h, c.intermediate_size, specs);
      continue;
    }
    const MoeConfig& moe = *c.moe;
    specs.push_back({BlockName(c, l, moe) + ".gate.weight", {moe.router.num_experts, h}});
    for (int64_t e = 0; e < moe.router.num_experts; ++e)
      AddFeedForward(ExpertName(c, l, e), moe, h, moe.expert_intermediate, specs);
    if (moe.shared_intermediate > 0)
      AddFeedForward(BlockName(c, l, moe) + "." + moe.shared, kDenseNames, h,
                     moe.shared_intermediate, specs);
    if (moe.shared_gate)
      specs.push_back({BlockName(c, l, moe) + "." + moe.shared + "_gate.weight", {1, h}});
  }
  specs.push_back({c.body + ".norm.weight", {h}});
  if (!c.tie_word_embeddings) specs.push_back({c.head + ".weight", {c.vocab_size, h}});
  return specs;
}

std::string CorrectionBiasName(const ModelConfig& c, int64_t layer) {
  return BlockName(c, layer, *c.moe) + "." + c.moe->correction_bias;
}

std::vector<ParameterStore::Spec> Buffers(const ModelConfig& c) {
  std::vector<ParameterStore::Spec> specs;
  for (int64_t l = 0; l < c.num_layers; ++l) {
    if (IsSparse(c, l) && c.moe->router.correction_bias)
      specs.push_back({CorrectionBiasName(c, l), {c.moe->router.num_experts}});
    if (c.indexer && c.indexer->choosing[l]) AddIndexerSpecs(AttentionName(c, l), c, specs);
  }
  return specs;
}

// The gate of a shared expert: sigmoid(logit), as a router of one expert (at::sigmoid's rows aren't batch-invariant).
constexpr RouterConfig kSharedGate{
    .num_experts = 1, .top_k = 1, .score = RouterConfig::Score::kSigmoid};

// A version's own copy of a parameter.
void Copy(const Parameter* from, const ValueUpdate& update, at::ScalarType dtype, at::Tensor& to) {
  if (update) update(*from, 0, from->value.numel());
  if (!to.defined())
    to = at::empty(from->value.sizes(), at::TensorOptions(from->device()).dtype(dtype));
  CopyTo(to, from->value);
}
void CopyNorm(const Parameter* from, const ValueUpdate& update, at::Tensor& to) {
  Copy(from, update, at::kFloat, to);
}

void PackWeight(std::vector<Parameter*> parts, at::ScalarType dtype, const ValueUpdate& update,
                Weight& weight) {
  if (weight.packed.defined())
    weight.Repack(update);
  else
    weight = Weight::Create(std::move(parts), dtype);
}

void PackExperts(const std::vector<std::vector<Parameter*>>& gate_up,
                 const std::vector<Parameter*>& down, at::ScalarType dtype,
                 const ValueUpdate& update, ExpertWeights& experts) {
  if (down[0]->device().is_cpu()) return experts.Pack(gate_up, down, dtype, update);
  experts.gate_up.resize(down.size());
  experts.down.resize(down.size());
  for (size_t e = 0; e < down.size(); ++e) {
    PackWeight(gate_up[e], dtype, update, experts.gate_up[e]);
    PackWeight({down[e]}, dtype, update, experts.down[e]);
  }
}

void PackLatent(const LatentParameters& p, at::ScalarType dtype, const ValueUpdate& update,
                ModelWeights::Layer& w) {
  PackWeight({p.q, p.kv}, dtype, update, w.qkv);
  if (p.q_b != nullptr) {
    CopyNorm(p.q_norm, update, w.latent.q_norm_R);
    PackWeight({p.q_b}, dtype, update, w.latent.q_b);
  }
  CopyNorm(p.kv_norm, update, w.latent.kv_norm_R);
  PackWeight({p.kv_b}, dtype, update, w.latent.kv_b);
}

// Elements [begin, begin + count) of the embedding in the compute type.
void CopyPiece(const Parameter& from, int64_t begin, int64_t count, const at::Tensor& to) {
  DispatchFloat(to.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    GetKernels().typed<T>().from_float(Data<float>(from.value) + begin, count, Data<T>(to) + begin);
  });
}

void CopyTable(const Parameter& from, const ValueUpdate& update, const at::Tensor& to) {
  constexpr int64_t kPiece = 1 << 14;  // its values, gradients and moments stay in the cache
  const int64_t n = from.value.numel();
  ParallelFor((n + kPiece - 1) / kPiece, GrainFor(kPiece), [&](int64_t first, int64_t last) {
    for (int64_t begin = first * kPiece; begin < std::min(n, last * kPiece); begin += kPiece) {
      const int64_t count = std::min(kPiece, n - begin);
      if (update) update(from, begin, count);
      CopyPiece(from, begin, count, to);
    }
  });
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, at::ScalarType dtype, DecoderFeatures features)
    : CausalLm(config, dtype), features_(features), layout_(head_layout()) {
  parameters_ = std::make_unique<ParameterStore>(Specs(config, features), Buffers(config));
  embedding_ = parameters_->Find(config.body + ".embed_tokens.weight");
  final_norm_ = parameters_->Find(config.body + ".norm.weight");
  head_ = config.tie_word_embeddings ? embedding_ : parameters_->Find(config.head + ".weight");
  for (int64_t l = 0; l < config.num_layers; ++l) layers_.push_back(FindLayer(l));
}

Decoder::LayerParameters Decoder::FindLayer(int64_t l) {
  auto p = [&](const char* name) { return parameters_->Find(LayerName(config_, l, name)); };
  auto named = [&](const std::string& prefix, const std::string& name) {
    return parameters_->Find(prefix + "." + name + ".weight");
  };
  LayerParameters layer{p("input_layernorm"),  p("post_attention_layernorm"),
                        p("self_attn.q_proj"), p("self_attn.k_proj"),
                        p("self_attn.v_proj"), p("self_attn.o_proj")};
  if (config_.latent) layer.latent = FindLatent(AttentionName(config_, l), *parameters_);
  if (config_.indexer) layer.indexer = FindIndexer(AttentionName(config_, l), *parameters_);
  if (features_.qk_norm != QkNorm::kNone) {
    layer.q_norm = p("self_attn.q_norm");
    layer.k_norm = p("self_attn.k_norm");
  }
  layer.sparse = IsSparse(config_, l);
  const std::string feed_forward =
      !layer.sparse ? BlockName(config_, l, kDenseNames)
                    : BlockName(config_, l, *config_.moe) + "." + config_.moe->shared;
  layer.gate = named(feed_forward, kDenseNames.gate);
  layer.up = named(feed_forward, kDenseNames.up);
  layer.down = named(feed_forward, kDenseNames.down);
  if (!layer.sparse) return layer;
  const MoeConfig& moe = *config_.moe;
  layer.router = named(BlockName(config_, l, moe), "gate");
  layer.shared_gate = named(BlockName(config_, l, moe), moe.shared + "_gate");
  for (Parameter& buffer : parameters_->buffers())
    if (buffer.name == CorrectionBiasName(config_, l)) layer.correction_bias = &buffer;
  for (int64_t e = 0; e < moe.router.num_experts; ++e) {
    const std::string expert = ExpertName(config_, l, e);
    layer.experts_gate_up.push_back({named(expert, moe.gate), named(expert, moe.up)});
    layer.experts_down.push_back(named(expert, moe.down));
  }
  return layer;
}

void Decoder::Pack(ModelWeights& weights, const ValueUpdate& update) {
  weights.model = this;
  weights.layers.resize(layers_.size());
  PackEmbeddingAndHead(weights, update);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const LayerParameters& p = layers_[l];
    ModelWeights::Layer& w = weights.layers[l];
    CopyNorm(p.input_norm, update, w.input_norm_H);
    CopyNorm(p.post_norm, update, w.post_norm_H);
    if (p.q_norm) {
      CopyNorm(p.q_norm, update, w.q_norm_D);
      CopyNorm(p.k_norm, update, w.k_norm_D);
    }
    if (config_.latent)
      PackLatent(p.latent, weight_dtype_, update, w);
    else
      PackWeight({p.q, p.k, p.v}, weight_dtype_, update, w.qkv);
    if (p.indexer.q) PackIndexer(p.indexer, dtype_, device(), w.indexer);
    PackWeight({p.o}, weight_dtype_, update, w.output);
    if (p.shared_gate) {
      PackExperts({{p.gate, p.up}}, {p.down}, weight_dtype_, update, w.gated_shared);
      PackWeight({p.shared_gate}, at::kFloat, update, w.shared_gate);
    } else if (p.gate) {
      PackWeight({p.gate, p.up}, weight_dtype_, update, w.gate_up);
      PackWeight({p.down}, weight_dtype_, update, w.down);
    }
    if (!p.sparse) continue;
    PackWeight({p.router}, at::kFloat, update, w.router);
    if (p.correction_bias) CopyNorm(p.correction_bias, {}, w.correction_bias_E);  // a buffer
    PackExperts(p.experts_gate_up, p.experts_down, weight_dtype_, update, w.experts);
  }
  CopyNorm(final_norm_, update, weights.final_norm_H);
}

void Decoder::PackEmbeddingAndHead(ModelWeights& weights, const ValueUpdate& update) {
  at::Tensor& table = weights.embedding_VH;
  const bool tied = head_ == embedding_;
  if (!embedding_->device().is_cpu()) {  // a packed weight is a plain matrix there
    PackWeight({head_}, dtype_, update, weights.head);
    if (tied)
      table = weights.head.packed;
    else
      Copy(embedding_, update, dtype_, table);
    return;
  }
  if (!table.defined())
    table = LargeTensor(embedding_->value.numel(), dtype_).view(embedding_->value.sizes());
  if (tied && weights.head.packed.defined() && !is_int8()) {  // one pass over the values for both
    weights.head.Repack([&](const Parameter& p, int64_t begin, int64_t count) {
      if (update) update(p, begin, count);
      CopyPiece(p, begin, count, table);
    });
    return;
  }
  CopyTable(*embedding_, update, table);
  PackWeight({head_}, weight_dtype_, tied ? ValueUpdate{} : update, weights.head);
}

at::Tensor Decoder::forward(const ModelWeights& weights, const at::Tensor& ids_T,
                            const at::Tensor& positions_T, AttentionContext& attention,
                            Routing* routing, const at::Tensor& rows_N) const {
  at::Tensor x_TH = LoraEmbedding(ids_T, embedding_, weights);
  const int64_t all = ids_T.size(0);
  const bool narrow = rows_N.defined() && rows_N.size(0) < all - all / kWorthNarrowing &&
                      AdaptsAllRowsAlike(weights) && !NeedsAllTokens(routing);
  Routing of_rows;
  int64_t sparse_index = 0;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const LayerParameters& p = layers_[l];
    const ModelWeights::Layer& w = weights.layers[l];
    const bool narrows = narrow && l + 1 == layers_.size();
    const at::Tensor rows = narrows ? rows_N : at::Tensor();
    if (narrows && routing) of_rows = RoutingOfRows(*routing, rows_N);
    Routing* const routed = narrows && routing ? &of_rows : routing;
    const ops::Block layer = [&weights, &attention, &p, &w, this, l, positions_T, rows,
                              sparse_index, routed](const at::Tensor& in_TH) {
      const at::Tensor mid_TH = Attention(l, p, weights, w, in_TH, positions_T, attention, rows);
      return FeedForward(p, weights, w, mid_TH, sparse_index, routed);
    };
    // Sparse layers keep theirs: what they route is recorded once.
    x_TH = p.sparse ? layer(x_TH) : ops::Checkpoint(static_cast<int64_t>(l), layer, x_TH);
    sparse_index += p.sparse;
  }
  if (narrow && routing) routing->sums.Add(of_rows.sums);
  if (rows_N.defined() && !narrow) x_TH = ops::SelectRows(x_TH, rows_N);
  return ops::RmsNorm(x_TH, weights.final_norm_H, final_norm_, config_.rms_norm_eps, dtype_);
}

at::Tensor Decoder::Attention(size_t l, const LayerParameters& p, const ModelWeights& weights,
                              const ModelWeights::Layer& w, const at::Tensor& in_TH,
                              const at::Tensor& positions_T, AttentionContext& attention,
                              const at::Tensor& rows_N) const {
  const double eps = config_.rms_norm_eps;
  const ops::HeadNorm head_norm{w.q_norm_D, w.k_norm_D, p.q_norm, p.k_norm, eps};
  at::Tensor residual_TH;
  at::Tensor qkv =
      LoraNormLinear(in_TH, w.input_norm_H, p.input_norm, eps, w.qkv, weights, &residual_TH);
  at::Tensor q_latent_TR;
  if (config_.latent) qkv = ExpandLatent(config_, p.latent, w.latent, qkv, weights, &q_latent_TR);
  if (p.indexer.q) SelectKeys(l, w, in_TH, q_latent_TR, positions_T, attention);
  qkv = ops::RotateHeads(qkv, layout_, head_norm, positions_T, rope_.cos(), rope_.sin());
  HeadLayout layout = layout_;
  if (!config_.layer_windows.empty()) layout.window = config_.layer_windows[l];
  const double scale = config_.latent ? config_.latent->scale
                                      : 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  at::Tensor attended = attention.Attend(static_cast<int64_t>(l), qkv, layout, scale);
  if (rows_N.defined()) {
    attended = ops::SelectRows(attended, rows_N);
    residual_TH = ops::SelectRows(residual_TH, rows_N);
  }
  if (config_.latent) attended = TakeValues(*config_.latent, attended);
  return LoraLinearAdd(attended, w.output, residual_TH, weights);
}

void Decoder::SelectKeys(size_t l, const ModelWeights::Layer& w, const at::Tensor& in_TH,
                         const at::Tensor& q_latent_TR, const at::Tensor& positions_T,
                         AttentionContext& attention) const {
  const at::NoGradGuard no_gradient;
  at::Tensor normed_TH;  // once, if at all
  const auto hidden = [&]() -> const at::Tensor& {
    if (!normed_TH.defined())
      normed_TH =
          ops::RmsNorm(in_TH, w.input_norm_H, layers_[l].input_norm, config_.rms_norm_eps, dtype_);
    return normed_TH;
  };
  const IndexerConfig& c = *config_.indexer;
  attention.Select(static_cast<int64_t>(l),
                   {c.heads, c.dim, c.top_k,
                    [&] { return IndexerKeys(config_, w.indexer, hidden(), positions_T, rope_); },
                    [&] {
                      return IndexerQueries(config_, w.indexer, hidden(), q_latent_TR, positions_T,
                                            rope_);
                    }});
}

at::Tensor Decoder::FeedForward(const LayerParameters& p, const ModelWeights& weights,
                                const ModelWeights::Layer& w, at::Tensor x_TH, int64_t sparse_index,
                                Routing* routing) const {
  const double eps = config_.rms_norm_eps;
  at::Tensor residual_TH;
  if (!p.sparse) {
    const at::Tensor gate_up =
        LoraNormLinear(x_TH, w.post_norm_H, p.post_norm, eps, w.gate_up, weights, &residual_TH);
    return LoraSwiGluLinearAdd(gate_up, w.down, residual_TH, weights);
  }
  const at::Tensor h_TH = ops::RmsNorm(x_TH, w.post_norm_H, p.post_norm, eps, dtype_, &residual_TH);
  x_TH = residual_TH;
  if (p.gate && !p.shared_gate)
    x_TH = LoraSwiGluLinearAdd(LoraLinear(h_TH, w.gate_up, weights), w.down, x_TH, weights);
  if (p.shared_gate) {
    const at::Tensor only_T1 = at::zeros({h_TH.size(0), 1}, at::kInt);
    const at::Tensor gate_T1 = ops::GateWeights(
        ops::Linear(ops::AsFloat(h_TH), w.shared_gate).cpu(), only_T1, kSharedGate);
    x_TH = LoraExpertsAdd(h_TH, only_T1, gate_T1, w.gated_shared, x_TH, weights);
  }
  return Experts(weights, w, h_TH, x_TH, sparse_index, routing);
}

at::Tensor Decoder::Experts(const ModelWeights& weights, const ModelWeights::Layer& w,
                            const at::Tensor& h_TH, const at::Tensor& x_TH, int64_t sparse_index,
                            Routing* routing) const {
  const RouterConfig& router = config_.moe->router;
  // Experts are chosen, replayed and counted on the CPU whatever the model's device.
  const at::Tensor logits_TE = LoraLinear(ops::AsFloat(h_TH), w.router, weights).cpu();
  const at::Tensor experts_TK = ChooseOrReplay(logits_TE.detach(), w.correction_bias_E, router,
                                               sparse_index, num_sparse_layers(), routing);
  const at::Tensor weights_TK =
      ops::GateWeights(WithPenalty(logits_TE, router, routing), experts_TK, router);
  return LoraExpertsAdd(h_TH, experts_TK, weights_TK, w.experts, x_TH, weights);
}

}  // namespace rft
