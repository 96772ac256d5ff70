#include "rft/remote/http_dialect.h"

#include <cmath>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/io/json.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

HttpEngineOptions Options(HttpDialect dialect) {
  return {
      .url = "http://x", .model = "m", .dialect = dialect, .max_context = 100, .vocab_size = 50};
}

GenerateRequest Request(int32_t n = 1) {
  GenerateRequest request;
  request.prompt = {7, 8};
  request.num_samples = n;
  request.sampling.max_tokens = 4;
  return request;
}

json::object BodyOf(HttpDialect dialect, const GenerateRequest& request) {
  return ParseJson(GenerateCall(Options(dialect), request)->body)->as_object();
}

// As vLLM 0.11 answers {"logprobs": 1, "return_token_ids": true, "return_tokens_as_token_ids": true}.
constexpr const char* kVllm = R"({"id": "cmpl-1", "choices": [
  {"index": 1, "text": "b", "finish_reason": "length", "stop_reason": null, "token_ids": [3, 4, 5, 6], "prompt_token_ids": [7, 8],
   "logprobs": {"tokens": ["token_id:3", "token_id:4", "token_id:5", "token_id:6"], "token_logprobs": [-1, -0.5, -2, 0]}},
  {"index": 0, "text": "a", "finish_reason": "stop", "token_ids": [2], "prompt_token_ids": [7, 8],
   "logprobs": {"tokens": ["token_id:2"], "token_logprobs": [-0.25]}}]})";
// As SGLang answers /generate with "return_logprob".
constexpr const char* kSglang = R"({"text": "a", "output_ids": [2, 3], "meta_info": {"id": "1",
  "finish_reason": {"type": "stop", "matched": 3}, "output_token_logprobs": [[-0.25, 2, null], [-1.5, 3, null]]}})";
// As llama.cpp's server answers /completion with {"n_probs": 1, "return_tokens": true}.
constexpr const char* kLlamaCpp =
    R"({"index": 0, "content": "a", "tokens": [2], "tokens_predicted": 1, "stop_type": "eos", "completion_probabilities": [
  {"id": 2, "token": "a", "bytes": [97], "logprob": -0.25, "top_logprobs": []}]})";
// Its samples of n_cmpl 3: one whole, one whose token 4 ends within a character, one without the tokens of its stop string.
constexpr const char* kThreeOfLlamaCpp = R"([
  {"index": 2, "tokens": [6, 7, 8], "stop_type": "word", "completion_probabilities": [{"id": 6, "logprob": -1}]},
  {"index": 1, "tokens": [3, 4, 5], "stop_type": "eos",
   "completion_probabilities": [{"id": 3, "logprob": -1}, {"id": 5, "logprob": -2}]},
  {"index": 0, "tokens": [2], "stop_type": "eos", "completion_probabilities": [{"id": 2, "logprob": -0.25}]}])";

TEST(HttpDialectTest, KnowsItsNames) {
  EXPECT_EQ(*ParseHttpDialect("llama.cpp"), HttpDialect::kLlamaCpp);
  EXPECT_FALSE(ParseHttpDialect("openai").ok());
}

TEST(HttpDialectTest, LeavesNeutralFieldsOut) {
  const json::object body = BodyOf(HttpDialect::kVllm, Request());
  EXPECT_EQ(ToJson(body.at("prompt")), "[7, 8]");
  for (const char* key : {"top_k", "min_p", "min_tokens", "ignore_eos", "stop", "stop_token_ids"})
    EXPECT_FALSE(body.contains(key)) << key;
}

TEST(HttpDialectTest, OverridesTheDefaultsOfLlamaCpp) {
  const json::object body = BodyOf(HttpDialect::kLlamaCpp, Request());
  EXPECT_EQ(body.at("top_k"), 0);
  EXPECT_EQ(body.at("min_p"), 0.0);
}

TEST(HttpDialectTest, SendsWhatOnlySomeServersKnow) {
  GenerateRequest request = Request();
  request.sampling.allowed_ids = {4, 5};
  EXPECT_EQ(ToJson(BodyOf(HttpDialect::kRft, request).at("allowed_token_ids")), "[4, 5]");
  EXPECT_THAT(
      std::string(GenerateCall(Options(HttpDialect::kLlamaCpp), request).status().message()),
      HasSubstr("allowed_ids: this kind of server"));
  request.cache_salt = "s";
  EXPECT_EQ(BodyOf(HttpDialect::kVllm, request).at("cache_salt"), "s");
  EXPECT_FALSE(GenerateCall(Options(HttpDialect::kSglang), request).ok());
  request.weight_policy = WeightPolicy::kFinish;
  EXPECT_EQ(BodyOf(HttpDialect::kRft, request).at("weight_policy"), "finish");
  EXPECT_THAT(std::string(GenerateCall(Options(HttpDialect::kVllm), request).status().message()),
              HasSubstr("weight_policy: a server has its own"));
}

// Two layers of 4 experts, 2 per token: 1 byte a layer.
HttpEngineOptions MoeOptions(HttpDialect dialect) {
  HttpEngineOptions options = Options(dialect);
  options.routes = RouteCodec(2, 4, 2);
  return options;
}

std::string Wire(std::vector<int32_t> experts) {
  const RouteCodec codec(2, 4, 2);
  std::vector<uint8_t> bytes(static_cast<size_t>(codec.token_bytes()));
  codec.Encode(experts.data(), bytes.data());
  return codec.ToWire(bytes.data());
}

TEST(HttpDialectTest, AsksForRoutesWhereTheModelHasAny) {
  GenerateRequest request = Request();
  request.routes = RouteCapture::kPromptAndCompletion;
  EXPECT_FALSE(BodyOf(HttpDialect::kRft, request).contains("include_routing_matrix"));  // dense
  const auto call = GenerateCall(MoeOptions(HttpDialect::kRft), request);
  const json::object body = ParseJson(call->body)->as_object();
  EXPECT_EQ(body.at("include_routing_matrix"), true);
  EXPECT_EQ(body.at("logprobs"), true);
  EXPECT_EQ(body.at("echo"), true);
  EXPECT_THAT(std::string(GenerateCall(MoeOptions(HttpDialect::kVllm), request).status().message()),
              HasSubstr("routes: only rft serve"));
}

TEST(HttpDialectTest, ReadsRoutesOfPromptAndCompletionAndRefusesWrongOnes) {
  GenerateRequest request = Request();
  request.routes = RouteCapture::kPromptAndCompletion;
  const std::string first = R"({"token_id": 7, "logprob": null})";
  const std::string second =
      R"({"token_id": 8, "logprob": -1, "routing_matrix": ")" + Wire({0, 1, 2, 3}) + "\"}";
  const std::string third =
      R"({"token_id": 2, "logprob": -1, "routing_matrix": ")" + Wire({1, 3, 0, 2}) + "\"}";
  const auto read = [&](const std::string& content) {
    return ReadReply(
        MoeOptions(HttpDialect::kRft), request,
        R"({"choices": [{"index": 0, "finish_reason": "stop", "logprobs": {"content": [)" +
            content + "]}}]}");
  };
  const auto reply = read(first + ", " + second + ", " + third);
  ASSERT_TRUE(reply.ok()) << reply.status();
  const Completion& c = reply->front();
  EXPECT_EQ(c.ids, std::vector<TokenId>{2});
  const RouteCodec codec(2, 4, 2);
  std::vector<int32_t> experts(4);
  ASSERT_EQ(c.prompt_routes.size(), 4u);
  ASSERT_TRUE(codec.Decode(c.prompt_routes.data() + 2, experts.data()).ok());
  EXPECT_EQ(experts, (std::vector<int32_t>{0, 1, 2, 3}));
  ASSERT_EQ(c.routes.size(), 2u);
  ASSERT_TRUE(codec.Decode(c.routes.data(), experts.data()).ok());
  EXPECT_EQ(experts, (std::vector<int32_t>{1, 3, 0, 2}));
  EXPECT_THAT(std::string(read(second + ", " + third).status().message()),
              HasSubstr("does not begin with the prompt"));
  EXPECT_THAT(
      std::string(
          read(first + ", " + second + R"(, {"token_id": 2, "logprob": -1})").status().message()),
      HasSubstr("gives no routing_matrix"));
  EXPECT_THAT(std::string(read(first + ", " + second +
                               R"(, {"token_id": 2, "logprob": -1, "routing_matrix": "AAAA"})")
                              .status()
                              .message()),
              HasSubstr("routing_matrix: "));
}

TEST(HttpDialectTest, GivesEveryRolloutAnotherSeedAndTheSameOneAgain) {
  GenerateRequest one = Request(), other = Request();
  other.rng.rollout = 1;
  EXPECT_EQ(BodyOf(HttpDialect::kRft, one).at("seed"), BodyOf(HttpDialect::kRft, one).at("seed"));
  EXPECT_NE(BodyOf(HttpDialect::kRft, one).at("seed"), BodyOf(HttpDialect::kRft, other).at("seed"));
}

TEST(HttpDialectTest, ReadsChoicesInAnyOrder) {
  const auto read = ReadReply(Options(HttpDialect::kVllm), Request(2), kVllm);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)[0].ids, std::vector<TokenId>{2});
  EXPECT_EQ((*read)[1].ids, (std::vector<TokenId>{3, 4, 5, 6}));
  EXPECT_EQ((*read)[1].logprobs, (std::vector<float>{-1, -0.5, -2, 0}));
  EXPECT_EQ((*read)[1].finish_reason, FinishReason::kLength);
}

TEST(HttpDialectTest, ReadsSglangAndLlamaCpp) {
  const auto sglang = ReadReply(Options(HttpDialect::kSglang), Request(), kSglang);
  ASSERT_TRUE(sglang.ok()) << sglang.status();
  EXPECT_EQ((*sglang)[0].ids, (std::vector<TokenId>{2, 3}));
  EXPECT_EQ((*sglang)[0].logprobs, (std::vector<float>{-0.25, -1.5}));
  const auto llama = ReadReply(Options(HttpDialect::kLlamaCpp), Request(), kLlamaCpp);
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_EQ((*llama)[0].ids, std::vector<TokenId>{2});
}

// A grammar as a server is told about it.
struct TextGrammar : TokenGrammar {
  TextGrammar(GrammarSpec::Kind kind, std::string text) : told{kind, std::move(text)} {}
  absl::StatusOr<std::unique_ptr<TokenMask>> Start() const override {
    return absl::UnimplementedError("only its text is asked for");
  }
  const GrammarSpec* spec() const override { return &told; }
  const GrammarSpec told;
};
struct CodeGrammar : TextGrammar {
  CodeGrammar() : TextGrammar(GrammarSpec::Kind::kEbnf, "") {}
  const GrammarSpec* spec() const override { return nullptr; }
};

TEST(HttpDialectTest, SendsGrammarsInTheWordsOfEachServer) {
  using Kind = GrammarSpec::Kind;
  GenerateRequest request = Request();
  const auto sent = [&](HttpDialect dialect, Kind kind, const char* text) {
    request.grammar = std::make_shared<TextGrammar>(kind, text);
    return BodyOf(dialect, request);
  };
  const char* const schema = R"({"type": "integer"})";
  EXPECT_EQ(ToJson(sent(HttpDialect::kVllm, Kind::kRegex, "a+").at("structured_outputs")),
            R"({"regex": "a+"})");
  EXPECT_EQ(ToJson(sent(HttpDialect::kRft, Kind::kEbnf, "root ::= x").at("structured_outputs")),
            R"({"grammar": "root ::= x"})");
  EXPECT_EQ(sent(HttpDialect::kRft, Kind::kJsonSchema, schema).at("structured_outputs").at("json"),
            schema);
  EXPECT_EQ(sent(HttpDialect::kSglang, Kind::kAnyJson, "").at("sampling_params").at("json_schema"),
            "{}");
  EXPECT_EQ(ToJson(sent(HttpDialect::kLlamaCpp, Kind::kJsonSchema, schema).at("json_schema")),
            schema);
  const auto refused = [&](HttpDialect dialect) {
    return std::string(GenerateCall(Options(dialect), request).status().message());
  };
  request.grammar = std::make_shared<TextGrammar>(Kind::kRegex, "a+");
  EXPECT_THAT(refused(HttpDialect::kLlamaCpp), HasSubstr("write it as EBNF"));
  request.grammar = std::make_shared<CodeGrammar>();
  EXPECT_THAT(refused(HttpDialect::kRft), HasSubstr("code of its own"));
}

// One alternative and the prompt's log-probabilities, as each server writes them.
TEST(HttpDialectTest, ReadsAlternativesAndTheLogprobsOfThePrompt) {
  GenerateRequest request = Request();
  request.sampling.num_top_logprobs = 1;
  request.want_prompt_logprobs = true;
  request.num_prompt_top_logprobs = 1;
  const char* const prompt =
      R"("prompt_logprobs": [null, {"8": {"logprob": -2.5}, "3": {"logprob": -0.5}}])";
  const std::vector<std::pair<HttpDialect, std::string>> replies = {
      {HttpDialect::kRft,
       R"({"choices": [{"finish_reason": "stop", "logprobs": {"content": [{"token_id": 2, "logprob": -1.5,
           "top_logprobs": [{"token_id": 9, "logprob": -0.25}]}]}, )" +
           std::string(prompt) + "}]}"},
      {HttpDialect::kVllm,
       R"({"choices": [{"finish_reason": "stop", "logprobs": {"tokens": ["token_id:2"], "token_logprobs": [-1.5],
           "top_logprobs": [{"token_id:2": -1.5, "token_id:9": -0.25}]}, )" +
           std::string(prompt) + "}]}"},
      {HttpDialect::kSglang, R"({"meta_info": {"finish_reason": {"type": "stop"},
           "output_token_logprobs": [[-1.5, 2, null]], "output_top_logprobs": [[[-0.25, 9, null]]],
           "input_token_logprobs": [[null, 7, null], [-2.5, 8, null]],
           "input_top_logprobs": [null, [[-0.5, 3, null]]]}})"}};
  for (const auto& [dialect, text] : replies) {
    const auto read = ReadReply(Options(dialect), request, text);
    ASSERT_TRUE(read.ok()) << read.status();
    const Completion& c = (*read)[0];
    EXPECT_EQ(c.logprobs, std::vector<float>{-1.5});
    ASSERT_EQ(c.top_logprobs.size(), 1u);
    EXPECT_EQ(c.top_logprobs[0][0].id, 9);
    ASSERT_EQ(c.prompt_logprobs.size(), 2u);
    EXPECT_TRUE(std::isnan(c.prompt_logprobs[0]));
    EXPECT_EQ(c.prompt_logprobs[1], -2.5f);
    ASSERT_EQ(c.prompt_top_logprobs.size(), 2u);
    EXPECT_EQ(c.prompt_top_logprobs[1][0].id, 3);
    std::string fewer = text;
    fewer.replace(fewer.find("-0.25"), 5, "\"-1\"");
    EXPECT_EQ(ReadReply(Options(dialect), request, fewer).status().code(),
              absl::StatusCode::kDataLoss);
  }
  EXPECT_FALSE(GenerateCall(Options(HttpDialect::kLlamaCpp), request).ok());
}

TEST(HttpDialectTest, TellsWhichSamplesOfLlamaCppLackALogProbability) {
  EXPECT_EQ(GenerateCall(Options(HttpDialect::kLlamaCpp), Request(3))->path, "/completion");
  const auto read = ReadReply(Options(HttpDialect::kLlamaCpp), Request(3), kThreeOfLlamaCpp);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)[0].ids, std::vector<TokenId>{2});
  EXPECT_EQ((*read)[1].finish_reason, FinishReason::kError);
  EXPECT_TRUE((*read)[1].ids.empty());
  EXPECT_THAT((*read)[1].error,
              HasSubstr("UNIMPLEMENTED: the server gives no log-probability of token 1"));
  EXPECT_EQ((*read)[2].ids, std::vector<TokenId>{6});
  EXPECT_EQ((*read)[2].finish_reason, FinishReason::kStop);
}

TEST(HttpDialectTest, KnowsTheSamplingLogprobsOnlyWherePossible) {
  GenerateRequest request = Request();
  EXPECT_EQ((*ReadReply(Options(HttpDialect::kLlamaCpp), request, kLlamaCpp))[0].sampling_logprobs,
            std::vector<float>{-0.25});
  request.sampling.temperature = 0;
  EXPECT_EQ((*ReadReply(Options(HttpDialect::kLlamaCpp), request, kLlamaCpp))[0].sampling_logprobs,
            std::vector<float>{0});
  request.sampling.temperature = 0.7;
  EXPECT_THAT(
      std::string(
          ReadReply(Options(HttpDialect::kLlamaCpp), request, kLlamaCpp).status().message()),
      HasSubstr("use temperature 1"));
}

struct Lie {
  const char* choices;
  const char* message;
};

class HttpReplyTest : public ::testing::TestWithParam<Lie> {};

#define RFT_LOGPROBS(tokens, values) \
  "\"logprobs\": {\"tokens\": " tokens ", \"token_logprobs\": " values "}"

INSTANTIATE_TEST_SUITE_P(
    Lies, HttpReplyTest,
    ::testing::Values(
        Lie{R"([])", "0 choices where 1 were asked for"},
        Lie{R"([{"index": 3, "finish_reason": "stop"}])", "index is out of range"},
        Lie{R"([{"index": 0}])", "no finish_reason"},
        Lie{R"([{"finish_reason": "stop"}])", "no log-probabilities"},
        Lie{R"([{"finish_reason": "nonsense"}])", "finish_reason is 'nonsense'"},
        Lie{"[{\"finish_reason\": \"stop\", " RFT_LOGPROBS(R"(["a"])", "[-1]") "}]",
            "no token ids"},
        Lie{"[{\"finish_reason\": \"stop\", " RFT_LOGPROBS(R"(["token_id:1"])", "[null]") "}]",
            "token_logprobs[0] is no log-probability: null"},
        Lie{"[{\"finish_reason\": \"stop\", " RFT_LOGPROBS(R"(["token_id:1"])", "[1.5]") "}]",
            "token_logprobs[0] is no log-probability"},
        Lie{"[{\"finish_reason\": \"stop\", " RFT_LOGPROBS(R"(["token_id:1"])", "[1e999]") "}]",
            "token_logprobs[0] is no log-probability"},
        Lie{"[{\"finish_reason\": \"stop\", " RFT_LOGPROBS(R"(["token_id:1"])", "[-1, -1]") "}]",
            "1 tokens with 2 log-probabilities"},
        Lie{"[{\"finish_reason\": \"stop\", " RFT_LOGPROBS(R"(["token_id:50"])", "[-1]") "}]",
            "outside the vocabulary of 50"},
        Lie{"[{\"finish_reason\": \"stop\", " RFT_LOGPROBS(R"(["token_id:-1"])", "[-1]") "}]",
            "token 0 is no id"},
        Lie{"[{\"finish_reason\": \"stop\", " RFT_LOGPROBS("[]", "[]") "}]",
            "a completion without tokens"},
        Lie{"[{\"finish_reason\": \"length\", " RFT_LOGPROBS(R"(["token_id:1"])", "[-1]") "}]",
            "length after 1 of 4 tokens"},
        Lie{"[{\"finish_reason\": \"stop\", \"token_ids\": [2], " RFT_LOGPROBS(R"(["token_id:1"])",
                                                                               "[-1]") "}]",
            "different tokens"},
        Lie{"[{\"finish_reason\": \"stop\", \"prompt_token_ids\": [7], " RFT_LOGPROBS(
                R"(["token_id:1"])", "[-1]") "}]",
            "another prompt"},
        Lie{"[{\"finish_reason\": \"stop\", \"weight_versions\": [1, 1], " RFT_LOGPROBS(
                R"(["token_id:1"])", "[-1]") "}]",
            "weight_versions has another length"}));

TEST_P(HttpReplyTest, IsRefused) {
  const std::string body = std::string(R"({"choices": )") + GetParam().choices + "}";
  const auto read = ReadReply(Options(HttpDialect::kVllm), Request(), body);
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(std::string(read.status().message()), HasSubstr(GetParam().message));
}

TEST(HttpDialectTest, RefusesWhatIsTruncatedOrDoubled) {
  const std::string whole = kVllm;
  for (size_t length = 0; length < whole.size(); length += 7)
    EXPECT_FALSE(ReadReply(Options(HttpDialect::kVllm), Request(2), whole.substr(0, length)).ok());
  std::string doubled = whole;
  doubled.replace(doubled.find("\"index\": 1"), 10, "\"index\": 0");
  EXPECT_THAT(
      std::string(ReadReply(Options(HttpDialect::kVllm), Request(2), doubled).status().message()),
      HasSubstr("choice 0 comes twice"));
  EXPECT_EQ(ReadReply(Options(HttpDialect::kVllm), Request(2), whole + whole).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace rft
