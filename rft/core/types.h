// The nouns of the loop: row -> prompt -> group of rollouts -> grades -> rewards -> advantages.
// Plain data, std only. One word per thing, the same in code, YAML, metrics and docs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rft/core/grade.h"

namespace rft {

using TokenId = int32_t;

// One OpenAI-style chat message. `content` is text; other fields a dataset may carry stay in Row::json.
struct Message {
  std::string role;
  std::string content;
};

// A line of the dataset.
struct Row {
  int64_t index = 0;              // 0-based line order within its file
  std::vector<Message> messages;  // the prompt, to be rendered by the chat template
  std::map<std::string, std::string>
      columns;       // every other top-level key: strings as they are, other values as JSON text
  std::string json;  // the whole line, one JSON object: what a Python grader receives
};

enum class SegmentKind : uint8_t { kPrompt = 0, kModel = 1, kTool = 2, kEnv = 3 };

// A run of tokens of one origin. The per-token vectors are empty or as long as `ids`.
struct Segment {
  SegmentKind kind = SegmentKind::kPrompt;
  std::vector<TokenId> ids;
  std::vector<uint8_t> loss_mask;  // 1 = this token is trained on; empty = all 0
  std::vector<float>
      sampling_logprobs;  // nats, of the distribution the token was drawn from (after temperature, top-p, ...)
  std::vector<float> logprobs;    // nats, at temperature 1 over the whole vocabulary
  std::vector<int64_t> versions;  // weight version that produced each token
  std::vector<uint8_t> routes;    // MoE routing, packed (empty for dense models)
};

enum class FinishReason : uint8_t { kStop = 0, kLength = 1, kCancelled = 2, kError = 3 };

inline const char* FinishReasonName(FinishReason reason) {
  static constexpr const char* kNames[] = {"stop", "length", "cancelled", "error"};
  return kNames[static_cast<int>(reason)];
}

// A grader's verdict with the grader's configured name and weight.
struct NamedGrade {
  std::string grader;
  double weight = 1.0;
  Grade grade;
};

// What the model wrote for one prompt, with everything needed to train on it, judge it and reproduce it.
// Versioned and serialisable: rft/io/rollout_record.h.
struct Rollout {
  static constexpr int kFormatVersion = 1;
  int64_t step = 0;   // optimizer step it was sampled for
  int64_t group = 0;  // group id, unique within the run
  int32_t index = 0;  // 0..group_size-1
  std::vector<Segment> segments;
  std::string completion_text;  // decoded model segments
  FinishReason finish_reason = FinishReason::kStop;
  std::vector<NamedGrade> grades;
  bool scored = false;  // every grader that must score did: `reward` is meaningful
  double reward = 0.0;
  double advantage = 0.0;
  // One per completion token (model segments one after another) where they differ within the rollout, `advantage` then
  // being their mean. Empty: `advantage` throughout.
  std::vector<float> token_advantages;

  // Tokens of all model segments.
  int64_t NumCompletionTokens() const {
    int64_t n = 0;
    for (const Segment& s : segments)
      n += s.kind == SegmentKind::kModel ? static_cast<int64_t>(s.ids.size()) : 0;
    return n;
  }
};

// The rollouts of one prompt.
struct Group {
  int64_t id = 0;
  std::shared_ptr<const Row> row;
  std::vector<TokenId> prompt;
  std::vector<Rollout> rollouts;
};

}  // namespace rft
