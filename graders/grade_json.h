// A grade as JSON: how worker processes and HTTP graders answer.
//
//   {"score": 0.5, "reason": "half right", "sub_scores": {"format": 1}}   the last two are optional, and so are
//     "turn_scores": [0.2, 0.3] (one per turn) and "token_advantages": [0, 0.1, ...] (one per completion token)
//   {"abstain": "no opinion"}     {"error": "no such row"}
//   0.5                           short for {"score": 0.5}       null   short for an abstention
//
// Pure; any thread.
#pragma once

#include <optional>

#include <boost/json/value.hpp>

#include "rft/core/grade.h"

namespace rft {

// nullopt: it is none of these. A score that is not finite becomes a GradeError; so does a null one, which is what
// many writers make of NaN.
std::optional<Grade> GradeFromJson(const boost::json::value& value);

}  // namespace rft
