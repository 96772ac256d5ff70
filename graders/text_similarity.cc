// text_similarity: how alike two texts are, from 0 to 1, as OpenAI's grader of that name.
//
//   evaluation_metric   fuzzy_match | bleu | gleu | meteor | cosine | rouge_1 .. rouge_5 | rouge_l (graders/text_metrics.h)
//   reference           template, e.g. {{item.answer}}
//   input               template, default {{sample.output_text}}
//   pass_threshold      given: score 1 where the similarity is at least this, else 0; the similarity is a sub-score then
// GradeError: a column the row doesn't have; texts too long for the metric.

#include <optional>
#include <string>

#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "graders/text_metrics.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

class TextSimilarity : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<TextSimilarity>();
    const std::string metric = params.Choice("evaluation_metric", TextMetricNames());
    grader->reference_ = ReadTemplate(params, "reference");
    grader->input_ = ReadTemplate(params, "input", "{{sample.output_text}}");
    if (params.Has("pass_threshold"))
      grader->threshold_ = params.Double("pass_threshold", 1.0, 0.0);
    RFT_RETURN_IF_ERROR(params.Finish());
    RFT_ASSIGN_OR_RETURN(grader->metric_, ParseTextMetric(metric));
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    TextBuffer buffers[2];
    const absl::StatusOr<std::string_view> text = input_.View(input, &buffers[0]);
    if (!text.ok()) return GradeWithoutText(text.status());
    const absl::StatusOr<std::string_view> reference = reference_.View(input, &buffers[1]);
    if (!reference.ok()) return GradeWithoutText(reference.status());
    const absl::StatusOr<double> similarity = CompareTexts(metric_, *text, *reference);
    if (!similarity.ok()) return GradeError{std::string(similarity.status().message())};
    if (!threshold_.has_value()) return Score{*similarity, {}, ""};
    return Score{*similarity >= *threshold_ ? 1.0 : 0.0, {{"similarity", *similarity}}, ""};
  }

 private:
  TextMetric metric_ = TextMetric::kFuzzyMatch;
  Template reference_;
  Template input_;
  std::optional<double> threshold_;
};

}  // namespace

RFT_REGISTER_GRADER("text_similarity", TextSimilarity);

}  // namespace rft
