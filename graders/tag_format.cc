// tag_format: the completion's sections, <think>...</think><answer>...</answer>: each tag once, in order.
//
//   tags       list of names, e.g. [think, answer]
//   outside    blank (default: only white space before, between and after) | anything
//   nonempty   true (default): a section of white space is a mistake
//   score      all (default: 1 or 0) | share: of the tags that are right
// A tag is right if its opening and its closing tag occur exactly once, in this order, after the section before it, and its
// section is not empty. Sub-scores: 1 or 0 per tag, by its name.
// With tags [think] and outside: anything this is TRL's think_format_reward, but that needs <think> at the very beginning.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/unicode_text.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

class TagFormat : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<TagFormat>();
    for (const std::string& name :
         params.Texts("tags", "names, e.g. [think, answer]", ParamReader::Need::kRequired))
      grader->tags_.push_back({name, "<" + name + ">", "</" + name + ">"});
    grader->blank_outside_ = params.Choice("outside", {"blank", "anything"}, "blank") == "blank";
    grader->nonempty_ = params.Bool("nonempty", true);
    grader->share_ = params.Choice("score", {"all", "share"}, "all") == "share";
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    const std::string_view text = input.completion;
    Score score;
    size_t end = 0;  // of the last right section
    bool outside_is_blank = true;
    double right = 0;
    for (const Tag& tag : tags_) {
      size_t begin = 0, close_end = 0;
      const std::string mistake = Section(text, tag, end, &begin, &close_end);
      score.sub_scores[tag.name] = mistake.empty() ? 1.0 : 0.0;
      if (!mistake.empty()) {
        absl::StrAppend(&score.reason, score.reason.empty() ? "" : "; ", mistake);
        continue;
      }
      ++right;
      outside_is_blank = outside_is_blank && IsBlank(text.substr(end, begin - end));
      end = close_end;
    }
    outside_is_blank = outside_is_blank && IsBlank(text.substr(end));
    const bool outside_wrong = blank_outside_ && !outside_is_blank;
    if (outside_wrong && right == static_cast<double>(tags_.size()))
      score.reason = "text outside the tags";
    const double share = right / static_cast<double>(tags_.size());
    score.value = share_ ? share : (share == 1.0 ? 1.0 : 0.0);
    if (outside_wrong && !share_) score.value = 0.0;
    return score;
  }

 private:
  struct Tag {
    std::string name, open, close;
  };

  // What is wrong with the tag; empty: nothing, and its section with both tags is [*begin, *end).
  std::string Section(std::string_view text, const Tag& tag, size_t after, size_t* begin,
                      size_t* end) const {
    const std::string &open = tag.open, &close = tag.close;
    for (const std::string* mark : {&open, &close}) {
      const size_t first = text.find(*mark);
      if (first == std::string_view::npos) return *mark + " is missing";
      if (text.find(*mark, first + 1) != std::string_view::npos)
        return *mark + " occurs more than once";
      (mark == &open ? *begin : *end) = first;
    }
    if (*begin < after) return open + " comes too early";
    if (*end < *begin) return close + " comes before " + open;
    const size_t content = *begin + open.size();
    if (nonempty_ && IsBlank(text.substr(content, *end - content))) return open + " is empty";
    *end += close.size();
    return "";
  }

  std::vector<Tag> tags_;
  bool blank_outside_ = true;
  bool nonempty_ = true;
  bool share_ = false;
};

}  // namespace

RFT_REGISTER_GRADER("tag_format", TagFormat);

}  // namespace rft
