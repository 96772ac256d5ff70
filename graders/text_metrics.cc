#include "graders/text_metrics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "graders/common_subsequence.h"
#include "graders/numbering.h"
#include "graders/porter_stemmer.h"
#include "graders/remembered.h"
#include "graders/unicode_text.h"
#include "rft/core/text.h"

namespace rft {
namespace {

constexpr int kBleuOrder = 4;

// Words as numbers: the same word, the same number, in both texts.
struct WordIds {
  std::vector<uint32_t> candidate;
  std::vector<uint32_t> reference;
};

// The words must outlive the call only.
WordIds ToIds(const std::vector<std::string_view>& candidate,
              const std::vector<std::string_view>& reference) {
  WordNumbers numbers(candidate.size() + reference.size());
  WordIds ids;
  ids.candidate.reserve(candidate.size());
  ids.reference.reserve(reference.size());
  for (const std::string_view word : candidate) ids.candidate.push_back(numbers.Number(word));
  for (const std::string_view word : reference) ids.reference.push_back(numbers.Number(word));
  return ids;
}

struct Overlap {
  int64_t common = 0;  // n-grams in both, each as often as in the text that has fewer of it
  int64_t candidate = 0;
  int64_t reference = 0;
};

// Overlaps of 1-grams, 2-grams, ... one call after the other. An n-gram's number is that of the pair ((n-1)-gram, word).
class NgramOverlaps {
 public:
  explicit NgramOverlaps(WordIds ids) : words_(ids), grams_(std::move(ids)) {}

  Overlap Next() {
    if (order_++ > 0) {
      KeyNumbers pairs(grams_.candidate.size() + grams_.reference.size());
      Extend(words_.candidate, &grams_.candidate, &pairs);
      Extend(words_.reference, &grams_.reference, &pairs);
    }
    // The numbers are dense: those of `grams` below are less than their count in both texts.
    counts_.assign(grams_.candidate.size() + grams_.reference.size() + 1, 0);
    for (const uint32_t gram : grams_.reference) ++counts_[gram];
    Overlap overlap{0, std::ssize(grams_.candidate), std::ssize(grams_.reference)};
    for (const uint32_t gram : grams_.candidate) {
      if (counts_[gram] == 0) continue;
      --counts_[gram];
      ++overlap.common;
    }
    return overlap;
  }

 private:
  void Extend(const std::vector<uint32_t>& words, std::vector<uint32_t>* grams,
              KeyNumbers* pairs) const {
    if (!grams->empty()) grams->pop_back();
    const size_t last = static_cast<size_t>(order_) - 1;
    for (size_t i = 0; i < grams->size(); ++i) {
      const uint64_t pair = (uint64_t{(*grams)[i]} << 32) | words[i + last];
      (*grams)[i] = pairs->Number(pair);
    }
  }

  const WordIds words_;
  WordIds grams_;
  std::vector<uint32_t> counts_;
  int order_ = 0;
};

absl::Status CheckLength(size_t a, size_t b, const char* unit) {
  if (a == 0 || b <= kMaxAlignedProduct / a) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "texts of ", a, " and ", b, " ", unit, " are too long to compare (65536 each would do)"));
}

// A reference in ASCII, ready to be compared with the completions of a group.
struct FuzzyReference {
  bool is_ascii = false;
  SubsequencePattern pattern;
};
constexpr size_t kMaxRememberedReference = 1024;  // bytes; 33 KB of rows at most

absl::StatusOr<double> FuzzyMatch(std::string_view candidate, std::string_view reference) {
  const auto compare = [](const auto& a, const auto& b, auto common) -> absl::StatusOr<double> {
    if (a.empty() && b.empty()) return 1.0;
    if (absl::Status status = CheckLength(a.size(), b.size(), "characters"); !status.ok())
      return status;
    return 2.0 * static_cast<double>(common()) / static_cast<double>(a.size() + b.size());
  };
  if (IsAscii(candidate)) {
    if (reference.size() <= kMaxRememberedReference) {
      thread_local Remembered<FuzzyReference, 16, kMaxRememberedReference> memory;
      const FuzzyReference& known =
          memory.Of(reference, 0, [](std::string_view text, FuzzyReference* made) {
            made->is_ascii = IsAscii(text);
            if (made->is_ascii) made->pattern.Set(text);
          });
      if (known.is_ascii)
        return compare(candidate, reference, [&] { return known.pattern.Common(candidate); });
    } else if (IsAscii(reference)) {
      return compare(candidate, reference, [&] { return CommonSubsequence(candidate, reference); });
    }
  }
  const std::u32string a = DecodeUtf8(candidate), b = DecodeUtf8(reference);
  return compare(a, b,
                 [&] { return CommonSubsequence(std::u32string_view(a), std::u32string_view(b)); });
}

// mteval-v13a's tokeniser, as sacrebleu's four substitutions, one pass each. `text` gets the words' characters.
std::vector<std::string_view> Tokenize13a(std::string_view line, std::string* text) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_stop = [](char c) { return c == '.' || c == ','; };
  const std::vector<std::string_view> words = SplitWords(line);
  const size_t end =
      words.empty() ? 0
                    : static_cast<size_t>(words.back().data() - line.data()) + words.back().size();
  std::string raw(line.substr(0, end));
  for (const auto& [from, to] : {std::pair<const char*, const char*>{"<skipped>", ""},
                                 {"-\n", ""},
                                 {"\n", " "},
                                 {"&quot;", "\""},
                                 {"&amp;", "&"},
                                 {"&lt;", "<"},
                                 {"&gt;", ">"}}) {
    if (raw.find(from) != std::string::npos) raw = absl::StrReplaceAll(raw, {{from, to}});
  }
  std::string a = " ";
  for (const char c : raw) {
    const bool symbol = (c >= '{' && c <= '~') || (c >= '[' && c <= '`') ||
                        (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
                        (c >= ':' && c <= '@') || c == '/';
    if (symbol) a += ' ';
    a += c;
    if (symbol) a += ' ';
  }
  a += ' ';
  // A pair of characters that `first` and `second` accept gets spaces; the search goes on behind the pair.
  const auto pass = [](const std::string& in, auto first, auto second, std::array<bool, 3> space) {
    std::string out;
    out.reserve(in.size() + in.size() / 4);
    for (size_t i = 0; i < in.size(); ++i) {
      if (i + 1 == in.size() || !first(in[i]) || !second(in[i + 1])) {
        out += in[i];
        continue;
      }
      if (space[0]) out += ' ';
      out += in[i];
      if (space[1]) out += ' ';
      out += in[++i];
      if (space[2]) out += ' ';
    }
    return out;
  };
  const auto not_digit = [&](char c) { return !is_digit(c); };
  const auto is_dash = [](char c) { return c == '-'; };
  *text = pass(a, not_digit, is_stop, {false, true, true});
  *text = pass(*text, is_stop, not_digit, {true, true, false});
  *text = pass(*text, is_digit, is_dash, {false, true, true});
  return SplitWords(*text);
}

double Bleu(std::string_view candidate, std::string_view reference) {
  std::string candidate_text, reference_text;
  WordIds ids =
      ToIds(Tokenize13a(candidate, &candidate_text), Tokenize13a(reference, &reference_text));
  const auto length = static_cast<double>(ids.candidate.size());
  const auto wanted = static_cast<double>(ids.reference.size());
  NgramOverlaps overlaps(std::move(ids));
  double sum_of_logs = 0.0;
  double smoothing = 1.0;
  int order = 0;
  bool any = false;
  for (int n = 1; n <= kBleuOrder; ++n) {
    const Overlap overlap = overlaps.Next();
    if (overlap.candidate == 0) break;
    any = any || overlap.common > 0;
    order = n;
    const auto total = static_cast<double>(overlap.candidate);
    if (overlap.common == 0) smoothing *= 2;
    sum_of_logs +=
        std::log(overlap.common == 0 ? 100.0 / (smoothing * total)
                                     : 100.0 * static_cast<double>(overlap.common) / total);
  }
  if (!any) return 0.0;
  const double brevity = length < wanted ? std::exp(1.0 - wanted / length) : 1.0;
  return brevity * std::exp(sum_of_logs / order) / 100.0;
}

double Gleu(std::string_view candidate, std::string_view reference) {
  NgramOverlaps overlaps(ToIds(SplitWords(candidate), SplitWords(reference)));
  Overlap sum;
  for (int n = 1; n <= kBleuOrder; ++n) {
    const Overlap overlap = overlaps.Next();
    sum.common += overlap.common;
    sum.candidate += overlap.candidate;
    sum.reference += overlap.reference;
  }
  const int64_t all = std::max(sum.candidate, sum.reference);
  return all == 0 ? 0.0 : static_cast<double>(sum.common) / static_cast<double>(all);
}

// Pairs equal words, from the last word of the candidate on, each with the last free one of the reference. Words are numbers
// below `num_words`. -1: no partner.
void MatchWords(const WordIds& ids, size_t num_words, std::vector<int32_t>* partner,
                std::vector<bool>* taken) {
  // The free places of each word, last first, as a chain.
  std::vector<int32_t> last(num_words, -1), before(ids.reference.size(), -1);
  for (size_t j = 0; j < ids.reference.size(); ++j) {
    if ((*taken)[j]) continue;
    before[j] = last[ids.reference[j]];
    last[ids.reference[j]] = static_cast<int32_t>(j);
  }
  for (size_t i = ids.candidate.size(); i-- > 0;) {
    if ((*partner)[i] >= 0) continue;
    int32_t& place = last[ids.candidate[i]];
    if (place < 0) continue;
    (*partner)[i] = place;
    (*taken)[static_cast<size_t>(place)] = true;
    place = before[static_cast<size_t>(place)];
  }
}

// A. Lavie, A. Agarwal, "METEOR", 2007, with NLTK's alpha, beta and gamma.
double Meteor(std::string_view candidate_text, std::string_view reference_text) {
  constexpr double kAlpha = 0.9, kBeta = 3.0, kGamma = 0.5;
  const std::string candidate_lower = LowerUtf8(candidate_text);
  const std::string reference_lower = LowerUtf8(reference_text);
  const std::vector<std::string_view> candidate = SplitWords(candidate_lower);
  const std::vector<std::string_view> reference = SplitWords(reference_lower);
  const size_t num_words = candidate.size() + reference.size();
  WordIds ids = ToIds(candidate, reference);
  std::vector<int32_t> partner(candidate.size(), -1);
  std::vector<bool> taken(reference.size(), false);
  MatchWords(ids, num_words, &partner, &taken);
  // What is left is compared by stem; one stem per different word.
  std::vector<std::string> stems(num_words);
  WordNumbers numbers(num_words);
  const auto stem = [&](uint32_t* id, std::string_view word) {
    if (stems[*id].empty()) stems[*id] = PorterStem(word);
    *id = numbers.Number(stems[*id]);
  };
  for (size_t i = 0; i < candidate.size(); ++i) {
    if (partner[i] < 0) stem(&ids.candidate[i], candidate[i]);
  }
  for (size_t j = 0; j < reference.size(); ++j) {
    if (!taken[j]) stem(&ids.reference[j], reference[j]);
  }
  MatchWords(ids, num_words, &partner, &taken);
  int64_t matches = 0, chunks = 0;
  for (size_t i = 0; i < partner.size(); ++i) {
    if (partner[i] < 0) continue;
    ++matches;
    if (i == 0 || partner[i - 1] < 0 || partner[i] != partner[i - 1] + 1) ++chunks;
  }
  if (matches == 0) return 0.0;
  const double precision = static_cast<double>(matches) / static_cast<double>(candidate.size());
  const double recall = static_cast<double>(matches) / static_cast<double>(reference.size());
  const double mean = precision * recall / (kAlpha * precision + (1 - kAlpha) * recall);
  const double fragments = static_cast<double>(chunks) / static_cast<double>(matches);
  return (1 - kGamma * std::pow(fragments, kBeta)) * mean;
}

double Cosine(std::string_view candidate, std::string_view reference) {
  const std::string a = LowerUtf8(candidate), b = LowerUtf8(reference);
  absl::flat_hash_map<absl::string_view, std::pair<double, double>> counts;
  for (const std::string_view word : SplitWords(a)) counts[{word.data(), word.size()}].first += 1;
  for (const std::string_view word : SplitWords(b)) counts[{word.data(), word.size()}].second += 1;
  double dot = 0, a_square = 0, b_square = 0;  // whole numbers: exact in any order
  for (const auto& [word, count] : counts) {
    dot += count.first * count.second;
    a_square += count.first * count.first;
    b_square += count.second * count.second;
  }
  return dot == 0 ? 0.0 : std::min(1.0, dot / std::sqrt(a_square * b_square));
}

// rouge_score's words: runs of [a-z0-9] after str.lower(), which makes an ASCII letter of two others.
std::vector<std::string_view> RougeWords(std::string_view text, std::string* lower) {
  lower->assign(text);
  if (text.find("\xE2\x84\xAA") != std::string_view::npos) {  // Kelvin sign
    *lower = absl::StrReplaceAll(*lower, {{"\xE2\x84\xAA", "k"}});
  }
  if (text.find("\xC4\xB0") != std::string_view::npos) {  // capital I with dot above
    *lower = absl::StrReplaceAll(*lower, {{"\xC4\xB0", "i\xCC\x87"}});
  }
  std::vector<std::string_view> words;
  size_t begin = 0;
  for (size_t i = 0; i <= lower->size(); ++i) {
    if (i < lower->size()) {
      char& c = (*lower)[i];
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
      if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) continue;
    }
    if (i > begin) words.emplace_back(lower->data() + begin, i - begin);
    begin = i + 1;
  }
  return words;
}

double FMeasure(double common, double candidate, double reference) {
  const double precision = common / std::max(candidate, 1.0);
  const double recall = common / std::max(reference, 1.0);
  return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0.0;
}

WordIds RougeIds(std::string_view candidate, std::string_view reference) {
  std::string a, b;
  const std::vector<std::string_view> candidate_words = RougeWords(candidate, &a);
  return ToIds(candidate_words, RougeWords(reference, &b));
}

double RougeN(int n, std::string_view candidate, std::string_view reference) {
  NgramOverlaps overlaps(RougeIds(candidate, reference));
  Overlap overlap;
  for (int i = 0; i < n; ++i) overlap = overlaps.Next();
  return FMeasure(static_cast<double>(overlap.common), static_cast<double>(overlap.candidate),
                  static_cast<double>(overlap.reference));
}

absl::StatusOr<double> RougeL(std::string_view candidate, std::string_view reference) {
  const WordIds ids = RougeIds(candidate, reference);
  const auto &a = ids.candidate, &b = ids.reference;
  if (absl::Status status = CheckLength(a.size(), b.size(), "words"); !status.ok()) return status;
  const size_t common = CommonSubsequence(a, b);
  return FMeasure(static_cast<double>(common), static_cast<double>(a.size()),
                  static_cast<double>(b.size()));
}

}  // namespace

const std::vector<std::string>& TextMetricNames() {
  static const auto* names = new std::vector<std::string>{
      "fuzzy_match", "bleu",    "gleu",    "meteor",  "cosine", "rouge_1",
      "rouge_2",     "rouge_3", "rouge_4", "rouge_5", "rouge_l"};
  return *names;
}

absl::StatusOr<TextMetric> ParseTextMetric(std::string_view name) {
  const std::vector<std::string>& names = TextMetricNames();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<TextMetric>(found - names.begin());
  const std::optional<std::string> near = DidYouMean(name, names);
  return absl::InvalidArgumentError(absl::StrCat("\"", std::string(name), "\" is not one of ",
                                                 absl::StrJoin(names, ", "),
                                                 near ? "; did you mean " + *near + "?" : ""));
}

absl::StatusOr<double> CompareTexts(TextMetric metric, std::string_view candidate,
                                    std::string_view reference) {
  switch (metric) {
    case TextMetric::kFuzzyMatch:
      return FuzzyMatch(candidate, reference);
    case TextMetric::kBleu:
      return Bleu(candidate, reference);
    case TextMetric::kGleu:
      return Gleu(candidate, reference);
    case TextMetric::kMeteor:
      return Meteor(candidate, reference);
    case TextMetric::kCosine:
      return Cosine(candidate, reference);
    case TextMetric::kRougeL:
      return RougeL(candidate, reference);
    default:
      return RougeN(static_cast<int>(metric) - static_cast<int>(TextMetric::kRouge1) + 1, candidate,
                    reference);
  }
}

}  // namespace rft
