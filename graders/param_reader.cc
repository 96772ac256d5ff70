#include "graders/param_reader.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graders/failure_policy.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

std::string Suggestion(std::string_view word, const std::vector<std::string>& known) {
  const std::optional<std::string> near = DidYouMean(word, known);
  return near.has_value() ? "; did you mean " + *near + "?" : "";
}

}  // namespace

const std::string* ParamReader::Find(std::string_view key) {
  if (std::find(asked_.begin(), asked_.end(), key) == asked_.end()) asked_.emplace_back(key);
  auto it = spec_.params.find(std::string(key));
  return it == spec_.params.end() ? nullptr : &it->second;
}

bool ParamReader::Has(std::string_view key) { return Find(key) != nullptr; }

std::string ParamReader::Where(std::string_view key) const {
  const auto it = spec_.param_locations.find(std::string(key));
  return absl::StrCat(it == spec_.param_locations.end() ? "" : it->second + ": ", "graders[",
                      spec_.name.empty() ? spec_.type : spec_.name, "]");
}

void ParamReader::AddError(std::string_view key, std::string_view message) {
  errors_.push_back(Where(key).append(".").append(key).append(": ").append(message));
}

void ParamReader::AddColumn(std::string_view key, const std::string& column) {
  if (spec_.columns != nullptr)
    spec_.columns->push_back({Where(key).append(".").append(key), column});
}

std::string ParamReader::Required(std::string_view key) {
  const std::string* text = Find(key);
  if (text == nullptr) AddError(key, "required");
  return text == nullptr ? "" : *text;
}

std::string ParamReader::String(std::string_view key, std::string_view fallback) {
  const std::string* text = Find(key);
  return text == nullptr ? std::string(fallback) : *text;
}

bool ParamReader::Bool(std::string_view key, bool fallback) {
  const std::string* text = Find(key);
  if (text == nullptr) return fallback;
  if (*text == "true" || *text == "false") return *text == "true";
  AddError(key, absl::StrCat("\"", *text, "\" is not true or false"));
  return fallback;
}

double ParamReader::Double(std::string_view key, double fallback, double min) {
  const std::string* text = Find(key);
  if (text == nullptr) return fallback;
  double value = 0;
  if (!absl::SimpleAtod(*text, &value) || !std::isfinite(value)) {
    AddError(key, absl::StrCat("\"", *text, "\" is not a finite number"));
    return fallback;
  }
  if (value < min) {
    AddError(key, absl::StrCat(*text, " is too small; the smallest allowed value is ", min));
    return fallback;
  }
  return value;
}

int64_t ParamReader::Int(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  const std::string* text = Find(key);
  if (text == nullptr) return fallback;
  int64_t value = 0;
  if (!absl::SimpleAtoi(*text, &value)) {
    AddError(key, absl::StrCat("\"", *text, "\" is not a whole number"));
    return fallback;
  }
  if (value < min || value > max) {
    AddError(key, absl::StrCat(*text, " is not between ", min, " and ", max));
    return fallback;
  }
  return value;
}

std::string ParamReader::Choice(std::string_view key, const std::vector<std::string>& choices,
                                std::string_view fallback) {
  const std::string* text = Find(key);
  const std::string known = absl::StrJoin(choices, ", ");
  if (text == nullptr) {
    if (fallback.empty()) AddError(key, absl::StrCat("required; one of ", known));
    return std::string(fallback);
  }
  if (std::find(choices.begin(), choices.end(), *text) != choices.end()) return *text;
  AddError(key, absl::StrCat("\"", *text, "\" is not one of ", known, Suggestion(*text, choices)));
  return std::string(fallback);
}

std::vector<std::string> ParamReader::Texts(std::string_view key, std::string_view what,
                                            Need need) {
  const std::string* text = Find(key);
  if (text == nullptr) {
    if (need == Need::kRequired) AddError(key, "required");
    return {};
  }
  const absl::StatusOr<json::value> list = ParseJson(*text);
  bool good =
      list.ok() && list->is_array() && !(need == Need::kRequired && list->get_array().empty());
  std::vector<std::string> texts;
  for (size_t i = 0; good && i < list->get_array().size(); ++i) {
    const json::value& one = list->get_array()[i];
    good = one.is_string() && !one.get_string().empty();
    if (good) texts.emplace_back(one.get_string());
  }
  if (good) return texts;
  AddError(key, absl::StrCat("must be a list of ", std::string(what)));
  return {};
}

std::pair<double, double> ParamReader::Range(std::string_view key, double low, double high) {
  const std::string* text = Find(key);
  if (text == nullptr) return {low, high};
  const absl::StatusOr<json::value> range = ParseJson(*text);
  const json::array* ends = range.ok() ? range->if_array() : nullptr;
  if (ends != nullptr && ends->size() == 2) {
    const absl::StatusOr<double> first = ToDouble((*ends)[0]), second = ToDouble((*ends)[1]);
    if (first.ok() && second.ok() && *first < *second) return {*first, *second};
  }
  AddError(key, "must be two numbers, the lower first");
  return {low, high};
}

absl::Status ParamReader::Finish() {
  std::vector<std::string> known = asked_;
  std::sort(known.begin(), known.end());
  for (const auto& [key, value] : spec_.params) {
    if (std::find(known.begin(), known.end(), key) != known.end() || IsPolicyKey(key)) continue;
    const std::string takes =
        known.empty() ? "takes no keys" : "takes " + absl::StrJoin(known, ", ");
    AddError(key, absl::StrCat("unknown key", Suggestion(key, known), " (", spec_.type, " ", takes,
                               ")"));
  }
  if (errors_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(errors_, "\n"));
}

}  // namespace rft
