// The CPU kernels, as a table of functions chosen once from the CPU's flags. Torch-free, raw pointers.
//
// The one property that all of them keep: a row's result has the same bits whatever else is computed with it (batch size,
// chunking, thread count), because every output element is one fixed chain of operations over its own inputs. Sampler and
// trainer call these same functions, which is why their log-probabilities are equal bit for bit on one machine. Results
// of different ISAs differ in the last bits.
//
// T is float or Bf16 (storage of activations and packed weights); sums are always float32. Row-major, strides in elements.
// Single-threaded: the callers in rft/tensor/*.cc split rows, panels and heads over threads.
#pragma once

#include <cstdint>

#include "rft/tensor/bf16.h"

namespace rft {

[[gnu::always_inline]] inline constexpr int64_t RoundUp(int64_t x, int64_t to) {
  return (x + to - 1) / to * to;
}

inline constexpr int kPanelWidth = 48;  // columns of a packed panel
inline constexpr int kBlockKeys = 16;   // tokens in a block of the attention cache
// Neighbouring terms of a sum that one multiply-add takes: bf16 has dot products of pairs.
template <typename T>
inline constexpr int64_t kSumStep = sizeof(T) == 2 ? 2 : 1;
inline constexpr int64_t kBlocksAhead =
    3;  // how far ahead of its reads attention asks memory for blocks

// A packed matrix for y[M, N] = a[M, K] b[K, N]: ceil(N / 48) panels, each K x 48 values, of which products read whole vectors of
// 16 columns (the last one zero-padded, those after it undefined); bf16 keeps pairs of consecutive k together. Elements per panel:
template <typename T>
[[gnu::always_inline]] constexpr int64_t PanelElements(int64_t k) {
  return RoundUp(k, kSumStep<T>) * kPanelWidth;
}

// One query vector of attention: `limit` keys (positions 0 .. limit-1) are visible to it.
template <typename T>
struct AttentionRow {
  const T* q;  // [head_dim]
  T* out;      // [head_dim]
  int64_t limit;
  float* max;         // out, may be null: max of the scaled scores
  float* sum;         // out, may be null: sum of exp(score - max)
  int64_t first = 0;  // keys before it are hidden (sliding windows)
  const uint16_t* selected =
      nullptr;  // visible keys only where bit j % 16 of word j / 16 is set; null: all
};

inline constexpr int kAttendBackwardTile = 8;  // query vectors that share a pass, at most

// All pointers of the backward of one (sequence, kv head), in the layouts the forward uses (key_blocks.h).
template <typename T>
struct AttentionBackwardArgs {
  int64_t head_dim = 0, num_keys = 0;
  float scale = 0;
  const T* k_blocks = nullptr;    // keys as K blocks
  const T* v_blocks_t = nullptr;  // values as K blocks
  const T* k_rows = nullptr;      // keys as V blocks; dp = head_dim rounded up to 16
  float* dk_rows = nullptr;       // [keys][dp], accumulated
  float* dv_rows = nullptr;       // [keys][dp], accumulated
  T* scratch = nullptr;           // 3 * kAttendBackwardTile * round_up(num_keys, 16)
};
template <typename T>
struct AttentionBackwardRow {
  const T* q;      // [dp], zero-padded
  const T* dout;   // [dp], zero-padded
  float delta;     // sum_d dout * out
  float max, sum;  // as the forward wrote them
  int64_t limit;
  float* dq;          // [dp], overwritten
  int64_t first = 0;  // as in AttentionRow
  const uint16_t* selected = nullptr;
};

template <typename T>
struct TypedKernels {
  // Packs columns [0, n) of a panel: element (k, c) = src[k * stride_k + c * stride_c], source float or T.
  void (*pack_panel_from_float)(const float* src, int64_t stride_k, int64_t stride_c, int64_t k,
                                int64_t n, T* panel);
  void (*pack_panel)(const T* src, int64_t stride_k, int64_t stride_c, int64_t k, int64_t n,
                     T* panel);
  // c[rows, n] (+)= a[rows, k] * panel. For bf16 k must be even.
  void (*gemm_panel_float)(const T* a, int64_t lda, const T* panel, int64_t k, int64_t rows,
                           int64_t n, float* c, int64_t ldc, bool add);
  void (*gemm_panel)(const T* a, int64_t lda, const T* panel, int64_t k, int64_t rows, int64_t n,
                     T* c, int64_t ldc);

  // y = x / sqrt(mean(x^2) + eps) * w for one row of n. X is the residual stream (float) ...
  float (*rms_norm_residual)(const float* x, const float* w, float eps, int64_t n,
                             T* y);  // returns 1 / rms
  // dx += gradient, dw_acc += gradient (float accumulators).
  void (*rms_norm_residual_backward)(const float* x, const float* w, const T* dy, float rstd,
                                     int64_t n, float* dx, float* dw);
  // ... or a head's activations (T), for Qwen3's q/k norm.
  float (*rms_norm_head)(const T* x, const float* w, float eps, int64_t n, T* y);
  void (*rms_norm_head_backward)(const T* x, const float* w, const T* dy, float rstd, int64_t n,
                                 T* dx, float* dw);

  // Half-split rotation of one head; cos/sin have n / 2 entries. sign -1 rotates back (the gradient).
  void (*rope)(T* x, const float* cos, const float* sin, float sign, int64_t n);

  // out[i] = silu(gate[i]) * up[i]
  void (*swiglu)(const T* gate, const T* up, int64_t n, T* out);
  void (*swiglu_backward)(const T* gate, const T* up, const T* dout, int64_t n, T* dgate, T* dup);
  // Both for an expert whose output counts `weight` times: with a = silu(gate) * up, rounded to T, out = weight * a; dgate and dup
  // are those of weight * dout, rounded to T, plus `more` if that isn't null. Returns <a, dout>.
  float (*swiglu_weighted_backward)(const T* gate, const T* up, const T* dout, float weight,
                                    const T* more, int64_t n, T* out, T* dgate, T* dup);

  float (*dot)(const T* a, const T* b, int64_t n);
  void (*scale)(const T* x, float factor, int64_t n, T* out);  // out may be x

  void (*to_float)(const T* src, int64_t n, float* dst);
  void (*from_float)(const float* src, int64_t n, T* dst);
  void (*transpose)(const T* src, int64_t rows, int64_t cols, int64_t ld_src, T* dst,
                    int64_t ld_dst);

  // Attention of up to any number of query vectors of one kv head over key/value blocks of 16 tokens:
  // the layouts of key_blocks.h. Probabilities are rounded to T before they meet the values. scratch: AttendScratch floats.
  // Both lists go on for kBlocksAhead entries: blocks that will be read next (any of them), which are asked for early.
  void (*attend)(const AttentionRow<T>* rows, int64_t num_rows, const T* const* k_blocks,
                 const T* const* v_blocks, int64_t head_dim, float scale, float* scratch);
  // Its gradient for query vectors of one kv head (all heads of the group and all rows of the sequence). Probabilities and the
  // scores' gradients are rounded to T before they meet keys, queries and values.
  void (*attend_backward)(const AttentionBackwardRow<T>* rows, int64_t num_rows,
                          const AttentionBackwardArgs<T>& args);
  // One token's scores of the keys in `num_blocks` K blocks: sum over heads of weights[h] max(q[h] . k, 0). q: [heads][dim], dim even.
  void (*index_scores)(const T* q, const float* weights, int64_t heads, int64_t dim,
                       const T* const* k_blocks, int64_t num_blocks, float* scores);
  // d(loss)/d(logits) of one row: out = g * (softmax(logits * inv_temperature) - onehot(target)) * inv_temperature.
  void (*softmax_gradient)(const float* logits, int64_t n, float inv_temperature, float log_sum_exp,
                           int64_t target, float g, T* out);
};

// log(sum exp(x * scale)) of a row and, if entropy is not null, the entropy in nats of softmax(x * scale).
struct RowStats {
  float max;  // of x * scale
  float sum;  // sum exp(x * scale - max)
  float log_sum_exp;
};

struct Kernels {
  const char* name;  // "amx", "avx512bf16", "avx512", "avx2", "portable"
  TypedKernels<float> f32;
  TypedKernels<Bf16> bf16;

  // c[rows, n] (+)= (a[rows, k] * panel) * scales, k even. The panel is a bf16 one whose values are int8 (see quantize.h); 48
  // scales, one per column. `add` is false where C is Bf16.
  void (*gemm_panel_int8_float)(const Bf16* a, int64_t lda, const int8_t* panel,
                                const float* scales, int64_t k, int64_t rows, int64_t n, float* c,
                                int64_t ldc, bool add);
  void (*gemm_panel_int8)(const Bf16* a, int64_t lda, const int8_t* panel, const float* scales,
                          int64_t k, int64_t rows, int64_t n, Bf16* c, int64_t ldc, bool add);

  RowStats (*row_stats)(const float* x, int64_t n, float scale, float* entropy);
  // The same without the entropy; out[i] = exp(x[i] * scale - max), whose sum it is.
  RowStats (*row_exp_stats)(const float* x, int64_t n, float scale, float* out);
  // exp(x * scale - max) of n values.
  void (*row_exp)(const float* x, int64_t n, float scale, float max, float* out);
  // out += factor * x
  void (*add_scaled)(const float* x, float factor, int64_t n, float* out);
  // Sum of squares in double, for the global norm.
  double (*sum_of_squares)(const float* x, int64_t n);
  // The optimizers' updates. The gradient is multiplied by grad_scale first, and cleared while its lines are in the cache.
  // AdamW (Loshchilov & Hutter 2019, alg. 2), decoupled decay.
  void (*adamw)(float* w, float* m, float* v, float* grad, int64_t n, float grad_scale, float lr,
                float beta1, float beta2, float eps, float weight_decay, float bias1,
                float bias2_sqrt);
  // m = momentum m + (g + weight_decay w), w -= lr m.
  void (*sgd)(float* w, float* m, float* grad, int64_t n, float grad_scale, float lr,
              float momentum, float weight_decay);

  template <typename T>
  const TypedKernels<T>& typed() const;
};
template <>
inline const TypedKernels<float>& Kernels::typed<float>() const {
  return f32;
}
template <>
inline const TypedKernels<Bf16>& Kernels::typed<Bf16>() const {
  return bf16;
}

// The best table for this CPU. The environment variable RFT_KERNELS=amx|avx512bf16|avx512|avx2|portable picks a lesser one
// (for tests and for comparing); one that this CPU can't run is ignored.
const Kernels& GetKernels();
// Every table that this CPU can run, best first.
const Kernels* const* RunnableKernels(int* count);

}  // namespace rft
