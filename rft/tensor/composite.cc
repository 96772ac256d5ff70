#include "rft/tensor/composite.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/checkpoint.h"
#include "rft/tensor/copy.h"
#include "rft/tensor/recording.h"

namespace rft::ops::composite {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The identity; the gradient is added to those of the parameters whose rows follow one another in it.
struct ToParameters : torch::autograd::Function<ToParameters> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& value,
                            const std::vector<int64_t>& parts) {
    ctx->saved_data["parts"] = parts;
    return value.detach();
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    int64_t first = 0;
    for (const int64_t address : ctx->saved_data["parts"].toIntVector()) {
      const auto* part = reinterpret_cast<const Parameter*>(address);
      const int64_t rows = part->value.size(0);
      if (part->grad.defined()) part->grad.add_(grads[0].narrow(0, first, rows));
      first += rows;
    }
    return {at::Tensor(), at::Tensor()};
  }
};

at::Tensor WithGradient(const at::Tensor& value, const std::vector<Parameter*>& parts) {
  if (!at::GradMode::is_enabled() ||
      std::none_of(parts.begin(), parts.end(),
                   [](const Parameter* p) { return p->grad.defined(); }))
    return value;  // inference, or frozen
  std::vector<int64_t> addresses;
  for (const Parameter* part : parts) addresses.push_back(reinterpret_cast<int64_t>(part));
  return ToParameters::apply(value.detach().requires_grad_(true), addresses);
}

// Our kernels round a row of `x` to C once, after the weight.
at::Tensor Norm(const at::Tensor& x, const at::Tensor& weight, Parameter* parameter, double eps) {
  return at::rms_norm(x.to(at::kFloat), weight.sizes(), WithGradient(weight, {parameter}), eps);
}

// [T, X] as vectors of `width`, each normed by itself.
at::Tensor NormVectors(const at::Tensor& x, const at::Tensor& weight, Parameter* parameter,
                       double eps) {
  if (!weight.defined()) return x;
  return Norm(x.reshape({x.size(0), -1, weight.numel()}), weight, parameter, eps)
      .to(x.scalar_type())
      .reshape(x.sizes());
}

// The first 2 R dims of every head of `dim`; cos and sin [T, 1, R].
at::Tensor Rotate(const at::Tensor& x, int64_t dim, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = cos.size(2);
  const auto part = x.to(at::kFloat)
                        .reshape({x.size(0), -1, dim})
                        .split_with_sizes({half, half, dim - 2 * half}, 2);
  return at::cat({part[0] * cos - part[1] * sin, part[1] * cos + part[0] * sin, part[2]}, 2)
      .to(x.scalar_type())
      .reshape(x.sizes());
}

// Heads of columns [first, first + heads * dim) of x [n, X], each `times` times -> [1, heads * times, n, dim].
at::Tensor Heads(const at::Tensor& x, int64_t first, int64_t heads, int64_t dim,
                 int64_t times = 1) {
  const at::Tensor own = x.narrow(1, first, heads * dim).reshape({x.size(0), heads, dim});
  return (times == 1 ? own : own.repeat_interleave(times, 1)).transpose(0, 1).unsqueeze(0);
}

// [count, prefix + count], true where a token sees a key.
at::Tensor Visible(const PackedSequence& s, const HeadLayout& layout, at::TensorOptions options) {
  const at::Tensor position =
      at::arange(s.prefix_count, s.prefix_count + s.count, options.dtype(at::kLong)).unsqueeze(1);
  const at::Tensor key =
      at::arange(s.prefix_count + s.count, options.dtype(at::kLong)).unsqueeze(0);
  const at::Tensor before = key <= position;
  return layout.window > 0 ? before.logical_and(key > position - layout.window) : before;
}

// s (x A^T) B^T, [T, n] of `dtype`; 0 in columns that have no adapter.
at::Tensor LowRankDelta(const at::Tensor& x, const LowRank& adapter, const LowRankDropout* dropout,
                        int64_t n, at::ScalarType dtype) {
  std::vector<Parameter*> a;
  for (const LowRank::Part& part : adapter.parts) a.push_back(part.a);
  at::Tensor input = x;
  if (dropout != nullptr && dropout->p > 0.0)
    input =
        (x.to(at::kFloat) * DropoutFactors(*dropout, adapter).to(x.device())).to(x.scalar_type());
  const at::Tensor h =
      (input.matmul(WithGradient(adapter.a_packed, a).t()).to(at::kFloat) * adapter.scale)
          .to(adapter.dtype)
          .to(dtype);
  std::vector<at::Tensor> columns;
  int64_t filled = 0;
  const auto skip_to = [&](int64_t column) {
    if (column > filled) columns.push_back(at::zeros({x.size(0), column - filled}, h.options()));
  };
  for (size_t i = 0; i < adapter.parts.size(); ++i) {
    const LowRank::Part& part = adapter.parts[i];
    skip_to(part.column);
    columns.push_back(h.narrow(1, static_cast<int64_t>(i) * adapter.rank, adapter.rank)
                          .matmul(WithGradient(part.b_packed.to(dtype), {part.b}).t()));
    filled = part.column + part.n;
  }
  skip_to(n);
  return at::cat(columns, 1);
}

// Calls body(first row, x, log-softmax of x's logits) for a chunk of rows, recorded if gradients are; it returns [rows, ...].
template <typename Body>
at::Tensor OverLogprobChunks(const at::Tensor& hidden, const Weight& head, double temperature,
                             HeadAdapter adapter, const Body& body) {
  const int64_t n = hidden.size(0), chunk = LogitsChunkRows(head.n);
  std::vector<at::Tensor> results;
  for (int64_t first = 0; first < n || first == 0; first += chunk) {
    const int64_t rows = std::min(chunk, n - first);
    const Block block = [=, &head](const at::Tensor& x) {
      at::Tensor logits =
          x.to(at::kFloat).matmul(WithGradient(head.packed.to(at::kFloat), head.parts).t());
      if (adapter.low_rank != nullptr) {
        LowRankDropout dropout;
        if (adapter.dropout != nullptr)
          dropout = {adapter.dropout->p, adapter.dropout->seed,
                     adapter.dropout->keys_T.narrow(0, first, rows)};
        logits = logits + LowRankDelta(x, *adapter.low_rank, &dropout, head.n, at::kFloat);
      }
      return body(first, rows, at::log_softmax(logits / temperature, 1));
    };
    const at::Tensor x = hidden.narrow(0, first, rows);
    results.push_back(Recording(hidden) ? Recomputed(block, x) : block(x));
  }
  return at::cat(results, 0);
}

at::Tensor Entropy(const at::Tensor& logprobs) {
  return -(logprobs.exp() * logprobs).sum(1, /*keepdim=*/true);
}

}  // namespace

void Stack(Weight& w, const ValueUpdate& update) {
  int64_t first = 0;
  for (const Parameter* part : w.parts) {
    if (update) update(*part, 0, part->value.numel());
    const int64_t rows = part->value.size(0);
    CopyTo(w.packed.narrow(0, first, rows), part->value);
    first += rows;
  }
}

void Stack(LowRank& w) {
  const auto count = static_cast<int64_t>(w.parts.size());
  const auto options = at::TensorOptions(w.parts[0].a->device()).dtype(w.dtype);
  if (!w.a_packed.defined()) w.a_packed = at::empty({count * w.rank, w.k}, options);
  for (int64_t i = 0; i < count; ++i) {
    LowRank::Part& part = w.parts[i];
    CopyTo(w.a_packed.narrow(0, i * w.rank, w.rank), part.a->value);
    part.n = part.b->value.size(0);
    if (!part.b_packed.defined()) part.b_packed = at::empty(part.b->value.sizes(), options);
    CopyTo(part.b_packed, part.b->value);
  }
}

at::Tensor Linear(const at::Tensor& x, const Weight& w) {
  return x.matmul(WithGradient(w.packed, w.parts).t());
}

at::Tensor LinearAdd(const at::Tensor& x, const Weight& w, const at::Tensor& residual) {
  return residual + Linear(x, w).to(at::kFloat);
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, Parameter* parameter, double eps,
                   at::ScalarType dtype) {
  return Norm(x, weight, parameter, eps).to(dtype);
}

at::Tensor RotateHeads(const at::Tensor& qkv, const HeadLayout& layout, const HeadNorm& norm,
                       const at::Tensor& positions, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t d = layout.head_dim, kv = layout.num_kv_heads * d;
  const auto part = qkv.split_with_sizes({layout.num_heads * d, kv, kv}, 1);
  const at::Tensor c = cos.index_select(0, positions).unsqueeze(1),
                   s = sin.index_select(0, positions).unsqueeze(1);
  return at::cat(
      {Rotate(NormVectors(part[0], norm.q_weight_D, norm.q_parameter, norm.eps), d, c, s),
       Rotate(NormVectors(part[1], norm.k_weight_D, norm.k_parameter, norm.eps), d, c, s), part[2]},
      1);
}

at::Tensor SwiGlu(const at::Tensor& gate_up) {
  const auto compute = [](const at::Tensor& x) {
    const int64_t width = x.size(1) / 2;
    const auto part = x.to(at::kFloat).split_with_sizes({width, width}, 1);
    return (at::silu(part[0]) * part[1]).to(x.scalar_type());
  };
  return Recording(gate_up) ? Recomputed(compute, gate_up) : compute(gate_up);
}

at::Tensor TokenLogprobs(const at::Tensor& hidden, const Weight& head, const at::Tensor& targets,
                         double temperature, at::Tensor* entropy, HeadAdapter adapter) {
  const at::Tensor targets_NK = targets.view({hidden.size(0), -1});
  const int64_t k = targets_NK.size(1);
  // The entropy is one more column: a recomputed block has one result.
  const at::Tensor all = OverLogprobChunks(
      hidden, head, temperature, adapter,
      [=, wants_entropy = entropy != nullptr](int64_t first, int64_t rows,
                                              const at::Tensor& logprobs) {
        const at::Tensor chosen = logprobs.gather(1, targets_NK.narrow(0, first, rows));
        return wants_entropy ? at::cat({chosen, Entropy(logprobs)}, 1) : chosen;
      });
  if (entropy != nullptr) *entropy = all.select(1, k);
  return all.narrow(1, 0, k).reshape(targets.sizes());
}

TopTokens TopLogprobs(const at::Tensor& hidden, const Weight& head, int64_t k, double temperature,
                      HeadAdapter adapter) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> ids, logprobs;
  const at::Tensor entropy = OverLogprobChunks(hidden, head, temperature, adapter,
                                               [&](int64_t, int64_t, const at::Tensor& all) {
                                                 auto [best, index] = at::topk(all, k, 1);
                                                 ids.push_back(std::move(index));
                                                 logprobs.push_back(std::move(best));
                                                 return Entropy(all);
                                               });
  return {at::cat(ids, 0), at::cat(logprobs, 0), entropy.squeeze(1)};
}

at::Tensor Attend(const at::Tensor& qkv, const std::vector<PackedSequence>& sequences,
                  const HeadLayout& layout, const std::vector<at::Tensor>& visible, double scale) {
  const int64_t d = layout.head_dim, q = layout.num_heads * d, kv = layout.num_kv_heads * d;
  std::vector<int64_t> counts;
  int64_t begin = 0;
  for (const PackedSequence& s : sequences) {
    TORCH_CHECK(s.begin == begin, "attention: runs must follow one another");
    counts.push_back(s.count);
    begin += s.count;
  }
  const std::vector<at::Tensor> runs = qkv.split_with_sizes(counts, 0);
  std::vector<at::Tensor> attended;
  size_t first = 0;  // run of the group
  for (size_t i = 0; i < sequences.size(); ++i) {
    const PackedSequence& s = sequences[i];
    if (s.group != sequences[first].group) first = i;
    at::Tensor keys = runs[i].narrow(1, q, 2 * kv);
    if (s.prefix_count > 0)
      keys = at::cat({runs[first].narrow(0, 0, s.prefix_count).narrow(1, q, 2 * kv), keys}, 0);
    const bool chosen = !visible.empty() && visible[i].defined();
    const bool plain =
        !chosen && s.prefix_count == 0 && (layout.window == 0 || layout.window >= s.count);
    std::optional<at::Tensor> mask;
    if (!plain) mask = chosen ? visible[i] : Visible(s, layout, qkv.options());
    // Which kernels take groups of heads: torch's documentation of enable_gqa.
    const bool grouped = plain && qkv.scalar_type() == at::kBFloat16;
    const int64_t times = grouped ? 1 : layout.num_heads / layout.num_kv_heads;
    const at::Tensor out = at::scaled_dot_product_attention(
        Heads(runs[i], 0, layout.num_heads, d), Heads(keys, 0, layout.num_kv_heads, d, times),
        Heads(keys, kv, layout.num_kv_heads, d, times), mask, /*dropout_p=*/0.0,
        /*is_causal=*/plain, scale,
        /*enable_gqa=*/layout.num_heads != layout.num_kv_heads * times);
    attended.push_back(out.squeeze(0).transpose(0, 1).reshape({s.count, q}));
  }
  return at::cat(attended, 0);
}

std::vector<at::Tensor> SelectKeys(const at::Tensor& keys_TD, const Indexer::Queries& queries,
                                   const Indexer& indexer,
                                   const std::vector<PackedSequence>& sequences) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> visible;
  for (const PackedSequence& s : sequences) {
    const int64_t num_keys = s.prefix_count + s.count;
    if (num_keys <= indexer.top_k) {
      visible.emplace_back();
      continue;
    }
    const at::Tensor keys = at::cat({keys_TD.narrow(0, s.prefix_begin, s.prefix_count),
                                     keys_TD.narrow(0, s.begin, s.count)},
                                    0)
                                .to(at::kFloat);
    const at::Tensor q = queries.q_TX.narrow(0, s.begin, s.count).to(at::kFloat),
                     weights = queries.weights_TH.narrow(0, s.begin, s.count);
    at::Tensor scores = at::zeros({s.count, num_keys}, keys.options());
    for (int64_t h = 0; h < indexer.heads; ++h)  // one at a time: [count, keys] is large enough
      scores = scores + at::relu(q.narrow(1, h * indexer.dim, indexer.dim).matmul(keys.t())) *
                            weights.narrow(1, h, 1);
    const at::Tensor before = Visible(s, HeadLayout{}, keys.options());
    scores = scores.masked_fill(before.logical_not(), -std::numeric_limits<double>::infinity());
    const at::Tensor best = std::get<1>(at::topk(scores, indexer.top_k, 1));
    visible.push_back(at::zeros_like(before).scatter(1, best, true).logical_and(before));
  }
  return visible;
}

at::Tensor AddLowRank(const at::Tensor& y, const at::Tensor& x, const LowRank& adapter,
                      const LowRankDropout* dropout) {
  return y + LowRankDelta(x, adapter, dropout, y.size(1), y.scalar_type());
}

at::Tensor AddLowRankEmbedding(const at::Tensor& x, const at::Tensor& ids,
                               const EmbeddingLowRank& adapter) {
  const LowRank::Part& part = adapter.expand.parts[0];
  const at::Tensor a_rT = WithGradient(adapter.a_VR.t(), {part.a}).index_select(1, ids);
  return x + (a_rT.t() * adapter.expand.scale).matmul(WithGradient(part.b_packed, {part.b}).t());
}

}  // namespace rft::ops::composite
