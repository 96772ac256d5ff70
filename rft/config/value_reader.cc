#include "rft/config/value_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/text.h"

namespace rft {
namespace {

// 0.5, 1, 1e-05: how numbers appear in messages.
std::string Plain(double value) {
  std::string text = ShortestDouble(value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

std::string Got(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      return "nothing";
    case ConfigNode::Kind::kList:
      return "a list";
    case ConfigNode::Kind::kMap:
      return "a section";
    default:
      return node.quoted ? absl::StrCat("the text ", JsonQuote(node.text)) : JsonQuote(node.text);
  }
}

template <typename T>
std::optional<T> ParseNumber(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kScalar || node.quoted) return std::nullopt;
  std::string_view text = node.text;
  if (text.starts_with('+')) text.remove_prefix(1);
  T value{};
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(static_cast<double>(value))) return std::nullopt;
  return value;
}

std::optional<bool> ParseBool(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kScalar || node.quoted) return std::nullopt;
  std::string word = node.text;
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (word == "true" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "no" || word == "off") return false;
  return std::nullopt;
}

class ValueReader {
 public:
  ValueReader(const ConfigNode& node, const std::string& path, const FieldInfo& info,
              Mistakes* mistakes)
      : node_(node), path_(path), info_(info), mistakes_(mistakes) {}

  void operator()(bool* field) {
    if (const auto value = ParseBool(node_)) {
      *field = *value;
    } else {
      Wrong("true or false");
    }
  }

  void operator()(int64_t* field) { ReadNumber(field, "a whole number"); }
  void operator()(double* field) { ReadNumber(field, "a number"); }

  void operator()(std::string* field) {
    if (node_.kind != ConfigNode::Kind::kScalar) return Wrong("text");
    const auto& choices = info_.choices;
    // The field's words are hyphenated; underscores are what fingers type: dr_grpo is dr-grpo.
    const auto same = [this](const std::string& choice) {
      return std::equal(choice.begin(), choice.end(), node_.text.begin(), node_.text.end(),
                        [](char a, char b) { return a == b || (a == '-' && b == '_'); });
    };
    const auto chosen = std::find_if(choices.begin(), choices.end(), same);
    if (!choices.empty() && chosen == choices.end()) {
      const auto meant = DidYouMean(node_.text, choices);
      return Say(absl::StrCat(JsonQuote(node_.text), " is not one of ",
                              absl::StrJoin(choices, ", "),
                              meant ? absl::StrCat("; did you mean ", *meant, "?") : ""));
    }
    *field = choices.empty() ? node_.text : *chosen;
  }

  void operator()(std::vector<std::string>* field) {
    if (node_.kind != ConfigNode::Kind::kList)
      return Wrong("a list of texts, such as [\"a\", \"b\"]");
    std::vector<std::string> texts;
    for (const ConfigNode& item : node_.items) {
      if (item.kind != ConfigNode::Kind::kScalar) {
        mistakes_->Add(item.where, absl::StrCat(path_, "[", texts.size(), "]"),
                       absl::StrCat("expected text, got ", Got(item)));
        return;
      }
      texts.push_back(item.text);
    }
    *field = std::move(texts);
  }

  template <typename T>
  void operator()(std::optional<T>* field) {
    T value{};
    const bool before = failed_;
    (*this)(&value);
    if (failed_ == before) *field = std::move(value);
  }

  void operator()(std::vector<GraderSpec>*) {}

 private:
  template <typename T>
  void ReadNumber(T* field, const char* expected) {
    const auto value = ParseNumber<T>(node_);
    if (!value) return Wrong(expected);
    const double number = static_cast<double>(*value);
    if (number < info_.min || number <= info_.above || number > info_.max) {
      return Say(absl::StrCat(node_.text, " is out of range; must be ", RangeText(info_)));
    }
    *field = *value;
  }

  void Wrong(const char* expected) {
    Say(absl::StrCat("expected ", expected, ", got ", Got(node_)));
  }

  void Say(const std::string& what) {
    failed_ = true;
    mistakes_->Add(node_.where, path_, what);
  }

  const ConfigNode& node_;
  const std::string& path_;
  const FieldInfo& info_;
  Mistakes* const mistakes_;
  bool failed_ = false;
};

}  // namespace

void ReadValue(const ConfigNode& node, const std::string& path, const FieldInfo& info,
               const FieldRef& field, Mistakes* mistakes) {
  std::visit(ValueReader(node, path, info, mistakes), field);
}

std::string RangeText(const FieldInfo& info) {
  std::vector<std::string> parts;
  if (std::isfinite(info.min)) parts.push_back(absl::StrCat(">= ", Plain(info.min)));
  if (std::isfinite(info.above)) parts.push_back(absl::StrCat("> ", Plain(info.above)));
  if (std::isfinite(info.max)) parts.push_back(absl::StrCat("<= ", Plain(info.max)));
  return absl::StrJoin(parts, " and ");
}

}  // namespace rft
