// The contract of tests/testing/engine_contract.h over every registered engine.
#include "tests/testing/engine_contract.h"

#include "rft/serve/server.h"
#include "tests/engine/engine_testing.h"
#include "tests/models/tiny_model.h"
#include "tests/testing/fake_codec.h"
#include "tests/testing/temp_dir.h"

namespace rft::testing {
namespace {

EngineOptions SmallQueue() {
  EngineOptions options;
  options.queue_limit = 64;
  return options;
}

class LocalUnderTest : public EngineUnderTest {
 public:
  LocalUnderTest() : engine_(StartEngine(model_, SmallQueue())) {}
  InferenceEngine& engine() override { return *engine_; }
  std::vector<TokenId> prompt() override { return {1, 2, 3}; }
  int64_t Publish() override {
    const auto weights = model_->PackNewVersion();
    EXPECT_TRUE(engine_->Publish(weights).ok());
    return weights->version();
  }

 private:
  const std::shared_ptr<CausalLm> model_ = MakeTinyModel(Family::kLlama, at::kFloat);
  std::unique_ptr<InferenceEngine> engine_;
};

// The engine "http" in front of our own server, which runs a local engine.
class HttpUnderTest : public EngineUnderTest {
 public:
  HttpUnderTest() : served_(StartEngine(model_, SmallQueue())) {
    serve::ServiceParts parts{.engine = served_.get(),
                              .codec = std::make_shared<FakeCodec>(),
                              .version = model_->weights()->version()};
    parts.load_weights = [this](const std::string&) -> absl::StatusOr<int64_t> {
      const auto weights = model_->PackNewVersion();
      EXPECT_TRUE(served_->Publish(weights).ok());
      return weights->version();
    };
    server_ = serve::Server::Start({}, {.model_names = {"m"}, .weights_root = dir_.path()},
                                   std::move(parts))
                  .value();
    EngineOptions options = SmallQueue();
    options.server_url = "http://127.0.0.1:" + std::to_string(server_->port());
    options.weights_dir = dir_.path();
    engine_ = (*EngineRegistry::Get().Find("http"))(trained_, options, nullptr).value();
  }
  InferenceEngine& engine() override { return *engine_; }
  std::vector<TokenId> prompt() override { return {1, 2, 3}; }
  int64_t Publish() override {
    const auto weights = trained_->PackNewVersion();
    const absl::Status status = engine_->Publish(weights);
    EXPECT_TRUE(status.ok()) << status;
    return weights->version();
  }

 private:
  const TempDir dir_;
  const std::shared_ptr<CausalLm> model_ = MakeTinyModel(Family::kLlama, at::kFloat);
  const std::shared_ptr<CausalLm> trained_ = MakeTinyModel(Family::kLlama, at::kFloat, 2);
  std::unique_ptr<InferenceEngine> served_;
  std::unique_ptr<serve::Server> server_;
  std::unique_ptr<InferenceEngine> engine_;
};

const std::vector<EngineCase>& Cases() {
  static const auto* cases = new std::vector<EngineCase>{
      {"local", [] { return std::make_unique<LocalUnderTest>(); }},
      {"http", [] { return std::make_unique<HttpUnderTest>(); }},
  };
  return *cases;
}

INSTANTIATE_TEST_SUITE_P(Registered, EngineContractTest, ::testing::ValuesIn(Cases()), EngineName);

TEST(EngineRegistryTest, EveryRegisteredEngineIsUnderContract) {
  std::vector<std::string> tested;
  for (const EngineCase& engine_case : Cases()) tested.push_back(engine_case.name);
  EXPECT_THAT(EngineRegistry::Get().Names(), ::testing::UnorderedElementsAreArray(tested));
}

}  // namespace
}  // namespace rft::testing
