// A server over the fake engine and the fake codec.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "rft/serve/server.h"
#include "tests/serve/http_testing.h"
#include "tests/testing/fake_codec.h"
#include "tests/testing/fake_engine.h"

namespace rft::testing {

class ServeTest : public ::testing::Test {
 protected:
  ServeTest() { service_.model_names = {"tiny", "alias"}; }
  ~ServeTest() override {
    server_.reset();
    engine_.reset();
  }

  void Start(FakeEngine::Script script, int64_t max_context = 4096) {
    engine_ = std::make_unique<FakeEngine>(std::move(script), max_context);
    server_ = serve::Server::Start(http_, service_,
                                   {.engine = engine_.get(),
                                    .codec = std::make_shared<FakeCodec>(),
                                    .version = 1,
                                    .load_weights = load_weights_,
                                    .load_adapter = load_adapter_,
                                    .unload_adapter =
                                        [this](const std::string& name) {
                                          unloaded_.push_back(name);
                                          return absl::OkStatus();
                                        },
                                    .compile_grammar = compile_grammar_})
                  .value();
  }
  void StartSaying(std::string text) {
    Start([text](const GenerateRequest&, int32_t) { return FakeAnswer{.text = text}; });
  }
  Answer Get(std::string_view path) { return Fetch(server_->port(), "GET", path); }
  Answer Post(std::string_view path, std::string_view body = "") {
    return Fetch(server_->port(), "POST", path, body);
  }
  // The error's message of a request that must fail with this status.
  std::string Mistake(std::string_view path, std::string_view body, int status = 400) {
    const Answer answer = Post(path, body);
    EXPECT_EQ(answer.status, status) << answer.body;
    const json::object reply = answer.object();
    if (!reply.contains("error")) return answer.body;
    return std::string(reply.at("error").at("message").as_string().c_str());
  }

  serve::HttpOptions http_;
  serve::ServiceOptions service_;
  std::function<absl::StatusOr<int64_t>(const std::string&)> load_weights_;
  std::function<absl::Status(const std::string&, const std::string&)> load_adapter_;
  std::vector<std::string> unloaded_;
  GrammarCompiler compile_grammar_;
  std::unique_ptr<FakeEngine> engine_;
  std::unique_ptr<serve::Server> server_;
};

}  // namespace rft::testing
