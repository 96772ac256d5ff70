// OpenAI's grader JSON: checked as their service checks it, and said in this project's terms.
//
//   {"type": "string_check", "name": "exact", "operation": "eq", "input": "{{sample.output_text}}",
//    "reference": "{{item.answer}}"}
//
// Types: string_check, text_similarity, score_model, label_model, python, multi (whose graders may be multi again).
// Source: OpenAI's API reference, "Graders". Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "absl/status/statusor.h"

namespace rft {

// As in the `error` object of their replies with status 400.
struct OpenAiMistake {
  std::string
      message;  // "Invalid value: 'eqq'. Supported values are: 'eq', 'ne', 'like', and 'ilike'."
  std::string param;  // "grader.graders.exact.operation"
  std::string code;   // missing_required_parameter, unknown_parameter, invalid_type, invalid_value
};

// All of them; empty: the grader can be built.
std::vector<OpenAiMistake> CheckOpenAiGrader(const boost::json::value& grader);

// {"error": {"message", "type": "invalid_request_error", "param", "code"}}, of the first mistake.
boost::json::object OpenAiErrorJson(const OpenAiMistake& mistake);

// The same grader as one of ours: {"type": registered type, its parameters}. REQUIRES: no mistakes.
boost::json::object FromOpenAiGrader(const boost::json::object& grader);

}  // namespace rft
