#include "graders/quick_regex.h"

#include <algorithm>
#include <bitset>
#include <cstring>
#include <map>

#include "graders/unicode_text.h"

namespace rft {
namespace {

using Bytes = std::bitset<256>;
using Positions = uint64_t;  // one bit per character of the pattern, repetitions written out

constexpr size_t kMaxPositions = 64;
constexpr size_t kMaxStates = 200;
constexpr size_t kMinLiteral = 2;
constexpr int kMaxNesting = 50;
constexpr std::string_view kSpecial = "\\.+*?()|[]{}^$";

Bytes Range(unsigned char first, unsigned char last) {
  Bytes bytes;
  for (int c = first; c <= last; ++c) bytes.set(static_cast<size_t>(c));
  return bytes;
}

// Glushkov's construction: each character of the pattern is a state.
class Parser {
 public:
  struct Part {
    Positions first = 0, last = 0;
    bool empty = true;  // matches the empty text
  };

  explicit Parser(std::string_view pattern) : rest_(pattern) {}

  // False: not taken.
  bool Parse() {
    if (rest_.starts_with("(?s)")) {
      rest_.remove_prefix(4);
      any_newline_ = true;
    }
    const std::optional<Part> whole = Alternatives(0);
    if (!whole.has_value() || !rest_.empty() || whole->empty) return false;
    whole_ = *whole;
    return true;
  }

  const Part& whole() const { return whole_; }
  const std::vector<Bytes>& bytes() const { return bytes_; }
  const std::array<Positions, kMaxPositions>& follow() const { return follow_; }
  bool ascii_only() const { return ascii_only_; }

 private:
  std::optional<Part> Alternatives(int depth) {
    if (depth > kMaxNesting) return std::nullopt;
    std::optional<Part> all = Sequence(depth);
    while (all.has_value() && !rest_.empty() && rest_.front() == '|') {
      rest_.remove_prefix(1);
      const std::optional<Part> other = Sequence(depth);
      if (!other.has_value()) return std::nullopt;
      all->first |= other->first;
      all->last |= other->last;
      all->empty |= other->empty;
    }
    return all;
  }

  std::optional<Part> Sequence(int depth) {
    Part all;
    while (!rest_.empty() && rest_.front() != '|' && rest_.front() != ')') {
      const std::optional<Part> next = Repeated(depth);
      if (!next.has_value()) return std::nullopt;
      all = Joined(all, *next);
    }
    return all;
  }

  Part Joined(const Part& a, const Part& b) {
    Link(a.last, b.first);
    return {a.first | (a.empty ? b.first : 0), b.last | (b.empty ? a.last : 0), a.empty && b.empty};
  }

  void Link(Positions from, Positions to) {
    for (; from != 0; from &= from - 1) follow_[static_cast<size_t>(__builtin_ctzll(from))] |= to;
  }

  std::optional<Part> Repeated(int depth) {
    std::optional<Part> part = Atom(depth);
    if (!part.has_value() || rest_.empty()) return part;
    const char sign = rest_.front();
    if (sign == '{') return std::nullopt;
    if (sign != '?' && sign != '*' && sign != '+') return part;
    rest_.remove_prefix(1);
    if (sign != '?') Link(part->last, part->first);
    if (sign != '+') part->empty = true;
    if (!rest_.empty() && rest_.front() == '?') rest_.remove_prefix(1);  // lazy: matches no less
    // RE2 has its own opinion of a** and a{2}*.
    if (!rest_.empty() && std::string_view("?*+{").find(rest_.front()) != std::string_view::npos)
      return std::nullopt;
    return part;
  }

  std::optional<Part> Atom(int depth) {
    if (rest_.front() == '(') {
      rest_.remove_prefix(1);
      if (rest_.starts_with("?:")) {
        rest_.remove_prefix(2);
      } else if (rest_.starts_with('?')) {
        return std::nullopt;
      }
      std::optional<Part> part = Alternatives(depth + 1);
      if (!part.has_value() || rest_.empty()) return std::nullopt;
      rest_.remove_prefix(1);  // the closing one: nothing else ends Alternatives within a group
      return part;
    }
    const std::optional<Bytes> bytes = Characters();
    if (!bytes.has_value() || bytes->none() || bytes_.size() == kMaxPositions) return std::nullopt;
    const Positions position = Positions{1} << bytes_.size();
    bytes_.push_back(*bytes);
    return Part{position, position, false};
  }

  // What one character of the text may be.
  std::optional<Bytes> Characters() {
    const char c = rest_.front();
    if (c == '\\') return Escape();
    rest_.remove_prefix(1);
    if (c == '[') return Class();
    if (c == '.') return Any(any_newline_ ? Bytes() : Range('\n', '\n'));
    if (kSpecial.find(c) != std::string_view::npos || static_cast<unsigned char>(c) >= 0x80 ||
        c == '\0')
      return std::nullopt;
    return Range(static_cast<unsigned char>(c), static_cast<unsigned char>(c));
  }

  // All characters of ASCII but some; whether others fit as well is RE2's to say.
  Bytes Any(const Bytes& excluded) {
    ascii_only_ = true;
    return Range(0, 0x7F) & ~excluded;
  }

  // At a backslash.
  std::optional<Bytes> Escape() {
    if (rest_.size() < 2) return std::nullopt;
    const char c = rest_[1];
    rest_.remove_prefix(2);
    const Bytes digit = Range('0', '9');
    const Bytes word = digit | Range('a', 'z') | Range('A', 'Z') | Range('_', '_');
    const Bytes space = Range('\t', '\n') | Range('\f', '\r') | Range(' ', ' ');
    switch (c) {
      case 'd':
        return digit;
      case 'D':
        return Any(digit);
      case 'w':
        return word;
      case 'W':
        return Any(word);
      case 's':
        return space;
      case 'S':
        return Any(space);
      case 'n':
        return Range('\n', '\n');
      case 't':
        return Range('\t', '\t');
      case 'r':
        return Range('\r', '\r');
      default:
        if (std::string_view("\\.+*?()|[]{}^$/-<>:#&").find(c) == std::string_view::npos)
          return std::nullopt;
        return Range(static_cast<unsigned char>(c), static_cast<unsigned char>(c));
    }
  }

  // Behind the opening bracket.
  std::optional<Bytes> Class() {
    const bool negated = rest_.starts_with('^');
    if (negated) rest_.remove_prefix(1);
    Bytes all;
    for (bool at_start = true;; at_start = false) {
      if (rest_.empty()) return std::nullopt;
      const char c = rest_.front();
      if (c == ']' && !at_start) break;
      if (c == ']' || c == '[' || (c == '-' && !at_start && !rest_.starts_with("-]")) ||
          static_cast<unsigned char>(c) >= 0x80 || c == '\0')
        return std::nullopt;
      if (c == '\\') {
        const bool had_any = ascii_only_;
        const std::optional<Bytes> escaped = Escape();
        if (!escaped.has_value() || (!had_any && ascii_only_)) return std::nullopt;
        all |= *escaped;
        if (rest_.starts_with('-') && !rest_.starts_with("-]")) return std::nullopt;
        continue;
      }
      rest_.remove_prefix(1);
      unsigned char last = static_cast<unsigned char>(c);
      if (rest_.size() >= 2 && rest_[0] == '-' && rest_[1] != ']') {
        last = static_cast<unsigned char>(rest_[1]);
        if (c == '-' || last == '\\' || last == '[' || last >= 0x80 ||
            last < static_cast<unsigned char>(c))
          return std::nullopt;
        rest_.remove_prefix(2);
      }
      all |= Range(static_cast<unsigned char>(c), last);
    }
    rest_.remove_prefix(1);
    return negated ? Any(all) : all;
  }

  std::string_view rest_;
  bool any_newline_ = false;
  bool ascii_only_ = false;
  Part whole_;
  std::vector<Bytes> bytes_;
  std::array<Positions, kMaxPositions> follow_{};
};

// The literal that every match begins with.
std::string LiteralOf(const Parser& parser) {
  std::string literal;
  Positions at = parser.whole().first;
  while (at != 0 && (at & (at - 1)) == 0) {
    const auto position = static_cast<size_t>(__builtin_ctzll(at));
    const Bytes& bytes = parser.bytes()[position];
    if (bytes.count() != 1 || literal.size() == kMaxPositions) break;
    literal += static_cast<char>(bytes._Find_first());
    if ((parser.whole().last & at) != 0) break;
    at = parser.follow()[position];
  }
  return literal;
}

}  // namespace

std::optional<QuickRegex> QuickRegex::Compile(std::string_view pattern) {
  Parser parser(pattern);
  if (!parser.Parse()) return std::nullopt;
  QuickRegex result;
  result.literal_ = LiteralOf(parser);
  if (result.literal_.size() < kMinLiteral) return std::nullopt;
  result.ascii_only_ = parser.ascii_only();
  // The sets of positions that can be reached, each a state; a match may begin anywhere.
  std::map<Positions, State> states = {{0, State{0}}};
  std::vector<Positions> sets = {0};
  for (size_t s = 0; s < sets.size(); ++s) {
    Positions reachable = parser.whole().first;
    for (Positions from = sets[s]; from != 0; from &= from - 1)
      reachable |= parser.follow()[static_cast<size_t>(__builtin_ctzll(from))];
    std::array<State, 256>& next = result.next_.emplace_back();
    for (size_t byte = 0; byte < 256; ++byte) {
      Positions to = 0;
      for (Positions left = reachable; left != 0; left &= left - 1) {
        const auto position = static_cast<size_t>(__builtin_ctzll(left));
        if (parser.bytes()[position][byte]) to |= Positions{1} << position;
      }
      if ((to & parser.whole().last) != 0) {
        next[byte] = kMatched;
        continue;
      }
      const auto [known, is_new] = states.try_emplace(to, static_cast<State>(sets.size()));
      if (is_new) sets.push_back(to);
      if (sets.size() > kMaxStates) return std::nullopt;
      next[byte] = known->second;
    }
  }
  for (const char c : result.literal_) {
    if (result.after_literal_ != kMatched)
      result.after_literal_ = result.next_[result.after_literal_][static_cast<unsigned char>(c)];
  }
  return result;
}

std::optional<bool> QuickRegex::Matches(std::string_view text) const {
  if (ascii_only_ && !IsAscii(text)) return std::nullopt;
  for (size_t at = 0;;) {
    at = text.find(literal_, at);
    if (at == std::string_view::npos) return false;
    at += literal_.size();
    State state = after_literal_;
    while (state != 0 && state != kMatched) {
      if (at == text.size()) return false;
      state = next_[state][static_cast<unsigned char>(text[at++])];
    }
    if (state == kMatched) return true;
  }
}

}  // namespace rft
