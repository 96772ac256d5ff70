#include "rft/models/latent_attention.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"
#include "rft/models/lora.h"
#include "rft/tensor/bf16.h"
#include "rft/tensor/cost_timer.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLatentNormEps = 1e-6;  // whatever rms_norm_eps says

at::Tensor Norm(const at::Tensor& x_TX, const at::Tensor& weight_R, Parameter* parameter) {
  return ops::RmsNorm(x_TX.to(at::kFloat).contiguous(), weight_R, parameter, kLatentNormEps,
                      x_TX.scalar_type());
}

// Where dim i of the rotated part of a head stands in the checkpoint: pairs (2i, 2i + 1) come apart to (i, i + R / 2).
int64_t PairSource(const LatentConfig& l, int64_t i) {
  if (!l.interleaved) return i;
  const int64_t half = l.rope / 2;
  return i < half ? 2 * i : 2 * (i - half) + 1;
}

// One token. q: heads [plain | rotated]; kv: heads [plain key | value]; shared: the rotated part of all keys. out: [q | k | v],
// heads [rotated | plain], values padded with zeros.
template <typename T>
void ExpandRow(const LatentConfig& l, int64_t heads, const T* q, const T* kv, const T* shared,
               T* out) {
  const int64_t d = l.nope + l.rope;
  for (int64_t h = 0; h < heads; ++h) {
    T *qh = out + h * d, *kh = qh + heads * d, *vh = kh + heads * d;
    for (int64_t i = 0; i < l.rope; ++i) {
      qh[i] = q[h * d + l.nope + PairSource(l, i)];
      kh[i] = shared[PairSource(l, i)];
    }
    const T* from = kv + h * (l.nope + l.value);
    std::copy_n(q + h * d, l.nope, qh + l.rope);
    std::copy_n(from, l.nope, kh + l.rope);
    std::copy_n(from + l.nope, l.value, vh);
    std::fill(vh + l.value, vh + d, T{});
  }
}

// The same backwards: gradients of `out` to those of its inputs. sum: rope floats.
template <typename T>
void CollectRow(const LatentConfig& l, int64_t heads, const T* out, T* q, T* kv, T* shared,
                float* sum) {
  const int64_t d = l.nope + l.rope;
  std::fill_n(sum, l.rope, 0.0f);
  for (int64_t h = 0; h < heads; ++h) {
    const T *qh = out + h * d, *kh = qh + heads * d, *vh = kh + heads * d;
    for (int64_t i = 0; i < l.rope; ++i) {
      q[h * d + l.nope + PairSource(l, i)] = qh[i];
      sum[PairSource(l, i)] += ToFloat(kh[i]);
    }
    T* to = kv + h * (l.nope + l.value);
    std::copy_n(qh + l.rope, l.nope, q + h * d);
    std::copy_n(kh + l.rope, l.nope, to);
    std::copy_n(vh, l.value, to + l.nope);
  }
  for (int64_t i = 0; i < l.rope; ++i) shared[i] = FromFloat<T>(sum[i]);
}

at::Tensor ExpandForward(const LatentConfig& l, int64_t heads, const at::Tensor& q_TX,
                         const at::Tensor& kv_TX, const at::Tensor& shared_TR) {
  const CostTimer timer(Cost::kRowwise);
  const int64_t t = q_TX.size(0), width = 3 * heads * (l.nope + l.rope);
  at::Tensor out = at::empty({t, width}, q_TX.options());
  DispatchFloat(q_TX.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    ParallelFor(t, GrainFor(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        ExpandRow<T>(l, heads, Data<T>(q_TX) + i * q_TX.stride(0),
                     Data<T>(kv_TX) + i * kv_TX.stride(0),
                     Data<T>(shared_TR) + i * shared_TR.stride(0), Data<T>(out) + i * width);
    });
  });
  return out;
}

// The same as torch's operations, for tensors that are not on the CPU.
at::Tensor ExpandElsewhere(const LatentConfig& l, int64_t heads, const at::Tensor& q_TX,
                           const at::Tensor& kv_TX, const at::Tensor& shared_TR) {
  const int64_t t = q_TX.size(0);
  std::vector<int64_t> source;
  for (int64_t i = 0; i < l.rope; ++i) source.push_back(PairSource(l, i));
  const at::Tensor source_R = at::tensor(source, at::kLong).to(q_TX.device());
  const auto q = q_TX.reshape({t, heads, -1}).split_with_sizes({l.nope, l.rope}, 2);
  const auto kv = kv_TX.reshape({t, heads, -1}).split_with_sizes({l.nope, l.value}, 2);
  const at::Tensor rotated =
      shared_TR.index_select(1, source_R).unsqueeze(1).expand({t, heads, l.rope});
  const at::Tensor out =
      at::cat({at::cat({q[1].index_select(2, source_R), q[0]}, 2), at::cat({rotated, kv[0]}, 2),
               at::constant_pad_nd(kv[1], {0, l.nope + l.rope - l.value})},
              1);
  return out.reshape({t, -1});
}

struct ExpandFunction : torch::autograd::Function<ExpandFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q_TX, const at::Tensor& kv_TX,
                            const at::Tensor& shared_TR, int64_t latent, int64_t heads) {
    ctx->saved_data["latent"] = latent;
    ctx->saved_data["heads"] = heads;
    return ExpandForward(*reinterpret_cast<const LatentConfig*>(latent), heads, q_TX, kv_TX,
                         shared_TR);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& l = *reinterpret_cast<const LatentConfig*>(ctx->saved_data["latent"].toInt());
    const int64_t heads = ctx->saved_data["heads"].toInt(), d = l.nope + l.rope;
    const at::Tensor dout = grads[0].contiguous();
    const int64_t t = dout.size(0), kv_width = heads * (l.nope + l.value);
    at::Tensor dq = at::empty({t, heads * d}, dout.options()),
               dkv = at::empty({t, kv_width}, dout.options()),
               dshared = at::empty({t, l.rope}, dout.options());
    DispatchFloat(dout.scalar_type(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      ParallelFor(t, GrainFor(3 * heads * d), [&](int64_t begin, int64_t end) {
        std::vector<float> sum(l.rope);
        for (int64_t i = begin; i < end; ++i)
          CollectRow<T>(l, heads, Data<T>(dout) + i * 3 * heads * d, Data<T>(dq) + i * heads * d,
                        Data<T>(dkv) + i * kv_width, Data<T>(dshared) + i * l.rope, sum.data());
      });
    });
    return {dq, dkv, dshared, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

absl::Status ReadLatentConfig(ModelConfig& config) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(config.text_json));
  ConfigJson r(value.get_object(), "config.json");
  LatentConfig latent;
  latent.q_rank = r.Find("q_lora_rank") == nullptr ? 0 : r.Int("q_lora_rank", {}, 1, 1 << 20);
  latent.kv_rank = r.Int("kv_lora_rank", {}, 1, 1 << 20);
  latent.nope = r.Int("qk_nope_head_dim", {}, 1, 4096);
  latent.rope = r.Int("qk_rope_head_dim", {}, 2, 4096);
  latent.value = r.Int("v_head_dim", {}, 1, 4096);
  latent.interleaved = r.Bool("rope_interleave", true);
  const int64_t width = latent.nope + latent.rope;
  if (latent.rope % 2 != 0 || width % 2 != 0) r.Fail("qk_rope_head_dim", "must be even");
  if (latent.value > width)
    r.Fail("v_head_dim", "is more than qk_nope_head_dim + qk_rope_head_dim, which isn't supported");
  RFT_RETURN_IF_ERROR(r.status());
  const RopeConfig& rope = config.rope;
  const double m = rope.type == "yarn" && rope.mscale_all_dim > 0 && rope.factor > 1
                       ? 0.1 * rope.mscale_all_dim * std::log(rope.factor) + 1.0
                       : 1.0;
  latent.scale = m * m / std::sqrt(static_cast<double>(width));
  config.head_dim = width;
  config.num_kv_heads = config.num_heads;
  config.rope.rotary_dim = latent.rope;
  config.latent = latent;
  return absl::OkStatus();
}

void AddLatentSpecs(const std::string& attention, const ModelConfig& c,
                    std::vector<ParameterStore::Spec>& specs) {
  const LatentConfig& l = *c.latent;
  const int64_t h = c.hidden_size, heads = c.num_heads;
  const auto add = [&](const char* name, std::vector<int64_t> shape) {
    specs.push_back({attention + "." + name + ".weight", std::move(shape)});
  };
  if (l.q_rank > 0) {
    add("q_a_proj", {l.q_rank, h});
    add("q_a_layernorm", {l.q_rank});
    add("q_b_proj", {heads * c.head_dim, l.q_rank});
  } else {
    add("q_proj", {heads * c.head_dim, h});
  }
  add("kv_a_proj_with_mqa", {l.kv_rank + l.rope, h});
  add("kv_a_layernorm", {l.kv_rank});
  add("kv_b_proj", {heads * (l.nope + l.value), l.kv_rank});
  add("o_proj", {h, heads * l.value});
}

LatentParameters FindLatent(const std::string& attention, ParameterStore& parameters) {
  const auto find = [&](const char* name) {
    return parameters.Find(attention + "." + name + ".weight");
  };
  LatentParameters p;
  p.q = find("q_a_proj");
  p.q_norm = find("q_a_layernorm");
  p.q_b = find("q_b_proj");
  if (p.q == nullptr) p.q = find("q_proj");
  p.kv = find("kv_a_proj_with_mqa");
  p.kv_norm = find("kv_a_layernorm");
  p.kv_b = find("kv_b_proj");
  return p;
}

at::Tensor ExpandLatent(const ModelConfig& config, const LatentParameters& p,
                        const LatentWeights& w, const at::Tensor& projected_TX,
                        const ModelWeights& weights, at::Tensor* q_latent_TR) {
  const LatentConfig& l = *config.latent;
  const int64_t heads = config.num_heads,
                q_width = p.q_b != nullptr ? l.q_rank : heads * config.head_dim;
  at::Tensor q = projected_TX.narrow(1, 0, q_width);
  if (p.q_b != nullptr) {
    const at::Tensor q_latent = Norm(q, w.q_norm_R, p.q_norm);
    if (q_latent_TR != nullptr) *q_latent_TR = q_latent;
    q = LoraLinear(q_latent, w.q_b, weights);
  }
  const at::Tensor latent = projected_TX.narrow(1, q_width, l.kv_rank);
  const at::Tensor kv = LoraLinear(Norm(latent, w.kv_norm_R, p.kv_norm), w.kv_b, weights);
  const at::Tensor shared = projected_TX.narrow(1, q_width + l.kv_rank, l.rope);
  if (!q.is_cpu()) return ExpandElsewhere(l, heads, q, kv, shared);
  const bool recording = at::GradMode::is_enabled() &&
                         (q.requires_grad() || kv.requires_grad() || shared.requires_grad());
  if (!recording) return ExpandForward(l, heads, q, kv, shared);
  return ExpandFunction::apply(q, kv, shared, reinterpret_cast<int64_t>(&l), heads);
}

at::Tensor TakeValues(const LatentConfig& latent, const at::Tensor& attended_TX) {
  const int64_t t = attended_TX.size(0), width = latent.nope + latent.rope;
  return attended_TX.reshape({t, -1, width})
      .narrow(2, 0, latent.value)
      .reshape({t, -1})
      .contiguous();
}

}  // namespace rft
