// A C++ lambda as a grader:
//
//   pool->AddGrader({.name = "short"}, MakeFunctionGrader([](const GradeInput& in) { return in.completion.size() < 80; }));
//
// The function returns a Grade, or anything that converts to double (the score). It is called from several threads at once.
#pragma once

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "graders/grader.h"

namespace rft {

class FunctionGrader : public Grader {
 public:
  explicit FunctionGrader(std::function<Grade(const GradeInput&)> function)
      : function_(std::move(function)) {}
  Grade Run(const GradeInput& input) const override { return function_(input); }

 private:
  std::function<Grade(const GradeInput&)> function_;
};

template <typename Function>
std::unique_ptr<Grader> MakeFunctionGrader(Function function) {
  using Result = std::invoke_result_t<Function&, const GradeInput&>;
  if constexpr (std::is_convertible_v<Result, double>) {
    return std::make_unique<FunctionGrader>(
        [function = std::move(function)](const GradeInput& input) mutable -> Grade {
          return Score{static_cast<double>(function(input)), {}, ""};
        });
  } else {
    return std::make_unique<FunctionGrader>(std::move(function));
  }
}

}  // namespace rft
