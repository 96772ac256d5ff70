// Typed access to the parameters of one grader. All mistakes are collected and reported together by Finish(), each with
// its place: "run.yaml:14: graders[format].pattern: required".
//
//   ParamReader params(spec);
//   const std::string pattern = params.Required("pattern");
//   const bool full = params.Bool("full", false);
//   RFT_RETURN_IF_ERROR(params.Finish());     // also: keys nobody asked for
//
// A value read after a mistake is the fallback (or empty), so a factory reads everything first and then calls Finish().
// Not thread-safe; `spec` must outlive the reader.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "rft/core/grader_spec.h"

namespace rft {

class ParamReader {
 public:
  explicit ParamReader(const GraderSpec& spec) : spec_(spec) {}

  std::string Required(std::string_view key);
  std::string String(std::string_view key, std::string_view fallback);
  bool Bool(std::string_view key, bool fallback);  // true, false
  // Finite and >= `min`.
  double Double(std::string_view key, double fallback,
                double min = std::numeric_limits<double>::lowest());
  int64_t Int(std::string_view key, int64_t fallback, int64_t min, int64_t max);
  // One of `choices`; empty fallback = required.
  std::string Choice(std::string_view key, const std::vector<std::string>& choices,
                     std::string_view fallback = "");
  // A list of texts, none of them empty; `what` they are is part of the mistake: "must be a list of names".
  enum class Need { kOptional, kRequired };  // required: at least one
  std::vector<std::string> Texts(std::string_view key, std::string_view what,
                                 Need need = Need::kOptional);
  // [low, high], low < high.
  std::pair<double, double> Range(std::string_view key, double low, double high);
  bool Has(std::string_view key);

  // Where the key was written, and whose it is: "run.yaml:14: graders[NAME]".
  std::string Where(std::string_view key) const;

  // Adds a mistake found by the caller: "graders[NAME].KEY: MESSAGE".
  void AddError(std::string_view key, std::string_view message);

  // Notes that what `key` says reads this column of every row.
  void AddColumn(std::string_view key, const std::string& column);

  // A mistake that says itself where it is.
  void AddLine(std::string line) { errors_.push_back(std::move(line)); }

  // OK, or kInvalidArgument with one line per mistake, unknown keys (with a suggestion) included.
  absl::Status Finish();

 private:
  const std::string* Find(std::string_view key);

  const GraderSpec& spec_;
  std::vector<std::string> asked_;
  std::vector<std::string> errors_;
};

}  // namespace rft
