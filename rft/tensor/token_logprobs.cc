// TokenLogprobs of ops.h: the vocabulary projection that never holds [N, V].
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/composite.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/linear_backward.h"
#include "rft/tensor/low_rank.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/recording.h"
#include "rft/tensor/top_tokens.h"

namespace rft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kLogitsBytes = 64 << 20;

// The dropout of rows [first, first + count), as a temporary of the caller's.
struct DropoutOfRows {
  LowRankDropout of_rows;
  const LowRankDropout* get = nullptr;

  DropoutOfRows(const LowRankDropout* all, int64_t first, int64_t count) {
    if (all == nullptr) return;
    of_rows = {all->p, all->seed, all->keys_T.narrow(0, first, count)};
    get = &of_rows;
  }
};

// Rows [first, first + rows) of the logits, in the first rows of `logits`.
void ComputeLogits(const at::Tensor& hidden, const Weight& head, HeadAdapter adapter, int64_t first,
                   int64_t rows, const at::Tensor& logits) {
  DispatchFloat(hidden.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    MultiplyToFloat(Data<T>(hidden) + first * head.k, rows, head, Data<float>(logits), false);
  });
  if (adapter.low_rank != nullptr)
    LowRankForward(logits.narrow(0, 0, rows), hidden.narrow(0, first, rows),
                   {adapter.low_rank, 0, rows}, DropoutOfRows(adapter.dropout, first, rows).get);
}

int64_t ChunkRows(const at::Tensor& hidden, const Weight& head) {
  return std::max<int64_t>(1, std::min(hidden.size(0), LogitsChunkRows(head.n)));
}
// Float32 [rows of a chunk, V].
at::Tensor LogitsBuffer(const at::Tensor& hidden, const Weight& head) {
  return at::empty({ChunkRows(hidden, head), head.n}, hidden.options().dtype(at::kFloat));
}

// Calls body(first row, row count, logits [count, V] float32) for one chunk after another. Returns the buffer, in which the last
// chunk is left.
template <typename Body>
at::Tensor ForLogitChunks(const at::Tensor& hidden, const Weight& head, HeadAdapter adapter,
                          const Body& body) {
  const int64_t n = hidden.size(0), chunk = ChunkRows(hidden, head);
  const at::Tensor logits = LogitsBuffer(hidden, head);
  for (int64_t r0 = 0; r0 < n; r0 += chunk) {
    const int64_t rows = std::min(chunk, n - r0);
    ComputeLogits(hidden, head, adapter, r0, rows, logits);
    body(r0, rows, Data<float>(logits));
  }
  return logits;
}

at::Tensor Forward(const at::Tensor& hidden, const Weight& head, HeadAdapter adapter,
                   const at::Tensor& targets, double temperature, at::Tensor* log_sum_exp,
                   at::Tensor* entropy, at::Tensor* last_logits) {
  const int64_t n = hidden.size(0), k = targets.dim() == 2 ? targets.size(1) : 1;
  const auto options = hidden.options().dtype(at::kFloat);
  at::Tensor logprobs = at::empty(targets.sizes(), options);
  if (log_sum_exp) *log_sum_exp = at::empty({n}, options);
  if (entropy) *entropy = at::empty({n}, options);
  const float scale = static_cast<float>(1.0 / temperature);
  const auto of_chunk = [&](int64_t r0, int64_t rows, const float* logits) {
    ParallelFor(rows, GrainFor(4 * head.n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const float* row = logits + r * head.n;
        const RowStats stats = GetKernels().row_stats(
            row, head.n, scale, entropy ? Data<float>(*entropy) + r0 + r : nullptr);
        for (int64_t j = (r0 + r) * k; j < (r0 + r + 1) * k; ++j)
          Data<float>(logprobs)[j] = row[Data<int64_t>(targets)[j]] * scale - stats.log_sum_exp;
        if (log_sum_exp) Data<float>(*log_sum_exp)[r0 + r] = stats.log_sum_exp;
      }
    });
  };
  const at::Tensor logits = ForLogitChunks(hidden, head, adapter, of_chunk);
  if (last_logits) *last_logits = logits;
  return logprobs;
}

// Adds g * d entropy / d logits of one row: -g inv_temperature p (log p + entropy).
template <typename T>
void AddEntropyGradient(const float* logits, int64_t n, float inv_temperature, float log_sum_exp,
                        float entropy, float g, T* out) {
  for (int64_t j = 0; j < n; ++j) {
    const float log_p = logits[j] * inv_temperature - log_sum_exp;
    const float slope = -std::exp(log_p) * (log_p + entropy) * inv_temperature;
    out[j] = FromFloat<T>(ToFloat(out[j]) + g * slope);
  }
}

// d logits of one row with k targets: sum over j of g_j (onehot(target_j) - p). The kernel has done it as if all of `total`, the
// sum of g, belonged to targets[0].
template <typename T>
void SetTargetGradients(const float* logits, const int64_t* targets, const float* g, int64_t k,
                        float total, float inv_temperature, float log_sum_exp, T* out) {
  for (int64_t j = 0; j < k; ++j) {
    const float p = std::exp(logits[targets[j]] * inv_temperature - log_sum_exp);
    float own = 0.0f;
    for (int64_t i = 0; i < k; ++i) own += targets[i] == targets[j] ? g[i] : 0.0f;
    out[targets[j]] = FromFloat<T>((own - total * p) * inv_temperature);
  }
}

HeadAdapter AdapterAt(int64_t low_rank, int64_t dropout) {
  return {reinterpret_cast<const LowRank*>(low_rank),
          reinterpret_cast<const LowRankDropout*>(dropout)};
}

// The forward leaves its last chunk of logits to the backward, which starts with it: the buffer is needed there anyway, and a
// micro-batch of one chunk makes that product once.
constexpr char kLastLogits[] = "last_logits";

// Undefined for a second backward of a graph that was kept: the first one has written over them.
at::Tensor TakeLastLogits(AutogradContext* ctx) {
  const auto found = ctx->saved_data.find(kLastLogits);
  if (found == ctx->saved_data.end()) return {};
  at::Tensor logits = found->second.toTensor();
  ctx->saved_data.erase(found);
  return logits;
}

struct LogprobsFunction : torch::autograd::Function<LogprobsFunction> {
  // Log-probabilities, and entropies when wanted.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& targets, int64_t head, double temperature,
                               bool wants_entropy, int64_t low_rank, int64_t dropout) {
    at::Tensor log_sum_exp, entropy, last_logits;
    at::Tensor y = Forward(hidden, *reinterpret_cast<const Weight*>(head),
                           AdapterAt(low_rank, dropout), targets, temperature, &log_sum_exp,
                           wants_entropy ? &entropy : nullptr, &last_logits);
    ctx->saved_data[kLastLogits] = last_logits;
    ctx->saved_data["low_rank"] = low_rank;
    ctx->saved_data["dropout"] = dropout;
    ctx->save_for_backward({hidden, targets, log_sum_exp, entropy});
    ctx->saved_data["head"] = head;
    ctx->saved_data["temperature"] = temperature;
    ctx->set_materialize_grads(false);  // an unused entropy costs nothing
    return wants_entropy ? variable_list{y, entropy} : variable_list{y};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &hidden = saved[0], &targets = saved[1], &log_sum_exp = saved[2];
    const at::Tensor& entropy = saved[3];
    const int64_t k = targets.dim() == 2 ? targets.size(1) : 1;
    const at::Tensor g_NK = grads[0].defined() ? grads[0].contiguous()
                                               : at::zeros(targets.sizes(), log_sum_exp.options());
    const at::Tensor g = k == 1 ? g_NK : g_NK.sum(1);
    const at::Tensor g_entropy =
        grads.size() > 1 && grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    const auto& head = *reinterpret_cast<const Weight*>(ctx->saved_data["head"].toInt());
    const HeadAdapter adapter =
        AdapterAt(ctx->saved_data["low_rank"].toInt(), ctx->saved_data["dropout"].toInt());
    const float scale = static_cast<float>(1.0 / ctx->saved_data["temperature"].toDouble());
    const at::Tensor transposed = PackTransposed(head, hidden.scalar_type());
    const int64_t n = hidden.size(0), chunk = ChunkRows(hidden, head);
    at::Tensor dhidden;
    if (n > chunk || n == 0) dhidden = at::empty_like(hidden);
    const at::Tensor dlogits = at::empty({chunk, head.n}, hidden.options());
    at::Tensor buffer = TakeLastLogits(ctx);
    bool computed = buffer.defined();
    if (!computed) buffer = LogitsBuffer(hidden, head);
    const float* logits = Data<float>(buffer);
    for (int64_t r0 = n > 0 ? (n - 1) / chunk * chunk : -1; r0 >= 0; r0 -= chunk) {
      const int64_t rows = std::min(chunk, n - r0);
      if (!computed) ComputeLogits(hidden, head, adapter, r0, rows, buffer);
      computed = false;
      DispatchFloat(hidden.scalar_type(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto kernel = GetKernels().typed<T>().softmax_gradient;
        ParallelFor(rows, GrainFor(4 * head.n), [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const float lse = Data<float>(log_sum_exp)[r0 + r];
            kernel(logits + r * head.n, head.n, scale, lse, Data<int64_t>(targets)[(r0 + r) * k],
                   -Data<float>(g)[r0 + r], Data<T>(dlogits) + r * head.n);
            if (k > 1)
              SetTargetGradients(logits + r * head.n, Data<int64_t>(targets) + (r0 + r) * k,
                                 Data<float>(g_NK) + (r0 + r) * k, k, Data<float>(g)[r0 + r], scale,
                                 lse, Data<T>(dlogits) + r * head.n);
            if (g_entropy.defined() && Data<float>(g_entropy)[r0 + r] != 0.0f)
              AddEntropyGradient(logits + r * head.n, head.n, scale, lse,
                                 Data<float>(entropy)[r0 + r], Data<float>(g_entropy)[r0 + r],
                                 Data<T>(dlogits) + r * head.n);
          }
        });
      });
      const at::Tensor part = dlogits.narrow(0, 0, rows);
      const at::Tensor x = hidden.narrow(0, r0, rows);
      AccumulateWeightGradient(x, part, head);
      at::Tensor dx = InputGradient(part, transposed, head);
      if (adapter.low_rank != nullptr)
        dx += LowRankBackward(part, /*h=*/{}, x, {adapter.low_rank, 0, rows},
                              DropoutOfRows(adapter.dropout, r0, rows).get);
      if (rows == n)
        dhidden = dx;
      else
        dhidden.narrow(0, r0, rows).copy_(dx);
    }
    return {dhidden,      at::Tensor(), at::Tensor(), at::Tensor(),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

TopTokens TopLogprobs(const at::Tensor& hidden_NH, const Weight& head, int64_t k,
                      double temperature, HeadAdapter adapter) {
  TORCH_CHECK(k >= 0 && k <= head.n, "top_logprobs: top_k must be in 0 .. ", head.n, ", got ", k);
  TORCH_CHECK(temperature > 0, "top_logprobs: temperature must be positive");
  if (!hidden_NH.is_cpu()) return composite::TopLogprobs(hidden_NH, head, k, temperature, adapter);
  const int64_t n = hidden_NH.size(0);
  TopTokens top{at::empty({n, k}, at::kLong), at::empty({n, k}, at::kFloat),
                at::empty({n}, at::kFloat)};
  const float scale = static_cast<float>(1.0 / temperature);
  ForLogitChunks(hidden_NH, head, adapter, [&](int64_t r0, int64_t rows, const float* logits) {
    ParallelFor(rows, GrainFor(8 * head.n), [&](int64_t begin, int64_t end) {
      std::vector<int64_t> order(head.n);
      for (int64_t r = begin; r < end; ++r) {
        const float* row = logits + r * head.n;
        const RowStats stats =
            GetKernels().row_stats(row, head.n, scale, Data<float>(top.entropy_N) + r0 + r);
        std::iota(order.begin(), order.end(), int64_t{0});
        std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int64_t a, int64_t b) {
          return row[a] != row[b] ? row[a] > row[b] : a < b;
        });
        for (int64_t i = 0; i < k; ++i) {
          Data<int64_t>(top.ids_NK)[(r0 + r) * k + i] = order[i];
          Data<float>(top.logprobs_NK)[(r0 + r) * k + i] =
              row[order[i]] * scale - stats.log_sum_exp;
        }
      }
    });
  });
  return top;
}

int64_t LogitsChunkRows(int64_t vocab_size) {
  return std::max<int64_t>(
      8, kLogitsBytes / (vocab_size * static_cast<int64_t>(sizeof(float))) / 8 * 8);
}

at::Tensor TokenLogprobs(const at::Tensor& hidden_NH, const Weight& head,
                         const at::Tensor& targets_N, double temperature, at::Tensor* entropy_N,
                         HeadAdapter adapter) {
  TORCH_CHECK(hidden_NH.dim() == 2 && hidden_NH.size(1) == head.k && hidden_NH.is_contiguous(),
              "token_logprobs: expected a contiguous [N, ", head.k, "], got ", hidden_NH.sizes());
  TORCH_CHECK(targets_N.scalar_type() == at::kLong && targets_N.size(0) == hidden_NH.size(0),
              "token_logprobs: one int64 target, or K of them, per row");
  TORCH_CHECK(temperature > 0, "token_logprobs: temperature must be positive");
  if (!hidden_NH.is_cpu())
    return composite::TokenLogprobs(hidden_NH, head, targets_N, temperature, entropy_N, adapter);
  if (!Recording(hidden_NH))
    return Forward(hidden_NH, head, adapter, targets_N, temperature, nullptr, entropy_N, nullptr);
  const variable_list outputs = LogprobsFunction::apply(
      hidden_NH, targets_N, reinterpret_cast<int64_t>(&head), temperature, entropy_N != nullptr,
      reinterpret_cast<int64_t>(adapter.low_rank), reinterpret_cast<int64_t>(adapter.dropout));
  if (entropy_N != nullptr) *entropy_N = outputs[1];
  return outputs[0];
}

}  // namespace rft::ops
