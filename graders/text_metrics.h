// How alike two texts are, from 0 to 1 (1: as alike as the metric can say). The names are those of OpenAI's
// text_similarity grader; each equals the Python package in brackets, default settings, to rounding
// (tests/graders/text_metrics_test.cc, with the script that made the expected values):
//
//   fuzzy_match    2 * common subsequence / both lengths, in code points     [rapidfuzz.fuzz.ratio]
//   bleu           1- to 4-grams, tokeniser 13a, "exp" smoothing             [sacrebleu.sentence_bleu]
//   gleu           1- to 4-grams of str.split() words                        [nltk sentence_gleu]
//   meteor         words and their Porter stems, in lower case, str.split()  [nltk single_meteor_score, synonyms left out:
//                                                                             they need a WordNet installation]
//   cosine         of the word counts, in lower case, str.split(). OpenAI's own compares embeddings; no model is asked here.
//   rouge_1 .. 5   F-measure of n-gram overlap, words of [a-z0-9]            [rouge_score, no stemmer]
//   rouge_l        F-measure of the longest common subsequence of words      [rouge_score, no stemmer]
//
// Linear time, but fuzzy_match and rouge_l: length * length / 64 steps, hence the bound on their product.
// Thread safety: everything here may be called from any thread. Torch-free.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace rft {

enum class TextMetric {
  kFuzzyMatch,
  kBleu,
  kGleu,
  kMeteor,
  kCosine,
  kRouge1,
  kRouge2,
  kRouge3,
  kRouge4,
  kRouge5,
  kRougeL,
};

// Of the two lengths, in code points (fuzzy_match) or words (rouge_l): 65536 each, or a million against 4096.
inline constexpr size_t kMaxAlignedProduct = size_t{1} << 32;

const std::vector<std::string>& TextMetricNames();

// kInvalidArgument: not one of TextMetricNames(); suggests the nearest.
absl::StatusOr<TextMetric> ParseTextMetric(std::string_view name);

// `candidate` is what the model wrote. Texts are UTF-8.
// kResourceExhausted: fuzzy_match or rouge_l of texts that are too long (kMaxAlignedProduct).
absl::StatusOr<double> CompareTexts(TextMetric metric, std::string_view candidate,
                                    std::string_view reference);

}  // namespace rft
