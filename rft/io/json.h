// JSON in and out over Boost.JSON, for input nobody vouches for: size, depth and duplicate keys are
// checked, mistakes carry line and column, and numbers are read exactly (Boost 1.81's own
// conversion may miss the last bit of a double).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "absl/status/statusor.h"
#include "rft/core/json_writer.h"

namespace rft {

namespace json = boost::json;

struct JsonLimits {
  size_t max_bytes = size_t{256} << 20;
  size_t max_depth = 64;
  bool reject_duplicate_keys = false;  // false: the last one counts
};

// Numbers beyond a double's range are infinite or 0, as Python's json reads them.
// kInvalidArgument: "line 1, column 17: syntax error", "not UTF-8 text (byte 12)", "nested deeper
// than 64 levels", ... Nothing of a file name: the caller adds it.
absl::StatusOr<json::value> ParseJson(std::string_view text, const JsonLimits& limits = {});

// One line; keys in insertion order, numbers in their shortest exact form. NaN and infinities
// become null.
std::string ToJson(const json::value& value);
std::string ToJson(const json::object& object);
void WriteJson(const json::value& value, JsonWriter& writer);

// Typed access to members for readers of our own records. kInvalidArgument: "'step' is missing",
// "'step' must be a whole number". GetDouble also takes the texts "nan", "inf" and "-inf" (JSON has
// no such numbers).
absl::StatusOr<int64_t> GetInt(const json::object& object, std::string_view key);
absl::StatusOr<double> GetDouble(const json::object& object, std::string_view key);
absl::StatusOr<bool> GetBool(const json::object& object, std::string_view key);
absl::StatusOr<std::string> GetString(const json::object& object, std::string_view key);
absl::StatusOr<const json::array*> GetArray(const json::object& object, std::string_view key);
absl::StatusOr<const json::object*> GetObject(const json::object& object, std::string_view key);
absl::StatusOr<double> ToDouble(const json::value& value);

}  // namespace rft
