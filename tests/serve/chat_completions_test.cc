#include <gmock/gmock.h>

#include "tests/serve/serve_testing.h"

namespace rft::testing {
namespace {

using ::testing::HasSubstr;
using ChatCompletionsTest = ServeTest;

constexpr const char* kPath = "/v1/chat/completions";
constexpr const char* kTools =
    R"("tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])";

std::string Chat(const std::string& more) {
  return R"({"model": "tiny", "messages": [{"role": "user", "content": "hi"}])" +
         (more.empty() ? "" : ", " + more) + "}";
}

TEST_F(ChatCompletionsTest, AnswersWithAMessage) {
  StartSaying("hello");
  const json::object reply = Post(kPath, Chat("")).object();
  EXPECT_EQ(reply.at("object"), "chat.completion");
  EXPECT_EQ(ToJson(reply.at("choices").at(0).at("message")),
            R"({"role": "assistant", "content": "hello"})");
  EXPECT_EQ(reply.at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_EQ(engine_->requests()[0].sampling.max_tokens, 4096 - 4);  // the rest of the context
}

TEST_F(ChatCompletionsTest, ReadsPartsAndNewerNames) {
  StartSaying("x");
  Post(kPath, R"({"messages": [{"role": "developer", "content": "be brief"},
                  {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
                  "max_completion_tokens": 3})");
  std::vector<TokenId> expected = {FakeCodec::kBegin};
  for (const TokenId id : ByteIds("be brief\nab\n")) expected.push_back(id);
  EXPECT_EQ(engine_->requests()[0].prompt, expected);
  EXPECT_EQ(engine_->requests()[0].sampling.max_tokens, 3);
}

TEST_F(ChatCompletionsTest, GivesLogprobsWithBytesAndIds) {
  StartSaying("a");
  const json::object reply = Post(kPath, Chat(R"("logprobs": true)")).object();
  EXPECT_EQ(
      ToJson(reply.at("choices").at(0).at("logprobs").at("content").at(0)),
      R"({"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [], "token_id": 97, "sampling_logprob": -1.0})");
}

TEST_F(ChatCompletionsTest, TakesTokenIdsInPlaceOfMessages) {
  StartSaying("a");
  const json::object reply =
      Post(kPath, R"({"prompt_token_ids": [1, 2], "return_token_ids": true, "max_tokens": 5})")
          .object();
  EXPECT_EQ(engine_->requests()[0].prompt, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(ToJson(reply.at("prompt_token_ids")), "[1, 2]");
  EXPECT_EQ(ToJson(reply.at("choices").at(0).at("token_ids")), "[97, 257]");
}

TEST_F(ChatCompletionsTest, StreamsDeltasOfSeveralChoices) {
  Start([](const GenerateRequest&, int32_t sample) {
    return FakeAnswer{.text = sample == 0 ? "ab" : "cd", .token_delay_s = 0.001};
  });
  std::map<int64_t, std::string> texts;
  int num_roles = 0;
  const std::vector<std::string> events = Post(kPath, Chat(R"("stream": true, "n": 2)")).events();
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    const json::value event = ParseJson(events[i]).value();
    EXPECT_EQ(event.at("object"), "chat.completion.chunk");
    const json::value& choice = event.at("choices").at(0);
    const json::object& delta = choice.at("delta").as_object();
    if (delta.contains("content"))
      texts[choice.at("index").as_int64()] += delta.at("content").as_string().c_str();
    num_roles += delta.contains("role");
  }
  EXPECT_EQ(texts, (std::map<int64_t, std::string>{{0, "ab"}, {1, "cd"}}));
  EXPECT_EQ(num_roles, 2);
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST_F(ChatCompletionsTest, StreamsThePromptsLogprobsOnce) {
  StartSaying("ab");
  const char* const asked =
      R"({"messages": [{"role": "user", "content": "x"}], "n": 2, "prompt_logprobs": 0)";
  const json::object whole = Post(kPath, std::string(asked) + "}").object();
  std::vector<std::string> told;
  for (const std::string& event : Post(kPath, std::string(asked) + R"(, "stream": true})").events())
    if (event.find("prompt_logprobs") != event.npos)
      told.push_back(ToJson(ParseJson(event).value().at("prompt_logprobs")));
  EXPECT_EQ(told, std::vector<std::string>{ToJson(whole.at("prompt_logprobs"))});
}

TEST_F(ChatCompletionsTest, TellsTheModelAboutToolsAndReadsItsCalls) {
  StartSaying("Sure. <tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>");
  const json::object reply = Post(kPath, Chat(kTools)).object();
  const json::object& choice = reply.at("choices").at(0).as_object();
  EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
  EXPECT_EQ(choice.at("message").at("content"), "Sure. ");
  const json::value& call = choice.at("message").at("tool_calls").at(0);
  EXPECT_EQ(ToJson(call.at("function")), R"({"name": "f", "arguments": "{\"x\": 1}"})");
  EXPECT_EQ(engine_->requests()[0].prompt[1], '[');  // the fake codec puts the tools first
}

TEST_F(ChatCompletionsTest, AnswersWithOneCallWhereNoMoreAreWanted) {
  StartSaying(
      "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n"
      "<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>");
  for (const bool parallel : {true, false})
    for (const bool stream : {true, false}) {
      const std::string body =
          Post(kPath, Chat(std::string(kTools) + R"(, "parallel_tool_calls": )" +
                           (parallel ? "true" : "false") + (stream ? R"(, "stream": true)" : "")))
              .body;
      EXPECT_THAT(body, HasSubstr(R"("name": "f")"));
      EXPECT_EQ(body.find(R"("name": "g")") != body.npos, parallel) << body;
    }
}

TEST_F(ChatCompletionsTest, TakesMessagesAsTheOpenAiClientDumpsThem) {
  StartSaying("x");
  const Answer answer = Post(kPath, R"({"messages": [{"role": "user", "content": "a"},
      {"role": "assistant", "content": "b", "refusal": null, "annotations": [], "audio": null,
       "function_call": null, "tool_calls": null}, {"role": "user", "content": "c"}],
      "verbosity": "medium", "reasoning_effort": "low", "parallel_tool_calls": true})");
  EXPECT_EQ(answer.status, 200) << answer.body;
}

TEST_F(ChatCompletionsTest, StreamsACallAsOneDelta) {
  StartSaying("<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>");
  const std::string body = Post(kPath, Chat(std::string(kTools) + R"(, "stream": true)")).body;
  EXPECT_THAT(body, HasSubstr(R"("tool_calls": [{"index": 0, "id": "call_)"));
  EXPECT_THAT(body, HasSubstr(R"("finish_reason": "tool_calls")"));
}

TEST_F(ChatCompletionsTest, LeavesCallsInTheTextWithoutTools) {
  StartSaying("<tool_call>{\"name\": \"f\"}</tool_call>");
  const json::object reply =
      Post(kPath, Chat(std::string(kTools) + R"(, "tool_choice": "none")")).object();
  EXPECT_EQ(reply.at("choices").at(0).at("message").at("content"),
            "<tool_call>{\"name\": \"f\"}</tool_call>");
}

// Records what it is asked for; allows everything.
struct AnyGrammar : TokenGrammar {
  absl::StatusOr<std::unique_ptr<TokenMask>> Start() const override {
    return absl::UnimplementedError("the fake engine asks for no mask");
  }
};

TEST_F(ChatCompletionsTest, AsksForACallWhereOneIsRequired) {
  GrammarSpec asked;
  compile_grammar_ = [&](const GrammarSpec& spec) {
    asked = spec;
    return std::make_shared<const AnyGrammar>();
  };
  StartSaying("<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>");
  const std::string tools = R"("tools": [
      {"type": "function", "function": {"name": "f", "parameters": {
          "properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"type": "integer"}}}}},
      {"type": "function", "function": {"name": "g"}}], )";
  const json::object reply = Post(kPath, Chat(tools + R"("tool_choice": "required")")).object();
  EXPECT_EQ(reply.at("choices").at(0).at("finish_reason"), "tool_calls");
  EXPECT_EQ(asked.kind, GrammarSpec::Kind::kToolCall);
  json::value schema = ParseJson(asked.text).value();
  EXPECT_EQ(schema.at("anyOf").as_array().size(), 2u);
  EXPECT_EQ(ToJson(schema.at("$defs").at("f").at("properties").at("x")),
            R"({"$ref": "#/$defs/f/$defs/X"})");
  Post(kPath, Chat(tools + R"("tool_choice": {"type": "function", "function": {"name": "g"}})"));
  schema = ParseJson(asked.text).value();
  EXPECT_EQ(ToJson(schema.at("anyOf").at(0).at("properties").at("name")), R"({"const": "g"})");
  EXPECT_EQ(schema.at("anyOf").as_array().size(), 1u);
  EXPECT_THAT(Mistake(kPath, Chat(tools + R"("tool_choice": "required", "guided_regex": "a")")),
              HasSubstr("tool_choice: asks for a call, guided_regex for other text"));
}

TEST_F(ChatCompletionsTest, NamesTheFieldOfAMistake) {
  StartSaying("x");
  const std::map<std::string, std::string> mistakes = {
      {R"({})", "messages: must be a list"},
      {R"({"messages": [{"role": "robot", "content": ""}]})", "messages[0].role: must be system"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
       "messages[0].content: only parts"},
      {R"({"messages": [{"role": "user", "content": 3}]})", "messages[0].content: must be text"},
      {R"({"messages": [{"role": "user", "content": "", "x": 1}]})", "messages[0].x: Extra inputs"},
      {Chat(R"("tool_choice": "required")"), "tool_choice: needs tools"},
      {R"({"prompt_token_ids": [1], "reasoning_effort": "low"})",
       "prompt_token_ids: no chat template is used"},
      {Chat(R"("verbosity": "low")"), "verbosity: the model knows no such setting"},
      {R"({"messages": [{"role": "assistant", "content": "", "function_call": {"name": "f"}}]})",
       "messages[0].function_call: OpenAI has replaced it"},
      {R"({"messages": [{"role": "assistant", "content": "", "audio": {"id": "a"}}]})",
       "messages[0].audio: only text"},
      {R"({"messages": [{"role": "assistant", "content": "", "refusal": "no"}]})",
       "messages[0].refusal: templates"},
      {Chat(R"("tool_choice": "perhaps")"), "tool_choice: must be"},
      {Chat(std::string(kTools) + R"(, "tool_choice": "required")"),
       "tool_choice: this server has no structured output"},
      {Chat(std::string(kTools) +
            R"(, "tool_choice": {"type": "function", "function": {"name": "g"}})"),
       "tool_choice: names none of the tools"},
      {Chat(R"("tools": [{"type": "function", "function": {"name": "a b"}}])"),
       "tools: a function's name"},
      {Chat(R"("functions": [])"), "functions: OpenAI has replaced it"},
      {Chat(R"("modalities": ["audio"])"), "modalities: only text"},
      {Chat(R"("weight_policy": "never")"), "weight_policy: must be continue"},
      {Chat(R"("tools": [{"type": "x"}])"), "tools: each must be"},
      {Chat(R"("prompt_token_ids": [1])"), "prompt_token_ids: given together with messages"},
      {Chat(R"("response_format": {"type": "json_object"})"),
       "response_format: this server has no structured output"},
      {Chat(R"("add_generation_prompt": true, "continue_final_message": true)"),
       "continue_final_message: can't"},
  };
  for (const auto& [body, message] : mistakes)
    EXPECT_THAT(Mistake(kPath, body), HasSubstr(message));
}

TEST_F(ChatCompletionsTest, RefusesAChatThatFillsTheContext) {
  Start([](const GenerateRequest&, int32_t) { return FakeAnswer{}; }, /*max_context=*/4);
  EXPECT_THAT(Mistake(kPath, Chat("")), HasSubstr("leave no room in the context of 4"));
}

}  // namespace
}  // namespace rft::testing
