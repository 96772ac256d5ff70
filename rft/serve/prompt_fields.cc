#include "rft/serve/prompt_fields.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/serve/tool_fields.h"

namespace rft::serve {
namespace {

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

absl::Status TooLong(const std::string& name, size_t bytes, const PromptBounds& bounds) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", bytes, " bytes can't fit the context of ", bounds.max_context,
                   " tokens; shorten the prompt"));
}

absl::StatusOr<std::vector<TokenId>> EncodeText(std::string_view text, const std::string& name,
                                                const PromptBounds& bounds,
                                                const TextCodec& codec) {
  if (text.size() > bounds.max_bytes) return TooLong(name, text.size(), bounds);
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": is empty"));
  return codec.Encode(text);
}

// Text of a message: a string, or parts of type text. null is an empty text (of a message with tool calls).
absl::StatusOr<std::string> ReadContent(const json::value& content, const std::string& name) {
  if (content.is_null()) return std::string();
  if (content.is_string()) return std::string(View(content.get_string()));
  if (!content.is_array())
    return absl::InvalidArgumentError(absl::StrCat(name, ": must be text or a list of parts"));
  std::string text;
  for (const json::value& part : content.get_array()) {
    const json::object* object = part.if_object();
    const json::value* type = object ? object->if_contains("type") : nullptr;
    const json::value* value = object ? object->if_contains("text") : nullptr;
    if (type == nullptr || *type != "text" || value == nullptr || !value->is_string())
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": only parts {\"type\": \"text\", \"text\": ...} are supported"));
    text += View(value->get_string());
  }
  return text;
}

absl::StatusOr<json::object> ReadMessage(const json::value& value, const std::string& name) {
  if (!value.is_object())
    return absl::InvalidArgumentError(absl::StrCat(name, ": must be an object"));
  Fields f(value.get_object(), name + ".");
  json::object message;
  std::string role = f.Text("role", 64).value_or("");
  if (role == "developer") role = "system";  // OpenAI's newer word; templates know the older
  if (f.ok() && role != "system" && role != "user" && role != "assistant" && role != "tool")
    f.Fail("role", "must be system, developer, user, assistant or tool");
  message["role"] = role;
  f.Ignore({"content", "annotations", "weight"});
  f.Only("function_call", "null", "OpenAI has replaced it by tool_calls");
  f.Only("audio", "null", "only text is read here");
  f.Only("refusal", "null", "templates don't know it; make it the content");
  const json::value* content = value.get_object().if_contains("content");
  auto text = ReadContent(content ? *content : json::value(), name + ".content");
  RFT_RETURN_IF_ERROR(text.status());
  message["content"] = *text;
  for (const char* key : {"name", "tool_call_id", "reasoning_content"})
    if (const auto given = f.Text(key, 1 << 24)) message[key] = *given;
  if (const json::value* calls = f.Any("tool_calls")) {
    if (!calls->is_array()) f.Fail("tool_calls", "must be a list");
    message["tool_calls"] = *calls;
  }
  RFT_RETURN_IF_ERROR(f.Finish());
  return message;
}

absl::StatusOr<json::array> ReadMessages(const json::value* value, const PromptBounds& bounds) {
  if (value == nullptr || !value->is_array() || value->get_array().empty())
    return absl::InvalidArgumentError("messages: must be a list of at least one message");
  const json::array& items = value->get_array();
  if (items.size() > bounds.limits.max_messages)
    return absl::InvalidArgumentError(absl::StrCat("messages: has ", items.size(), "; at most ",
                                                   bounds.limits.max_messages, " are allowed"));
  json::array messages;
  size_t bytes = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    RFT_ASSIGN_OR_RETURN(json::object message,
                         ReadMessage(items[i], absl::StrCat("messages[", i, "]")));
    bytes += message["content"].as_string().size();
    messages.emplace_back(std::move(message));
  }
  if (bytes > bounds.max_bytes) return TooLong("messages", bytes, bounds);
  return messages;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<TokenId>>> ReadPrompts(const json::value* prompt,
                                                              const PromptBounds& bounds,
                                                              const TextCodec& codec) {
  if (prompt == nullptr) return absl::InvalidArgumentError("prompt: is missing");
  std::vector<std::vector<TokenId>> prompts;
  const auto max_ids = static_cast<size_t>(bounds.max_context);
  if (prompt->is_string()) {
    RFT_ASSIGN_OR_RETURN(prompts.emplace_back(),
                         EncodeText(View(prompt->get_string()), "prompt", bounds, codec));
    return prompts;
  }
  if (!prompt->is_array() || prompt->get_array().empty())
    return absl::InvalidArgumentError("prompt: must be text, token ids, or a list of either");
  const json::array& items = prompt->get_array();
  if (items[0].is_number()) {
    RFT_ASSIGN_OR_RETURN(prompts.emplace_back(), ReadIds(*prompt, "prompt", max_ids));
    return prompts;
  }
  if (items.size() > bounds.limits.max_prompts)
    return absl::InvalidArgumentError(absl::StrCat("prompt: has ", items.size(),
                                                   " prompts; at most ", bounds.limits.max_prompts,
                                                   " are allowed"));
  for (const json::value& item : items) {
    const std::string name = absl::StrCat("prompt[", prompts.size(), "]");
    auto ids = item.is_string() ? EncodeText(View(item.get_string()), name, bounds, codec)
                                : ReadIds(item, name, max_ids);
    if (!ids.ok()) return ids.status();
    prompts.push_back(*std::move(ids));
  }
  return prompts;
}

absl::StatusOr<ChatPrompt> ReadChatPrompt(Fields& f, const PromptBounds& bounds,
                                          const TextCodec& codec) {
  ChatPrompt prompt;
  json::object chat;
  ToolFields tools = ReadToolFields(f, bounds.limits);
  if (tools.tools != nullptr) chat["tools"] = *tools.tools;
  prompt.has_tools = tools.tools != nullptr;
  prompt.call = std::move(tools.call);
  prompt.one_call = tools.one_call;
  f.Ignore({"messages"});
  const bool continues = f.Bool("continue_final_message").value_or(false);
  const bool opens = f.Bool("add_generation_prompt").value_or(!continues);
  if (continues && opens)
    f.Fail("continue_final_message", "can't be combined with add_generation_prompt");
  chat["add_generation_prompt"] = opens;
  chat["continue_final_message"] = continues;
  json::object arguments;
  if (const json::object* given = f.Object("chat_template_kwargs")) arguments = *given;
  if (const auto effort = f.Text("reasoning_effort", 64))
    arguments.emplace("reasoning_effort", *effort);
  if (!arguments.empty()) chat["chat_template_kwargs"] = std::move(arguments);
  const auto ids = f.Ids("prompt_token_ids", static_cast<size_t>(bounds.max_context));
  const json::value* messages = f.Any("messages");
  if (ids && chat.contains("chat_template_kwargs"))
    f.Fail("prompt_token_ids", "no chat template is used; leave its arguments out");
  RFT_RETURN_IF_ERROR(f.Finish());
  if (ids) {
    if (messages != nullptr)
      return absl::InvalidArgumentError("prompt_token_ids: given together with messages; send one");
    prompt.ids = *ids;
    return prompt;
  }
  RFT_ASSIGN_OR_RETURN(chat["messages"], ReadMessages(messages, bounds));
  auto encoded = codec.EncodeChatJson(ToJson(chat));
  if (!encoded.ok() && encoded.status().code() == absl::StatusCode::kInvalidArgument)
    return absl::InvalidArgumentError(absl::StrCat("messages: ", encoded.status().message()));
  RFT_RETURN_IF_ERROR(encoded.status());
  prompt.ids = *std::move(encoded);
  return prompt;
}

}  // namespace rft::serve
