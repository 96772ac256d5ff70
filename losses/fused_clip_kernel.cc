#include "losses/fused_clip_kernel.h"

#include <algorithm>
#include <cmath>

#include "losses/vector_math.h"

namespace rft {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kMetricLogRatioCap = 20.0;  // as in policy_loss.cc

// The configuration with every "unset" replaced by a value that does nothing.
struct Knobs {
  double low, high, dual, delta, cap, cap_max, kl_coef;
  double weight_floor, weight_cap, weight_log_cap, icepop_low, icepop_high;
  bool row_ratio, has_dual, has_correction, row_weight, row_product, masks;
  bool mean_over_row, from_sampling, kl_times_ratio;
  double share;
  KlEstimator kl;
};

Knobs KnobsOf(const LossConfig& config, bool has_sampling) {
  Knobs k{};
  k.low = 1.0 - config.clip_low;
  k.high = 1.0 + config.clip_high;
  k.has_dual = config.dual_clip.has_value();
  k.dual = config.dual_clip.value_or(1.0);
  k.delta = config.delta.value_or(kInf);
  k.cap = config.log_ratio_cap.value_or(kInf);
  k.cap_max = std::min(k.cap, config.log_ratio_cap_max.value_or(kInf));
  k.row_ratio = config.ratio_level != RatioLevel::kToken;
  k.from_sampling = config.ratio_anchor == RatioAnchor::kSampling && has_sampling;
  k.kl_coef = config.kl_target == KlTarget::kLoss ? config.kl_coef : 0.0;
  k.kl = config.kl_estimator;
  k.kl_times_ratio = k.kl_coef != 0.0 && config.kl_times_ratio;
  k.has_correction = config.correction.has_value();
  if (k.has_correction) {
    const ImportanceCorrection& c = *config.correction;
    k.row_weight = c.level != ImportanceCorrection::Level::kToken;
    k.row_product = c.level == ImportanceCorrection::Level::kSequenceProduct;
    k.masks = c.mode == ImportanceCorrection::Mode::kMask;
    k.weight_floor = c.floor.value_or(0.0);
    k.weight_cap = c.cap;
    k.weight_log_cap = c.log_cap;
    k.icepop_high = c.icepop.value_or(kInf);
    k.icepop_low = c.icepop ? 1.0 / *c.icepop : 0.0;
  }
  k.mean_over_row = config.aggregation == Aggregation::kSeqMeanTokenMean;
  k.share = config.aggregation == Aggregation::kSeqMeanTokenSumNorm ? 1.0 / config.agg_norm : 1.0;
  return k;
}

// Stages work on this many tokens at a time: their arrays stay in the first-level cache, and a sum
// of so few float32 values is as exact as the values.
constexpr int kBlock = 512;

// What a row's tokens share.
struct RowValues {
  double count = 0.0;
  double log_ratio = 0.0;  // mean over its tokens, uncapped
  double weight = 1.0;     // raw correction of the row
  double share = 1.0;
};

// A block of tokens on its way through the stages.
template <typename T>
struct Block {
  int n;
  const T *lp, *old, *sampling, *ref, *advantages, *mask;  // sampling and ref: null for none
  T* out;                                                  // the gradient
  alignas(64) T ratio[kBlock], within[kBlock];  // within: 1 if the log ratio was inside its caps
  alignas(64) T weight[kBlock];                 // raw correction
  alignas(64) T loss[kBlock], gradient[kBlock];
  alignas(64) T live[kBlock];  // 1 if the token has a gradient, else 0
};

// Every loop over tokens: lanes are independent, and sums may be taken lane by lane. Conditions are
// nested choices between numbers: one `&` of two bools and the compiler counts lanes in bytes and
// gives up.
#define RFT_TOKENS(...) _Pragma(RFT_TEXT(omp simd __VA_ARGS__))
#define RFT_TEXT(...) #__VA_ARGS__

// a - b of an active token, 0 of another; rest: what its rounding lost.
template <typename T>
RFT_VEC_INLINE T Subtract(T mask, T a, T b, T& rest) {
  const T kept_a = mask > T{0} ? a : T{0}, kept_b = mask > T{0} ? b : T{0};
  const T difference = kept_a - kept_b;
  rest = vec::RestOf(difference, kept_a, kept_b);
  return difference;
}

// exp and k3 of a difference held within the metrics' cap.
template <typename T>
RFT_VEC_INLINE T CappedExp(T difference, T rest, T& k3) {
  constexpr T kCap = static_cast<T>(kMetricLogRatioCap);
  const T capped = vec::Clamp(difference, -kCap, kCap);
  return vec::Exp(capped, capped == difference ? rest : T{0}, k3);
}

template <typename T>
RFT_VEC_INLINE RowValues ValuesOf(const FusedClipArrays<T>& a, const Knobs& k, int64_t begin,
                                  int64_t end) {
  double count = 0.0, moved = 0.0, mismatch = 0.0, mismatch_capped = 0.0;
  const T* mask = a.mask;
  RFT_TOKENS(reduction(+ : count))
  for (int64_t i = begin; i < end; ++i) count += mask[i] > T{0} ? 1.0 : 0.0;
  if (k.row_ratio) {
    const T *lp = a.logprobs, *anchor = k.from_sampling ? a.sampling_logprobs : a.old_logprobs;
    RFT_TOKENS(reduction(+ : moved))
    for (int64_t i = begin; i < end; ++i) {
      const double d = static_cast<double>(lp[i]) - static_cast<double>(anchor[i]);
      moved += mask[i] > T{0} ? d : 0.0;
    }
  }
  if (k.row_weight && a.sampling_logprobs != nullptr) {
    const T *old = a.old_logprobs, *sampling = a.sampling_logprobs;
    RFT_TOKENS(reduction(+ : mismatch, mismatch_capped))
    for (int64_t i = begin; i < end; ++i) {
      const double d = static_cast<double>(old[i]) - static_cast<double>(sampling[i]);
      const double kept = mask[i] > T{0} ? d : 0.0;
      mismatch += kept;
      mismatch_capped += vec::Clamp(kept, -k.weight_log_cap, k.weight_log_cap);
    }
  }
  const double divisor = std::max(count, 1.0);
  RowValues row;
  row.count = count;
  row.log_ratio = moved / divisor;
  row.weight = std::exp(k.row_product ? std::clamp(mismatch, -k.weight_log_cap, k.weight_log_cap)
                                      : mismatch_capped / divisor);
  row.share = k.mean_over_row ? 1.0 / divisor : k.share;
  return row;
}

// The importance ratio where it is not simply that of lp - old under the metrics' cap, or needed
// again for the KL.
template <typename T>
RFT_VEC_INLINE void Ratio(const Knobs& k, const RowValues& row, Block<T>& b) {
  if (k.row_ratio) {
    const double capped = vec::Clamp(row.log_ratio, -k.cap, k.cap_max);
    std::fill_n(b.ratio, b.n, static_cast<T>(std::exp(capped)));
    std::fill_n(b.within, b.n, capped == row.log_ratio ? T{1} : T{0});
    return;
  }
  const T* anchor = k.from_sampling ? b.sampling : b.old;
  const T low = static_cast<T>(-k.cap), high = static_cast<T>(k.cap_max);
  RFT_TOKENS()
  for (int i = 0; i < b.n; ++i) {
    T rest, k3;
    const T d = Subtract(b.mask[i], b.lp[i], anchor[i], rest), capped = vec::Clamp(d, low, high);
    b.ratio[i] = vec::ExpOfAny(capped, capped == d ? rest : T{0}, k3);
    b.within[i] = capped == d ? T{1} : T{0};
  }
}

// The clipped surrogate. kPlainRatio: the ratio is exp(lp - old) under the metrics' cap; otherwise
// it is in the block.
template <bool kPlainRatio, typename T>
RFT_VEC_INLINE void Clip(const Knobs& k, Block<T>& b, FusedClipTotals& totals) {
  const T low = static_cast<T>(k.low), high = static_cast<T>(k.high);
  const T delta = static_cast<T>(k.delta), inf = static_cast<T>(kInf);
  constexpr T kCap = static_cast<T>(kMetricLogRatioCap);
  T sum{}, moved{}, moved_k3{}, num_clip{}, num_low{}, num_high{}, num_outside{};
  T least = inf, most = -inf;
  RFT_TOKENS(reduction(+ : sum, moved, moved_k3, num_clip, num_low, num_high, num_outside)
                 reduction(min : least) reduction(max : most))
  for (int i = 0; i < b.n; ++i) {
    const T mask = b.mask[i], given = b.advantages[i], A = mask > T{0} ? given : T{0};
    T rest, k3;
    const T d = Subtract(mask, b.lp[i], b.old[i], rest), exp = CappedExp(d, rest, k3);
    moved += d;
    moved_k3 += k3;
    const T ratio = kPlainRatio ? exp : b.ratio[i];
    const T within = kPlainRatio ? (vec::Clamp(d, -kCap, kCap) == d ? T{1} : T{0}) : b.within[i];

    const T clipped = vec::Clamp(ratio, low, high);
    const T bounded = ratio > delta ? delta : ratio;
    // Inf * 0 would be NaN: no advantage is no loss.
    const T unclipped_loss = A != T{0} ? -bounded * A : T{0};
    const T clipped_loss = -clipped * A;
    const bool clip = clipped_loss > unclipped_loss;
    const T used = clip ? clipped : bounded;
    const T slope = -ratio * A, slope_within = within != T{0} ? slope : T{0};
    const T same = used == ratio ? T{1} : T{0}, live = A != T{0} ? same : T{0};
    b.loss[i] = clip ? clipped_loss : unclipped_loss;
    b.gradient[i] = live != T{0} ? slope_within : T{0};
    b.live[i] = live;

    sum += mask > T{0} ? bounded : T{0};
    least = std::min(least, mask > T{0} ? bounded : inf);
    most = std::max(most, mask > T{0} ? bounded : -inf);
    num_clip += clip ? T{1} : T{0};
    const T below = bounded < low ? T{1} : T{0}, above = bounded > high ? T{1} : T{0};
    num_low += A < T{0} ? below : T{0};
    num_high += A > T{0} ? above : T{0};
    const T outside = clipped != bounded ? T{1} : T{0};
    num_outside += mask > T{0} ? outside : T{0};
  }
  totals.ratio += sum;
  totals.ratio_min = std::min(totals.ratio_min, static_cast<double>(least));
  totals.ratio_max = std::max(totals.ratio_max, static_cast<double>(most));
  totals.moved += moved;
  totals.moved_k3 += moved_k3;
  totals.clip += num_clip;
  totals.clip_low += num_low;
  totals.clip_high += num_high;
  totals.outside += num_outside;
}

template <typename T>
RFT_VEC_INLINE void DualClip(const Knobs& k, Block<T>& b, FusedClipTotals& totals) {
  const T c = static_cast<T>(k.dual);
  T num_dual{};
  RFT_TOKENS(reduction(+ : num_dual))
  for (int i = 0; i < b.n; ++i) {
    const T given = b.advantages[i], A = b.mask[i] > T{0} ? given : T{0}, bound = -c * A;
    const T above = b.loss[i] > bound ? T{1} : T{0}, dual = A < T{0} ? above : T{0};
    b.loss[i] = dual != T{0} ? bound : b.loss[i];
    b.gradient[i] = dual != T{0} ? T{0} : b.gradient[i];
    b.live[i] -= dual * b.live[i];
    num_dual += dual;
  }
  totals.dual += num_dual;
}

// Metrics of sampler against trainer; exp of the difference under the metrics' cap is left in weight.
template <typename T>
RFT_VEC_INLINE void Mismatch(Block<T>& b, FusedClipTotals& totals) {
  T sum{}, sum_k3{}, sum_abs{}, most{};
  RFT_TOKENS(reduction(+ : sum, sum_k3, sum_abs) reduction(max : most))
  for (int i = 0; i < b.n; ++i) {
    T rest, k3;
    const T d = Subtract(b.mask[i], b.old[i], b.sampling[i], rest), size = d < T{0} ? -d : d;
    b.weight[i] = CappedExp(d, rest, k3);
    sum += d;
    sum_k3 += k3;
    sum_abs += size;
    most = std::max(most, size);
  }
  totals.mismatch += sum;
  totals.mismatch_k3 += sum_k3;
  totals.mismatch_abs += sum_abs;
  totals.mismatch_max = std::max(totals.mismatch_max, static_cast<double>(most));
}

// The raw weights where they are not what Mismatch leaves.
template <typename T>
RFT_VEC_INLINE void Weights(const Knobs& k, const RowValues& row, Block<T>& b) {
  if (k.row_weight || b.sampling == nullptr) {
    std::fill_n(b.weight, b.n, static_cast<T>(k.row_weight ? row.weight : 1.0));
  } else if (k.weight_log_cap != kMetricLogRatioCap) {
    const T cap = static_cast<T>(k.weight_log_cap);
    RFT_TOKENS()
    for (int i = 0; i < b.n; ++i) {
      T rest, k3;
      const T d = Subtract(b.mask[i], b.old[i], b.sampling[i], rest);
      const T capped = vec::Clamp(d, -cap, cap);
      b.weight[i] = vec::ExpOfAny(capped, capped == d ? rest : T{0}, k3);
    }
  }
}

template <typename T>
RFT_VEC_INLINE void Correct(const Knobs& k, Block<T>& b, FusedClipTotals& totals) {
  const T floor = static_cast<T>(k.weight_floor), cap = static_cast<T>(k.weight_cap);
  const T icepop_low = static_cast<T>(k.icepop_low), icepop_high = static_cast<T>(k.icepop_high);
  const T below = k.masks ? T{0} : floor, above = k.masks ? T{0} : cap;
  const T inf = static_cast<T>(kInf);
  T sum{}, sum_sq{}, num_changed{}, most = -inf;
  RFT_TOKENS(reduction(+ : sum, sum_sq, num_changed) reduction(max : most))
  for (int i = 0; i < b.n; ++i) {
    const T raw = b.weight[i], mask = b.mask[i];
    T weight = raw > cap ? above : raw;
    weight = raw < floor ? below : weight;
    weight = raw < icepop_low ? T{0} : weight;
    weight = raw > icepop_high ? T{0} : weight;
    b.loss[i] *= weight;
    b.gradient[i] *= weight;
    b.live[i] = weight != T{0} ? b.live[i] : T{0};
    const T kept = mask > T{0} ? weight : T{0};
    sum += kept;
    sum_sq += kept * kept;
    most = std::max(most, mask > T{0} ? weight : -inf);
    const T changed = weight != raw ? T{1} : T{0};
    num_changed += mask > T{0} ? changed : T{0};
  }
  totals.weight += sum;
  totals.weight_sq += sum_sq;
  totals.weight_changed += num_changed;
  totals.weight_max = std::max(totals.weight_max, static_cast<double>(most));
}

// kTimesRatio: the term is multiplied by the ratio in the block.
template <bool kTimesRatio, typename T>
RFT_VEC_INLINE void ReferenceKl(const Knobs& k, Block<T>& b, FusedClipTotals& totals) {
  const T coef = static_cast<T>(k.kl_coef);
  const bool is_k1 = k.kl == KlEstimator::kK1, is_k2 = k.kl == KlEstimator::kK2;
  T k1{}, k2{}, k3{};
  RFT_TOKENS(reduction(+ : k1, k2, k3))
  for (int i = 0; i < b.n; ++i) {
    T rest, k3_of_d;
    const T d = Subtract(b.mask[i], b.ref[i], b.lp[i], rest), half_square = T{0.5} * d * d;
    const T exp = vec::ExpOfAny(d, rest, k3_of_d);
    k1 -= d;
    k2 += half_square;
    k3 += k3_of_d;
    const T value = is_k1 ? -d : is_k2 ? half_square : k3_of_d;
    const T slope = is_k1 ? T{1} : is_k2 ? -d : T{1} - exp;
    if constexpr (kTimesRatio) {
      const T ratio = b.ratio[i], product = value * ratio;
      b.loss[i] += coef * product;
      b.gradient[i] += coef * (slope * ratio + (b.within[i] != T{0} ? product : T{0}));
    } else {
      b.loss[i] += coef != T{0} ? coef * value : T{0};  // coefficient 0: nothing, not 0 * infinity
      b.gradient[i] += coef != T{0} ? coef * slope : T{0};
    }
  }
  totals.ref_k1 += k1;
  totals.ref_k2 += k2;
  totals.ref_k3 += k3;
}

// Stores the gradient and adds the loss.
template <typename T>
RFT_VEC_INLINE void Finish(const RowValues& row, Block<T>& b, FusedClipTotals& totals) {
  const T share = static_cast<T>(row.share);
  T sum{}, num_live{};
  RFT_TOKENS(reduction(+ : sum, num_live))
  for (int i = 0; i < b.n; ++i) {
    const T mask = b.mask[i], gradient = b.gradient[i] * share, loss = b.loss[i];
    b.out[i] = mask > T{0} ? gradient : T{0};
    sum += mask > T{0} ? loss : T{0};
    num_live += b.live[i];
  }
  totals.sum += static_cast<double>(sum) * row.share;
  totals.live += num_live;
}

// Asks memory for the next block of an array while this one is computed: the stages of a block are too short for the CPU to
// notice that it reads on.
template <typename T>
RFT_VEC_INLINE void PrefetchNext(const T* block) {
  if (block == nullptr) return;
  const char* next = reinterpret_cast<const char*>(block + kBlock);
  for (int64_t i = 0; i < kBlock * static_cast<int64_t>(sizeof(T)); i += 64)
    __builtin_prefetch(next + i, 0, 3);
}

template <typename T>
RFT_VEC_INLINE FusedClipTotals Rows(const FusedClipArrays<T>& a, const Knobs& k, int64_t first_row,
                                    int64_t last_row) {
  const bool plain_ratio = !k.row_ratio && !k.from_sampling && !k.kl_times_ratio &&
                           k.cap == kMetricLogRatioCap && k.cap_max == kMetricLogRatioCap;
  FusedClipTotals totals;
  Block<T> b;
  for (int64_t r = first_row; r < last_row; ++r) {
    const int64_t begin = a.row_offsets[r], end = a.row_offsets[r + 1];
    const RowValues row = ValuesOf(a, k, begin, end);
    for (int64_t at = begin; at < end; at += kBlock) {
      b.n = static_cast<int>(std::min<int64_t>(kBlock, end - at));
      b.lp = a.logprobs + at;
      b.old = a.old_logprobs + at;
      b.sampling = a.sampling_logprobs == nullptr ? nullptr : a.sampling_logprobs + at;
      b.ref = a.ref_logprobs == nullptr ? nullptr : a.ref_logprobs + at;
      b.advantages = a.advantages + at;
      b.mask = a.mask + at;
      b.out = a.gradient + at;
      for (const T* block :
           {b.lp, b.old, b.sampling, b.ref, b.advantages, b.mask, static_cast<const T*>(b.out)})
        PrefetchNext(block);
      if (plain_ratio) {
        Clip<true>(k, b, totals);
      } else {
        Ratio(k, row, b);
        Clip<false>(k, b, totals);
      }
      if (k.has_dual) DualClip(k, b, totals);
      if (b.sampling != nullptr) Mismatch(b, totals);
      if (k.has_correction) {
        Weights(k, row, b);
        Correct(k, b, totals);
      }
      if (b.ref != nullptr && k.kl_times_ratio) ReferenceKl<true>(k, b, totals);
      if (b.ref != nullptr && !k.kl_times_ratio) ReferenceKl<false>(k, b, totals);
      Finish(row, b, totals);
    }
    totals.num_tokens += row.count;
    totals.num_rows += row.count > 0 ? 1.0 : 0.0;
  }
  if (a.sampling_logprobs == nullptr && totals.num_tokens > 0) totals.mismatch_max = 0.0;
  return totals;
}

#if defined(__x86_64__)
#define RFT_FUSED_TARGETS 1
template <typename T>
[[gnu::target("avx512f,avx512dq,avx512vl,fma")]] FusedClipTotals RowsAvx512(
    const FusedClipArrays<T>& a, const Knobs& k, int64_t first_row, int64_t last_row) {
  return Rows(a, k, first_row, last_row);
}
template <typename T>
[[gnu::target("avx2,fma")]] FusedClipTotals RowsAvx2(const FusedClipArrays<T>& a, const Knobs& k,
                                                     int64_t first_row, int64_t last_row) {
  return Rows(a, k, first_row, last_row);
}
#endif

}  // namespace

void FusedClipTotals::Add(const FusedClipTotals& o) {
  sum += o.sum, num_tokens += o.num_tokens, num_rows += o.num_rows;
  ratio += o.ratio, clip += o.clip, clip_low += o.clip_low, clip_high += o.clip_high;
  outside += o.outside, dual += o.dual, live += o.live;
  weight += o.weight, weight_sq += o.weight_sq, weight_changed += o.weight_changed;
  moved += o.moved, moved_k3 += o.moved_k3;
  mismatch += o.mismatch, mismatch_k3 += o.mismatch_k3, mismatch_abs += o.mismatch_abs;
  ref_k1 += o.ref_k1, ref_k2 += o.ref_k2, ref_k3 += o.ref_k3;
  ratio_min = std::min(ratio_min, o.ratio_min);
  ratio_max = std::max(ratio_max, o.ratio_max);
  weight_max = std::max(weight_max, o.weight_max);
  mismatch_max = std::max(mismatch_max, o.mismatch_max);
}

template <typename T>
FusedClipTotals RunFusedClip(const FusedClipArrays<T>& arrays, const LossConfig& config,
                             int64_t first_row, int64_t last_row) {
  const Knobs k = KnobsOf(config, arrays.sampling_logprobs != nullptr);
#ifdef RFT_FUSED_TARGETS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return RowsAvx512(arrays, k, first_row, last_row);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return RowsAvx2(arrays, k, first_row, last_row);
#endif
  return Rows(arrays, k, first_row, last_row);
}

template FusedClipTotals RunFusedClip(const FusedClipArrays<float>&, const LossConfig&, int64_t,
                                      int64_t);
template FusedClipTotals RunFusedClip(const FusedClipArrays<double>&, const LossConfig&, int64_t,
                                      int64_t);

}  // namespace rft
