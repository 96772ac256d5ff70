// Attention over blocks of 16 keys, forward and backward. Included by kernels_impl.h.
//
// One fixed order for training, prefill and decode: scores of a block are one multiply-add chain over the head dimension
// per key (16 keys = 16 lanes); the maximum over all visible keys; exp; sums lane by lane over the blocks; then the values
// key by key (in bf16 by pairs of neighbours, with probabilities rounded to bf16). A vector's chain is the same whichever other
// vectors share the tile, and masked keys add exact zeros.
#pragma once

#include <cmath>

#include "rft/tensor/kernels.h"
#include "rft/tensor/simd.h"
#include "rft/tensor/sum_step_impl.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

inline constexpr int kAttendTile = 8;  // query vectors that share a pass over the key blocks
#if defined(__AVX512F__)
inline constexpr bool kManyRegisters = true;  // 32 of 16 lanes
#else
inline constexpr bool kManyRegisters = false;
#endif
// Vectors that share a pass of the backward.
inline constexpr int kBackwardTile = kManyRegisters ? kAttendBackwardTile : 4;

// Asks memory for a block of 16 x width elements, into the L2 cache: a burst of that many lines would fill the L1's queue of
// misses and stall the loads behind it (measured: 1.2 to 1.5 times the time at 8,192 keys).
template <typename K>
inline void PrefetchBlock(const K* block, int64_t width) {
  const char* bytes = reinterpret_cast<const char*>(block);
  const int64_t size = kBlockKeys * width * static_cast<int64_t>(sizeof(K));
  for (int64_t i = 0; i < size; i += 64) __builtin_prefetch(bytes + i, 0, 2);
}

// The scores of N neighbouring blocks, in registers: with few vectors it takes several blocks to keep the multipliers busy.
template <int R, int N, typename K>
inline void ScoreBlocks(const K* q, int64_t ldq, const K* const* k_blocks, int64_t head_dim,
                        float scale, const int64_t* limits, int64_t first_key, float* scores,
                        int64_t lds) {
  Vec acc[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) acc[r][n] = Zero();
  for (int64_t d = 0; d < head_dim; d += kSumStep<K>) {
    StepLanes<K> kd[N];
    for (int n = 0; n < N; ++n) kd[n] = LoadStep(k_blocks[n] + d * kBlockKeys);
    for (int r = 0; r < R; ++r) {
      const auto x = SetStep(q + r * ldq + d);
      for (int n = 0; n < N; ++n) acc[r][n] = AddStep(x, kd[n], acc[r][n]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) {
      const int64_t key = first_key + n * kBlockKeys, visible = limits[r] - key;
      Vec s = Mul(acc[r][n], Set1(scale));
      if (visible < kBlockKeys)
        s = Blend(s, Set1(-INFINITY), visible > 0 ? static_cast<int>(visible) : 0);
      Store(scores + r * lds + key, s);
    }
}

// scores[r][0..keys) = scale * q_r . k, -inf where not visible. q: [R][head_dim], padded with zeros to whole steps.
template <int R, typename K>
inline void Scores(const K* q, int64_t ldq, const K* const* k_blocks, int64_t num_blocks,
                   int64_t head_dim, float scale, const int64_t* limits, float* scores, int64_t lds,
                   bool prefetch) {
  constexpr int kTogether = R <= 2 ? 4 : R <= 4 || kManyRegisters ? 2 : 1;
  int64_t b = 0;
  for (; b + kTogether <= num_blocks; b += kTogether) {
    if (prefetch)
      for (int n = 0; n < kTogether; ++n) PrefetchBlock(k_blocks[b + n + kBlocksAhead], head_dim);
    ScoreBlocks<R, kTogether>(q, ldq, k_blocks + b, head_dim, scale, limits, b * kBlockKeys, scores,
                              lds);
  }
  for (; b < num_blocks; ++b) {
    if (prefetch) PrefetchBlock(k_blocks[b + kBlocksAhead], head_dim);
    ScoreBlocks<R, 1>(q, ldq, k_blocks + b, head_dim, scale, limits, b * kBlockKeys, scores, lds);
  }
}

// p = exp(score - max) of a row; returns max and sum. p may be the scores' own memory.
template <typename T>
inline void ExpRow(const float* scores, int64_t num_blocks, T* p, float& max, float& sum) {
  Vec m = Set1(-INFINITY);
  for (int64_t b = 0; b < num_blocks; ++b) m = Max(m, Load(scores + b * kBlockKeys));
  max = MaxOf(m);
  const Vec mv = Set1(max);
  Vec total = Zero();
  for (int64_t b = 0; b < num_blocks; ++b) {
    const Vec e = Exp(Sub(Load(scores + b * kBlockKeys), mv));
    Store(p + b * kBlockKeys, e);
    total = Add(total, e);
  }
  sum = Sum(total);
}

// out[r][d0 .. d0 + 16 V) = sum_j p[r][j] v[j]
template <int R, int V, typename K>
inline void WeightedValues(const K* p, int64_t ldp, const K* const* v_blocks, int64_t num_keys,
                           int64_t dp, int64_t d0, float* out, int64_t ldo, bool prefetch) {
  constexpr int64_t kStep = kSumStep<K>;
  Vec acc[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) acc[r][v] = Zero();
  // One loop over all keys, not one per block: the compiler keeps the sums in registers over a single loop only.
  for (int64_t j = 0; j < num_keys; j += kStep) {
    const int64_t b = j / kBlockKeys, slot = j % kBlockKeys;
    if (prefetch && slot == 0) PrefetchBlock(v_blocks[b + kBlocksAhead], dp);
    const K* row = v_blocks[b] + slot * dp + d0 * kStep;
    StepLanes<K> value[V];
    for (int v = 0; v < V; ++v) value[v] = LoadStep(row + v * kStep * kLanes);
    for (int r = 0; r < R; ++r) {
      const auto w = SetStep(p + r * ldp + j);
      for (int v = 0; v < V; ++v) acc[r][v] = AddStep(w, value[v], acc[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) Store(out + r * ldo + d0 + v * kLanes, acc[r][v]);
}

template <int R, typename K>
inline void WeightedValuesAllDims(const K* p, int64_t ldp, const K* const* v_blocks,
                                  int64_t num_keys, int64_t dp, float* out, bool prefetch) {
  constexpr int kVectors = R <= 6 ? 4 : 2;  // at most 24 accumulators
  int64_t d = 0;
  for (; d + kVectors * kLanes <= dp; d += kVectors * kLanes, prefetch = false)
    WeightedValues<R, kVectors>(p, ldp, v_blocks, num_keys, dp, d, out, dp, prefetch);
  if constexpr (kVectors > 2)
    for (; d + 2 * kLanes <= dp; d += 2 * kLanes, prefetch = false)
      WeightedValues<R, 2>(p, ldp, v_blocks, num_keys, dp, d, out, dp, prefetch);
  for (; d < dp; d += kLanes, prefetch = false)
    WeightedValues<R, 1>(p, ldp, v_blocks, num_keys, dp, d, out, dp, prefetch);
}

// Keys of the whole blocks before all windows of R rows: they are not read. To a sum they would add exact zeros.
template <int R, typename Row>
inline int64_t KeysBeforeWindows(const Row* rows) {
  int64_t first = rows[0].first;
  for (int r = 1; r < R; ++r) first = rows[r].first < first ? rows[r].first : first;
  return first / kBlockKeys * kBlockKeys;
}

// Calls hide(j) for every key j of [0, keys), a multiple of 16, that isn't selected; words: of the first of them.
template <typename Hide>
inline void ForUnselected(const uint16_t* words, int64_t keys, const Hide& hide) {
  for (int64_t b = 0; b < keys / kBlockKeys; ++b)
    for (uint32_t left = words[b] ^ 0xffffu; left != 0; left &= left - 1)
      hide(b * kBlockKeys + __builtin_ctz(left));
}

// `prefetch`: the blocks come from memory (decode); false when an earlier tile has just read them.
template <int R, typename T>
inline void AttendTile(const AttentionRow<T>* rows, const T* const* k_blocks,
                       const T* const* v_blocks, int64_t head_dim, float scale, float* scratch,
                       bool prefetch) {
  const int64_t hidden = KeysBeforeWindows<R>(rows);
  k_blocks += hidden / kBlockKeys;
  v_blocks += hidden / kBlockKeys;
  int64_t limits[R], longest = 0;
  for (int r = 0; r < R; ++r) {
    limits[r] = rows[r].limit - hidden;
    longest = limits[r] > longest ? limits[r] : longest;
  }
  const int64_t dp = RoundUp(head_dim, kLanes), blocks = (longest + kBlockKeys - 1) / kBlockKeys;
  const int64_t lds = blocks * kBlockKeys;
  float* out = scratch;                                     // R x dp
  T* q = reinterpret_cast<T*>(scratch + kAttendTile * dp);  // R x dp
  float* scores = scratch + 2 * kAttendTile * dp;           // R x lds
  T* p;                                                     // R x lds
  if constexpr (kSumStep<T> == 1)
    p = scores;
  else
    p = reinterpret_cast<T*>(scores + R * lds);
  for (int r = 0; r < R; ++r) {
    __builtin_memcpy(q + r * dp, rows[r].q, head_dim * sizeof(T));
    for (int64_t d = head_dim; d < dp; ++d) q[r * dp + d] = FromFloat<T>(0.0f);
  }
  Scores<R>(q, dp, k_blocks, blocks, head_dim, scale, limits, scores, lds, prefetch);
  for (int r = 0; r < R; ++r)
    for (int64_t j = 0; j < rows[r].first - hidden; ++j) scores[r * lds + j] = -INFINITY;
  for (int r = 0; r < R; ++r)
    if (rows[r].selected != nullptr)
      ForUnselected(rows[r].selected + hidden / kBlockKeys, RoundUp(limits[r], kBlockKeys),
                    [&](int64_t j) { scores[r * lds + j] = -INFINITY; });
  float inv_sum[R];
  for (int r = 0; r < R; ++r) {
    float max, sum;
    ExpRow(scores + r * lds, blocks, p + r * lds, max, sum);
    inv_sum[r] = 1.0f / sum;
    if (rows[r].max) *rows[r].max = max;
    if (rows[r].sum) *rows[r].sum = sum;
  }
  WeightedValuesAllDims<R>(p, lds, v_blocks, longest, dp, out, prefetch);
  for (int r = 0; r < R; ++r)
    for (int64_t d = 0; d < head_dim; d += kLanes) {
      const Vec mean = Mul(Load(out + r * dp + d), Set1(inv_sum[r]));
      if (d + kLanes <= head_dim)
        Store(rows[r].out + d, mean);
      else
        StorePartial(rows[r].out + d, mean, static_cast<int>(head_dim - d));
    }
}

template <typename T>
void Attend(const AttentionRow<T>* rows, int64_t num_rows, const T* const* k_blocks,
            const T* const* v_blocks, int64_t head_dim, float scale, float* scratch) {
  const bool prefetch = num_rows <= kAttendTile;
  for (; num_rows >= kAttendTile; num_rows -= kAttendTile, rows += kAttendTile)
    AttendTile<kAttendTile>(rows, k_blocks, v_blocks, head_dim, scale, scratch, prefetch);
  WithRows<kAttendTile - 1>(num_rows, [&](auto r) {
    AttendTile<decltype(r)::value>(rows, k_blocks, v_blocks, head_dim, scale, scratch, prefetch);
  });
}

// One vector's gradient (FlashAttention-2, alg. 2, with the probabilities recomputed from max and sum):
//   p = exp(s - max) / sum;  ds = p (dout . v - delta) scale;  dq = sum ds k;  dk += ds q;  dv += p dout.
// dq sums over keys, dk and dv over the tile's vectors: p and ds are kept as steps over vectors, ds as steps over keys too.
template <int R, typename T>
inline void AttendBackwardTile(const AttentionBackwardRow<T>* rows, AttentionBackwardArgs<T> a) {
  constexpr int kStep = kSumStep<T>, kGroups = (R + kStep - 1) / kStep;
  static_assert(R == 1 || R % kStep == 0);
  const int64_t dp = RoundUp(a.head_dim, kLanes), hidden = KeysBeforeWindows<R>(rows);
  const int64_t key_dim = RoundUp(a.head_dim, kStep);
  a.k_blocks += hidden * key_dim;
  a.v_blocks_t += hidden * key_dim;
  a.k_rows += hidden * dp;
  a.dk_rows += hidden * dp;
  a.dv_rows += hidden * dp;
  int64_t limits[R], longest = 0;
  for (int r = 0; r < R; ++r) {
    limits[r] = rows[r].limit - hidden;
    longest = limits[r] > longest ? limits[r] : longest;
  }
  const int64_t blocks = (longest + kBlockKeys - 1) / kBlockKeys;
  const int64_t lds = blocks * kBlockKeys;
  T* p = a.scratch;                                              // kGroups x lds x kStep
  T* ds = p + kGroups * lds * kStep;                             // the same
  T* ds_of_keys = kStep == 1 ? ds : ds + kGroups * lds * kStep;  // R x lds
  for (int64_t b = 0; b < blocks; ++b) {
    Vec s[R], g[R];
    for (int r = 0; r < R; ++r) s[r] = g[r] = Zero();
    const T* k = a.k_blocks + b * key_dim * kBlockKeys;
    const T* v = a.v_blocks_t + b * key_dim * kBlockKeys;
    for (int64_t d = 0; d < a.head_dim; d += kStep) {
      const auto kd = LoadStep(k + d * kBlockKeys), vd = LoadStep(v + d * kBlockKeys);
      for (int r = 0; r < R; ++r) {
        s[r] = AddStep(SetStep(rows[r].q + d), kd, s[r]);
        g[r] = AddStep(SetStep(rows[r].dout + d), vd, g[r]);
      }
    }
    Vec pr[kGroups * kStep], dsr[kGroups * kStep];
    pr[kGroups * kStep - 1] = dsr[kGroups * kStep - 1] = Zero();
    for (int r = 0; r < R; ++r) {
      const int64_t visible = limits[r] - b * kBlockKeys;
      pr[r] = Mul(Exp(Sub(Mul(s[r], Set1(a.scale)), Set1(rows[r].max))), Set1(1.0f / rows[r].sum));
      if (visible < kBlockKeys)
        pr[r] = Blend(pr[r], Zero(), visible > 0 ? static_cast<int>(visible) : 0);
      dsr[r] = Mul(Mul(pr[r], Sub(g[r], Set1(rows[r].delta))), Set1(a.scale));
      if (kStep > 1) Store(ds_of_keys + r * lds + b * kBlockKeys, dsr[r]);
    }
    for (int i = 0; i < kGroups; ++i) {
      const int64_t at = (i * lds + b * kBlockKeys) * kStep;
      StoreWoven(p + at, pr[i * kStep], pr[i * kStep + kStep - 1]);
      StoreWoven(ds + at, dsr[i * kStep], dsr[i * kStep + kStep - 1]);
    }
  }
  for (int r = 0; r < R; ++r) {
    const auto hide = [&](int64_t j) {
      const int64_t at = (r / kStep * lds + j) * kStep + r % kStep;
      p[at] = ds[at] = ds_of_keys[r * lds + j] = FromFloat<T>(0.0f);
    };
    for (int64_t j = 0; j < rows[r].first - hidden; ++j) hide(j);
    if (rows[r].selected != nullptr)
      ForUnselected(rows[r].selected + hidden / kBlockKeys, RoundUp(limits[r], kBlockKeys), hide);
  }
  for (int64_t d0 = 0; d0 < dp; d0 += kLanes) {
    Vec dq[R];
    for (int r = 0; r < R; ++r) dq[r] = Zero();
    StepLanes<T> q[kGroups], dout[kGroups];
    for (int i = 0; i < kGroups; ++i) {
      const auto &even = rows[i * kStep], &odd = rows[i * kStep + (R > 1 ? kStep - 1 : 0)];
      q[i] = Weave(even.q + d0, odd.q + d0);
      dout[i] = Weave(even.dout + d0, odd.dout + d0);
    }
    for (int64_t j = 0; j < longest; j += kStep) {
      const auto k = LoadStep(a.k_rows + j * dp + d0 * kStep);
      if constexpr (kStep == 1) {  // one number of ds serves both
        Vec dk = Load(a.dk_rows + j * dp + d0), dv = Load(a.dv_rows + j * dp + d0);
        for (int r = 0; r < R; ++r) {
          const auto step = SetStep(ds + r * lds + j);
          dq[r] = AddStep(step, k, dq[r]);
          dk = AddStep(step, q[r], dk);
          dv = AddStep(SetStep(p + r * lds + j), dout[r], dv);
        }
        Store(a.dk_rows + j * dp + d0, dk);
        Store(a.dv_rows + j * dp + d0, dv);
        continue;
      }
      for (int r = 0; r < R; ++r) dq[r] = AddStep(SetStep(ds_of_keys + r * lds + j), k, dq[r]);
      for (int64_t key = j; key < j + kStep; ++key) {
        Vec dk = Load(a.dk_rows + key * dp + d0), dv = Load(a.dv_rows + key * dp + d0);
        for (int i = 0; i < kGroups; ++i) {
          dk = AddStep(SetStep(ds + (i * lds + key) * kStep), q[i], dk);
          dv = AddStep(SetStep(p + (i * lds + key) * kStep), dout[i], dv);
        }
        Store(a.dk_rows + key * dp + d0, dk);
        Store(a.dv_rows + key * dp + d0, dv);
      }
    }
    for (int r = 0; r < R; ++r) Store(rows[r].dq + d0, dq[r]);
  }
}

template <typename T>
void AttendBackward(const AttentionBackwardRow<T>* rows, int64_t num_rows,
                    const AttentionBackwardArgs<T>& args) {
  for (; num_rows >= kBackwardTile; num_rows -= kBackwardTile, rows += kBackwardTile)
    AttendBackwardTile<kBackwardTile>(rows, args);
  const int64_t pairs = num_rows / 2;
  WithRows<kBackwardTile / 2 - 1>(
      pairs, [&](auto n) { AttendBackwardTile<2 * decltype(n)::value>(rows, args); });
  if (num_rows % 2 != 0) AttendBackwardTile<1>(rows + 2 * pairs, args);
}

}  // namespace
}  // namespace rft::RFT_ISA
