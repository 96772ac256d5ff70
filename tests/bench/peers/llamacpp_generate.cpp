// llama.cpp's libllama sampling whole batches, one measurement per "run BATCH" on stdin (see rft/bench/peer.py).
//
//   llamacpp_generate MODEL.gguf MAX_BATCH PROMPT_TOKENS NEW_TOKENS THREADS
//
// Prompts of random tokens, temperature 1 over the whole vocabulary, the log-probability of every sampled token (a trainer
// needs it), no end token: exactly BATCH x NEW_TOKENS tokens per call. Wall time of prefill, decode and sampling.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "llama.h"

namespace {

class Generator {
 public:
  Generator(const char* path, int max_batch, int prompt, int new_tokens, int threads)
      : prompt_(prompt), new_tokens_(new_tokens) {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model_ = llama_model_load_from_file(path, model_params);
    if (!model_) Fail("the model does not load");
    llama_context_params params = llama_context_default_params();
    params.n_ctx = max_batch * (prompt + new_tokens);
    params.n_batch = std::max(2048, max_batch);
    params.n_ubatch = 512;
    params.n_seq_max = max_batch;
    params.n_threads = params.n_threads_batch = threads;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    context_ = llama_init_from_model(model_, params);
    if (!context_) Fail("no context");
    capacity_ = params.n_batch;
    batch_ = llama_batch_init(capacity_, 0, 1);
    vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(model_));
    probabilities_.resize(vocab_);
    last_.resize(max_batch);
    std::mt19937 rng(0);
    prompts_.assign(max_batch, std::vector<llama_token>(prompt));
    for (auto& tokens : prompts_)
      for (auto& token : tokens) token = 3 + rng() % (vocab_ - 3);
  }
  ~Generator() {
    llama_batch_free(batch_);
    llama_free(context_);
    llama_model_free(model_);
  }

  // Sum of the log-probabilities, so that nothing of the work can be left out.
  double Run(int sequences, int new_tokens) {
    llama_memory_clear(llama_get_memory(context_), true);
    sum_ = 0;
    for (int s = 0; s < sequences; ++s)
      for (int i = 0; i < prompt_; ++i) Add(prompts_[s][i], i, s, i == prompt_ - 1);
    Flush();
    for (int n = 1; n < new_tokens; ++n) {
      for (int s = 0; s < sequences; ++s) Add(last_[s], prompt_ + n - 1, s, true);
      Flush();
    }
    return sum_;
  }
  int new_tokens() const { return new_tokens_; }

 private:
  [[noreturn]] static void Fail(const char* what) {
    std::fprintf(stderr, "llamacpp_generate: %s\n", what);
    std::exit(1);
  }
  void Add(llama_token token, int position, int sequence, bool wanted) {
    if (batch_.n_tokens == capacity_) Flush();
    const int i = batch_.n_tokens++;
    batch_.token[i] = token;
    batch_.pos[i] = position;
    batch_.n_seq_id[i] = 1;
    batch_.seq_id[i][0] = sequence;
    batch_.logits[i] = wanted;
    if (wanted) wanted_.emplace_back(sequence, i);
  }
  void Flush() {
    if (batch_.n_tokens == 0) return;
    if (llama_decode(context_, batch_) != 0) Fail("decode failed");
    for (const auto& [sequence, index] : wanted_) last_[sequence] = Sample(llama_get_logits_ith(context_, index));
    wanted_.clear();
    batch_.n_tokens = 0;
  }
  llama_token Sample(const float* logits) {
    const float max = *std::max_element(logits, logits + vocab_);
    for (int i = 0; i < vocab_; ++i) probabilities_[i] = std::exp(logits[i] - max);
    double total = 0;
    for (int i = 0; i < vocab_; ++i) total += probabilities_[i];
    double left = std::uniform_real_distribution<double>(0, 1)(rng_) * total;
    int token = 0;
    for (; token < vocab_ - 1; ++token)
      if ((left -= probabilities_[token]) <= 0) break;
    sum_ += logits[token] - max - std::log(total);
    return token;
  }

  int prompt_, new_tokens_, capacity_ = 0, vocab_ = 0;
  llama_model* model_ = nullptr;
  llama_context* context_ = nullptr;
  llama_batch batch_{};
  std::vector<std::vector<llama_token>> prompts_;
  std::vector<llama_token> last_;
  std::vector<std::pair<int, int>> wanted_;
  std::vector<float> probabilities_;
  std::mt19937 rng_{0};
  double sum_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: llamacpp_generate MODEL.gguf MAX_BATCH PROMPT_TOKENS NEW_TOKENS THREADS\n");
    return 2;
  }
  Generator generator(argv[1], std::atoi(argv[2]), std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]));
  generator.Run(1, 4);
  std::printf("{\"ready\": true}\n");
  std::fflush(stdout);
  std::string word;
  int batch;
  while (std::cin >> word >> batch) {
    const auto start = std::chrono::steady_clock::now();
    const double check = generator.Run(batch, generator.new_tokens());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const int tokens = batch * generator.new_tokens();
    std::printf("{\"tokens_per_s\": %.6g, \"tokens\": %d, \"seconds\": %.6g, \"logprob_mean\": %.6g}\n", tokens / seconds, tokens,
                seconds, check / tokens);
    std::fflush(stdout);
  }
}
