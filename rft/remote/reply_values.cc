#include "rft/remote/reply_values.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

// Sums of rounded probabilities may exceed 1 by a little.
constexpr double kLogprobSlack = 1e-2;

std::optional<float> LogprobOf(const json::value& value) {
  const double number =
      value.is_number() ? ToDouble(value).value() : std::numeric_limits<double>::quiet_NaN();
  if (!std::isfinite(number) || number > kLogprobSlack) return std::nullopt;
  return static_cast<float>(std::min(number, 0.0));
}

std::optional<TokenId> IdIn(std::string_view text) {
  TokenId id = -1;
  if (!absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &id) || id < 0)
    return std::nullopt;
  return id;
}

std::optional<TokenId> IdOfTokenText(std::string_view text) {
  constexpr std::string_view kPrefix = "token_id:";
  if (text.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  return IdIn(text.substr(kPrefix.size()));
}

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

const json::value* IdMember(const json::value& item) {
  const json::value* id = Member(item, "token_id");
  return id != nullptr ? id : Member(item, "id");
}

// An alternative of any kind; nullopt for what is none.
std::optional<TokenLogprob> Alternative(const json::value& item) {
  const json::value *id = IdMember(item), *logprob = Member(item, "logprob");
  if (const json::array* pair = item.if_array(); pair != nullptr && pair->size() >= 2) {
    logprob = &(*pair)[0];
    id = &(*pair)[1];
  }
  if (id == nullptr || logprob == nullptr || !IdOf(*id) || !LogprobOf(*logprob))
    return std::nullopt;
  return TokenLogprob{*IdOf(*id), *LogprobOf(*logprob)};
}

// The `num` most likely ones.
absl::StatusOr<std::vector<TokenLogprob>> MostLikely(std::vector<TokenLogprob> all, int32_t num) {
  if (all.size() < static_cast<size_t>(num))
    return WrongReply(absl::StrCat(all.size(), " alternatives where ", num, " were asked for"));
  std::stable_sort(all.begin(), all.end(), [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob > b.logprob;
  });
  all.resize(static_cast<size_t>(num));
  return all;
}

}  // namespace

absl::Status WrongReply(const std::string& what) {
  return absl::DataLossError(absl::StrCat("the server's reply: ", what));
}

const json::value* Member(const json::value& value, const char* key) {
  const json::object* object = value.if_object();
  const json::value* found = object ? object->if_contains(key) : nullptr;
  return found != nullptr && !found->is_null() ? found : nullptr;
}

std::optional<TokenId> IdOf(const json::value& value) {
  if (!value.is_int64() || value.get_int64() < 0 ||
      value.get_int64() > std::numeric_limits<TokenId>::max())
    return std::nullopt;
  return static_cast<TokenId>(value.get_int64());
}

absl::StatusOr<std::vector<TokenId>> ReadIdArray(const json::value& value) {
  if (!value.is_array()) return WrongReply("token ids are no list");
  std::vector<TokenId> ids;
  for (const json::value& item : value.get_array()) {
    const std::optional<TokenId> id = IdOf(item);
    if (!id) return WrongReply(absl::StrCat("token ", ids.size(), " is no id"));
    ids.push_back(*id);
  }
  return ids;
}

absl::StatusOr<std::vector<float>> ReadFloats(const json::value& value, const char* what) {
  if (!value.is_array()) return WrongReply(absl::StrCat(what, " is no list"));
  std::vector<float> numbers;
  for (const json::value& item : value.get_array()) {
    const std::optional<float> number = LogprobOf(item);
    if (!number)
      return WrongReply(absl::StrCat(what, "[", numbers.size(),
                                     "] is no log-probability: ", ToJson(item).substr(0, 40)));
    numbers.push_back(*number);
  }
  return numbers;
}

absl::StatusOr<std::vector<TokenId>> ReadTokenTexts(const json::value& tokens) {
  if (!tokens.is_array()) return WrongReply("logprobs.tokens is no list");
  std::vector<TokenId> ids;
  for (const json::value& token : tokens.get_array()) {
    const json::string* text = token.if_string();
    if (text == nullptr || !absl::StartsWith(text->c_str(), "token_id:"))
      return absl::UnimplementedError("the server gives no token ids");
    const std::optional<TokenId> id = IdOfTokenText(View(*text));
    if (!id) return WrongReply(absl::StrCat("token ", ids.size(), " is no id"));
    ids.push_back(*id);
  }
  return ids;
}

absl::Status ReadContent(const json::value& content, int32_t num_top, Completion& c) {
  if (!content.is_array()) return WrongReply("logprobs.content is no list");
  json::array logprobs;
  for (const json::value& item : content.get_array()) {
    const json::value* id = IdMember(item);
    if (id == nullptr || !IdOf(*id))
      return absl::UnimplementedError("the server gives no token ids");
    c.ids.push_back(*IdOf(*id));
    const json::value* logprob = Member(item, "logprob");
    logprobs.push_back(logprob ? *logprob : json::value());
    if (num_top == 0) continue;
    const json::value* top = Member(item, "top_logprobs");
    if (top == nullptr) return absl::UnimplementedError("the server gives no alternatives");
    RFT_ASSIGN_OR_RETURN(c.top_logprobs.emplace_back(), ReadAlternatives(*top, num_top));
  }
  RFT_ASSIGN_OR_RETURN(c.logprobs, ReadFloats(logprobs, "logprobs"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenLogprob>> ReadAlternatives(const json::value& value, int32_t num) {
  std::vector<TokenLogprob> all;
  const absl::Status no_alternative =
      WrongReply(absl::StrCat("no alternative: ", ToJson(value).substr(0, 60)));
  if (const json::object* by_text = value.if_object()) {
    for (const json::key_value_pair& item : *by_text) {
      const auto id = IdOfTokenText({item.key().data(), item.key().size()});
      if (!id) return absl::UnimplementedError("the server gives no ids of alternatives");
      const auto logprob = LogprobOf(item.value());
      if (!logprob) return no_alternative;
      all.push_back({*id, *logprob});
    }
  } else if (const json::array* items = value.if_array()) {
    for (const json::value& item : *items) {
      const auto alternative = Alternative(item);
      if (!alternative) return no_alternative;
      all.push_back(*alternative);
    }
  } else {
    return no_alternative;
  }
  return MostLikely(std::move(all), num);
}

absl::Status ReadAlternativeList(const json::value* value, size_t first, int32_t num,
                                 std::vector<std::vector<TokenLogprob>>& top) {
  if (value == nullptr) return absl::UnimplementedError("the server gives no alternatives");
  if (!value->is_array()) return WrongReply("alternatives are no list");
  for (const json::value& item : value->get_array()) {
    std::vector<TokenLogprob>& tokens = top.emplace_back();
    if (top.size() <= first && item.is_null()) continue;
    RFT_ASSIGN_OR_RETURN(tokens, ReadAlternatives(item, num));
  }
  return absl::OkStatus();
}

absl::Status ReadPromptLogprobs(const json::value& value, const std::vector<TokenId>& prompt,
                                int32_t num_top, Completion& c) {
  const json::array* items = value.if_array();
  if (items == nullptr || items->size() != prompt.size())
    return WrongReply("prompt_logprobs is not as long as the prompt");
  c.prompt_logprobs.assign(1, std::numeric_limits<float>::quiet_NaN());
  if (num_top > 0) c.prompt_top_logprobs.resize(1);
  for (size_t i = 1; i < prompt.size(); ++i) {
    const json::object* entries = (*items)[i].if_object();
    std::optional<float> own;
    std::vector<TokenLogprob> all;
    for (const json::key_value_pair& item : entries ? *entries : json::object()) {
      const auto id = IdIn({item.key().data(), item.key().size()});
      const json::value* logprob = Member(item.value(), "logprob");
      if (!id || logprob == nullptr || !LogprobOf(*logprob))
        return WrongReply(absl::StrCat("prompt_logprobs[", i, "]"));
      all.push_back({*id, *LogprobOf(*logprob)});
      if (*id == prompt[i]) own = all.back().logprob;
    }
    if (!own) return WrongReply(absl::StrCat("prompt_logprobs[", i, "] lacks the prompt's token"));
    c.prompt_logprobs.push_back(*own);
    if (num_top == 0) continue;
    RFT_ASSIGN_OR_RETURN(c.prompt_top_logprobs.emplace_back(), MostLikely(std::move(all), num_top));
  }
  return absl::OkStatus();
}

}  // namespace rft
