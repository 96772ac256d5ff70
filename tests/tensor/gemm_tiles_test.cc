// The product in matrix tiles over a model of Intel's tile registers, so that its logic is tested on CPUs without them. Where a CPU
// has them, every test of the kernel tables (gemm_test.cc, tests/parity) runs on the real ones.
#define RFT_ISA isa_tile_model
#include "rft/tensor/gemm_tiles_impl.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/tensor/kernel_testing.h"

namespace rft {
namespace {

using isa_tile_model::GemmPanelTiles;
using isa_tile_model::TileShapes;
using testing::As;
using testing::Exact;
using testing::RandomRow;
using testing::SameBits;

// Palette 1 as the manual describes it: eight registers of at most 16 rows of 64 bytes. What the hardware refuses fails the test.
struct TileModel {
  static inline TileShapes shapes{0, 0};
  static inline bool configured = false;
  static inline unsigned char data[8][16][64];

  static int Rows(int t) { return shapes.rows[t]; }
  static int Bytes(int t) { return shapes.row_bytes[t]; }
  static void ExpectUsable(int t) {
    EXPECT_TRUE(configured) << "no LDTILECFG";
    EXPECT_GT(Rows(t), 0) << "tile " << t;
  }
  static void Configure(const TileShapes& s) {
    EXPECT_EQ(s.palette, 1);
    EXPECT_EQ(s.start_row, 0);
    for (int t = 0; t < 16; ++t) {
      EXPECT_LE(s.rows[t], t < 8 ? 16 : 0);
      EXPECT_LE(s.row_bytes[t], t < 8 ? 64 : 0);
      EXPECT_EQ(s.rows[t] == 0, s.row_bytes[t] == 0) << "half configured tile " << t;
    }
    shapes = s;
    configured = true;
    std::memset(data, 0, sizeof data);
  }
  template <int T>
  static void Zero() {
    ExpectUsable(T);
    std::memset(data[T], 0, sizeof data[T]);
  }
  template <int T>
  static void Load(const void* from, int64_t stride) {
    ExpectUsable(T);
    std::memset(data[T], 0, sizeof data[T]);
    for (int r = 0; r < Rows(T); ++r)
      std::memcpy(data[T][r], static_cast<const char*>(from) + r * stride, Bytes(T));
  }
  template <int T>
  static void Store(void* to, int64_t stride) {
    ExpectUsable(T);
    for (int r = 0; r < Rows(T); ++r)
      std::memcpy(static_cast<char*>(to) + r * stride, data[T][r], Bytes(T));
  }
  template <int C, int A, int B>
  static void MultiplyAdd() {
    for (int t : {C, A, B}) ExpectUsable(t);
    EXPECT_EQ(Rows(C), Rows(A));
    EXPECT_EQ(Bytes(C), Bytes(B));
    EXPECT_EQ(Bytes(A) / 4, Rows(B));
    for (int m = 0; m < Rows(C); ++m)
      for (int n = 0; n < Bytes(C) / 4; ++n) {
        float even = 0.0f, odd = 0.0f, sum;
        for (int k = 0; k < Bytes(A) / 4; ++k) {
          Bf16 a[2], b[2];
          std::memcpy(a, data[A][m] + 4 * k, sizeof a);
          std::memcpy(b, data[B][k] + 4 * n, sizeof b);
          even = std::fma(ToFloat(a[0]), ToFloat(b[0]), even);
          odd = std::fma(ToFloat(a[1]), ToFloat(b[1]), odd);
        }
        std::memcpy(&sum, data[C][m] + 4 * n, sizeof sum);
        sum += even + odd;
        std::memcpy(data[C][m] + 4 * n, &sum, sizeof sum);
      }
  }
  static void Release() { configured = false; }
};

// Rows `lda` apart and a panel, both in the middle of NaNs: whatever is read beside them shows.
struct Problem {
  Problem(int64_t rows, int64_t k, int64_t n)
      : rows(rows), k(k), n(n), lda(k + 6), x(RandomRow(rows * k, 1)), w(RandomRow(n * k, 2)) {
    const std::vector<Bf16> from = As<Bf16>(x), weights = As<Bf16>(w);
    a.assign(rows * lda, FromFloat<Bf16>(NAN));
    for (int64_t r = 0; r < rows; ++r) std::copy_n(from.begin() + r * k, k, a.begin() + r * lda);
    panel.assign(PanelElements<Bf16>(k) + 4096, FromFloat<Bf16>(NAN));
    GetKernels().bf16.pack_panel(weights.data(), 1, k, k, n, panel.data());
  }
  std::vector<double> Expected(const std::vector<float>& start = {}) const {
    const std::vector<double> left = Exact(As<Bf16>(x)), right = Exact(As<Bf16>(w));
    std::vector<double> c(start.begin(), start.end());
    c.resize(rows * n);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < k; ++i) c[r * n + j] += left[r * k + i] * right[j * k + i];
    return c;
  }
  template <typename C>
  void Multiply(std::vector<C>& c, bool add, int64_t first = 0, int64_t count = -1) const {
    GemmPanelTiles<TileModel>(a.data() + first * lda, lda, panel.data(), k,
                              count < 0 ? rows : count, n, c.data(), n, add);
    EXPECT_FALSE(TileModel::configured) << "registers kept";
  }

  int64_t rows, k, n, lda;
  std::vector<float> x, w;
  std::vector<Bf16> a, panel;
};

TEST(GemmTilesTest, MultipliesForEveryNumberOfRowsAndEveryRestOfKAndOfColumns) {
  for (int64_t rows : {1, 2, 15, 16, 17, 31, 32, 33, 48, 49, 64, 70})
    for (int64_t k : {2, 30, 32, 34, 64, 130})
      for (int64_t n : {1, 16, 17, 32, 33, 47, 48}) {
        const Problem p(rows, k, n);
        std::vector<float> c(rows * n, NAN);
        p.Multiply(c, false);
        testing::ExpectClose(c, p.Expected(), 4.0,
                             absl::StrCat(rows, " rows, k ", k, ", ", n, " columns"));
      }
}

TEST(GemmTilesTest, AddsToWhatIsThereAndWritesNothingElse) {
  const Problem p(37, 70, 21);
  std::vector<float> c = RandomRow(37 * 21 + 50, 3);
  const std::vector<float> start = c;
  p.Multiply(c, true);
  EXPECT_TRUE(SameBits(c.data() + 37 * 21, start.data() + 37 * 21, 50));
  c.resize(37 * 21);
  testing::ExpectClose(c, p.Expected({start.begin(), start.begin() + 37 * 21}), 4.0, "added");
}

TEST(GemmTilesTest, RoundsToBf16OnceAtTheEnd) {
  const Problem p(33, 96, 48);
  std::vector<float> sums(33 * 48);
  std::vector<Bf16> c(33 * 48);
  p.Multiply(sums, false);
  p.Multiply(c, false);
  const std::vector<Bf16> rounded = As<Bf16>(sums);
  EXPECT_TRUE(SameBits(c.data(), rounded.data(), static_cast<int64_t>(c.size())));
}

TEST(GemmTilesTest, GivesARowTheSameBitsAloneAndInEveryBatch) {
  const Problem p(70, 102, 47);
  std::vector<float> together(70 * 47), part(70 * 47);
  p.Multiply(together, false);
  for (int64_t count : {1, 5, 16, 20, 32})
    for (int64_t first = 0; first + count <= 70; first += count) {
      p.Multiply(part, false, first, count);
      ASSERT_TRUE(SameBits(part.data(), together.data() + first * 47, count * 47))
          << count << " rows from " << first;
    }
}

}  // namespace
}  // namespace rft
