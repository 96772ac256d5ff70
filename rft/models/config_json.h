// Reads keys of a config.json with messages that name them. Torch-free.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <boost/json/value.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "rft/core/types.h"
#include "rft/io/json.h"

namespace rft {

// Reads keys of one JSON object; the first mistake is kept and later reads return defaults.
class ConfigJson {
 public:
  ConfigJson(const json::object& object, std::string file)
      : object_(object), file_(std::move(file)) {}

  const json::value* Find(std::string_view key) const {
    auto it = object_.find(key);
    return it == object_.end() || it->value().is_null() ? nullptr : &it->value();
  }
  int64_t Int(std::string_view key, std::optional<int64_t> fallback = {}, int64_t min = 1,
              int64_t max = 1LL << 32) {
    const json::value* v = Find(key);
    if (!v) return fallback ? *fallback : (Fail(key, "missing"), min);
    auto number = GetInt(object_, key);
    if (!number.ok()) return Fail(key, "must be a whole number"), min;
    if (*number < min || *number > max)
      Fail(key, absl::StrCat("must be in ", min, " .. ", max, ", is ", *number));
    return *number;
  }
  double Double(std::string_view key, double fallback) {
    const json::value* v = Find(key);
    if (!v) return fallback;
    auto number = ToDouble(*v);
    return number.ok() ? *number : (Fail(key, "must be a number"), fallback);
  }
  bool Bool(std::string_view key, bool fallback) {
    const json::value* v = Find(key);
    if (!v) return fallback;
    return v->is_bool() ? v->get_bool() : (Fail(key, "must be true or false"), fallback);
  }
  std::string Text(std::string_view key, std::string fallback) {
    const json::value* v = Find(key);
    if (!v) return fallback;
    return v->is_string() ? std::string(v->get_string()) : (Fail(key, "must be a text"), fallback);
  }
  std::vector<TokenId> Ids(std::string_view key) {
    const json::value* v = Find(key);
    std::vector<TokenId> ids;
    if (!v) return ids;
    if (v->is_int64() || v->is_uint64()) {
      ids.push_back(v->to_number<TokenId>());
    } else if (v->is_array()) {
      for (const json::value& id : v->get_array())
        if (id.is_int64())
          ids.push_back(id.to_number<TokenId>());
        else
          Fail(key, "must be a token id or a list of them");
    } else {
      Fail(key, "must be a token id or a list of them");
    }
    return ids;
  }
  void Fail(std::string_view key, std::string_view what) {
    if (status_.ok())
      status_ = absl::InvalidArgumentError(
          absl::StrCat(file_, ": ", std::string(key), ": ", std::string(what)));
  }
  const absl::Status& status() const { return status_; }

 private:
  const json::object& object_;
  std::string file_;
  absl::Status status_;
};

}  // namespace rft
