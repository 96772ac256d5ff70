// set_match: the items listed in the completion against the expected ones, in any order; an item written twice counts once.
//
//   expected      template, default {{item.answer}}: a JSON list, or items between separators; empty: the empty set
//   input         template, default {{sample.output_text}}; `extract` and `pick` (graders/extract.h) cut the list out of it
//   separators    characters between items, default ",;\n"
//   ignore_case   default true (Unicode)
//   score         exact (default: 1 or 0) | f1 | jaccard | precision | recall
// Items are trimmed (blanks, quotes, a bullet in front, one full stop behind); empty ones don't count.
// Sub-scores: precision, recall. A completion that `extract` does not match scores 0.

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "graders/extract.h"
#include "graders/grader.h"
#include "graders/numbering.h"
#include "graders/param_reader.h"
#include "graders/remembered.h"
#include "graders/template.h"
#include "graders/unicode_text.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

// As they are listed. Views into texts that outlive them, or into `made`.
struct Items {
  absl::InlinedVector<std::string_view, 16> listed;
  std::list<std::string> made;
};

// What a row expects, each item once.
struct Wanted {
  Items items;
  std::optional<WordNumbers> numbers;  // of `items.listed`, in that order
};

using Characters = std::array<bool, 256>;

constexpr Characters CharactersOf(std::string_view text) {
  Characters characters{};
  for (const char c : text) characters[static_cast<unsigned char>(c)] = true;
  return characters;
}

std::string_view Trimmed(std::string_view item) {
  static constexpr Characters kBlank = CharactersOf(" \t\r\n"), kBullet = CharactersOf(" \t\r\n*"),
                              kOpening = CharactersOf(" \t\"'`{[("),
                              kClosing = CharactersOf(" \t\"'`}])");
  const auto is_plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (item.starts_with(' ')) item.remove_prefix(1);
  if (!item.empty() && is_plain(item.front()) && is_plain(item.back())) return item;  // most
  const auto strip = [&](const Characters& front, const Characters& back) {
    while (!item.empty() && front[static_cast<unsigned char>(item.front())]) item.remove_prefix(1);
    while (!item.empty() && back[static_cast<unsigned char>(item.back())]) item.remove_suffix(1);
  };
  strip(kBullet, kBlank);
  if (item.starts_with("- ")) item.remove_prefix(2);
  if (item.ends_with('.')) item.remove_suffix(1);
  strip(kOpening, kClosing);
  return item;
}

class SetMatch : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<SetMatch>();
    grader->expected_ = ReadTemplate(params, "expected", "{{item.answer}}");
    grader->input_ = ReadTemplate(params, "input", "{{sample.output_text}}");
    grader->extract_ = Extract::Read(params);
    const Characters separates = CharactersOf(params.String("separators", ",;\n"));
    for (size_t c = 0; c < separates.size(); ++c) {
      const bool may_be_upper_case = (c >= 'A' && c <= 'Z') || c >= 0x80;
      grader->kinds_[c] = static_cast<uint8_t>((separates[c] ? kSeparates : 0) |
                                               (may_be_upper_case ? kMayBeUpperCase : 0));
    }
    grader->ignore_case_ = params.Bool("ignore_case", true);
    const std::vector<std::string> kinds = {"exact", "f1", "jaccard", "precision", "recall"};
    const std::string kind = params.Choice("score", kinds, "exact");
    grader->score_ = static_cast<Kind>(std::find(kinds.begin(), kinds.end(), kind) - kinds.begin());
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    TextBuffer buffers[2];
    const absl::StatusOr<std::string_view> text = input_.View(input, &buffers[0]);
    if (!text.ok()) return GradeWithoutText(text.status());
    const absl::StatusOr<std::string_view> expected_text = expected_.View(input, &buffers[1]);
    if (!expected_text.ok()) return GradeWithoutText(expected_text.status());
    const std::optional<std::string_view> part = extract_.Find(*text);
    if (!part.has_value()) return Score{0.0, {}, "`extract` matches nothing"};
    thread_local Remembered<Wanted> memory;
    const auto read = [this](std::string_view text, Wanted* made) {
      made->items = Items();
      Read(text, &made->items);
      auto& listed = made->items.listed;
      made->numbers.emplace(listed.size());
      size_t kept = 0;
      for (const std::string_view item : listed) {
        if (made->numbers->Number(item) == kept) listed[kept++] = item;
      }
      listed.resize(kept);
    };
    const Wanted& wanted = memory.Of(*expected_text, id_, read);
    Items found;
    Read(*part, &found);
    absl::InlinedVector<bool, 16> is_found(wanted.items.listed.size(), false);
    std::optional<WordNumbers> others;
    for (const std::string_view item : found.listed) {
      if (const uint32_t number = wanted.numbers->Find(item); number < is_found.size()) {
        is_found[number] = true;
      } else {
        if (!others.has_value()) others.emplace(found.listed.size());
        others->Number(item);
      }
    }
    const auto num_common = static_cast<size_t>(std::count(is_found.begin(), is_found.end(), true));
    return Verdict(wanted.items.listed, is_found, num_common,
                   num_common + (others ? others->size() : 0));
  }

 private:
  enum class Kind { kExact, kF1, kJaccard, kPrecision, kRecall };
  static constexpr uint8_t kSeparates = 1;       // kinds of characters
  static constexpr uint8_t kMayBeUpperCase = 2;  // else LowerUtf8 leaves it alone

  Grade Verdict(absl::Span<const std::string_view> wanted, absl::Span<const bool> is_found,
                size_t num_common, size_t num_all_found) const {
    const auto common = static_cast<double>(num_common);
    const auto num_found = static_cast<double>(num_all_found);
    const auto num_expected = static_cast<double>(wanted.size());
    const auto share = [](double part, double whole) { return whole == 0 ? 1.0 : part / whole; };
    const double precision = share(common, num_found);
    const double recall = share(common, num_expected);
    double value = common == num_found && common == num_expected ? 1.0 : 0.0;
    if (score_ == Kind::kF1) value = share(2 * common, num_found + num_expected);
    if (score_ == Kind::kJaccard) value = share(common, num_found + num_expected - common);
    if (score_ == Kind::kPrecision) value = precision;
    if (score_ == Kind::kRecall) value = recall;
    Grade grade(std::in_place_type<Score>, value);
    Score& score = std::get<Score>(grade);
    score.sub_scores["precision"] = precision;
    score.sub_scores["recall"] = recall;
    std::string& missing = score.reason;
    for (size_t i = 0; i < is_found.size() && missing.size() < 200; ++i) {
      if (is_found[i]) continue;
      if (missing.empty()) missing.reserve(64);
      missing.append(missing.empty() ? "missing: " : ", ").append(wanted[i].substr(0, 50));
    }
    if (missing.empty() && num_all_found > num_common)
      missing = absl::StrCat(num_all_found - num_common, " items that were not expected");
    return grade;
  }

  void Read(std::string_view text, Items* items) const {
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first != std::string_view::npos && text[first] == '[') {
      if (const absl::StatusOr<json::value> parsed = ParseJson(text);
          parsed.ok() && parsed->is_array()) {
        for (const json::value& item : parsed->get_array()) {
          items->made.push_back(item.is_string() ? std::string(item.get_string()) : ToJson(item));
          Add(items->made.back(), /*has_upper_case=*/true, items);
        }
        return;
      }
    }
    const char* const end = text.data() + text.size();
    for (const char* begin = text.data();;) {
      const char* stop = begin;
      uint8_t kinds = 0;
      for (; stop != end; ++stop) {
        const uint8_t kind = kinds_[static_cast<unsigned char>(*stop)];
        if ((kind & kSeparates) != 0) break;
        kinds |= kind;
      }
      Add(std::string_view(begin, static_cast<size_t>(stop - begin)),
          (kinds & kMayBeUpperCase) != 0, items);
      if (stop == end) break;
      begin = stop + 1;
    }
  }

  void Add(std::string_view item, bool has_upper_case, Items* items) const {
    std::string_view trimmed = Trimmed(item);
    if (trimmed.empty()) return;
    if (ignore_case_ && has_upper_case) {
      items->made.push_back(LowerUtf8(trimmed));
      trimmed = items->made.back();
    }
    items->listed.push_back(trimmed);
  }

  Template expected_;
  Template input_;
  Extract extract_;
  std::array<uint8_t, 256> kinds_{};
  const uint64_t id_ = NewReadingId();
  Kind score_ = Kind::kExact;
  bool ignore_case_ = true;
};

}  // namespace

RFT_REGISTER_GRADER("set_match", SetMatch);

}  // namespace rft
