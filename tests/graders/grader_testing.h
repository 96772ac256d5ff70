// Short ways to make rows, inputs and graders in tests.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "graders/grader.h"
#include "gtest/gtest.h"

namespace rft {

using Params = std::map<std::string, std::string>;

inline GraderSpec Spec(const std::string& type, Params params, const std::string& name = "g") {
  GraderSpec spec;
  spec.type = type;
  spec.name = name;
  spec.params = std::move(params);
  return spec;
}

// The message of a creation that must fail.
inline std::string CreationError(const GraderSpec& spec) {
  auto grader = CreateGrader(spec);
  EXPECT_FALSE(grader.ok());
  return std::string(grader.status().message());
}

inline Row RowWith(std::map<std::string, std::string> columns) {
  Row row;
  row.index = 7;
  row.columns = std::move(columns);
  return row;
}

inline Grade GradeText(const GraderSpec& spec, const std::string& completion,
                       std::map<std::string, std::string> columns = {}) {
  auto grader = CreateGrader(spec);
  if (!grader.ok()) {
    ADD_FAILURE() << grader.status();
    return GradeError{"not created"};
  }
  const Row row = RowWith(std::move(columns));
  return (*grader)->Run(GradeInput{row, completion, {}, FinishReason::kStop});
}

// The score, or -1 with a test failure.
inline double ScoreOf(const Grade& grade) {
  if (const Score* score = std::get_if<Score>(&grade)) return score->value;
  ADD_FAILURE() << GradeKind(grade) << ": " << GradeReason(grade);
  return -1;
}

}  // namespace rft
