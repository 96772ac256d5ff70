#include "graders/common_subsequence.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
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

// The bits of `pattern`, a sequence of up to kMaxDense symbols, by chunks of kChunk words: of each chunk a row per symbol, the words
// where it stands and their complements. Row 0 is that of symbols the pattern does not have.
constexpr size_t kMaxDense = SubsequencePattern::kMaxSize;
constexpr size_t kChunk = 4;  // words of the state in registers over all of the other sequence
constexpr size_t kRow = 2 * kChunk;
constexpr size_t kChunkSymbols = 64 * kChunk;

size_t NumChunks(size_t size) { return (size + kChunkSymbols - 1) / kChunkSymbols; }

// row(i): the row of the pattern's i-th symbol, 1 or more.
template <typename Row>
void FillRows(size_t size, size_t num_rows, Row row, std::vector<uint64_t>* rows) {
  rows->resize(NumChunks(size) * num_rows * kRow);
  for (size_t at = 0; at < rows->size(); at += kRow) {
    std::fill_n(rows->data() + at, kChunk, uint64_t{0});
    std::fill_n(rows->data() + at + kChunk, kChunk, ~uint64_t{0});
  }
  for (size_t i = 0; i < size; ++i) {
    const size_t chunk = i / kChunkSymbols, word = i % kChunkSymbols / 64;
    uint64_t* const at = rows->data() + (chunk * num_rows + row(i)) * kRow + word;
    const uint64_t bit = uint64_t{1} << (i % 64);
    at[0] |= bit;
    at[kChunk] &= ~bit;
  }
}

// The steps of a chunk's words for symbols `first` to `last` - 1 of the other sequence, from each one's carry of 0 or 1 to its next.
template <typename RowOf>
void Steps(uint64_t* state, const uint64_t* rows, size_t first, size_t last, RowOf row_of,
           uint8_t* carries) {
#if defined(__x86_64__)
  // By hand: compilers keep the carry of _addcarry_u64 in a register and the sums in memory, which takes twice the time.
  uint64_t w0 = state[0], w1 = state[1], w2 = state[2], w3 = state[3];
  for (size_t j = first; j < last; ++j) {
    const uint64_t* const row = rows + row_of(j) * kRow;
    uint64_t s0, s1, s2, s3;
    uint8_t carry = carries[j];
    asm("movq %[w0], %[s0]\n\tandq (%[row]), %[s0]\n\t"
        "movq %[w1], %[s1]\n\tandq 8(%[row]), %[s1]\n\t"
        "movq %[w2], %[s2]\n\tandq 16(%[row]), %[s2]\n\t"
        "movq %[w3], %[s3]\n\tandq 24(%[row]), %[s3]\n\t"
        "addb $-1, %[carry]\n\t"
        "adcq %[w0], %[s0]\n\tadcq %[w1], %[s1]\n\t"
        "adcq %[w2], %[s2]\n\tadcq %[w3], %[s3]\n\t"
        "setc %[carry]\n\t"
        "andq 32(%[row]), %[w0]\n\torq %[s0], %[w0]\n\t"
        "andq 40(%[row]), %[w1]\n\torq %[s1], %[w1]\n\t"
        "andq 48(%[row]), %[w2]\n\torq %[s2], %[w2]\n\t"
        "andq 56(%[row]), %[w3]\n\torq %[s3], %[w3]"
        : [w0] "+&r"(w0), [w1] "+&r"(w1), [w2] "+&r"(w2), [w3] "+&r"(w3), [s0] "=&r"(s0),
          [s1] "=&r"(s1), [s2] "=&r"(s2), [s3] "=&r"(s3), [carry] "+&q"(carry)
        : [row] "r"(row), "m"(*reinterpret_cast<const uint64_t(*)[kRow]>(row))
        : "cc");
    carries[j] = carry;
  }
  state[0] = w0, state[1] = w1, state[2] = w2, state[3] = w3;
#else
  for (size_t j = first; j < last; ++j) {
    const uint64_t* const row = rows + row_of(j) * kRow;
    uint64_t carry = carries[j];
    for (size_t w = 0; w < kChunk; ++w) state[w] = Step(state[w], row[w], &carry);
    carries[j] = static_cast<uint8_t>(carry);
  }
#endif
}

// Of a chunk that has one word only. Nothing comes after it.
template <typename RowOf>
void LastSteps(uint64_t* state, const uint64_t* rows, size_t first, size_t last, RowOf row_of,
               const uint8_t* carries) {
  uint64_t word = state[0];
  for (size_t j = first; j < last; ++j) {
    uint64_t carry = carries[j];
    word = Step(word, rows[row_of(j) * kRow], &carry);
  }
  state[0] = word;
}

// What both begin and end with is common: the alignment is of what lies between.
struct Ends {
  size_t prefix = 0, suffix = 0;
};
template <typename T>
Ends CommonEnds(const T* a, size_t a_size, const T* b, size_t b_size) {
  Ends ends;
  const size_t most = std::min(a_size, b_size);
  while (ends.prefix < most && a[ends.prefix] == b[ends.prefix]) ++ends.prefix;
  while (ends.suffix < most - ends.prefix &&
         a[a_size - 1 - ends.suffix] == b[b_size - 1 - ends.suffix])
    ++ends.suffix;
  return ends;
}

// Of the pattern whose rows these are, `size` symbols of it, with a sequence of which row_of(j) is the row of the j-th symbol. Both
// begin with the same `prefix` symbols: the state after those is known, zeros for as many rows.
template <typename RowOf>
size_t CommonInRows(const uint64_t* rows, size_t num_rows, size_t size, size_t other_size,
                    size_t prefix, RowOf row_of) {
  absl::InlinedVector<uint8_t, 1024> carries(other_size, 0);
  size_t common = 0;
  for (size_t begin = 0; begin < size; begin += kChunkSymbols, rows += num_rows * kRow) {
    const auto mask_from = [&](size_t first,
                               size_t w) {  // the bits of word w from symbol `first` on
      const size_t at = begin + 64 * w;
      return first <= at ? ~uint64_t{0} : first >= at + 64 ? 0 : ~uint64_t{0} << (first - at);
    };
    uint64_t state[kChunk];
    for (size_t w = 0; w < kChunk; ++w) state[w] = mask_from(prefix, w);
    if (size - begin > 64) {
      Steps(state, rows, prefix, other_size, row_of, carries.data());
    } else {
      LastSteps(state, rows, prefix, other_size, row_of, carries.data());
    }
    for (size_t w = 0; w < kChunk; ++w) common += Zeros(state[w] | mask_from(size, w));
  }
  return common;
}

// By numbers of symbols, found by hashing.
template <typename T>
size_t CommonSubsequenceDense(const T* a, size_t a_size, const T* b, size_t b_size) {
  KeyNumbers numbers(a_size + b_size);
  const auto number = [&](T symbol) -> size_t {
    return numbers.Number(static_cast<uint64_t>(symbol));
  };
  std::vector<uint32_t> rows_of_a(a_size), rows_of_b(b_size);
  for (size_t i = 0; i < a_size; ++i) rows_of_a[i] = static_cast<uint32_t>(number(a[i]) + 1);
  const size_t num_rows = numbers.size() + 1;
  for (size_t j = 0; j < b_size; ++j) {
    const size_t row = number(b[j]) + 1;
    rows_of_b[j] = row < num_rows ? static_cast<uint32_t>(row) : 0;
  }
  std::vector<uint64_t> rows;
  FillRows(
      a_size, num_rows, [&](size_t i) { return rows_of_a[i]; }, &rows);
  return CommonInRows(rows.data(), num_rows, a_size, b_size, 0,
                      [row_of = rows_of_b.data()](size_t j) { return row_of[j]; });
}

size_t CommonSubsequenceDense(const char* a, size_t a_size, const char* b, size_t b_size) {
  SubsequencePattern pattern;
  pattern.Set({a, a_size});
  return pattern.Common({b, b_size});
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
  const auto [prefix, suffix] = CommonEnds(a, a_size, b, b_size);
  a += prefix, b += prefix;
  a_size -= prefix + suffix, b_size -= prefix + suffix;
  if (a_size > b_size) std::swap(a, b), std::swap(a_size, b_size);
  if (a_size == 0) return prefix + suffix;
  return prefix + suffix +
         (a_size <= kMaxDense ? CommonSubsequenceDense(a, a_size, b, b_size)
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

void SubsequencePattern::Set(std::string_view text) {
  text_ = text;
  row_of_.fill(0);
  num_rows_ = 1;
  const auto row = [&](size_t i) -> uint16_t& {
    return row_of_[static_cast<unsigned char>(text[i])];
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (row(i) == 0) row(i) = static_cast<uint16_t>(num_rows_++);
  }
  FillRows(text.size(), num_rows_, row, &rows_);
}

size_t SubsequencePattern::Common(std::string_view other) const {
  const auto [prefix, suffix] = CommonEnds(text_.data(), text_.size(), other.data(), other.size());
  const auto row_of = [rows = row_of_.data(), text = other.data()](size_t j) -> size_t {
    return rows[static_cast<unsigned char>(text[j])];
  };
  // Zeros of the first `prefix` rows of the state count.
  return suffix + CommonInRows(rows_.data(), num_rows_, text_.size() - suffix,
                               other.size() - suffix, prefix, row_of);
}

}  // namespace rft
