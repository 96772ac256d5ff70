// gemm_panel of every table against sums in double, and the threaded products against themselves, bit for bit.
#include "rft/tensor/gemm.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "rft/tensor/parallel.h"
#include "tests/tensor/kernel_testing.h"

namespace rft {
namespace {

using testing::As;
using testing::Exact;
using testing::KernelTest;
using testing::RandomRow;
using testing::SameBits;

template <typename T>
class Problem {
 public:
  Problem(int64_t rows, int64_t k, int64_t n, uint64_t seed = 1)
      : rows(rows),
        k(k),
        n(n),
        a(As<T>(RandomRow(rows * k, seed))),
        w(As<T>(RandomRow(n * k, seed + 1))) {}

  std::vector<double> Expected(const std::vector<float>& start = {}) const {
    const std::vector<double> x = Exact(a), y = Exact(w);
    std::vector<double> c(start.begin(), start.end());
    c.resize(rows * n);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < k; ++i) c[r * n + j] += x[r * k + i] * y[j * k + i];
    return c;
  }
  // Through one table's panels, as rft/tensor/gemm.cc does.
  template <typename C>
  void Multiply(const TypedKernels<T>& kernels, std::vector<C>& c, bool add) const {
    std::vector<T> panel(PanelElements<T>(k));
    for (int64_t n0 = 0; n0 < n; n0 += kPanelWidth) {
      const int64_t columns = std::min<int64_t>(kPanelWidth, n - n0);
      kernels.pack_panel(w.data() + n0 * k, 1, k, k, columns, panel.data());
      if constexpr (std::is_same_v<C, float>)
        kernels.gemm_panel_float(a.data(), k, panel.data(), k, rows, columns, c.data() + n0, n,
                                 add);
      else
        kernels.gemm_panel(a.data(), k, panel.data(), k, rows, columns, c.data() + n0, n);
    }
  }

  int64_t rows, k, n;
  std::vector<T> a, w;
};

class GemmKernelTest : public KernelTest {};

TEST_P(GemmKernelTest, MultipliesFloatsForEveryNumberOfRows) {
  for (int64_t rows = 1; rows <= 17; ++rows)
    for (int64_t n : {1, 16, 47, 48, 61, 100}) {
      const Problem<float> p(rows, 37, n);
      std::vector<float> c(rows * n, NAN);
      p.Multiply(GetParam()->f32, c, false);
      testing::ExpectClose(c, p.Expected(), 4.0,
                           "rows " + std::to_string(rows) + ", n " + std::to_string(n));
    }
}

TEST_P(GemmKernelTest, MultipliesBf16IntoFloatsForEveryNumberOfRows) {
  for (int64_t rows = 1; rows <= 17; ++rows)
    for (int64_t n : {1, 47, 48, 61}) {
      const Problem<Bf16> p(rows, 38, n);
      std::vector<float> c(rows * n, NAN);
      p.Multiply(GetParam()->bf16, c, false);
      testing::ExpectClose(c, p.Expected(), 4.0,
                           "rows " + std::to_string(rows) + ", n " + std::to_string(n));
    }
}

// Tiles of matrix registers are 16 rows by 32 k: blocks of two, and every kind of rest.
TEST_P(GemmKernelTest, MultipliesBf16AroundTheSizesOfMatrixTiles) {
  for (int64_t rows : {16, 31, 32, 33, 48, 49, 70})
    for (int64_t k : {2, 30, 32, 34, 64, 96})
      for (int64_t n : {16, 17, 32, 33}) {
        const Problem<Bf16> p(rows, k, n);
        std::vector<float> c(rows * n, NAN);
        p.Multiply(GetParam()->bf16, c, false);
        testing::ExpectClose(c, p.Expected(), 4.0, absl::StrCat(rows, " x ", k, " x ", n));
      }
}

// Rows lie among NaNs, and so does the panel: what is read beside them, or written beside c, shows.
TEST_P(GemmKernelTest, ReadsAndWritesBf16NowhereElse) {
  constexpr int64_t kRows = 37, kK = 70, kN = 21, kLda = 90, kLdc = 30;
  const Problem<Bf16> p(kRows, kK, kN);
  std::vector<Bf16> a(kRows * kLda, FromFloat<Bf16>(NAN)),
      panel(PanelElements<Bf16>(kK) + 4096, FromFloat<Bf16>(NAN));
  for (int64_t r = 0; r < kRows; ++r) std::copy_n(p.a.begin() + r * kK, kK, a.begin() + r * kLda);
  GetParam()->bf16.pack_panel(p.w.data(), 1, kK, kK, kN, panel.data());
  std::vector<float> c(kRows * kLdc, 7.0f), product(kRows * kN);
  GetParam()->bf16.gemm_panel_float(a.data(), kLda, panel.data(), kK, kRows, kN, c.data(), kLdc,
                                    false);
  for (int64_t r = 0; r < kRows; ++r) {
    std::copy_n(c.begin() + r * kLdc, kN, product.begin() + r * kN);
    for (int64_t j = kN; j < kLdc; ++j) ASSERT_EQ(c[r * kLdc + j], 7.0f) << r << ", " << j;
  }
  testing::ExpectClose(product, p.Expected(), 4.0, "in the middle of NaNs");
}

TEST_P(GemmKernelTest, RoundsBf16ProductsToNearest) {
  const Problem<Bf16> p(5, 64, 70);
  std::vector<Bf16> c(5 * 70);
  p.Multiply(GetParam()->bf16, c, false);
  testing::ExpectClose(c, p.Expected(), 0.01, "bf16 product");
}

TEST_P(GemmKernelTest, AddsToWhatIsThere) {
  const Problem<float> p(9, 33, 50);
  const Problem<Bf16> q(9, 34, 50);
  const std::vector<float> start = RandomRow(9 * 50, 7);
  std::vector<float> c = start, d = start;
  p.Multiply(GetParam()->f32, c, true);
  q.Multiply(GetParam()->bf16, d, true);
  testing::ExpectClose(c, p.Expected(start), 4.0, "f32");
  testing::ExpectClose(d, q.Expected(start), 4.0, "bf16");
}

// A matrix and its transpose give one panel, from its own type and from float32, for sizes around the vector widths.
template <typename T>
void ExpectRowsAndColumnsPackAlike(const TypedKernels<T>& kernels) {
  for (int64_t k : {1, 2, 7, 12, 40, 65, 128, 259})
    for (int64_t n : {1, 5, 16, 31, 48}) {
      const std::vector<float> w = RandomRow(n * k, k * 100 + n);
      const std::vector<T> own = As<T>(w);
      std::vector<T> transposed(k * n), x(PanelElements<T>(k)), y(x.size());
      kernels.transpose(own.data(), n, k, k, transposed.data(), n);
      for (int64_t i = 0; i < n * k; ++i)
        ASSERT_TRUE(SameBits(&transposed[i % k * n + i / k], &own[i], 1)) << n << " x " << k;
      kernels.pack_panel(own.data(), 1, k, k, n, x.data());
      kernels.pack_panel(transposed.data(), n, 1, k, n, y.data());
      EXPECT_TRUE(SameBits(x.data(), y.data(), x.size())) << n << " x " << k;
      std::vector<float> wide(k * n);
      for (int64_t i = 0; i < n * k; ++i) wide[i % k * n + i / k] = w[i];
      kernels.pack_panel_from_float(wide.data(), n, 1, k, n, y.data());
      EXPECT_TRUE(SameBits(x.data(), y.data(), x.size())) << n << " x " << k << " from float";
      kernels.pack_panel_from_float(w.data(), 1, k, k, n, y.data());
      EXPECT_TRUE(SameBits(x.data(), y.data(), x.size())) << n << " x " << k << " of a weight";
    }
}

TEST_P(GemmKernelTest, PacksRowsAndColumnsAlike) {
  ExpectRowsAndColumnsPackAlike(GetParam()->f32);
  ExpectRowsAndColumnsPackAlike(GetParam()->bf16);
}

template <typename T>
void ExpectRowsAloneEqualRowsTogether(const TypedKernels<T>& kernels, int64_t k) {
  constexpr int64_t kRows = 35;
  const Problem<T> p(kRows, k, 61);
  std::vector<float> together(kRows * 61), alone(61);
  p.Multiply(kernels, together, false);
  for (int64_t r = 0; r < kRows; ++r) {
    Problem<T> one = p;
    one.rows = 1;
    one.a = {p.a.begin() + r * k, p.a.begin() + (r + 1) * k};
    one.Multiply(kernels, alone, false);
    ASSERT_TRUE(SameBits(alone.data(), together.data() + r * 61, 61)) << "row " << r;
  }
}

TEST_P(GemmKernelTest, GivesARowTheSameBitsAloneAndInABatch) {
  ExpectRowsAloneEqualRowsTogether(GetParam()->f32, 129);
  ExpectRowsAloneEqualRowsTogether(GetParam()->bf16, 130);
}

RFT_FOR_ALL_KERNELS(GemmKernelTest);

class ThreadedGemmTest : public ::testing::Test {
 protected:
  ~ThreadedGemmTest() override { SetNumThreads(0); }

  // Large enough for several row chunks and for more than one thread.
  template <typename T>
  std::vector<float> Run(int64_t rows, int threads) {
    SetNumThreads(threads);
    const Problem<T> p(150, 1024, 100);
    std::vector<T> packed(PackedElements<T>(p.k, p.n));
    Pack(WeightSource(p.w.data(), p.k), p.k, p.n, packed.data());
    std::vector<float> c(rows * p.n);
    GemmToFloat(p.a.data(), p.k, packed.data(), rows, p.k, p.n, c.data(), p.n, false);
    return c;
  }
};

TEST_F(ThreadedGemmTest, GivesTheSameBitsForEveryThreadCountAndBatch) {
  const std::vector<float> f32 = Run<float>(150, 1), bf16 = Run<Bf16>(150, 1);
  for (int threads : {1, 2, 3})
    for (int64_t rows : {1, 8, 63, 149}) {
      EXPECT_TRUE(SameBits(Run<float>(rows, threads).data(), f32.data(), rows * 100))
          << threads << " threads";
      EXPECT_TRUE(SameBits(Run<Bf16>(rows, threads).data(), bf16.data(), rows * 100))
          << threads << " threads";
    }
}

TEST_F(ThreadedGemmTest, MatchesSumsInDouble) {
  testing::ExpectClose(Run<float>(150, 2), Problem<float>(150, 1024, 100).Expected(), 32.0, "f32");
}

}  // namespace
}  // namespace rft
