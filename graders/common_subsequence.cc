#include "graders/common_subsequence.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "graders/numbering.h"

namespace rft {
namespace {

// One step: the state after a symbol that stands where `match` has bits; the carry goes on to the next 64 rows.
inline uint64_t Step(uint64_t state, uint64_t match, uint64_t* carry) {
  const uint64_t both = state & match;
  uint64_t sum = 0;
  uint64_t overflow = __builtin_add_overflow(state, both, &sum) ? 1 : 0;
  overflow |= __builtin_add_overflow(sum, *carry, &sum) ? 1 : 0;
  *carry = overflow;
  return sum | (state - both);
}

size_t Zeros(uint64_t state) { return static_cast<size_t>(std::popcount(~state)); }

// Of sequences up to this long: a row of bits per symbol, 2 MiB of them at most.
constexpr size_t kMaxDense = 4096;
constexpr size_t kWordsAtOnce = 4;  // of the state, in registers over all of `b`

struct State {
  uint64_t w0 = ~uint64_t{0}, w1 = ~uint64_t{0}, w2 = ~uint64_t{0}, w3 = ~uint64_t{0};
};

// kWordsAtOnce steps; the carry.
inline uint8_t Steps(State& state, const uint64_t* match, uint8_t carry_in) {
#if defined(__x86_64__)
  // As four additions with carry, one right after the other.
  const uint64_t both0 = state.w0 & match[0], both1 = state.w1 & match[1],
                 both2 = state.w2 & match[2], both3 = state.w3 & match[3];
  unsigned long long sum0, sum1, sum2, sum3;  // the instruction's own type
  unsigned char carry = _addcarry_u64(carry_in, state.w0, both0, &sum0);
  carry = _addcarry_u64(carry, state.w1, both1, &sum1);
  carry = _addcarry_u64(carry, state.w2, both2, &sum2);
  carry = _addcarry_u64(carry, state.w3, both3, &sum3);
  state = {sum0 | (state.w0 - both0), sum1 | (state.w1 - both1), sum2 | (state.w2 - both2),
           sum3 | (state.w3 - both3)};
  return carry;
#else
  uint64_t carry = carry_in;
  state.w0 = Step(state.w0, match[0], &carry);
  state.w1 = Step(state.w1, match[1], &carry);
  state.w2 = Step(state.w2, match[2], &carry);
  state.w3 = Step(state.w3, match[3], &carry);
  return static_cast<uint8_t>(carry);
#endif
}

// row_of_b(j): the row of b's j-th symbol; row 0 is that of symbols `a` does not have.
template <typename RowOf>
size_t CommonInRows(const std::vector<uint64_t>& rows, size_t num_words, size_t b_size,
                    RowOf row_of_b) {
  std::vector<uint8_t> carries(b_size, 0);
  size_t common = 0;
  for (size_t w = 0; w < num_words; w += kWordsAtOnce) {
    State state;
    for (size_t j = 0; j < b_size; ++j)
      carries[j] = Steps(state, &rows[row_of_b(j) * num_words + w], carries[j]);
    common += Zeros(state.w0) + Zeros(state.w1) + Zeros(state.w2) + Zeros(state.w3);
  }
  return common;
}

// `number` maps symbols to 0, 1, ...: for a's all below `num_symbols`, for others anything from there on.
template <typename T, typename Number>
size_t CommonSubsequenceDense(const T* a, size_t a_size, const T* b, size_t b_size,
                              size_t num_symbols, Number number) {
  const size_t num_words = (a_size + 64 * kWordsAtOnce - 1) / (64 * kWordsAtOnce) * kWordsAtOnce;
  std::vector<uint64_t> rows((num_symbols + 1) * num_words, 0);
  for (size_t i = 0; i < a_size; ++i)
    rows[(number(a[i]) + 1) * num_words + i / 64] |= uint64_t{1} << (i % 64);
  const auto row_of = [&](size_t j) {
    const size_t row = number(b[j]);
    return row < num_symbols ? row + 1 : 0;
  };
  return CommonInRows(rows, num_words, b_size, row_of);
}

size_t CommonOfDistinctEnds(const char* a, size_t a_size, const char* b, size_t b_size) {
  constexpr uint8_t kNone = 255;  // ASCII: 128 different ones at most
  std::array<uint8_t, 256> numbers;
  numbers.fill(kNone);
  uint8_t count = 0;
  for (size_t i = 0; i < a_size; ++i) {
    uint8_t& number = numbers[static_cast<unsigned char>(a[i])];
    if (number == kNone) number = count++;
  }
  const auto number = [&](char c) -> size_t { return numbers[static_cast<unsigned char>(c)]; };
  return CommonSubsequenceDense(a, a_size, b, b_size, count, number);
}

template <typename T>
size_t CommonOfDistinctEnds(const T* a, size_t a_size, const T* b, size_t b_size) {
  KeyNumbers numbers(a_size + b_size);
  for (size_t i = 0; i < a_size; ++i) numbers.Number(static_cast<uint64_t>(a[i]));
  const auto number = [&](T symbol) -> size_t {
    return numbers.Number(static_cast<uint64_t>(symbol));
  };
  return CommonSubsequenceDense(a, a_size, b, b_size, numbers.size(), number);
}

// Of long sequences: lists of the places where each symbol stands.
template <typename T>
size_t CommonSubsequenceSparse(const T* a, size_t a_size, const T* b, size_t b_size) {
  const size_t num_words = (a_size + 63) / 64;
  // Where each symbol stands in `a`: its lists of (word, bits).
  absl::flat_hash_map<T, std::vector<std::pair<uint32_t, uint64_t>>> positions;
  for (size_t i = 0; i < a_size; ++i) {
    auto& list = positions[a[i]];
    if (list.empty() || list.back().first != i / 64) list.emplace_back(i / 64, 0);
    list.back().second |= uint64_t{1} << (i % 64);
  }
  std::vector<uint64_t> state(num_words, ~uint64_t{0});
  for (size_t j = 0; j < b_size; ++j) {
    const auto found = positions.find(b[j]);
    if (found == positions.end()) continue;  // no match: the state stays
    auto next = found->second.begin();
    const auto end = found->second.end();
    uint64_t carry = 0;
    for (size_t w = next->first; w < num_words; ++w) {
      uint64_t match = 0;
      if (next != end && next->first == w) match = (next++)->second;
      if (match == 0 && carry == 0) {
        if (next == end) break;
        w = next->first - 1;
        continue;
      }
      state[w] = Step(state[w], match, &carry);
    }
  }
  size_t common = 0;  // bits beyond `a` stay 1
  for (const uint64_t word : state) common += Zeros(word);
  return common;
}

template <typename T>
size_t Common(const T* a, size_t a_size, const T* b, size_t b_size) {
  size_t common = 0;
  while (a_size > 0 && b_size > 0 && *a == *b) ++a, ++b, --a_size, --b_size, ++common;
  while (a_size > 0 && b_size > 0 && a[a_size - 1] == b[b_size - 1]) --a_size, --b_size, ++common;
  if (a_size > b_size) std::swap(a, b), std::swap(a_size, b_size);
  if (a_size == 0) return common;
  return common + (a_size <= kMaxDense ? CommonOfDistinctEnds(a, a_size, b, b_size)
                                       : CommonSubsequenceSparse(a, a_size, b, b_size));
}

}  // namespace

size_t CommonSubsequence(std::string_view a, std::string_view b) {
  return Common(a.data(), a.size(), b.data(), b.size());
}
size_t CommonSubsequence(std::u32string_view a, std::u32string_view b) {
  return Common(a.data(), a.size(), b.data(), b.size());
}
size_t CommonSubsequence(absl::Span<const uint32_t> a, absl::Span<const uint32_t> b) {
  return Common(a.data(), a.size(), b.data(), b.size());
}

}  // namespace rft
