// RunConfig: everything a run is told, typed. One struct per section of run.yaml; each declares its
// fields once. Reading: config_reader.h. Resolved dump, schema, docs table: config_dump.h. Plain
// data; copy freely.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rft/config/advantage_config.h"
#include "rft/config/field.h"
#include "rft/config/loss_options.h"
#include "rft/config/rollout_config.h"

namespace rft {

struct DataConfig {
  std::string train;
  std::string heldout;
  bool shuffle = true;
  int64_t max_prompt_tokens = 0;

  void Visit(ConfigVisitor& v) {
    v.Field(
        "train", &train,
        {.doc = "Training rows: JSONL in OpenAI chat format.", .unit = "path", .required = true});
    v.Field("heldout", &heldout,
            {.doc = "Rows for evaluation, never trained on; empty: none.", .unit = "path"});
    v.Field("shuffle", &shuffle,
            {.doc = "Visit the rows of each epoch in a random order derived from the seed."});
    v.Field("max_prompt_tokens", &max_prompt_tokens,
            {.doc = "A longer prompt is an error; 0: whatever fits the context beside max_tokens.",
             .unit = "tokens",
             .min = 0});
  }
};

struct FilterConfig {
  bool zero_variance = true;
  double tolerance = 0.0;

  void Visit(ConfigVisitor& v) {
    v.Field("zero_variance", &zero_variance,
            {.doc = "Drop groups whose rewards are all equal: they teach nothing."});
    v.Field(
        "tolerance", &tolerance,
        {.doc = "Rewards that differ by at most this count as equal.", .unit = "reward", .min = 0});
  }
};

struct TrainerConfig {
  std::string device = "cpu";
  bool offload = false;
  std::string dtype = "bf16";
  int64_t steps = 40;
  double learning_rate = 1e-5;
  std::string schedule = "constant";
  int64_t warmup_steps = 0;
  double min_lr_ratio = 0.0;
  double decay_fraction = 0.2;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.0;
  double grad_clip_norm = 1.0;
  int64_t token_budget = 8192;
  std::string optimizer = "adamw";
  std::string optimizer_state = "fp32";
  bool decay_vectors = true;
  int64_t checkpoint_every = 0;
  int64_t updates_per_step = 1;
  std::string routing_replay = "rollout";
  bool replay_prompt_routes = false;
  double router_load_balance_coef = 0.0;
  double router_z_coef = 0.0;
  int64_t threads = 0;
  int64_t memory_mb = 0;
  double reference_decay = 1.0;
  std::string reference_dtype = "same";

  void Visit(ConfigVisitor& v) {
    v.Field("device", &device,
            {.doc = "Where it trains: cpu; cuda, cuda:1, ... if torch sees such a device. "
                    "Sampling stays on the CPU."});
    v.Field(
        "offload", &offload,
        {.doc = "With another device than cpu: master weights and the optimizer's state stay in "
                "host memory, and steps are made there. The device holds weights in dtype, "
                "gradients and activations."});
    v.Field("dtype", &dtype,
            {.doc = "Compute type; master weights are always fp32.", .choices = {"bf16", "fp32"}});
    v.Field("steps", &steps,
            {.doc = "Optimizer steps of the whole run.", .unit = "steps", .min = 1});
    v.Field("learning_rate", &learning_rate, {.doc = "Peak learning rate of AdamW.", .min = 0});
    v.Field("schedule", &schedule,
            {.doc = "Learning rate after warm-up.",
             .choices = {"constant", "linear", "cosine", "wsd"}});
    v.Field(
        "warmup_steps", &warmup_steps,
        {.doc = "Linear warm-up from learning_rate / warmup_steps.", .unit = "steps", .min = 0});
    v.Field("min_lr_ratio", &min_lr_ratio,
            {.doc = "Where linear, cosine and wsd end, as a part of learning_rate.",
             .min = 0,
             .max = 1});
    v.Field("decay_fraction", &decay_fraction,
            {.doc = "wsd: the last part of the steps, in which the rate falls linearly.",
             .above = 0,
             .max = 1});
    v.Field("beta1", &beta1,
            {.doc = "AdamW: decay of the mean gradient.", .min = 0, .max = 0.999999});
    v.Field("beta2", &beta2,
            {.doc = "AdamW: decay of the mean square.", .min = 0, .max = 0.999999});
    v.Field("eps", &eps, {.doc = "AdamW: added to the root of the mean square.", .above = 0});
    v.Field("weight_decay", &weight_decay, {.doc = "AdamW: decoupled weight decay.", .min = 0});
    v.Field("grad_clip_norm", &grad_clip_norm,
            {.doc = "Largest global gradient norm; 0: no clipping.", .min = 0});
    v.Field("token_budget", &token_budget,
            {.doc = "Most tokens per micro-batch; memory_mb may make it smaller.",
             .unit = "tokens",
             .min = 1});
    v.Field("optimizer", &optimizer,
            {.doc = "adamw; muon: matrices of the layers along their orthogonalised momentum; sgd: "
                    "momentum beta1, half the state.",
             .choices = {"adamw", "muon", "sgd"}});
    v.Field("optimizer_state", &optimizer_state,
            {.doc = "How adamw keeps its moments: 4, 2 or about 1 byte per number.",
             .choices = {"fp32", "bf16", "int8"}});
    v.Field("decay_vectors", &decay_vectors, {.doc = "Weight decay on norms and biases, too."});
    v.Field(
        "checkpoint_every", &checkpoint_every,
        {.doc = "Compute every n-th layer's activations again in the backward instead of keeping "
                "them; 0: keep all. The numbers are the same.",
         .unit = "layers",
         .min = 0});
    v.Field(
        "updates_per_step", &updates_per_step,
        {.doc = "Optimizer updates made from one step's rollouts.", .unit = "updates", .min = 1});
    v.Field("routing_replay", &routing_replay,
            {.doc = "Mixtures of experts: train with the experts that the sampler used (rollout), "
                    "that the policy before the step's first update used (old-policy), or that "
                    "the router chooses now (off). Dense models: no effect.",
             .choices = {"rollout", "old-policy", "off"}});
    v.Field("replay_prompt_routes", &replay_prompt_routes,
            {.doc = "With routing_replay: rollout, replay the prompt's tokens too, not only the "
                    "completion's."});
    v.Field("router_load_balance_coef", &router_load_balance_coef,
            {.doc = "Coefficient of the load-balancing loss of the router; 0: off.", .min = 0});
    v.Field("router_z_coef", &router_z_coef,
            {.doc = "Coefficient of the router's z-loss; 0: off.", .min = 0});
    v.Field("threads", &threads,
            {.doc = "Threads for tensor work; 0: all cores.", .unit = "threads", .min = 0});
    v.Field("reference_decay", &reference_decay,
            {.doc = "The reference of a KL term after each step: this part of itself, the rest of "
                    "the trained weights; 1: it stays the model as it was loaded.",
             .min = 0,
             .max = 1});
    v.Field("reference_dtype", &reference_dtype,
            {.doc = "Weights of the reference of a KL term: the trained model's own first version, "
                    "or a model of its own with int8 weights in bf16 arithmetic, whose "
                    "log-probabilities differ a little from the start.",
             .choices = {"same", "int8"}});
    v.Field(
        "memory_mb", &memory_mb,
        {.doc = "Memory that the process (with another trainer.device: that device) may use: "
                "micro-batches are made to fit, and a run that can't is refused before its first "
                "step; 0: what the machine has left.",
         .unit = "MiB",
         .min = 0});
  }
};

struct LoraOptions {
  int64_t rank = 0;
  double alpha = 32.0;
  double dropout = 0.0;
  std::vector<std::string> targets = {"all"};
  bool rslora = false;

  void Visit(ConfigVisitor& v) {
    v.Field("rank", &rank,
            {.doc = "Rank of the adapter that is trained; 0: the whole model is trained.",
             .min = 0,
             .max = 4096});
    v.Field("alpha", &alpha, {.doc = "The adapter is scaled by alpha / rank.", .above = 0});
    v.Field("dropout", &dropout,
            {.doc = "Dropout of the adapter's input, in training only: log-probabilities then "
                    "differ from the sampler's.",
             .min = 0,
             .max = 0.99});
    v.Field(
        "targets", &targets,
        {.doc = "Modules that get an adapter, by name (q_proj, embed_tokens, lm_head) or group: "
                "attention, mlp, all (both); of mixtures of experts also experts, router."});
    v.Field("rslora", &rslora, {.doc = "Scale by alpha / sqrt(rank) instead."});
  }
};

struct EngineConfig {
  std::string name = "local";
  int64_t max_batch = 64;
  int64_t max_batch_tokens = 1024;
  int64_t kv_memory_mb = 1024;
  int64_t queue_limit = 65536;
  bool prefix_cache = true;
  std::string server_url;
  std::string server_dialect = "rft";
  std::string server_model;
  std::string server_key_variable;
  std::string weights_dir;

  void Visit(ConfigVisitor& v) {
    v.Field("name", &name, {.doc = "Registered name of the inference engine."});
    v.Field("max_batch", &max_batch,
            {.doc = "Sequences sampled at once.", .unit = "sequences", .min = 1});
    v.Field("max_batch_tokens", &max_batch_tokens,
            {.doc = "Prefill and decode tokens per iteration.", .unit = "tokens", .min = 1});
    v.Field("kv_memory_mb", &kv_memory_mb,
            {.doc = "Memory for the state cache.", .unit = "MiB", .min = 1});
    v.Field("queue_limit", &queue_limit,
            {.doc = "Waiting completions before requests are refused.",
             .unit = "completions",
             .min = 1});
    v.Field("prefix_cache", &prefix_cache,
            {.doc = "Keep keys and values of earlier texts while there is room; no effect on what "
                    "is sampled."});
    v.Field("server_url", &server_url,
            {.doc = "Engine http: the server, without a path (http://127.0.0.1:8000)."});
    v.Field("server_dialect", &server_dialect,
            {.doc = "Engine http: what the server is: rft, vllm, sglang or llama.cpp."});
    v.Field("server_model", &server_model,
            {.doc = "Engine http: the model's name there; empty: the first one it lists."});
    v.Field("server_key_variable", &server_key_variable,
            {.doc = "Engine http: environment variable that holds its API key; empty: no key."});
    v.Field("weights_dir", &weights_dir,
            {.doc = "Engine http: folder through which the server gets new weights (below its "
                    "--weights-root).",
             .unit = "path"});
  }
};

struct EvalConfig {
  int64_t every = 0;
  int64_t samples = 1;
  std::optional<double> temperature;
  int64_t max_rows = 0;

  void Visit(ConfigVisitor& v) {
    v.Field("every", &every,
            {.doc = "Evaluate on data.heldout this often; 0: only at start and end.",
             .unit = "steps",
             .min = 0});
    v.Field("samples", &samples,
            {.doc = "Completions per held-out row.", .unit = "rollouts", .min = 1});
    v.Field("temperature", &temperature, {.doc = "Default: rollout.temperature.", .min = 0});
    v.Field("max_rows", &max_rows,
            {.doc = "Use only the first rows; 0: all.", .unit = "rows", .min = 0});
  }
};

struct CheckpointConfig {
  int64_t every = 0;
  int64_t keep = 2;

  void Visit(ConfigVisitor& v) {
    v.Field("every", &every,
            {.doc = "Save this often; 0: only at the end and when interrupted.",
             .unit = "steps",
             .min = 0});
    v.Field("keep", &keep, {.doc = "Newest checkpoints kept.", .unit = "checkpoints", .min = 1});
  }
};

struct SftOptions {
  int64_t rows_per_step = 16;
  std::string train_on = "all";

  void Visit(ConfigVisitor& v) {
    v.Field("rows_per_step", &rows_per_step,
            {.doc = "Conversations that make one optimizer step.", .unit = "rows", .min = 1});
    v.Field("train_on", &train_on,
            {.doc = "all: every message of the assistant, by its own weight; last: only the last.",
             .choices = {"all", "last"}});
  }
};

struct PreferenceOptions {
  std::string loss = "dpo";
  int64_t rows_per_step = 8;
  std::optional<double> beta;
  std::optional<double> label_smoothing;
  std::optional<double> gamma;
  std::optional<double> sft_coef;
  std::optional<double> desirable_weight;
  std::optional<double> undesirable_weight;

  void Visit(ConfigVisitor& v) {
    v.Field("loss", &loss, {.doc = "Registered preference loss: dpo, ipo, simpo, orpo, kto."});
    v.Field("rows_per_step", &rows_per_step,
            {.doc = "Rows that make one optimizer step.", .unit = "rows", .min = 1});
    v.Field("beta", &beta, {.doc = "Strength; the loss's own default when left out.", .above = 0});
    v.Field("label_smoothing", &label_smoothing,
            {.doc = "Part of the pairs assumed to be labelled the wrong way round.",
             .min = 0,
             .max = 0.5});
    v.Field("gamma", &gamma, {.doc = "simpo: the margin asked for.", .min = 0});
    v.Field("sft_coef", &sft_coef,
            {.doc = "Weight of the chosen completion's mean negative log-probability.", .min = 0});
    v.Field("desirable_weight", &desirable_weight, {.doc = "kto: weight.", .min = 0});
    v.Field("undesirable_weight", &undesirable_weight, {.doc = "kto: weight.", .min = 0});
  }
};

struct DistillOptions {
  std::vector<std::string> teachers;
  std::string objective = "sampled";
  int64_t top_k = 16;
  std::string direction = "forward";

  void Visit(ConfigVisitor& v) {
    v.Field("teachers", &teachers,
            {.doc = "Hugging Face folders with the student's vocabulary; they count alike.",
             .unit = "path"});
    v.Field("objective", &objective,
            {.doc = "sampled: reverse KL on the tokens that the student sampled; top-k: divergence "
                    "on each teacher's most likely tokens at every position.",
             .choices = {"sampled", "top-k"}});
    v.Field("top_k", &top_k,
            {.doc = "For objective top-k.", .unit = "tokens", .min = 1, .max = 128});
    v.Field(
        "direction", &direction,
        {.doc = "For objective top-k: forward sum p log(p / q), reverse sum q log(q / p), q the "
                "student.",
         .choices = {"forward", "reverse"}});
  }
};

struct StopConfig {
  int64_t no_signal_steps = 10;
  int64_t patience = 0;

  void Visit(ConfigVisitor& v) {
    v.Field("no_signal_steps", &no_signal_steps,
            {.doc = "Stop after this many steps in a row in which nothing could be learned.",
             .unit = "steps",
             .min = 1});
    v.Field("patience", &patience,
            {.doc = "rft sft, rft dpo: stop after this many evaluations in a row without a better "
                    "held-out loss; 0: never.",
             .unit = "evaluations",
             .min = 0});
  }
};

struct RunConfig {
  std::string name = "run";
  std::string model;
  int64_t seed = 0;
  std::string run_dir;
  std::string base_dir;
  DataConfig data;
  std::vector<GraderSpec> graders;
  RolloutConfig rollout;
  FilterConfig filter;
  AdvantageConfig advantage;
  LossOptions losses;
  TrainerConfig trainer;
  LoraOptions lora;
  EngineConfig engine;
  EvalConfig eval;
  CheckpointConfig checkpoint;
  StopConfig stop;
  SftOptions sft;
  PreferenceOptions preference;
  DistillOptions distill;

  // Where each given key was written: "trainer.steps" -> "run.yaml:14" or "--set". For messages
  // about values that only others can judge (an unknown loss name). Not part of the dump.
  std::map<std::string, std::string> locations;

  void Visit(ConfigVisitor& v) {
    v.Field("name", &name, {.doc = "Name of the run."});
    v.Field("model", &model,
            {.doc = "Hugging Face folder (config.json, *.safetensors, tokenizer files).",
             .unit = "path",
             .required = true});
    v.Field("seed", &seed, {.doc = "Seed of everything random in the run.", .min = 0});
    v.Field("run_dir", &run_dir,
            {.doc = "Run folder; empty: runs/<name>/<timestamp>.", .unit = "path"});
    v.Field("base_dir", &base_dir,
            {.doc = "Where relative paths start; empty: the folder of the configuration file.",
             .unit = "path"});
    v.Nested("data", data, "Datasets.");
    v.Field("graders", &graders,
            {.doc = "List of graders: name (default: the function's, or the type), type, weight "
                    "(1.0), deadline_s "
                    "(10.0), and the type's own keys."});
    v.Nested("rollout", rollout, "Sampling of completions.");
    v.Nested("filter", filter, "Which groups are trained on.");
    v.Nested("advantage", advantage, "From rewards to advantages.");
    v.Nested("losses", losses,
             "The policy loss; knobs left out have the loss's own defaults (docs/losses.md).");
    v.Nested("trainer", trainer, "Optimisation.");
    v.Nested("lora", lora, "Train a low-rank adapter instead of the whole model.");
    v.Nested("engine", engine, "Inference engine.");
    v.Nested("eval", eval, "Evaluation on data.heldout.");
    v.Nested("checkpoint", checkpoint, "Checkpoints.");
    v.Nested("stop", stop, "When to stop early.");
    v.Nested("sft", sft, "rft sft: supervised fine-tuning on data.train.");
    v.Nested("preference", preference, "rft dpo: preference tuning on data.train.");
    v.Nested("distill", distill, "rft distill: on-policy distillation on data.train's prompts.");
  }

  // eval.temperature, or rollout.temperature when it is unset.
  double eval_temperature() const { return eval.temperature.value_or(rollout.temperature); }
};

}  // namespace rft
