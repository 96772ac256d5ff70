// Reads the members of one JSON object that nobody vouches for. Every read has its limits; the first mistake is kept and
// Finish tells it. A member that nobody asked for is a mistake too: a sampling field that is silently ignored ruins a run
// quietly.
//
//   Fields f(object, "");
//   params.top_p = f.Number("top_p", 0.0, 1.0).value_or(1.0);
//   RFT_RETURN_IF_ERROR(f.Finish());        // "top_p: must be in 0 .. 1, got 7"
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "rft/io/json.h"

namespace rft::serve {

class Fields {
 public:
  // `path` goes before the names in messages: "stream_options." or "". REQUIRES: `object` outlives this.
  Fields(const json::object& object, std::string path) : object_(object), path_(std::move(path)) {}

  // nullopt (nullptr) if the member is missing, null or wrong.
  std::optional<int64_t> Int(std::string_view key, int64_t low, int64_t high);
  std::optional<double> Number(std::string_view key, double low, double high);
  std::optional<bool> Bool(std::string_view key);
  std::optional<std::string> Text(std::string_view key, size_t max_bytes);
  // One text or a list of texts.
  std::vector<std::string> Texts(std::string_view key, size_t max_count, size_t max_bytes);
  // Whole numbers within the limits.
  std::optional<std::vector<int32_t>> Ids(std::string_view key, size_t max_count);
  const json::value* Any(std::string_view key);
  const json::object* Object(std::string_view key);

  // Known and harmless: accepted, not acted on.
  void Ignore(std::initializer_list<std::string_view> keys);
  // Known, but only this value (as JSON text) is supported; anything else is a mistake with this reason.
  void Only(std::string_view key, std::string_view json_value, std::string_view why);

  void Fail(std::string_view key, std::string_view message);
  // Another reader's result, kept if it is the first mistake.
  void Take(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }
  bool ok() const { return status_.ok(); }
  absl::Status Finish();

 private:
  const json::object& object_;
  const std::string path_;
  std::set<std::string, std::less<>> known_;
  absl::Status status_;
};

// A list of whole numbers in 0 .. 2^31-1, at most max_count. The message names the first wrong item.
absl::StatusOr<std::vector<int32_t>> ReadIds(const json::value& value, const std::string& name,
                                             size_t max_count);

}  // namespace rft::serve
