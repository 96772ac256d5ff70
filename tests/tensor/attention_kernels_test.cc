// attend and attend_backward of every table against a plain softmax in double.
#include "rft/tensor/key_blocks.h"
#include "tests/tensor/kernel_testing.h"

namespace rft {
namespace {

using testing::As;
using testing::Exact;
using testing::KernelTest;
using testing::RandomRow;
using testing::SameBits;

// Query vectors with ragged limits over the keys of one sequence; row-major [vectors or keys][head_dim].
template <typename T>
struct Attention {
  int64_t d, keys, vectors;
  float scale;
  std::vector<int64_t> limits, firsts;  // keys that a vector sees: [first, limit)
  std::vector<T> q, k, v;

  Attention(int64_t head_dim, int64_t num_keys, int64_t num_vectors, int64_t window = 0)
      : d(head_dim),
        keys(num_keys),
        vectors(num_vectors),
        scale(1.0f / std::sqrt(static_cast<float>(head_dim))),
        q(As<T>(RandomRow(num_vectors * head_dim, 1, 3.0))),
        k(As<T>(RandomRow(num_keys * head_dim, 2, 2.0))),
        v(As<T>(RandomRow(num_keys * head_dim, 3))) {
    for (int64_t r = 0; r < vectors; ++r)
      limits.push_back(1 + (r * 29 + 5) % keys);  // ragged, 1 .. keys
    limits.back() = keys;
    for (int64_t limit : limits)
      firsts.push_back(window > 0 && limit > window ? limit - window : 0);
  }
  int64_t blocks() const { return RoundUp(keys, kBlockKeys) / kBlockKeys; }

  struct Result {
    std::vector<T> out;
    std::vector<float> max, sum;
  };
  Result Run(const TypedKernels<T>& kernels, int64_t first, int64_t count) const {
    const int64_t unseen =
        *std::min_element(firsts.begin() + first, firsts.begin() + first + count);
    // NaN where no key is, and in whole blocks before all windows: what a page held before must not matter.
    const int64_t k_block = KeyBlockElements<T>(d), v_block = ValueBlockElements(d);
    std::vector<T> kb(blocks() * k_block, FromFloat<T>(NAN)),
        vb(blocks() * v_block, FromFloat<T>(NAN));
    for (int64_t j = unseen / kBlockKeys * kBlockKeys; j < keys; ++j) {
      StoreKey(k.data() + j * d, d, j % kBlockKeys, kb.data() + j / kBlockKeys * k_block);
      StoreValue(v.data() + j * d, d, j % kBlockKeys, vb.data() + j / kBlockKeys * v_block);
    }
    std::vector<const T*> k_blocks, v_blocks;
    for (int64_t b = 0; b < blocks(); ++b) {
      k_blocks.push_back(kb.data() + b * k_block);
      v_blocks.push_back(vb.data() + b * v_block);
    }
    k_blocks.resize(blocks() + kBlocksAhead, v_blocks[0]);
    v_blocks.resize(blocks() + kBlocksAhead, k_blocks[0]);
    Result result{std::vector<T>(count * d), std::vector<float>(count), std::vector<float>(count)};
    std::vector<AttentionRow<T>> rows;
    for (int64_t r = 0; r < count; ++r)
      rows.push_back({q.data() + (first + r) * d, result.out.data() + r * d, limits[first + r],
                      &result.max[r], &result.sum[r], firsts[first + r]});
    std::vector<float> scratch(AttendScratch(keys, d));
    kernels.attend(rows.data(), count, k_blocks.data(), v_blocks.data(), d, scale, scratch.data());
    return result;
  }
  // Probabilities [limit] of one vector.
  std::vector<double> Probabilities(int64_t r, double* max = nullptr, double* sum = nullptr) const {
    std::vector<double> s;
    for (int64_t j = 0; j < limits[r]; ++j) {
      double dot = 0.0;
      for (int64_t i = 0; i < d; ++i)
        dot += static_cast<double>(ToFloat(q[r * d + i])) * ToFloat(k[j * d + i]);
      s.push_back(j < firsts[r] ? -INFINITY : dot * scale);
    }
    const double m = *std::max_element(s.begin(), s.end());
    double total = 0.0;
    for (double& x : s) total += x = std::exp(x - m);
    for (double& x : s) x /= total;
    if (max) *max = m;
    if (sum) *sum = total;
    return s;
  }
  std::vector<double> Output(int64_t r) const {
    std::vector<double> out(d, 0.0), p = Probabilities(r);
    for (int64_t j = 0; j < limits[r]; ++j)
      for (int64_t i = 0; i < d; ++i) out[i] += p[j] * ToFloat(v[j * d + i]);
    return out;
  }
};

class AttentionKernelTest : public KernelTest {
 protected:
  template <typename T>
  void Check(const TypedKernels<T>& kernels, int64_t head_dim, int64_t keys, int64_t vectors,
             int64_t window = 0) {
    SCOPED_TRACE(::testing::Message() << "head dim " << head_dim << ", keys " << keys
                                      << ", vectors " << vectors << ", window " << window);
    const Attention<T> a(head_dim, keys, vectors, window);
    const auto result = a.Run(kernels, 0, vectors);
    for (int64_t r = 0; r < vectors; ++r) {
      double max, sum;
      a.Probabilities(r, &max, &sum);
      testing::ExpectClose(std::vector<T>(result.out.begin() + r * head_dim,
                                          result.out.begin() + (r + 1) * head_dim),
                           a.Output(r), 1.0, "out");
      EXPECT_NEAR(result.max[r], max, 1e-5);
      EXPECT_NEAR(result.sum[r], sum, 1e-5 * sum);
    }
  }
};

TEST_P(AttentionKernelTest, MatchesAPlainSoftmaxForEveryHeadDimAndRaggedLimits) {
  for (int64_t head_dim : {15, 16, 24, 64, 80})
    for (int64_t keys : {1, 15, 16, 17, 70})
      for (int64_t vectors : {1, 7, 8, 13}) {
        Check(GetParam()->f32, head_dim, keys, vectors);
        Check(GetParam()->bf16, head_dim, keys, vectors);
      }
}

TEST_P(AttentionKernelTest, ReadsOnlyTheBlocksOfItsWindow) {
  for (int64_t window : {1, 16, 21})
    for (int64_t vectors : {1, 7, 13}) {
      Check(GetParam()->f32, 24, 150, vectors, window);
      Check(GetParam()->bf16, 24, 150, vectors, window);
    }
}

template <typename T>
void ExpectVectorsAloneEqualTogether(const TypedKernels<T>& kernels, int64_t window) {
  const Attention<T> a(24, 70, 23, window);
  const auto together = a.Run(kernels, 0, 23);
  for (int64_t r = 0; r < 23; ++r)
    for (int64_t count = 1; count <= std::min<int64_t>(9, 23 - r); ++count)
      ASSERT_TRUE(
          SameBits(a.Run(kernels, r, count).out.data(), together.out.data() + r * 24, count * 24))
          << "vectors " << r << " .. " << r + count;
}

TEST_P(AttentionKernelTest, GivesAVectorTheSameBitsWhicheverOthersShareTheTile) {
  for (int64_t window : {0, 20}) {
    ExpectVectorsAloneEqualTogether(GetParam()->f32, window);
    ExpectVectorsAloneEqualTogether(GetParam()->bf16, window);
  }
}

// Gradients of sum(out * dout): dq [vectors][d], dk and dv [keys][d].
struct Gradients {
  std::vector<double> dq, dk, dv;
};
template <typename T>
Gradients ReferenceGradients(const Attention<T>& a, const std::vector<T>& dout) {
  const int64_t d = a.d;
  Gradients g{std::vector<double>(a.vectors * d), std::vector<double>(a.keys * d),
              std::vector<double>(a.keys * d)};
  for (int64_t r = 0; r < a.vectors; ++r) {
    const std::vector<double> p = a.Probabilities(r), out = a.Output(r);
    double delta = 0.0;
    for (int64_t i = 0; i < d; ++i) delta += ToFloat(dout[r * d + i]) * out[i];
    for (int64_t j = 0; j < a.limits[r]; ++j) {
      double dp = 0.0;
      for (int64_t i = 0; i < d; ++i)
        dp += static_cast<double>(ToFloat(dout[r * d + i])) * ToFloat(a.v[j * d + i]);
      const double ds = p[j] * (dp - delta) * a.scale;
      for (int64_t i = 0; i < d; ++i) {
        g.dq[r * d + i] += ds * ToFloat(a.k[j * d + i]);
        g.dk[j * d + i] += ds * ToFloat(a.q[r * d + i]);
        g.dv[j * d + i] += p[j] * ToFloat(dout[r * d + i]);
      }
    }
  }
  return g;
}

class AttentionBackwardKernelTest : public KernelTest {
 protected:
  // [count][d] -> [count][dp], zero-padded.
  template <typename T>
  static std::vector<T> Pad(const std::vector<T>& x, int64_t count, int64_t d) {
    const int64_t dp = RoundUp(d, kBlockKeys);
    std::vector<T> y(count * dp, T{});
    for (int64_t r = 0; r < count; ++r) std::copy_n(x.data() + r * d, d, y.data() + r * dp);
    return y;
  }
  template <typename T>
  static std::vector<T> Unpad(const std::vector<float>& x, int64_t count, int64_t d) {
    const int64_t dp = RoundUp(d, kBlockKeys);
    std::vector<float> y;
    for (int64_t r = 0; r < count; ++r)
      y.insert(y.end(), x.begin() + r * dp, x.begin() + r * dp + d);
    return As<T>(y);
  }
  template <typename T>
  void Check(const TypedKernels<T>& kernels, int64_t d, int64_t keys, int64_t vectors,
             int64_t window = 0) {
    SCOPED_TRACE(::testing::Message() << "head dim " << d << ", keys " << keys << ", vectors "
                                      << vectors << ", window " << window);
    const Attention<T> a(d, keys, vectors, window);
    const std::vector<T> dout = As<T>(RandomRow(vectors * d, 4));
    const auto forward = a.Run(kernels, 0, vectors);
    const int64_t dp = RoundUp(d, kBlockKeys), padded = a.blocks() * kBlockKeys;
    const int64_t k_block = KeyBlockElements<T>(d);
    std::vector<T> kb(a.blocks() * k_block, T{}), vb(kb),
        k_rows(a.blocks() * ValueBlockElements(d));
    std::vector<float> dk(padded * dp, 0.5f), dv(padded * dp, 0.25f);
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t b = j / kBlockKeys, slot = j % kBlockKeys;
      StoreKey(a.k.data() + j * d, d, slot, kb.data() + b * k_block);
      StoreKey(a.v.data() + j * d, d, slot, vb.data() + b * k_block);
      StoreValue(a.k.data() + j * d, d, slot, k_rows.data() + b * ValueBlockElements(d));
    }
    const std::vector<T> q = Pad(a.q, vectors, d), g = Pad(dout, vectors, d);
    std::vector<float> dq(vectors * dp);
    std::vector<T> scratch(3 * kAttendBackwardTile * padded);
    std::vector<AttentionBackwardRow<T>> rows;
    for (int64_t r = 0; r < vectors; ++r) {
      float delta = 0.0f;
      for (int64_t i = 0; i < d; ++i)
        delta += ToFloat(dout[r * d + i]) * ToFloat(forward.out[r * d + i]);
      rows.push_back({&q[r * dp], &g[r * dp], delta, forward.max[r], forward.sum[r], a.limits[r],
                      &dq[r * dp], a.firsts[r]});
    }
    kernels.attend_backward(rows.data(), vectors,
                            {d, keys, a.scale, kb.data(), vb.data(), k_rows.data(), dk.data(),
                             dv.data(), scratch.data()});
    Gradients expected = ReferenceGradients(a, dout);
    for (double& x : expected.dk) x += 0.5;  // accumulated on what was there
    for (double& x : expected.dv) x += 0.25;
    testing::ExpectClose(Unpad<T>(dq, vectors, d), expected.dq, 4.0, "dq");
    testing::ExpectClose(Unpad<T>(dk, keys, d), expected.dk, 4.0, "dk");
    testing::ExpectClose(Unpad<T>(dv, keys, d), expected.dv, 4.0, "dv");
  }
};

TEST_P(AttentionBackwardKernelTest, MatchesTheDerivativeForEveryHeadDimAndRaggedLimits) {
  for (int64_t d : {15, 16, 24, 64, 80})
    for (int64_t keys : {1, 16, 17, 40})
      for (int64_t vectors : {1, 4, 7, 8, 13}) {
        Check(GetParam()->f32, d, keys, vectors);
        Check(GetParam()->bf16, d, keys, vectors);
      }
}

TEST_P(AttentionBackwardKernelTest, GivesNoGradientOutsideOfTheWindow) {
  for (int64_t window : {1, 16, 21})
    for (int64_t vectors : {1, 7, 13}) {
      Check(GetParam()->f32, 24, 150, vectors, window);
      Check(GetParam()->bf16, 24, 150, vectors, window);
    }
}

RFT_FOR_ALL_KERNELS(AttentionKernelTest);
RFT_FOR_ALL_KERNELS(AttentionBackwardKernelTest);

}  // namespace
}  // namespace rft
