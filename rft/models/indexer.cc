#include "rft/models/indexer.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/layer_norm.h>

#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"
#include "rft/tensor/bf16.h"
#include "rft/tensor/cost_timer.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

constexpr double kKeyNormEps = 1e-6;  // whatever rms_norm_eps says

// Of each layer whether it chooses ("full", F) or takes the choice of the layer before ("shared", S).
std::vector<bool> ChoosingLayers(ConfigJson& r, int64_t num_layers) {
  const json::value* types = r.Find("indexer_types");
  const char* key = types != nullptr ? "indexer_types" : "index_topk_pattern";
  if (types == nullptr) types = r.Find(key);
  std::vector<bool> choosing;
  const auto add = [&](std::string_view type) {
    if (type != "full" && type != "F" && type != "shared" && type != "S")
      r.Fail(key, "supported are full and shared");
    choosing.push_back(type == "full" || type == "F");
  };
  if (types != nullptr && types->is_string()) {
    const std::string_view letters = types->get_string();
    for (size_t i = 0; i < letters.size(); ++i) add(letters.substr(i, 1));
  } else if (types != nullptr && types->is_array()) {
    for (const json::value& type : types->get_array())
      add(type.is_string() ? std::string_view(type.get_string()) : std::string_view());
  } else {
    const int64_t every = std::max<int64_t>(r.Int("index_topk_freq", 1, 0, 4096), 1),
                  offset = r.Int("index_skip_topk_offset", 2, 0, 4096);
    for (int64_t l = 0; l < num_layers; ++l)
      choosing.push_back(std::max<int64_t>(l - offset + 1, 0) % every == 0);
  }
  if (static_cast<int64_t>(choosing.size()) != num_layers)
    r.Fail(key, "must name a type for each layer");
  else if (!choosing[0])
    r.Fail(key, "the first layer must be full: it has none before it");
  return choosing;
}

// The first `rope` dims of a head: pairs (2i, 2i + 1) to (i, i + rope / 2). `scratch`: rope values.
template <typename T>
void TakePairsApart(T* head, int64_t rope, T* scratch) {
  std::copy_n(head, rope, scratch);
  for (int64_t i = 0; i < rope / 2; ++i) {
    head[i] = scratch[2 * i];
    head[i + rope / 2] = scratch[2 * i + 1];
  }
}

// Rotates the heads of x [T, heads * dim] in place.
template <typename T>
void RotateRows(const ModelConfig& c, const at::Tensor& x_TX, const at::Tensor& positions_T,
                const RopeTable& table) {
  const int64_t dim = c.indexer->dim, rope = c.latent->rope, width = x_TX.size(1);
  const auto* positions = Data<int64_t>(positions_T);
  const auto rotate = GetKernels().typed<T>().rope;
  ParallelFor(x_TX.size(0), GrainFor(width), [&](int64_t begin, int64_t end) {
    std::vector<T> scratch(rope);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t angle = positions[t] * (rope / 2);
      for (T* head = Data<T>(x_TX) + t * width; head < Data<T>(x_TX) + (t + 1) * width;
           head += dim) {
        if (c.indexer->interleaved) TakePairsApart(head, rope, scratch.data());
        rotate(head, Data<float>(table.cos()) + angle, Data<float>(table.sin()) + angle, 1.0f,
               rope);
      }
    }
  });
}

// LayerNorm (1607.06450, eq. 4) of each row, in place.
template <typename T>
void NormRows(const at::Tensor& x_TD, const IndexerWeights& w) {
  const int64_t n = x_TD.size(1);
  const float *weight = Data<float>(w.k_norm_D), *bias = Data<float>(w.k_norm_bias_D);
  ParallelFor(x_TD.size(0), GrainFor(4 * n), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      T* row = Data<T>(x_TD) + t * n;
      double sum = 0.0, squares = 0.0;
      for (int64_t i = 0; i < n; ++i) sum += ToFloat(row[i]);
      const double mean = sum / static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i)
        squares += (ToFloat(row[i]) - mean) * (ToFloat(row[i]) - mean);
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + kKeyNormEps);
      for (int64_t i = 0; i < n; ++i)
        row[i] = FromFloat<T>(static_cast<float>((ToFloat(row[i]) - mean) * scale) * weight[i] +
                              bias[i]);
    }
  });
}

// RotateRows as torch's operations, for tensors that are not on the CPU.
at::Tensor RotateElsewhere(const ModelConfig& c, const at::Tensor& x_TX,
                           const at::Tensor& positions_T, const RopeTable& table) {
  const int64_t dim = c.indexer->dim, rope = c.latent->rope, half = rope / 2;
  const at::Tensor x = x_TX.to(at::kFloat).reshape({x_TX.size(0), -1, dim}),
                   cos = table.cos().index_select(0, positions_T).unsqueeze(1),
                   sin = table.sin().index_select(0, positions_T).unsqueeze(1);
  at::Tensor first = x.narrow(2, 0, half), second = x.narrow(2, half, half);
  if (c.indexer->interleaved) {
    const at::Tensor even = at::arange(0, rope, 2, positions_T.options());
    first = x.index_select(2, even);
    second = x.index_select(2, even + 1);
  }
  return at::cat({first * cos - second * sin, second * cos + first * sin,
                  x.narrow(2, rope, dim - rope)},
                 2)
      .reshape(x_TX.sizes())
      .to(x_TX.scalar_type());
}

at::Tensor Rotate(const ModelConfig& c, const at::Tensor& x_TX, const at::Tensor& positions_T,
                  const RopeTable& table) {
  if (!x_TX.is_cpu()) return RotateElsewhere(c, x_TX, positions_T, table);
  const CostTimer timer(Cost::kRowwise);
  DispatchFloat(x_TX.scalar_type(), [&](auto tag) {
    RotateRows<typename decltype(tag)::type>(c, x_TX, positions_T, table);
  });
  return x_TX;
}

void PackBuffer(Parameter* p, at::ScalarType dtype, at::Device device, Weight& w) {
  if (!device.is_cpu()) p->compute_device = device;
  if (w.packed.defined())
    w.Repack();
  else
    w = Weight::Create({p}, dtype);
}

}  // namespace

absl::Status ReadIndexerConfig(ModelConfig& config, bool interleaved) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(config.text_json));
  ConfigJson r(value.get_object(), "config.json");
  IndexerConfig indexer;
  indexer.heads = r.Int("index_n_heads", {}, 1, 4096);
  indexer.dim = r.Int("index_head_dim", {}, 2, 4096);
  indexer.top_k = r.Int("index_topk", {}, 1, 1 << 26);
  indexer.interleaved = interleaved;
  indexer.choosing = ChoosingLayers(r, config.num_layers);
  if (indexer.dim % 2 != 0 || indexer.dim < config.latent->rope)
    r.Fail("index_head_dim", "must be even, and qk_rope_head_dim or more");
  if (config.latent->q_rank == 0)
    r.Fail("q_lora_rank", "missing: the indexer's queries come from that latent");
  RFT_RETURN_IF_ERROR(r.status());
  config.indexer = std::move(indexer);
  return absl::OkStatus();
}

void AddIndexerSpecs(const std::string& attention, const ModelConfig& c,
                     std::vector<ParameterStore::Spec>& specs) {
  const IndexerConfig& i = *c.indexer;
  const std::string prefix = attention + ".indexer.";
  specs.push_back({prefix + "wq_b.weight", {i.heads * i.dim, c.latent->q_rank}});
  specs.push_back({prefix + "wk.weight", {i.dim, c.hidden_size}});
  specs.push_back({prefix + "k_norm.weight", {i.dim}});
  specs.push_back({prefix + "k_norm.bias", {i.dim}});
  specs.push_back({prefix + "weights_proj.weight", {i.heads, c.hidden_size}});
}

IndexerParameters FindIndexer(const std::string& attention, ParameterStore& parameters) {
  const auto find = [&](const char* name) -> Parameter* {
    for (Parameter& p : parameters.buffers())
      if (p.name == attention + ".indexer." + name) return &p;
    return nullptr;
  };
  return {find("wq_b.weight"), find("wk.weight"), find("k_norm.weight"), find("k_norm.bias"),
          find("weights_proj.weight")};
}

void PackIndexer(const IndexerParameters& p, at::ScalarType dtype, at::Device device,
                 IndexerWeights& w) {
  PackBuffer(p.q, dtype, device, w.q);
  PackBuffer(p.k, dtype, device, w.k);
  PackBuffer(p.weights, at::kFloat, device, w.weights);
  w.k_norm_D = p.k_norm->value.to(device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  w.k_norm_bias_D = p.k_norm_bias->value.to(device, at::kFloat, false, true);
}

at::Tensor IndexerKeys(const ModelConfig& config, const IndexerWeights& w, const at::Tensor& h_TH,
                       const at::Tensor& positions_T, const RopeTable& rope) {
  at::Tensor keys_TD = ops::Linear(h_TH, w.k);
  if (keys_TD.is_cpu())
    DispatchFloat(keys_TD.scalar_type(),
                  [&](auto tag) { NormRows<typename decltype(tag)::type>(keys_TD, w); });
  else
    keys_TD = at::layer_norm(keys_TD.to(at::kFloat), {keys_TD.size(1)}, w.k_norm_D, w.k_norm_bias_D,
                             kKeyNormEps)
                  .to(h_TH.scalar_type());
  return Rotate(config, keys_TD, positions_T, rope);
}

Indexer::Queries IndexerQueries(const ModelConfig& config, const IndexerWeights& w,
                                const at::Tensor& h_TH, const at::Tensor& latent_TR,
                                const at::Tensor& positions_T, const RopeTable& rope) {
  const IndexerConfig& indexer = *config.indexer;
  // Scores are scaled by dim^-1/2 before max(., 0), which the weights may as well be.
  const double scale = 1.0 / std::sqrt(static_cast<double>(indexer.heads * indexer.dim));
  return {Rotate(config, ops::Linear(latent_TR, w.q), positions_T, rope),
          ops::Linear(h_TH.to(at::kFloat), w.weights) * scale};
}

}  // namespace rft
