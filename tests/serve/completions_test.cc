#include <gmock/gmock.h>

#include "tests/serve/serve_testing.h"

namespace rft::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using CompletionsTest = ServeTest;

constexpr const char* kPath = "/v1/completions";

TEST_F(CompletionsTest, AnswersATextPrompt) {
  StartSaying("four");
  const json::object reply = Post(kPath, R"({"model": "tiny", "prompt": "2+2="})").object();
  EXPECT_EQ(reply.at("object"), "text_completion");
  EXPECT_EQ(reply.at("model"), "tiny");
  const json::object& choice = reply.at("choices").at(0).as_object();
  EXPECT_EQ(choice.at("text"), "four");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_EQ(reply.at("usage").at("prompt_tokens"), 4);
  EXPECT_EQ(reply.at("usage").at("completion_tokens"), 5);  // and the end token
  EXPECT_EQ(engine_->requests()[0].prompt, ByteIds("2+2="));
}

TEST_F(CompletionsTest, HandsTheSamplingFieldsToTheEngine) {
  StartSaying("x");
  Post(
      kPath,
      R"({"prompt": "p", "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "max_tokens": 9,
                  "min_tokens": 2, "ignore_eos": true, "stop": ["a", "b"], "stop_token_ids": [5], "seed": 42, "n": 3})");
  const GenerateRequest request = engine_->requests()[0];
  EXPECT_EQ(request.sampling.temperature, 0.5);
  EXPECT_EQ(request.sampling.top_p, 0.9);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_EQ(request.sampling.min_p, 0.1);
  EXPECT_EQ(request.sampling.max_tokens, 9);
  EXPECT_EQ(request.sampling.min_tokens, 2);
  EXPECT_TRUE(request.sampling.ignore_eos);
  EXPECT_EQ(request.sampling.stop_strings, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.sampling.stop_ids, std::vector<TokenId>{5});
  EXPECT_EQ(request.rng.run_seed, 42u);
  EXPECT_EQ(request.num_samples, 3);
}

TEST_F(CompletionsTest, TakesWhatClientsSendByThemselves) {
  StartSaying("x");
  const Answer answer = Post(kPath, R"({"prompt": "p", "model": "tiny", "user": "u", "metadata": {},
      "store": false, "service_tier": "auto", "safety_identifier": "s", "prompt_cache_key": "k",
      "request_id": "r", "spaces_between_special_tokens": true, "perf_metrics_in_response": true,
      "priority": 0, "echo_last": 0, "detokenize": true, "best_of": null, "suffix": null})");
  EXPECT_EQ(answer.status, 200) << answer.body;
}

TEST_F(CompletionsTest, KeepsPagesOfOtherSaltsApart) {
  StartSaying("x");
  Post(kPath, R"({"prompt": "p", "cache_salt": "mine"})");
  EXPECT_EQ(engine_->requests()[0].cache_salt, "mine");
}

TEST_F(CompletionsTest, MakesNoTextOfIdsIfAskedNotTo) {
  StartSaying("ab");
  for (const char* more : {"", R"(, "stream": true)"}) {
    const Answer answer =
        Post(kPath,
             std::string(
                 R"({"prompt": "p", "echo": true, "detokenize": false, "return_token_ids": true)") +
                 more + "}");
    EXPECT_THAT(answer.body, HasSubstr(R"("text": "")"));
    EXPECT_THAT(answer.body, Not(HasSubstr(R"("text": "a)")));
    if (*more) continue;  // ids may come in several events
    EXPECT_THAT(answer.body, HasSubstr(R"("token_ids": [97, 98, 257])"));
  }
}

TEST_F(CompletionsTest, DrawsAnotherSeedForEachRequestWithoutOne) {
  StartSaying("x");
  for (int i = 0; i < 2; ++i) Post(kPath, R"({"prompt": "p"})");
  EXPECT_NE(engine_->requests()[0].rng.run_seed, engine_->requests()[1].rng.run_seed);
}

TEST_F(CompletionsTest, NumbersChoicesPromptByPrompt) {
  Start([](const GenerateRequest& request, int32_t sample) {
    return FakeAnswer{
        .text = std::string(1, static_cast<char>(request.prompt[0])) + std::to_string(sample),
        .delay_s = 0.01 * (3 - sample)};
  });
  const json::object reply = Post(kPath, R"({"prompt": [[97], [98]], "n": 2})").object();
  std::string texts;
  for (const json::value& choice : reply.at("choices").as_array())
    texts += std::string(choice.at("text").as_string().c_str()) + " ";
  EXPECT_EQ(texts, "a0 a1 b0 b1 ");
}

TEST_F(CompletionsTest, ReturnsIdsLogprobsAndVersionsForTraining) {
  StartSaying("ab");
  const json::object reply =
      Post(kPath, R"({"prompt": [104, 105], "logprobs": 0, "return_token_ids": true})").object();
  const json::object& choice = reply.at("choices").at(0).as_object();
  EXPECT_EQ(ToJson(choice.at("prompt_token_ids")), "[104, 105]");
  EXPECT_EQ(ToJson(choice.at("token_ids")), "[97, 98, 257]");
  EXPECT_EQ(ToJson(choice.at("logprobs").at("token_logprobs")), "[-1.0, -1.0, -1.0]");
  EXPECT_EQ(ToJson(choice.at("logprobs").at("tokens")), R"(["a", "b", "<end>"])");
  EXPECT_EQ(ToJson(choice.at("logprobs").at("text_offset")), "[0, 1, 2]");
  EXPECT_EQ(ToJson(choice.at("sampling_logprobs")), "[-1.0, -1.0, -1.0]");
  EXPECT_EQ(ToJson(choice.at("weight_versions")), "[0, 0, 0]");
}

TEST_F(CompletionsTest, WritesTokensAsIdsIfAskedTo) {
  StartSaying("a");
  const json::object reply =
      Post(kPath, R"({"prompt": "p", "logprobs": 0, "return_tokens_as_token_ids": true})").object();
  EXPECT_EQ(ToJson(reply.at("choices").at(0).at("logprobs").at("tokens")),
            R"(["token_id:97", "token_id:257"])");
}

TEST_F(CompletionsTest, EchoesThePrompt) {
  StartSaying("b");
  EXPECT_EQ(Post(kPath, R"({"prompt": "a", "echo": true})").object().at("choices").at(0).at("text"),
            "ab");
}

TEST_F(CompletionsTest, CutsTheTextAtAStopStringButKeepsTheIds) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = "one;", .finish_reason = FinishReason::kStop};
  });
  const json::object reply =
      Post(
          kPath,
          R"({"prompt": "p", "stop": "<end>", "return_token_ids": true, "skip_special_tokens": false})")
          .object();
  const json::object& choice = reply.at("choices").at(0).as_object();
  EXPECT_EQ(choice.at("text"), "one;");
  EXPECT_EQ(choice.at("stop_reason"), "<end>");
  EXPECT_EQ(choice.at("token_ids").as_array().size(), 5u);
}

TEST_F(CompletionsTest, StreamsTheSameTextAndEndsWithDone) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = "h\xC3\xA9llo", .token_delay_s = 0.001};
  });
  const Answer answer = Post(
      kPath,
      R"({"prompt": "p", "stream": true, "stream_options": {"include_usage": true}, "return_token_ids": true})");
  const std::vector<std::string> events = answer.events();
  std::string text, finish;
  size_t num_ids = 0;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    const json::value choice = ParseJson(events[i]).value().at("choices").at(0);
    text += choice.at("text").as_string().c_str();
    num_ids += choice.at("token_ids").as_array().size();
    if (choice.at("finish_reason").is_string())
      finish = choice.at("finish_reason").as_string().c_str();
  }
  EXPECT_EQ(text, "h\xC3\xA9llo");
  EXPECT_EQ(num_ids, 7u);
  EXPECT_EQ(finish, "stop");
  EXPECT_EQ(ParseJson(events[events.size() - 2]).value().at("usage").at("completion_tokens"), 7);
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST_F(CompletionsTest, TellsTheUsageInEveryChunkIfAskedTo) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = "abc", .token_delay_s = 0.001};
  });
  const std::vector<std::string> events =
      Post(kPath, R"({"prompt": "pp", "stream": true, "n": 2, "return_token_ids": true,
          "stream_options": {"include_usage": true, "continuous_usage_stats": true}})")
          .events();
  int64_t counted = 0;
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    const json::value event = ParseJson(events[i]).value();
    for (const json::value& choice : event.at("choices").as_array())
      counted += static_cast<int64_t>(choice.at("token_ids").as_array().size());
    EXPECT_EQ(event.at("usage").at("completion_tokens"), counted);
    EXPECT_EQ(event.at("usage").at("prompt_tokens"), 2);
  }
  EXPECT_EQ(counted, 8);
}

// The members of `logprobs` that are lists, put together over a stream's events, and its text under "text".
json::object Joined(const Answer& answer) {
  json::object joined{{"text", ""}};
  for (const std::string& event : answer.events()) {
    if (event == "[DONE]") continue;
    const json::value choice = ParseJson(event).value().at("choices").at(0);
    joined["text"].as_string() += choice.at("text").as_string();
    if (!choice.at("logprobs").is_object()) continue;
    for (const auto& [key, list] : choice.at("logprobs").as_object()) {
      if (!list.is_array()) continue;
      json::value& all = joined[key];
      if (all.is_null()) all = json::array();
      for (const json::value& item : list.as_array()) all.as_array().push_back(item);
    }
  }
  return joined;
}

TEST_F(CompletionsTest, StreamsAnEchoWithLogprobsAsItAnswersOne) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = "\xC3\xA9!", .logprob = -0.5f, .token_delay_s = 0.001};
  });
  for (const char* fields :
       {R"("logprobs": 0)", R"("logprobs": true)", R"("logprobs": 1, "max_tokens": 0)"}) {
    const std::string asked = std::string(R"({"prompt": "ab", "echo": true, )") + fields;
    const json::value whole = Post(kPath, asked + "}").object().at("choices").at(0);
    const json::object streamed = Joined(Post(kPath, asked + R"(, "stream": true})"));
    EXPECT_EQ(streamed.at("text"), whole.at("text")) << fields;
    for (const auto& [key, list] : whole.at("logprobs").as_object())
      if (list.is_array()) EXPECT_EQ(ToJson(streamed.at(key)), ToJson(list)) << fields << key;
  }
}

TEST_F(CompletionsTest, StreamsTheLogprobsOfTheDistributionSampledFrom) {
  StartSaying("ab");
  const json::object streamed = Joined(Post(
      kPath,
      R"({"prompt": "p", "logprobs": true, "echo": true, "raw_output": true, "stream": true})"));
  std::string sampled;
  for (const json::value& item : streamed.at("content").as_array())
    sampled += ToJson(item.at("sampling_logprob")) + " ";
  EXPECT_EQ(sampled, "null -1.0 -1.0 -1.0 ");  // the prompt's tokens were not sampled
}

TEST_F(CompletionsTest, NamesTheFieldOfAMistake) {
  StartSaying("x");
  const std::map<std::string, std::string> mistakes = {
      {R"({"prompt": "p", "n": 1000000000})", "n: must be a whole number in 1 .. 128"},
      {R"({"prompt": "p", "max_tokens": -1})", "max_tokens: must be a whole number in 0 .. 4096"},
      {R"({"prompt": "p", "max_tokens": 0})", "max_tokens: 0 is for the prompt alone"},
      {R"({"prompt": "p", "top_p": 0})", "top_p: must be greater than 0"},
      {R"({"prompt": "p", "temperature": -1})", "temperature: must be a number in 0 .. 100"},
      {R"({"prompt": "p", "frequency_penalty": 2.5})",
       "frequency_penalty: must be a number in -2 .. 2"},
      {R"({"prompt": "p", "length_penalty": 1})", "length_penalty: this server does not"},
      {R"({"prompt": "p", "logit_bias": {"1": 101}})", "logit_bias: must map token ids"},
      {R"({"prompt": "p", "guided_regex": "a"})",
       "guided_regex: this server has no structured output"},
      {R"({"prompt": "p", "logprobs": 21})", "logprobs: must be a whole number in 0 .. 20"},
      {R"({"prompt": "p", "no_such": 5})", "no_such: Extra inputs are not permitted"},
      {R"({"prompt": "p", "stop": ["a", 3]})", "stop: must be text"},
      {R"({"prompt": "p", "stream_options": {}})", "stream_options: needs \"stream\": true"},
      {R"({"prompt": "p", "priority": 1})", "priority: requests take turns here"},
      {R"({"prompt": "p", "echo_last": 3})", "echo_last: only the whole prompt"},
      {R"({"prompt": "p", "detokenize": false, "stop": "a"})", "detokenize: stop needs the text"},
      {R"({"prompt": ""})", "prompt: is empty"},
      {R"({"prompt": [1, 999]})", "prompt: item 1, token 999, is outside the vocabulary of 258"},
      {R"({"prompt": [[1], "a", 3]})", "prompt[2]: must be a list of token ids"},
      {R"({})", "prompt: is missing"},
      {R"([])", "the body: must be a JSON object"},
      {R"({"prompt": )", "the body: line 1, column 12"},
  };
  for (const auto& [body, message] : mistakes)
    EXPECT_THAT(Mistake(kPath, body), HasSubstr(message));
  EXPECT_EQ(engine_->requests().size(), 0u);
}

TEST_F(CompletionsTest, SurvivesDeepJsonAndHugePrompts) {
  StartSaying("x");
  EXPECT_THAT(Mistake(kPath, std::string(100000, '[')), HasSubstr("nested deeper than"));
  EXPECT_THAT(Mistake(kPath, R"({"prompt": ")" + std::string(1 << 20, 'x') + "\"}"),
              HasSubstr("prompt: 1048576 bytes can't fit the context"));
  std::string ids = "[1";
  for (int i = 0; i < 5000; ++i) ids += ",1";
  EXPECT_THAT(Mistake(kPath, R"({"prompt": )" + ids + "]}"), HasSubstr("at most 4096 are allowed"));
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(CompletionsTest, LimitsCompletionsOfOneRequest) {
  service_.limits.max_completions = 10;
  StartSaying("x");
  EXPECT_THAT(Mistake(kPath, R"({"prompt": ["a", "b", "c"], "n": 4})"),
              HasSubstr("at most 10 are allowed"));
}

TEST_F(CompletionsTest, DoesNotKnowOtherModels) {
  StartSaying("x");
  EXPECT_THAT(Mistake(kPath, R"({"prompt": "p", "model": "gpt"})", 404),
              HasSubstr("known: tiny, alias"));
  EXPECT_EQ(Post(kPath, R"({"prompt": "p", "model": "alias"})").object().at("model"), "alias");
}

TEST_F(CompletionsTest, ReportsAFailureOfTheEngine) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = "a", .finish_reason = FinishReason::kError, .error = "out of pages"};
  });
  EXPECT_THAT(Mistake(kPath, R"({"prompt": "p"})", 500), HasSubstr("out of pages"));
}

TEST_F(CompletionsTest, ReportsAFailureWithinAStreamAsAnErrorEvent) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = "ab",
                      .finish_reason = FinishReason::kError,
                      .error = "out of pages",
                      .token_delay_s = 0.05};
  });
  const std::string body = Post(kPath, R"({"prompt": "p", "stream": true})").body;
  EXPECT_THAT(body, HasSubstr(R"("text": "a")"));
  EXPECT_THAT(body, HasSubstr("\n\nevent: error\ndata: {\"error\": {\"message\": \"the engine"));
  EXPECT_THAT(body, EndsWith("\n\ndata: [DONE]\n\n"));
}

TEST_F(CompletionsTest, CancelsWhatItsClientWillNotRead) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = std::string(1000, 'x'), .delay_s = 0.05, .token_delay_s = 0.05};
  });
  for (const char* stream : {"true", "false"}) {
    RawClient client(server_->port());
    client.Send(RequestText("POST", kPath,
                            std::string(R"({"prompt": "p", "n": 2, "stream": )") + stream + "}"));
    EXPECT_TRUE(Eventually([&] { return engine_->num_open() == 2; }));
    client.Close();
    EXPECT_TRUE(Eventually([&] { return engine_->num_open() == 0; }));
  }
  EXPECT_EQ(engine_->num_cancelled(), 4);
}

TEST_F(CompletionsTest, StopsWhileCompletionsAreUnderWay) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = std::string(1000, 'x'), .token_delay_s = 0.01};
  });
  RawClient client(server_->port());
  client.Send(RequestText("POST", kPath, R"({"prompt": "p", "stream": true})"));
  EXPECT_THAT(client.ReadSome(10), HasSubstr("200 OK"));
  server_->Stop();
  EXPECT_TRUE(Eventually([&] { return engine_->num_open() == 0; }));
}

}  // namespace
}  // namespace rft::testing
