#include <atomic>
#include <filesystem>
#include <thread>

#include <gmock/gmock.h>

#include "rft/serve/api_keys.h"
#include "tests/serve/serve_testing.h"
#include "tests/testing/temp_dir.h"

namespace rft::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ServiceTest = ServeTest;

constexpr const char* kPrompt = R"({"prompt": "p"})";

TEST_F(ServiceTest, ListsItsModels) {
  StartSaying("x");
  const json::object reply = Get("/v1/models").object();
  EXPECT_EQ(reply.at("data").at(0).at("id"), "tiny");
  EXPECT_EQ(reply.at("data").at(0).at("max_model_len"), 4096);
  EXPECT_EQ(Get("/v1/models/alias").object().at("id"), "alias");
  EXPECT_EQ(Get("/v1/models/other").status, 404);
}

TEST_F(ServiceTest, TokenizesAndBack) {
  StartSaying("x");
  EXPECT_EQ(ToJson(Post("/tokenize", R"({"prompt": "ab"})").object().at("tokens")), "[97, 98]");
  EXPECT_EQ(
      Post("/tokenize", R"({"messages": [{"role": "user", "content": "a"}]})").object().at("count"),
      3);
  EXPECT_EQ(Post("/detokenize", R"({"tokens": [97, 195, 169, 257]})").object().at("prompt"),
            "a\xC3\xA9<end>");
  EXPECT_THAT(Mistake("/detokenize", R"({"tokens": [258]})"), HasSubstr("outside the vocabulary"));
}

TEST_F(ServiceTest, CountsForPrometheus) {
  StartSaying("abc");
  Post("/v1/completions", kPrompt);
  Post("/v1/completions", "{}");
  Get("/no/such/route");
  const std::string text = Get("/metrics").body;
  EXPECT_THAT(text, HasSubstr("rft_requests_total{path=\"/v1/completions\",status=\"200\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("rft_requests_total{path=\"/v1/completions\",status=\"400\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("rft_requests_total{path=\"other\",status=\"404\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("rft_completion_tokens_total 4"));
  EXPECT_THAT(text, HasSubstr("rft_request_seconds_count 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("/no/such/route")));
}

TEST_F(ServiceTest, DeniesEverythingButHealthWithoutAKey) {
  service_.api_keys = {"first-key-1", "second-key"};
  StartSaying("x");
  EXPECT_EQ(Get("/healthz").status, 200);
  for (const char* path : {"/v1/models", "/metrics", "/no/such/route", "/v1/weights"})
    EXPECT_EQ(Get(path).status, 401) << path;
  EXPECT_EQ(Post("/pause").status, 401);
  const uint16_t port = server_->port();
  EXPECT_EQ(Fetch(port, "GET", "/v1/models", "", "Authorization: Bearer second-key\r\n").status,
            200);
  EXPECT_EQ(Fetch(port, "GET", "/v1/models", "", "X-Api-Key: first-key-1\r\n").status, 200);
  for (const char* wrong : {"Authorization: Bearer second-ke\r\n", "Authorization: second-key\r\n",
                            "X-Api-Key: \r\n", "Authorization: Bearer \r\n"})
    EXPECT_EQ(Fetch(port, "GET", "/v1/models", "", wrong).status, 401) << wrong;
}

TEST_F(ServiceTest, AsksForAKeyBeforeItReadsABody) {
  service_.api_keys = {"first-key-1"};
  StartSaying("x");
  RawClient client(server_->port());
  client.Send("POST /v1/completions HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 401);
}

// Numbers of the clients that the engine is told, requests in order: equal letters for equal clients.
class ClientsTest : public ServeTest {
 protected:
  void Ask(const std::string& headers, const std::string& user = "") {
    EXPECT_EQ(Fetch(server_->port(), "POST", "/v1/completions",
                    R"({"prompt": "p", "user": ")" + user + "\"}", headers)
                  .status,
              200);
  }
  std::string Clients() const {
    std::map<uint64_t, char> letters;
    std::string text;
    for (const GenerateRequest& request : engine_->requests())
      text +=
          letters.emplace(request.client, static_cast<char>('a' + letters.size())).first->second;
    return text;
  }
};

TEST_F(ClientsTest, TakeTurnsByUserAndKeySentWhereNoneIsNeeded) {
  StartSaying("x");
  Ask("");
  Ask("");
  Ask("", "trainer");
  Ask("Authorization: Bearer notebook\r\n");
  Ask("Authorization: Bearer notebook\r\n", "trainer");
  Ask("", "trainer");
  EXPECT_EQ(Clients(), "aabcdb");
}

TEST_F(ClientsTest, TakeTurnsByAddressWithoutAKey) {
  const serve::ApiKeys keys({});
  serve::HttpRequest one{.peer = "127.0.0.1"}, other{.peer = "127.0.0.2"};
  EXPECT_NE(keys.ClientOf(one, ""), keys.ClientOf(other, ""));
}

TEST_F(ClientsTest, GainNothingFromOtherUserNamesUnderOneKey) {
  service_.api_keys = {"first-key-1", "second-key"};
  StartSaying("x");
  Ask("Authorization: Bearer first-key-1\r\n", "u");
  Ask("Authorization: Bearer first-key-1\r\n", "v");
  Ask("Authorization: Bearer second-key\r\n", "u");
  EXPECT_EQ(Clients(), "aab");
}

TEST_F(ServiceTest, RefusesWebPagesAndForms) {
  service_.allowed_origins = {"http://good.example"};
  StartSaying("x");
  const uint16_t port = server_->port();
  EXPECT_EQ(Fetch(port, "POST", "/pause", "", "Origin: http://bad.example\r\n").status, 403);
  EXPECT_EQ(Fetch(port, "GET", "/v1/models", "", "Origin: http://good.example\r\n").status, 200);
  RawClient form(port);
  form.Send(
      "POST /v1/completions HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_EQ(form.Receive().status, 415);
}

TEST_F(ServiceTest, KnowsItsRoutesExactly) {
  StartSaying("x");
  EXPECT_EQ(Get("/v1//models").status, 404);
  EXPECT_THAT(Get("/v1/chat/completion").body, HasSubstr("did you mean /v1/chat/completions?"));
  EXPECT_THAT(Get("/v1/embeddings").body, HasSubstr("no such route; docs/serving.md lists"));
  EXPECT_EQ(Get("/v1/completions").status, 405);
  EXPECT_EQ(Get("/v1/completions").headers["allow"], "POST");
}

TEST_F(ServiceTest, ListensOnOtherAddressesOnlyWithAKey) {
  FakeEngine engine([](const GenerateRequest&, int32_t) { return FakeAnswer{}; });
  auto start = [&](const char* host, std::vector<std::string> keys) {
    return serve::Server::Start({.host = host}, {.model_names = {"m"}, .api_keys = keys},
                                {.engine = &engine, .codec = std::make_shared<FakeCodec>()})
        .status();
  };
  EXPECT_THAT(std::string(start("0.0.0.0", {}).message()), HasSubstr("configure an API key"));
  EXPECT_THAT(std::string(start("127.0.0.1", {"short"}).message()), HasSubstr("at least 8"));
  EXPECT_THAT(std::string(start("localhost", {}).message()), HasSubstr("not an IP address"));
}

TEST_F(ServiceTest, HoldsRequestsWhilePaused) {
  StartSaying("later");
  EXPECT_EQ(Post("/pause").object().at("status"), "paused");
  EXPECT_EQ(ToJson(Get("/is_paused").object()), R"({"is_paused": true})");
  RawClient held(server_->port());
  held.Send(RequestText("POST", "/v1/completions", kPrompt));
  EXPECT_EQ(held.ReadSome(0.1), "");
  EXPECT_EQ(Post("/resume").object().at("status"), "resumed");
  EXPECT_EQ(held.Receive().object().at("choices").at(0).at("text"), "later");
}

TEST_F(ServiceTest, HoldsOnlySoMany) {
  service_.limits.max_held_requests = 1;
  StartSaying("x");
  Post("/pause");
  RawClient one(server_->port()), other(server_->port());
  for (RawClient* client : {&one, &other})
    client->Send(RequestText("POST", "/v1/completions", kPrompt));
  std::string refused;
  EXPECT_TRUE(Eventually([&] {
    refused += one.ReadSome(0.01) + other.ReadSome(0.01);
    return !refused.empty();
  }));
  EXPECT_THAT(refused, HasSubstr("429 Too Many Requests"));
}

TEST_F(ServiceTest, PauseAbortsOrWaits) {
  Start([](const GenerateRequest& request, int32_t) {
    return FakeAnswer{.text = std::string(request.prompt[0] == 's' ? 100000 : 20, 'x'),
                      .token_delay_s = 0.005};
  });
  RawClient slow(server_->port()), quick(server_->port());
  slow.Send(RequestText("POST", "/v1/completions", R"({"prompt": "s"})"));
  EXPECT_TRUE(Eventually([&] { return engine_->num_open() == 1; }));
  EXPECT_EQ(Post("/pause").status, 200);
  EXPECT_EQ(engine_->num_open(), 0);
  EXPECT_EQ(slow.Receive().object().at("choices").at(0).at("finish_reason"), "abort");
  Post("/resume");
  quick.Send(RequestText("POST", "/v1/completions", R"({"prompt": "q"})"));
  EXPECT_TRUE(Eventually([&] { return engine_->num_open() == 1; }));
  EXPECT_EQ(Post("/pause?mode=wait").status, 200);
  EXPECT_EQ(quick.Receive().object().at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_THAT(Mistake("/pause", R"({"mode": "stop"})"), HasSubstr("mode: must be abort, wait or"));
}

TEST_F(ServiceTest, PauseAbortsWhatIsJustBeingStarted) {
  std::atomic<uint16_t> port{0};
  std::atomic<int> status{0};
  std::thread pausing;
  Start([&](const GenerateRequest&, int32_t) {  // called while the engine is given the request
    pausing = std::thread([&] { status = Fetch(port, "POST", "/pause").status; });
    EXPECT_TRUE(Eventually([&] {
      return ToJson(Fetch(port, "GET", "/is_paused").object()) == R"({"is_paused": true})";
    }));
    return FakeAnswer{.text = std::string(100000, 'x'), .token_delay_s = 0.005};
  });
  port = server_->port();
  const Answer answer = Post("/v1/completions", kPrompt);
  pausing.join();
  EXPECT_EQ(status, 200);
  ASSERT_EQ(answer.status, 200);
  EXPECT_EQ(answer.object().at("choices").at(0).at("finish_reason"), "abort");
}

TEST_F(ServiceTest, PauseMayKeepWhatRuns) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = std::string(20, 'x'), .token_delay_s = 0.005};
  });
  RawClient running(server_->port());
  running.Send(RequestText("POST", "/v1/completions", kPrompt));
  EXPECT_TRUE(Eventually([&] { return engine_->num_open() == 1; }));
  EXPECT_EQ(Post("/pause?mode=keep&clear_cache=true").object().at("status"), "paused");
  EXPECT_EQ(running.Receive().object().at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_EQ(ToJson(Get("/is_paused").object()), R"({"is_paused": true})");
  EXPECT_EQ(engine_->num_cache_resets(), 1);
  EXPECT_EQ(Post("/reset_prefix_cache").object().at("success"), true);
  EXPECT_EQ(engine_->num_cache_resets(), 2);
}

class WeightsTest : public ServeTest {
 protected:
  WeightsTest() {
    std::filesystem::create_directories(dir_.path() + "/weights/step-1");
    std::filesystem::create_directories(dir_.path() + "/elsewhere");
    std::filesystem::create_symlink(dir_.path() + "/elsewhere", dir_.path() + "/weights/link");
    service_.weights_root = dir_.path() + "/weights";
    load_weights_ = [this](const std::string& folder) -> absl::StatusOr<int64_t> {
      loaded_.push_back(std::filesystem::path(folder).filename());
      if (fails_) return absl::InvalidArgumentError("path: a tensor is missing");
      return static_cast<int64_t>(loaded_.size()) + 1;
    };
  }
  TempDir dir_;
  std::vector<std::string> loaded_;
  bool fails_ = false;
};

TEST_F(WeightsTest, LoadsAFolderBelowTheRoot) {
  StartSaying("x");
  const json::object reply =
      Post("/update_weights", R"({"path": "step-1", "weight_version": 7})").object();
  EXPECT_EQ(reply.at("success"), true);
  EXPECT_EQ(reply.at("version"), 2);
  EXPECT_EQ(loaded_, std::vector<std::string>{"step-1"});
  const json::object weights = Get("/v1/weights").object();
  EXPECT_EQ(weights.at("version"), 2);
  EXPECT_EQ(weights.at("label"), "7");
  EXPECT_EQ(
      Post("/update_weights", R"({"weight_dir": ")" + service_.weights_root + "/step-1\"}").status,
      200);
}

TEST_F(WeightsTest, AbortsWhatRunsIfAskedTo) {
  Start([](const GenerateRequest&, int32_t) {
    return FakeAnswer{.text = std::string(100000, 'x'), .token_delay_s = 0.005};
  });
  RawClient running(server_->port());
  running.Send(RequestText("POST", "/v1/completions", kPrompt));
  EXPECT_TRUE(Eventually([&] { return engine_->num_open() == 1; }));
  // As SGLang's clients send it, all fields at their defaults but one.
  const Answer answer =
      Post("/update_weights_from_disk", R"({"model_path": "step-1", "load_format": "auto",
      "abort_all_requests": true, "weight_version": null, "is_async": false, "torch_empty_cache": false,
      "keep_pause": false, "recapture_cuda_graph": false, "token_step": 0, "flush_cache": true, "manifest": null})");
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(running.Receive().object().at("choices").at(0).at("finish_reason"), "abort");
  EXPECT_EQ(ToJson(Get("/is_paused").object()), R"({"is_paused": false})");
}

TEST_F(WeightsTest, RefusesFieldsThatItCannotActOn) {
  StartSaying("x");
  EXPECT_THAT(Mistake("/update_weights", R"({"path": "step-1", "load_format": "dummy"})"),
              HasSubstr("load_format: must be auto or safetensors"));
  EXPECT_THAT(Mistake("/update_weights", R"({"path": "step-1", "manifest": {}})"),
              HasSubstr("manifest: files are not checked"));
  EXPECT_EQ(loaded_, std::vector<std::string>{});
}

TEST_F(WeightsTest, RefusesFoldersElsewhere) {
  StartSaying("x");
  for (const char* path : {"../elsewhere", "link", "/", "."}) {
    const int status = Post("/update_weights", std::string(R"({"path": ")") + path + "\"}").status;
    EXPECT_EQ(status, std::string(path) == "." ? 200 : 403) << path;
  }
  EXPECT_EQ(Post("/update_weights", R"({"path": "none"})").status, 404);
  EXPECT_EQ(Post("/update_weights", R"({"path": "a\u0000b"})").status, 400);
  EXPECT_EQ(Post("/update_weights", "{}").status, 400);
}

TEST_F(WeightsTest, KeepsTheOldWeightsAfterAFailure) {
  fails_ = true;
  StartSaying("x");
  EXPECT_THAT(Mistake("/update_weights", R"({"path": "step-1"})"),
              HasSubstr("a tensor is missing"));
  EXPECT_EQ(Get("/v1/weights").object().at("version"), 1);
}

TEST_F(WeightsTest, KnowsTheEnvelopeOfVllm) {
  StartSaying("x");
  EXPECT_EQ(Post("/update_weights", R"({"update_info": {"path": "step-1"}})").status, 200);
  EXPECT_EQ(ToJson(Get("/get_world_size").object()), R"({"world_size": 1})");
  EXPECT_THAT(
      Mistake("/update_weights", R"({"update_info": {"path": "step-1", "names": []}})"),
      HasSubstr("update_info.names: Extra inputs are not permitted, field: 'update_info.names'"));
}

class AdaptersTest : public WeightsTest {
 protected:
  AdaptersTest() {
    service_.limits.max_adapters = 2;
    load_adapter_ = [this](const std::string& name, const std::string& folder) {
      loaded_.push_back(name + "=" + std::filesystem::path(folder).filename().string());
      return fails_ ? absl::InvalidArgumentError("adapter_config.json: is missing")
                    : absl::OkStatus();
    };
  }
  std::string Load(const std::string& name, int status, const std::string& more = "") {
    const std::string body = R"({"lora_path": "step-1", "lora_name": ")" + name + "\"" + more + "}";
    if (status != 200) return Mistake("/v1/load_lora_adapter", body, status);
    const Answer answer = Post("/v1/load_lora_adapter", body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return "";
  }
};

TEST_F(AdaptersTest, AreModelsWhileTheyAreLoaded) {
  StartSaying("x");
  Load("poet", 200);
  EXPECT_EQ(loaded_, std::vector<std::string>{"poet=step-1"});
  const json::array models = Get("/v1/models").object().at("data").as_array();
  EXPECT_EQ(models.back().at("id"), "poet");
  EXPECT_EQ(models.back().at("parent"), "tiny");
  const json::object reply =
      Post("/v1/completions", R"({"prompt": "p", "model": "poet"})").object();
  EXPECT_EQ(reply.at("model"), "poet");
  Post("/v1/completions", R"({"prompt": "p", "model": "alias"})");
  EXPECT_EQ(engine_->requests()[0].adapter, "poet");
  EXPECT_EQ(engine_->requests()[1].adapter, "");
  EXPECT_EQ(Post("/v1/unload_lora_adapter", R"({"lora_name": "poet"})").status, 200);
  EXPECT_EQ(unloaded_, std::vector<std::string>{"poet"});
  EXPECT_THAT(Mistake("/v1/completions", R"({"prompt": "p", "model": "poet"})", 404),
              HasSubstr("the model 'poet' does not exist"));
  EXPECT_THAT(Mistake("/v1/unload_lora_adapter", R"({"lora_name": "poet"})", 404),
              HasSubstr("lora_name: no adapter"));
}

TEST_F(AdaptersTest, HaveLimits) {
  StartSaying("x");
  EXPECT_THAT(Load("tiny", 400), HasSubstr("lora_name: is the name of the base model"));
  EXPECT_THAT(Load("a b", 400), HasSubstr("lora_name: must be 1 to 128"));
  EXPECT_THAT(Load("", 400), HasSubstr("lora_name: must be 1 to 128"));
  Load("a", 200);
  EXPECT_THAT(Load("a", 400), HasSubstr("lora_name: 'a' is loaded already"));
  Load("a", 200, R"(, "load_inplace": true)");
  Load("b", 200);
  EXPECT_THAT(Load("c", 429), HasSubstr("2 adapters are loaded, the limit is 2"));
  EXPECT_EQ(
      Post("/v1/load_lora_adapter", R"({"lora_name": "d", "lora_path": "../elsewhere"})").status,
      403);
}

TEST_F(AdaptersTest, AreNotThereAfterAFailure) {
  fails_ = true;
  StartSaying("x");
  EXPECT_THAT(Load("a", 400), HasSubstr("adapter_config.json"));
  EXPECT_EQ(Post("/v1/completions", R"({"prompt": "p", "model": "a"})").status, 404);
}

TEST_F(WeightsTest, TakesNoneWithoutARoot) {
  service_.weights_root.clear();
  StartSaying("x");
  EXPECT_THAT(Mistake("/update_weights", R"({"path": "step-1"})", 403),
              HasSubstr("--weights-root"));
}

}  // namespace
}  // namespace rft::testing
