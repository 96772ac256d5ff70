// Row-wise kernels: norms, rotation, activation, softmax statistics, optimizer. Included by kernels_impl.h.
#pragma once

#include <cmath>

#include "rft/tensor/kernels.h"
#include "rft/tensor/simd.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

// Calls full(i) for every whole vector of [0, n) and part(i, m) for the rest.
template <typename Full, typename Part>
inline void ForVectors(int64_t n, Full full, Part part) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) full(i);
  if (i < n) part(i, static_cast<int>(n - i));
}

template <typename X, typename T>
float RmsNorm(const X* x, const float* w, float eps, int64_t n, T* y) {
  Vec acc = Zero();
  ForVectors(
      n,
      [&](int64_t i) {
        const Vec a = Load(x + i);
        acc = Fma(a, a, acc);
      },
      [&](int64_t i, int m) {
        const Vec a = LoadPartial(x + i, m, 0.0f);
        acc = Fma(a, a, acc);
      });
  const float rstd = 1.0f / __builtin_sqrtf(Sum(acc) / static_cast<float>(n) + eps);
  const Vec r = Set1(rstd);
  ForVectors(
      n, [&](int64_t i) { Store(y + i, Mul(Mul(Load(x + i), r), Load(w + i))); },
      [&](int64_t i, int m) {
        StorePartial(y + i, Mul(Mul(LoadPartial(x + i, m, 0.0f), r), LoadPartial(w + i, m, 0.0f)),
                     m);
      });
  return rstd;
}

// y = x r w  with r = (mean x^2 + eps)^-1/2:  dx = r (w dy - x r^2 mean(x w dy)).
// `write(i, m, value)` receives dx.
template <typename X, typename T, typename Write>
inline void RmsNormBackward(const X* x, const float* w, const T* dy, float rstd, int64_t n,
                            float* dw, Write write) {
  Vec dot = Zero();
  auto terms = [&](Vec xi, Vec wi, Vec gi) { dot = Fma(Mul(xi, wi), gi, dot); };
  ForVectors(
      n, [&](int64_t i) { terms(Load(x + i), Load(w + i), Load(dy + i)); },
      [&](int64_t i, int m) {
        terms(LoadPartial(x + i, m, 0.0f), LoadPartial(w + i, m, 0.0f),
              LoadPartial(dy + i, m, 0.0f));
      });
  const Vec r = Set1(rstd);
  const Vec c = Set1(-rstd * rstd * rstd * Sum(dot) / static_cast<float>(n));
  ForVectors(
      n,
      [&](int64_t i) {
        const Vec xi = Load(x + i), gi = Load(dy + i);
        write(i, kLanes, Fma(c, xi, Mul(Mul(r, Load(w + i)), gi)));
        if (dw) Store(dw + i, Fma(Mul(gi, xi), r, Load(dw + i)));
      },
      [&](int64_t i, int m) {
        const Vec xi = LoadPartial(x + i, m, 0.0f), gi = LoadPartial(dy + i, m, 0.0f);
        write(i, m, Fma(c, xi, Mul(Mul(r, LoadPartial(w + i, m, 0.0f)), gi)));
        if (dw) StorePartial(dw + i, Fma(Mul(gi, xi), r, LoadPartial(dw + i, m, 0.0f)), m);
      });
}

template <typename T>
void RmsNormResidualBackward(const float* x, const float* w, const T* dy, float rstd, int64_t n,
                             float* dx, float* dw) {
  RmsNormBackward(x, w, dy, rstd, n, dw, [&](int64_t i, int m, Vec g) {
    if (m == kLanes)
      Store(dx + i, Add(Load(dx + i), g));
    else
      StorePartial(dx + i, Add(LoadPartial(dx + i, m, 0.0f), g), m);
  });
}
template <typename T>
void RmsNormHeadBackward(const T* x, const float* w, const T* dy, float rstd, int64_t n, T* dx,
                         float* dw) {
  RmsNormBackward(x, w, dy, rstd, n, dw, [&](int64_t i, int m, Vec g) {
    if (m == kLanes)
      Store(dx + i, g);
    else
      StorePartial(dx + i, g, m);
  });
}

template <typename T>
void Rope(T* x, const float* cos, const float* sin, float sign, int64_t n) {
  const int64_t half = n / 2;
  const Vec s = Set1(sign);
  ForVectors(
      half,
      [&](int64_t i) {
        const Vec a = Load(x + i), b = Load(x + half + i), c = Load(cos + i),
                  t = Mul(s, Load(sin + i));
        Store(x + i, Sub(Mul(a, c), Mul(b, t)));
        Store(x + half + i, Add(Mul(b, c), Mul(a, t)));
      },
      [&](int64_t i, int m) {
        const Vec a = LoadPartial(x + i, m, 0.0f), b = LoadPartial(x + half + i, m, 0.0f);
        const Vec c = LoadPartial(cos + i, m, 0.0f), t = Mul(s, LoadPartial(sin + i, m, 0.0f));
        StorePartial(x + i, Sub(Mul(a, c), Mul(b, t)), m);
        StorePartial(x + half + i, Add(Mul(b, c), Mul(a, t)), m);
      });
}

inline Vec Sigmoid(Vec x) { return Div(Set1(1.0f), Add(Set1(1.0f), Exp(Sub(Zero(), x)))); }

template <typename T>
void SwiGlu(const T* gate, const T* up, int64_t n, T* out) {
  auto f = [](Vec g, Vec u) { return Mul(Mul(g, Sigmoid(g)), u); };
  ForVectors(
      n, [&](int64_t i) { Store(out + i, f(Load(gate + i), Load(up + i))); },
      [&](int64_t i, int m) {
        StorePartial(out + i, f(LoadPartial(gate + i, m, 0.0f), LoadPartial(up + i, m, 0.0f)), m);
      });
}

// With s = sigmoid(g): gradients of silu(g) * u.
inline void SwiGluGradients(Vec g, Vec u, Vec d, Vec s, Vec& dg, Vec& du) {
  du = Mul(d, Mul(g, s));
  dg = Mul(Mul(d, u), Mul(s, Add(Set1(1.0f), Mul(g, Sub(Set1(1.0f), s)))));
}

template <typename T>
void SwiGluBackward(const T* gate, const T* up, const T* dout, int64_t n, T* dgate, T* dup) {
  auto f = [](Vec g, Vec u, Vec d, Vec& dg, Vec& du) {
    SwiGluGradients(g, u, d, Sigmoid(g), dg, du);
  };
  Vec dg, du;
  ForVectors(
      n,
      [&](int64_t i) {
        f(Load(gate + i), Load(up + i), Load(dout + i), dg, du);
        Store(dgate + i, dg);
        Store(dup + i, du);
      },
      [&](int64_t i, int m) {
        f(LoadPartial(gate + i, m, 0.0f), LoadPartial(up + i, m, 0.0f),
          LoadPartial(dout + i, m, 0.0f), dg, du);
        StorePartial(dgate + i, dg, m);
        StorePartial(dup + i, du, m);
      });
}

template <typename T>
float SwiGluWeightedBackward(const T* gate, const T* up, const T* dout, float weight, const T* more,
                             int64_t n, T* out, T* dgate, T* dup) {
  const Vec w = Set1(weight);
  Vec dot = Zero(), dg, du;
  auto f = [&](Vec g, Vec u, Vec d, Vec added, Vec& scaled) {  // of `more`, and out
    const Vec s = Sigmoid(g), a = Rounded<T>(Mul(Mul(g, s), u));
    dot = Fma(a, d, dot);
    scaled = Mul(a, w);
    d = Rounded<T>(Mul(d, w));
    if (more) d = Rounded<T>(Add(d, added));
    SwiGluGradients(g, u, d, s, dg, du);
  };
  Vec scaled;
  ForVectors(
      n,
      [&](int64_t i) {
        f(Load(gate + i), Load(up + i), Load(dout + i), more ? Load(more + i) : Zero(), scaled);
        Store(out + i, scaled);
        Store(dgate + i, dg);
        Store(dup + i, du);
      },
      [&](int64_t i, int m) {
        f(LoadPartial(gate + i, m, 0.0f), LoadPartial(up + i, m, 0.0f),
          LoadPartial(dout + i, m, 0.0f), more ? LoadPartial(more + i, m, 0.0f) : Zero(), scaled);
        StorePartial(out + i, scaled, m);
        StorePartial(dgate + i, dg, m);
        StorePartial(dup + i, du, m);
      });
  return Sum(dot);
}

template <typename T>
float Dot(const T* a, const T* b, int64_t n) {
  Vec acc = Zero();
  ForVectors(
      n, [&](int64_t i) { acc = Fma(Load(a + i), Load(b + i), acc); },
      [&](int64_t i, int m) {
        acc = Fma(LoadPartial(a + i, m, 0.0f), LoadPartial(b + i, m, 0.0f), acc);
      });
  return Sum(acc);
}

template <typename T>
void Scale(const T* x, float factor, int64_t n, T* out) {
  const Vec f = Set1(factor);
  ForVectors(
      n, [&](int64_t i) { Store(out + i, Mul(Load(x + i), f)); },
      [&](int64_t i, int m) { StorePartial(out + i, Mul(LoadPartial(x + i, m, 0.0f), f), m); });
}

inline void AddScaled(const float* x, float factor, int64_t n, float* out) {
  const Vec f = Set1(factor);
  ForVectors(
      n, [&](int64_t i) { Store(out + i, Fma(f, Load(x + i), Load(out + i))); },
      [&](int64_t i, int m) {
        StorePartial(out + i, Fma(f, LoadPartial(x + i, m, 0.0f), LoadPartial(out + i, m, 0.0f)),
                     m);
      });
}

template <typename T>
void ToFloatRow(const T* src, int64_t n, float* dst) {
  ForVectors(
      n, [&](int64_t i) { Store(dst + i, Load(src + i)); },
      [&](int64_t i, int m) { StorePartial(dst + i, LoadPartial(src + i, m, 0.0f), m); });
}
template <typename T>
void FromFloatRow(const float* src, int64_t n, T* dst) {
  ForVectors(
      n, [&](int64_t i) { Store(dst + i, Load(src + i)); },
      [&](int64_t i, int m) { StorePartial(dst + i, LoadPartial(src + i, m, 0.0f), m); });
}

// exps: takes exp(x * scale - max) if they are to be kept.
template <bool kKeepExps>
inline RowStats StatsOfRow(const float* x, int64_t n, float scale, float* entropy, float* exps) {
  const Vec s = Set1(scale);
  const float kLow = -INFINITY;
  Vec m4[4] = {Set1(kLow), Set1(kLow), Set1(kLow), Set1(kLow)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int j = 0; j < 4; ++j) m4[j] = Max(m4[j], Mul(Load(x + i + j * kLanes), s));
  for (; i + kLanes <= n; i += kLanes) m4[0] = Max(m4[0], Mul(Load(x + i), s));
  if (i < n) {
    const Vec part = Mul(LoadPartial(x + i, static_cast<int>(n - i), 0.0f), s);
    m4[0] = Max(m4[0], Blend(part, Set1(kLow), static_cast<int>(n - i)));
  }
  RowStats stats;
  stats.max = MaxOf(Max(Max(m4[0], m4[1]), Max(m4[2], m4[3])));
  const Vec mv = Set1(stats.max);
  Vec sum4[4] = {Zero(), Zero(), Zero(), Zero()}, dot4[4] = {Zero(), Zero(), Zero(), Zero()};
  auto one = [&](int j, Vec z, int valid) {  // z = x * scale - max, of x[i + j lanes]
    Vec e = Exp(z);
    if (valid < kLanes) e = Blend(e, Zero(), valid);
    if (kKeepExps && valid == kLanes) Store(exps + i + j * kLanes, e);
    if (kKeepExps && valid < kLanes) StorePartial(exps + i, e, valid);
    sum4[j] = Add(sum4[j], e);
    if (entropy) dot4[j] = Fma(e, Max(z, Set1(-200.0f)), dot4[j]);
  };
  i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int j = 0; j < 4; ++j) one(j, Sub(Mul(Load(x + i + j * kLanes), s), mv), kLanes);
  for (; i + kLanes <= n; i += kLanes) one(0, Sub(Mul(Load(x + i), s), mv), kLanes);
  if (i < n)
    one(0, Sub(Mul(LoadPartial(x + i, static_cast<int>(n - i), 0.0f), s), mv),
        static_cast<int>(n - i));
  stats.sum = Sum(Add(Add(sum4[0], sum4[1]), Add(sum4[2], sum4[3])));
  const float log_sum = __builtin_logf(stats.sum);
  stats.log_sum_exp = stats.max + log_sum;
  if (entropy)
    *entropy = log_sum - Sum(Add(Add(dot4[0], dot4[1]), Add(dot4[2], dot4[3]))) / stats.sum;
  return stats;
}

inline RowStats RowStatistics(const float* x, int64_t n, float scale, float* entropy) {
  return StatsOfRow<false>(x, n, scale, entropy, nullptr);
}
inline RowStats RowExpStats(const float* x, int64_t n, float scale, float* out) {
  return StatsOfRow<true>(x, n, scale, nullptr, out);
}

inline void RowExp(const float* x, int64_t n, float scale, float max, float* out) {
  const Vec s = Set1(scale), m = Set1(max);
  ForVectors(
      n, [&](int64_t i) { Store(out + i, Exp(Sub(Mul(Load(x + i), s), m))); },
      [&](int64_t i, int k) {
        StorePartial(out + i, Exp(Sub(Mul(LoadPartial(x + i, k, 0.0f), s), m)), k);
      });
}

template <typename T>
void SoftmaxGradient(const float* logits, int64_t n, float inv_temperature, float log_sum_exp,
                     int64_t target, float g, T* out) {
  const Vec s = Set1(inv_temperature), l = Set1(log_sum_exp), c = Set1(g * inv_temperature);
  ForVectors(
      n, [&](int64_t i) { Store(out + i, Mul(c, Exp(Sub(Mul(Load(logits + i), s), l)))); },
      [&](int64_t i, int m) {
        StorePartial(out + i, Mul(c, Exp(Sub(Mul(LoadPartial(logits + i, m, 0.0f), s), l))), m);
      });
  const float p = __builtin_expf(logits[target] * inv_temperature - log_sum_exp);
  out[target] = FromFloat<T>(g * inv_temperature * (p - 1.0f));
}

inline double SumOfSquares(const float* x, int64_t n) {
  double total = 0.0;
  constexpr int64_t kChunk = 4096;
  for (int64_t c = 0; c < n; c += kChunk) {
    Vec acc[2] = {Zero(), Zero()};
    const int64_t end = c + kChunk < n ? c + kChunk : n;
    int64_t i = c;
    for (; i + 2 * kLanes <= end; i += 2 * kLanes)
      for (int j = 0; j < 2; ++j) {
        const Vec a = Load(x + i + j * kLanes);
        acc[j] = Fma(a, a, acc[j]);
      }
    float rest = 0.0f;
    for (; i < end; ++i) rest += x[i] * x[i];
    total += static_cast<double>(Sum(Add(acc[0], acc[1]))) + rest;
  }
  return total;
}

inline void AdamW(float* w, float* m, float* v, float* grad, int64_t n, float grad_scale, float lr,
                  float beta1, float beta2, float eps, float weight_decay, float bias1,
                  float bias2_sqrt) {
  const Vec gs = Set1(grad_scale), b1 = Set1(beta1), c1 = Set1(1.0f - beta1), b2 = Set1(beta2),
            c2 = Set1(1.0f - beta2);
  const Vec decay = Set1(1.0f - lr * weight_decay), step = Set1(lr / bias1),
            inv2 = Set1(1.0f / bias2_sqrt), e = Set1(eps);
  auto one = [&](Vec wi, Vec& mi, Vec& vi, Vec g) {
    g = Mul(g, gs);
    mi = Fma(c1, g, Mul(b1, mi));
    vi = Fma(c2, Mul(g, g), Mul(b2, vi));
    return Sub(Mul(wi, decay), Mul(step, Div(mi, Fma(Sqrt(vi), inv2, e))));
  };
  ForVectors(
      n,
      [&](int64_t i) {
        Vec mi = Load(m + i), vi = Load(v + i);
        Store(w + i, one(Load(w + i), mi, vi, Load(grad + i)));
        Store(m + i, mi);
        Store(v + i, vi);
        Store(grad + i, Zero());
      },
      [&](int64_t i, int k) {
        Vec mi = LoadPartial(m + i, k, 0.0f), vi = LoadPartial(v + i, k, 0.0f);
        StorePartial(w + i,
                     one(LoadPartial(w + i, k, 0.0f), mi, vi, LoadPartial(grad + i, k, 0.0f)), k);
        StorePartial(m + i, mi, k);
        StorePartial(v + i, vi, k);
        StorePartial(grad + i, Zero(), k);
      });
}

inline void Sgd(float* w, float* m, float* grad, int64_t n, float grad_scale, float lr,
                float momentum, float weight_decay) {
  const Vec gs = Set1(grad_scale), rate = Set1(lr), b = Set1(momentum), decay = Set1(weight_decay);
  auto one = [&](Vec wi, Vec& mi, Vec g) {
    mi = Add(Mul(b, mi), Add(Mul(g, gs), Mul(decay, wi)));
    return Sub(wi, Mul(rate, mi));
  };
  ForVectors(
      n,
      [&](int64_t i) {
        Vec mi = Load(m + i);
        Store(w + i, one(Load(w + i), mi, Load(grad + i)));
        Store(m + i, mi);
        Store(grad + i, Zero());
      },
      [&](int64_t i, int k) {
        Vec mi = LoadPartial(m + i, k, 0.0f);
        StorePartial(w + i, one(LoadPartial(w + i, k, 0.0f), mi, LoadPartial(grad + i, k, 0.0f)),
                     k);
        StorePartial(m + i, mi, k);
        StorePartial(grad + i, Zero(), k);
      });
}

}  // namespace
}  // namespace rft::RFT_ISA
