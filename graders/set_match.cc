// set_match: the items listed in the completion against the expected ones, in any order; an item written twice counts once.
//
//   expected      template, default {{item.answer}}: a JSON list, or items between separators; empty: the empty set
//   input         template, default {{sample.output_text}}; `extract` and `pick` (graders/extract.h) cut the list out of it
//   separators    characters between items, default ",;\n"
//   ignore_case   default true (Unicode)
//   score         exact (default: 1 or 0) | f1 | jaccard | precision | recall
// Items are trimmed (blanks, quotes, a bullet in front, one full stop behind); empty ones don't count.
// Sub-scores: precision, recall. A completion that `extract` does not match scores 0.

#include <boost/json/array.hpp>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "graders/extract.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "graders/unicode_text.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

using Items = std::set<std::string>;

std::string_view Trimmed(std::string_view item) {
  const auto strip = [&](std::string_view front, std::string_view back) {
    while (!item.empty() && front.find(item.front()) != std::string_view::npos)
      item.remove_prefix(1);
    while (!item.empty() && back.find(item.back()) != std::string_view::npos) item.remove_suffix(1);
  };
  strip(" \t\r\n*", " \t\r\n");
  if (item.starts_with("- ")) item.remove_prefix(2);
  if (item.ends_with('.')) item.remove_suffix(1);
  strip(" \t\"'`{[(", " \t\"'`}])");
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
    grader->separators_ = params.String("separators", ",;\n");
    grader->ignore_case_ = params.Bool("ignore_case", true);
    grader->score_ =
        params.Choice("score", {"exact", "f1", "jaccard", "precision", "recall"}, "exact");
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    const absl::StatusOr<std::string> text = input_.Render(input);
    if (!text.ok()) return GradeWithoutText(text.status());
    const absl::StatusOr<std::string> expected_text = expected_.Render(input);
    if (!expected_text.ok()) return GradeWithoutText(expected_text.status());
    const std::optional<std::string_view> part = extract_.Find(*text);
    if (!part.has_value()) return Score{0.0, {}, "`extract` matches nothing"};
    const Items found = Read(*part);
    const Items expected = Read(*expected_text);
    std::string missing;
    double common = 0;
    for (const std::string& item : expected) {
      if (found.contains(item)) {
        ++common;
      } else if (missing.size() < 200) {
        absl::StrAppend(&missing, missing.empty() ? "missing: " : ", ", item.substr(0, 50));
      }
    }
    const auto num_found = static_cast<double>(found.size());
    const auto num_expected = static_cast<double>(expected.size());
    const auto share = [](double part, double whole) { return whole == 0 ? 1.0 : part / whole; };
    const double precision = share(common, num_found);
    const double recall = share(common, num_expected);
    double value = common == num_found && common == num_expected ? 1.0 : 0.0;
    if (score_ == "f1") value = share(2 * common, num_found + num_expected);
    if (score_ == "jaccard") value = share(common, num_found + num_expected - common);
    if (score_ == "precision") value = precision;
    if (score_ == "recall") value = recall;
    if (missing.empty() && num_found > common)
      missing = absl::StrCat(num_found - common, " items that were not expected");
    return Score{value, {{"precision", precision}, {"recall", recall}}, std::move(missing)};
  }

 private:
  Items Read(std::string_view text) const {
    Items items;
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first != std::string_view::npos && text[first] == '[') {
      if (const absl::StatusOr<json::value> parsed = ParseJson(text);
          parsed.ok() && parsed->is_array()) {
        for (const json::value& item : parsed->get_array())
          Add(item.is_string() ? std::string_view(item.get_string()) : ToJson(item), &items);
        return items;
      }
    }
    size_t begin = 0;
    while (begin <= text.size()) {
      const size_t end = std::min(text.find_first_of(separators_, begin), text.size());
      Add(text.substr(begin, end - begin), &items);
      begin = end + 1;
    }
    return items;
  }

  void Add(std::string_view item, Items* items) const {
    const std::string_view trimmed = Trimmed(item);
    if (!trimmed.empty()) items->insert(ignore_case_ ? LowerUtf8(trimmed) : std::string(trimmed));
  }

  Template expected_;
  Template input_;
  Extract extract_;
  std::string separators_;
  std::string score_;
  bool ignore_case_ = true;
};

}  // namespace

RFT_REGISTER_GRADER("set_match", SetMatch);

}  // namespace rft
