#include "graders/grade_json.h"

#include <boost/json.hpp>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

namespace json = boost::json;

std::string TextAt(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

std::optional<double> Finite(const json::value& value) {
  boost::system::error_code error;
  const double number = value.is_number() ? value.to_number<double>(error) : NAN;
  if (error || !std::isfinite(number)) return std::nullopt;
  return number;
}

// A list of numbers under `key`, none if it is not there; or what is wrong with it.
std::optional<std::string> ReadParts(const json::object& object, const char* key,
                                     std::vector<double>* out) {
  const json::value* parts = object.if_contains(key);
  if (parts == nullptr || parts->is_null()) return std::nullopt;
  if (!parts->is_array()) return absl::StrCat("\"", key, "\" is not a list of numbers");
  for (const json::value& part : parts->get_array()) {
    const std::optional<double> number = Finite(part);
    if (!number.has_value())
      return absl::StrCat("\"", key, "\"[", out->size(), "] is not a finite number");
    out->push_back(*number);
  }
  return std::nullopt;
}

Grade ParseScore(const json::object& object, const json::value& score) {
  const std::optional<double> value = Finite(score);
  if (!value.has_value())
    return GradeError{"the score is not a finite number: " + json::serialize(score)};
  Score result;
  result.value = *value;
  result.reason = TextAt(object, "reason");
  std::optional<std::string> wrong = ReadParts(object, "turn_scores", &result.turn_scores);
  if (!wrong) wrong = ReadParts(object, "token_advantages", &result.token_advantages);
  if (wrong) return GradeError{*std::move(wrong)};
  if (const json::value* parts = object.if_contains("sub_scores");
      parts != nullptr && parts->is_object()) {
    std::vector<SubScores::value_type> sub_scores;
    for (const auto& part : parts->get_object()) {
      const std::optional<double> number = Finite(part.value());
      if (!number.has_value()) {
        return GradeError{
            absl::StrCat("sub-score \"", std::string(part.key()), "\" is not a finite number")};
      }
      sub_scores.emplace_back(part.key(), *number);
    }
    result.sub_scores = SubScores(std::move(sub_scores));
  }
  return result;
}

}  // namespace

std::optional<Grade> GradeFromJson(const json::value& value) {
  if (value.is_null()) return Abstain{"null"};
  if (value.is_number()) return ParseScore({}, value);
  if (!value.is_object()) return std::nullopt;
  const json::object& object = value.get_object();
  if (const json::value* score = object.if_contains("score")) return ParseScore(object, *score);
  if (object.contains("abstain")) return Abstain{TextAt(object, "abstain")};
  if (object.contains("error")) return GradeError{TextAt(object, "error")};
  return std::nullopt;
}

}  // namespace rft
