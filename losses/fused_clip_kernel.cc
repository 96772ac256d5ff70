#include "losses/fused_clip_kernel.h"

#include <algorithm>
#include <cmath>

#include "losses/vector_math.h"

namespace rft {
namespace {

using vec::Clamp;
using vec::Doubles;
using vec::Exp;
using vec::Fill;
using vec::Keep;
using vec::kWidth;
using vec::Load;
using vec::Mask;
using vec::Max;
using vec::Min;
using vec::Store;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kMetricLogRatioCap = 20.0;  // as in policy_loss.cc

// The configuration with every "unset" replaced by a value that does nothing.
struct Knobs {
  double low, high, dual, delta, cap, cap_max, kl_coef;
  double weight_floor, weight_cap, weight_log_cap, icepop_low, icepop_high;
  bool row_ratio, has_dual, has_delta, has_correction, token_weight, row_product, masks, has_icepop;
  bool mean_over_row, anchor_sampling, needs_row_sums;
  double share;
  KlEstimator kl;
};

Knobs KnobsOf(const LossConfig& config) {
  Knobs k{};
  k.low = 1.0 - config.clip_low;
  k.high = 1.0 + config.clip_high;
  k.has_dual = config.dual_clip.has_value();
  k.dual = config.dual_clip.value_or(1.0);
  k.has_delta = config.delta.has_value();
  k.delta = config.delta.value_or(kInf);
  k.cap = config.log_ratio_cap.value_or(kInf);
  k.cap_max = std::min(k.cap, config.log_ratio_cap_max.value_or(kInf));
  k.row_ratio = config.ratio_level != RatioLevel::kToken;
  k.anchor_sampling = config.ratio_anchor == RatioAnchor::kSampling;
  k.kl_coef = config.kl_target == KlTarget::kLoss ? config.kl_coef : 0.0;
  k.kl = config.kl_estimator;
  k.has_correction = config.correction.has_value();
  if (k.has_correction) {
    const ImportanceCorrection& c = *config.correction;
    k.token_weight = c.level == ImportanceCorrection::Level::kToken;
    k.row_product = c.level == ImportanceCorrection::Level::kSequenceProduct;
    k.masks = c.mode == ImportanceCorrection::Mode::kMask;
    k.weight_floor = c.floor.value_or(0.0);
    k.weight_cap = c.cap;
    k.weight_log_cap = c.log_cap;
    k.has_icepop = c.icepop.has_value();
    k.icepop_high = c.icepop.value_or(1.0);
    k.icepop_low = 1.0 / k.icepop_high;
  }
  k.needs_row_sums = k.row_ratio || (k.has_correction && !k.token_weight);
  k.mean_over_row = config.aggregation == Aggregation::kSeqMeanTokenMean;
  k.share = config.aggregation == Aggregation::kSeqMeanTokenSumNorm ? 1.0 / config.agg_norm : 1.0;
  return k;
}

// Eight tokens, inactive ones zeroed.
struct Tokens {
  Mask active;
  Doubles lp, old, sampling, ref, advantage;
};

template <typename T>
RFT_VEC_INLINE Tokens ReadTokens(const FusedClipArrays<T>& a, int64_t at) {
  Tokens t;
  t.active = Load(a.mask + at) > 0;
  t.lp = Keep(t.active, Load(a.logprobs + at));
  t.old = Keep(t.active, Load(a.old_logprobs + at));
  t.sampling =
      a.sampling_logprobs == nullptr ? t.old : Keep(t.active, Load(a.sampling_logprobs + at));
  t.ref = a.ref_logprobs == nullptr ? Doubles{} : Keep(t.active, Load(a.ref_logprobs + at));
  t.advantage = Keep(t.active, Load(a.advantages + at));
  return t;
}

// The last n < 8 tokens of a row in arrays that can be read eight at a time.
template <typename T>
struct Tail {
  T logprobs[kWidth] = {}, old_logprobs[kWidth] = {}, sampling_logprobs[kWidth] = {};
  T ref_logprobs[kWidth] = {}, advantages[kWidth] = {}, mask[kWidth] = {}, gradient[kWidth] = {};

  Tail(const FusedClipArrays<T>& a, int64_t at, int64_t n) {
    std::copy_n(a.logprobs + at, n, logprobs);
    std::copy_n(a.old_logprobs + at, n, old_logprobs);
    if (a.sampling_logprobs != nullptr) std::copy_n(a.sampling_logprobs + at, n, sampling_logprobs);
    if (a.ref_logprobs != nullptr) std::copy_n(a.ref_logprobs + at, n, ref_logprobs);
    std::copy_n(a.advantages + at, n, advantages);
    std::copy_n(a.mask + at, n, mask);
  }
  FusedClipArrays<T> Arrays(const FusedClipArrays<T>& like) {
    return {logprobs,
            old_logprobs,
            like.sampling_logprobs == nullptr ? nullptr : sampling_logprobs,
            like.ref_logprobs == nullptr ? nullptr : ref_logprobs,
            advantages,
            mask,
            nullptr,
            gradient};
  }
};

// What a row's tokens share.
struct RowValues {
  double count = 0.0;
  double shift = 0.0;   // mean log ratio, uncapped
  double weight = 1.0;  // raw correction of the row
  double share = 1.0;
};

struct RowSums {
  Mask count = {};
  Doubles ratio = {}, mismatch = {}, mismatch_capped = {};
};

template <typename T>
RFT_VEC_INLINE void AddRowSums(const FusedClipArrays<T>& a, int64_t at, const Knobs& k,
                               RowSums& sums) {
  if (!k.needs_row_sums) {
    sums.count += Load(a.mask + at) > 0;
    return;
  }
  const Tokens t = ReadTokens(a, at);
  sums.count += t.active;
  sums.ratio += t.lp - (k.anchor_sampling ? t.sampling : t.old);
  const Doubles d = t.old - t.sampling;
  sums.mismatch += d;
  sums.mismatch_capped += Clamp(d, -k.weight_log_cap, k.weight_log_cap);
}

RFT_VEC_INLINE RowValues ValuesOf(const RowSums& sums, const Knobs& k) {
  RowValues row;
  row.count = vec::Count(sums.count);
  const double divisor = std::max(row.count, 1.0);
  row.shift = vec::Sum(sums.ratio) / divisor;
  row.weight =
      k.row_product
          ? std::exp(std::clamp(vec::Sum(sums.mismatch), -k.weight_log_cap, k.weight_log_cap))
          : std::exp(vec::Sum(sums.mismatch_capped) / divisor);
  row.share = k.mean_over_row ? 1.0 / divisor : k.share;
  return row;
}

// Accumulators of a block of rows.
struct Sums {
  Doubles ratio = {}, weight = {}, weight_sq = {}, moved = {}, moved_k3 = {};
  Doubles mismatch = {}, mismatch_k3 = {}, mismatch_abs = {}, ref_k1 = {}, ref_k2 = {}, ref_k3 = {};
  Mask clip = {}, clip_low = {}, clip_high = {}, outside = {}, dual = {}, live = {}, changed = {};
  Doubles ratio_min = Fill(kInf), ratio_max = Fill(-kInf), weight_max = Fill(-kInf);
  Doubles mismatch_max = Fill(-kInf);
};

RFT_VEC_INLINE Doubles K3(Doubles d, Doubles exp_d) { return exp_d - 1.0 - d; }

// Adds eight tokens to the sums, stores their gradient, returns their losses (times the row's share
// still to come).
template <typename T>
RFT_VEC_INLINE Doubles Step(const FusedClipArrays<T>& a, int64_t at, const Knobs& k,
                            const RowValues& row, Sums& s) {
  const Tokens t = ReadTokens(a, at);
  const Doubles moved = t.lp - t.old;
  const Doubles mismatch = t.old - t.sampling;
  const bool has_sampling = a.sampling_logprobs != nullptr;

  // Ratio.
  Doubles log_ratio;
  if (k.row_ratio) {
    log_ratio = Fill(row.shift);
  } else {
    log_ratio = k.anchor_sampling ? t.lp - t.sampling : moved;
  }
  const Doubles capped = Clamp(log_ratio, -k.cap, k.cap_max);
  const Doubles ratio = Exp(capped);

  // Clip.
  const Doubles A = t.advantage;
  const Mask has_advantage = A != 0;
  const Doubles clipped = Clamp(ratio, k.low, k.high);
  const Doubles bounded = k.has_delta ? Clamp(ratio, -kInf, k.delta) : ratio;
  const Doubles unclipped_loss = Keep(has_advantage, -bounded * A);
  const Doubles clipped_loss = -clipped * A;
  const Mask clip = clipped_loss > unclipped_loss;
  Doubles loss = clip ? clipped_loss : unclipped_loss;
  Mask live = (clip ? clipped == ratio : bounded == ratio) & has_advantage;
  if (k.has_dual) {
    const Doubles bound = -k.dual * A;
    const Mask dual = (loss > bound) & (A < 0);
    loss = dual ? bound : loss;
    live = live & ~dual;
    s.dual += dual & t.active;
  }
  Doubles gradient = Keep(live & (capped == log_ratio), -ratio * A);

  // Correction.
  Doubles mismatch_exp = Fill(1.0);
  if (has_sampling) {
    mismatch_exp = Exp(Clamp(mismatch, -kMetricLogRatioCap, kMetricLogRatioCap));
    s.mismatch += mismatch;
    s.mismatch_k3 += K3(Clamp(mismatch, -kMetricLogRatioCap, kMetricLogRatioCap), mismatch_exp);
    s.mismatch_abs += vec::Abs(mismatch);
  }
  s.mismatch_max = Max(s.mismatch_max, t.active ? vec::Abs(mismatch) : Fill(-kInf));
  if (k.has_correction) {
    Doubles raw = Fill(row.weight);
    if (k.token_weight) {
      raw = k.weight_log_cap == kMetricLogRatioCap
                ? mismatch_exp
                : Exp(Clamp(mismatch, -k.weight_log_cap, k.weight_log_cap));
    }
    Doubles weight = k.masks ? Keep((raw >= k.weight_floor) & (raw <= k.weight_cap), raw)
                             : Clamp(raw, k.weight_floor, k.weight_cap);
    if (k.has_icepop) weight = Keep((raw >= k.icepop_low) & (raw <= k.icepop_high), weight);
    loss *= weight;
    gradient *= weight;
    live = live & (weight != 0);
    s.weight += Keep(t.active, weight);
    s.weight_sq += Keep(t.active, weight * weight);
    s.weight_max = Max(s.weight_max, t.active ? weight : Fill(-kInf));
    s.changed += (weight != raw) & t.active;
  }

  // Reference KL.
  if (a.ref_logprobs != nullptr) {
    const Doubles d = t.ref - t.lp;
    const Doubles exp_d = Exp(d);
    const Doubles k2 = 0.5 * d * d;
    const Doubles k3 = K3(d, exp_d);
    s.ref_k1 -= d;
    s.ref_k2 += k2;
    s.ref_k3 += k3;
    if (k.kl_coef != 0.0) {
      const Doubles value = k.kl == KlEstimator::kK1 ? -d : k.kl == KlEstimator::kK2 ? k2 : k3;
      const Doubles slope = k.kl == KlEstimator::kK1   ? Fill(1.0)
                            : k.kl == KlEstimator::kK2 ? -d
                                                       : 1.0 - exp_d;
      loss += k.kl_coef * value;
      gradient += k.kl_coef * slope;
    }
  }

  s.ratio += Keep(t.active, bounded);
  s.ratio_min = Min(s.ratio_min, t.active ? bounded : Fill(kInf));
  s.ratio_max = Max(s.ratio_max, t.active ? bounded : Fill(-kInf));
  s.clip += clip & t.active;
  s.clip_low += (bounded < k.low) & (A < 0);
  s.clip_high += (bounded > k.high) & (A > 0);
  s.outside += (clipped != bounded) & t.active;
  s.live += live & t.active;
  s.moved += moved;
  const Doubles moved_capped = Clamp(moved, -kMetricLogRatioCap, kMetricLogRatioCap);
  const bool is_ratio = !k.row_ratio && !k.anchor_sampling && k.cap == kMetricLogRatioCap &&
                        k.cap_max == kMetricLogRatioCap;
  s.moved_k3 += K3(moved_capped, is_ratio ? ratio : Exp(moved_capped));
  Store(Keep(t.active, gradient * row.share), a.gradient + at);
  return Keep(t.active, loss);
}

FusedClipTotals Finish(const Sums& s) {
  FusedClipTotals out;
  out.ratio = vec::Sum(s.ratio);
  out.clip = vec::Count(s.clip);
  out.clip_low = vec::Count(s.clip_low);
  out.clip_high = vec::Count(s.clip_high);
  out.outside = vec::Count(s.outside);
  out.dual = vec::Count(s.dual);
  out.live = vec::Count(s.live);
  out.weight = vec::Sum(s.weight);
  out.weight_sq = vec::Sum(s.weight_sq);
  out.weight_changed = vec::Count(s.changed);
  out.moved = vec::Sum(s.moved);
  out.moved_k3 = vec::Sum(s.moved_k3);
  out.mismatch = vec::Sum(s.mismatch);
  out.mismatch_k3 = vec::Sum(s.mismatch_k3);
  out.mismatch_abs = vec::Sum(s.mismatch_abs);
  out.ref_k1 = vec::Sum(s.ref_k1);
  out.ref_k2 = vec::Sum(s.ref_k2);
  out.ref_k3 = vec::Sum(s.ref_k3);
  for (int i = 0; i < kWidth; ++i) {
    out.ratio_min = std::min(out.ratio_min, s.ratio_min[i]);
    out.ratio_max = std::max(out.ratio_max, s.ratio_max[i]);
    out.weight_max = std::max(out.weight_max, s.weight_max[i]);
    out.mismatch_max = std::max(out.mismatch_max, s.mismatch_max[i]);
  }
  return out;
}

template <typename T>
RFT_VEC_INLINE FusedClipTotals Rows(const FusedClipArrays<T>& a, const Knobs& k, int64_t first_row,
                                    int64_t last_row) {
  Sums sums;
  double sum = 0.0, num_tokens = 0.0, num_rows = 0.0;
  for (int64_t r = first_row; r < last_row; ++r) {
    const int64_t begin = a.row_offsets[r], end = a.row_offsets[r + 1];
    const int64_t whole = begin + (end - begin) / kWidth * kWidth;
    Tail<T> tail(a, whole, end - whole);
    const FusedClipArrays<T> tail_arrays = tail.Arrays(a);
    RowSums row_sums;
    for (int64_t at = begin; at < whole; at += kWidth) AddRowSums(a, at, k, row_sums);
    AddRowSums(tail_arrays, 0, k, row_sums);
    const RowValues row = ValuesOf(row_sums, k);

    Doubles losses = {};
    for (int64_t at = begin; at < whole; at += kWidth) losses += Step(a, at, k, row, sums);
    losses += Step(tail_arrays, 0, k, row, sums);
    std::copy_n(tail.gradient, end - whole, a.gradient + whole);
    sum += vec::Sum(losses) * row.share;
    num_tokens += row.count;
    num_rows += row.count > 0 ? 1.0 : 0.0;
  }
  FusedClipTotals totals = Finish(sums);
  totals.sum = sum;
  totals.num_tokens = num_tokens;
  totals.num_rows = num_rows;
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
  const Knobs k = KnobsOf(config);
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
