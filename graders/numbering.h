// Words and n-grams as numbers: equal ones get equal numbers, counted from 0 in the order they first come. What text metrics
// and n-gram statistics are made of, so it is quick: no allocation per word, ids found by one multiplication and one compare.
//
//   WordNumbers numbers(3);
//   numbers.Number("a") == 0, numbers.Number("b") == 1, numbers.Number("a") == 0
//
// Not thread-safe; words must outlive their WordNumbers.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "absl/container/inlined_vector.h"

namespace rft {
namespace numbering_internal {

// Differs from process to process, so that no text can be written to collide.
inline uint64_t Seed() {
  static const char here = 0;
  return reinterpret_cast<uintptr_t>(&here) * 0x9E3779B97F4A7C15u;
}

inline uint64_t Mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

template <typename T>
uint64_t Load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// a == b of texts that are short, without a call.
inline bool SameShortText(std::string_view a, std::string_view b) {
  const size_t size = a.size();
  if (size != b.size()) return false;
  if (size > 16) return a == b;
  if (size >= 8) {
    return Load<uint64_t>(a.data()) == Load<uint64_t>(b.data()) &&
           Load<uint64_t>(a.data() + size - 8) == Load<uint64_t>(b.data() + size - 8);
  }
  if (size >= 4) {
    return Load<uint32_t>(a.data()) == Load<uint32_t>(b.data()) &&
           Load<uint32_t>(a.data() + size - 4) == Load<uint32_t>(b.data() + size - 4);
  }
  return size == 0 || (a[0] == b[0] && a[size / 2] == b[size / 2] && a[size - 1] == b[size - 1]);
}

// What tells words of up to 16 bytes apart, given their size: their two ends. And a hash of all of it.
struct WordKey {
  uint64_t front = 0, back = 0, hash = 0;

  WordKey(std::string_view word, uint64_t seed) {
    const char* const data = word.data();
    const size_t size = word.size();
    if (size >= 8) {
      front = Load<uint64_t>(data), back = Load<uint64_t>(data + size - 8);
    } else if (size >= 4) {
      front = Load<uint32_t>(data), back = Load<uint32_t>(data + size - 4);
    } else if (size > 0) {
      front = Load<uint8_t>(data) | (Load<uint8_t>(data + size / 2) << 8) |
              (Load<uint8_t>(data + size - 1) << 16);
    }
    hash = Mix(front ^ seed, back ^ (size * 0xA0761D6478BD642Fu) ^ ~seed);
    for (size_t i = 8; i + 8 < size; i += 8)
      hash = Mix(hash ^ Load<uint64_t>(data + i), 0xE7037ED1A0B428DBu ^ seed);
  }
};

// A hash of a word behind whose first byte at least 8 bytes can be read: short words take no branch that depends on their size.
inline uint64_t HashOfPadded(std::string_view word, uint64_t seed) {
  const size_t size = word.size();
  uint64_t front = Load<uint64_t>(word.data());
  uint64_t back = 0;
  if (size > 8) {
    back = Load<uint64_t>(word.data() + size - 8);
  } else {
    front &= ~uint64_t{0} >> (8 * ((8 - size) & 7));
  }
  uint64_t hash = Mix(front ^ seed, back ^ (size * 0xA0761D6478BD642Fu) ^ ~seed);
  for (size_t i = 8; i + 8 < size; i += 8)
    hash = Mix(hash ^ Load<uint64_t>(word.data() + i), 0xE7037ED1A0B428DBu ^ seed);
  return hash;
}

// Open addressing, at most half full: key index + 1, or 0.
template <typename Key>
class Table {
 public:
  explicit Table(size_t num_keys)
      : shift_(64 - std::bit_width(2 * num_keys + 1)), slots_(size_t{1} << (64 - shift_), 0) {
    keys_.reserve(num_keys);
  }

  uint32_t Number(uint64_t hash, const Key& key) {
    const size_t mask = slots_.size() - 1;
    for (size_t at = hash >> shift_;; at = (at + 1) & mask) {
      const uint32_t number = slots_[at];
      if (number == 0) {
        keys_.push_back(key);
        slots_[at] = static_cast<uint32_t>(keys_.size());
        return slots_[at] - 1;
      }
      if (keys_[number - 1] == key) return number - 1;
    }
  }
  // size(): it has no number.
  size_t Find(uint64_t hash, const Key& key) const {
    const size_t mask = slots_.size() - 1;
    for (size_t at = hash >> shift_;; at = (at + 1) & mask) {
      const uint32_t number = slots_[at];
      if (number == 0) return keys_.size();
      if (keys_[number - 1] == key) return number - 1;
    }
  }
  size_t size() const { return keys_.size(); }

 private:
  int shift_;
  absl::InlinedVector<uint32_t, 128> slots_;
  absl::InlinedVector<Key, 32> keys_;
};

}  // namespace numbering_internal

// REQUIRES: no more than `num_keys` different ones come.
class KeyNumbers {
 public:
  explicit KeyNumbers(size_t num_keys) : table_(num_keys) {}
  uint32_t Number(uint64_t key) {
    return table_.Number(numbering_internal::Mix(key ^ seed_, 0x9E3779B97F4A7C15u), key);
  }
  size_t size() const { return table_.size(); }

 private:
  const uint64_t seed_ = numbering_internal::Seed();
  numbering_internal::Table<uint64_t> table_;
};

// REQUIRES: no more than `num_words` different ones come.
class WordNumbers {
 public:
  explicit WordNumbers(size_t num_words) : table_(num_words) {}

  uint32_t Number(std::string_view word) {
    const numbering_internal::WordKey key(word, seed_);
    return table_.Number(HashOf(key), {key.front, key.back, word});
  }
  // size(): it has not been numbered.
  size_t Find(std::string_view word) const {
    const numbering_internal::WordKey key(word, seed_);
    return table_.Find(HashOf(key), {key.front, key.back, word});
  }
  size_t size() const { return table_.size(); }

 private:
  static uint64_t HashOf(const numbering_internal::WordKey& key) {
    return numbering_internal::Mix(key.hash, 0x9E3779B97F4A7C15u);
  }
  struct Word {
    uint64_t front, back;
    std::string_view text;
    bool operator==(const Word& other) const {
      return front == other.front && back == other.back && text.size() == other.text.size() &&
             (text.size() <= 16 || text == other.text);
    }
  };
  const uint64_t seed_ = numbering_internal::Seed();
  numbering_internal::Table<Word> table_;
};

// How many n-grams there are, and how many different ones, of symbols that come one by one. They are told apart by 64 bits:
// two different ones of a text of a thousand words are taken for one once in 10^13 texts.
class DistinctNgrams {
 public:
  static constexpr size_t kMaxOrder = 16;

  // REQUIRES: 1 <= n <= kMaxOrder; no more than `num_symbols` symbols come.
  DistinctNgrams(size_t n, size_t num_symbols)
      : n_(n), shift_(64 - std::bit_width(4 * num_symbols + 1)) {
    const size_t num_slots = size_t{1} << (64 - shift_);
    if (num_slots > kFewSlots) many_slots_.resize(num_slots);
    slots_ = num_slots > kFewSlots ? many_slots_.data() : few_slots_;
    if (num_slots <= kFewSlots) std::fill_n(few_slots_, num_slots, uint64_t{0});
    for (size_t i = 0; i < n; ++i) leaving_factor_ *= kFactor;
  }
  DistinctNgrams(const DistinctNgrams&) = delete;
  DistinctNgrams& operator=(const DistinctNgrams&) = delete;

  void AddWord(std::string_view word) { Add(numbering_internal::WordKey(word, seed_).hash); }
  // REQUIRES: 8 bytes can be read from its start. Not together with AddWord, which tells words apart by other numbers.
  void AddPaddedWord(std::string_view word) { Add(numbering_internal::HashOfPadded(word, seed_)); }
  void AddNumber(uint32_t number) {
    Add(numbering_internal::Mix(number ^ seed_, 0xA0761D6478BD642Fu ^ ~seed_));
  }

  size_t size() const { return num_symbols_ < n_ ? 0 : num_symbols_ - n_ + 1; }
  size_t num_distinct() const { return num_distinct_; }

 private:
  static constexpr size_t kFewSlots = 512;
  static constexpr uint64_t kFactor = 0x9E3779B97F4A7C13u;  // 3 modulo 4, so that the order counts

  // The n-gram is its symbols as the digits of a number, modulo 2^64: the first one leaves, the new one comes.
  void Add(uint64_t symbol) {
    const uint64_t leaving = num_symbols_ < n_ ? 0 : last_[(num_symbols_ - n_) % kMaxOrder];
    last_[num_symbols_++ % kMaxOrder] = symbol;
    ngram_ = ngram_ * kFactor + symbol - leaving * leaving_factor_;
    if (num_symbols_ < n_) return;
    const uint64_t key = ngram_ | 1;  // 0 is a free slot
    const size_t mask = (size_t{1} << (64 - shift_)) - 1;
    for (size_t at = numbering_internal::Mix(key, 0x9E3779B97F4A7C15u) >> shift_;;
         at = (at + 1) & mask) {
      if (slots_[at] == key) return;
      if (slots_[at] != 0) continue;
      slots_[at] = key;
      ++num_distinct_;
      return;
    }
  }

  const uint64_t seed_ = numbering_internal::Seed();
  const size_t n_;
  const int shift_;
  uint64_t* slots_;  // at most a quarter full
  uint64_t few_slots_[kFewSlots];
  std::vector<uint64_t> many_slots_;
  uint64_t last_[kMaxOrder];
  uint64_t leaving_factor_ = 1;
  uint64_t ngram_ = 0;
  size_t num_symbols_ = 0;
  size_t num_distinct_ = 0;
};

}  // namespace rft
