// What the tests of the orchestrator share: rows with small prompts, a grader that follows a rule, options that fit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rollout/orchestrator.h"
#include "tests/testing/fake_codec.h"
#include "tests/testing/fake_engine.h"

namespace rft::testing {

// Row i asks for the prompt of one token: byte 'a' + i.
inline std::vector<Prompt> MakePrompts(int num_rows) {
  std::vector<Prompt> prompts;
  for (int i = 0; i < num_rows; ++i) {
    Row row;
    row.index = i;
    row.messages = {{"user", std::string(1, static_cast<char>('a' + i))}};
    prompts.push_back({std::make_shared<const Row>(row), ByteIds(row.messages[0].content)});
  }
  return prompts;
}

inline int64_t RowOf(const GenerateRequest& request) { return request.prompt.front() - 'a'; }

// Grades at once, on the caller's thread. The rule returns a grade.
inline GradeFunction GradeBy(std::function<Grade(const Row&, const Rollout&)> rule) {
  return [rule = std::move(rule)](std::shared_ptr<const Row> row,
                                  std::shared_ptr<const Rollout> rollout, GradesDone done) {
    done({{"rule", 1.0, rule(*row, *rollout)}});
  };
}

// The score is the completion, read as a number.
inline GradeFunction GradeByText() {
  return GradeBy([](const Row&, const Rollout& rollout) -> Grade {
    return Score{std::stod(rollout.completion_text)};
  });
}

inline OrchestratorOptions SmallOptions() {
  OrchestratorOptions options;
  options.seed = 7;
  options.shuffle = false;
  options.prompts_per_step = 2;
  options.group_size = 2;
  options.max_refill_rounds = 2;
  options.limits = {.silence_s = 20.0, .cancel_s = 2.0};
  return options;
}

inline std::vector<int64_t> GroupIds(const StepBatch& batch) {
  std::vector<int64_t> ids;
  for (const Group& group : batch.groups) ids.push_back(group.id);
  return ids;
}

}  // namespace rft::testing
