// python: a Python function in worker processes. No Python is linked here: the worker is `python -m rft._worker`
// (graders/worker_command.h), and what the function may take and return is described in bindings/python/rft/_worker.py.
//
//   function             "path/to/file.py:name" (a relative path starts at the folder of run.yaml) or "package.module:name";
//                        a function, a class (made once per worker), or an object that can be called
//   pickle               base64 of cloudpickle.dumps(function), what notebooks send; instead of `function`
//   source               Python text that defines grade(sample, item), as OpenAI's graders; instead of `function`
//   args                 keyword arguments of the class, or of the function, which then returns the grader: a JSON map
//   style                how it is called: auto (default), completion, batch, group, trl, eval_protocol, verifiers
//                        (bindings/python/rft/_adapters.py)
//   group_size, max_wait_s   of style group (graders/group_collector.h): how many completions a group has, where the run
//                        doesn't say it; how long a group is waited for from its first completion on, default 300
//   batch_size           completions per call at most, where the style is one of lists; default 32
//   workers              processes, default 1; spare_workers: more of them that stand ready to go on with the others' work where a
//                        call hangs, default 2 (not where starting one takes longer than three seconds)
//   memory_limit_mb      address space per worker in MiB (RLIMIT_AS), default 0 = no limit
//   startup_deadline_s   for starting Python and importing the function's module, default 120
//   sys_path             JSON list of folders appended to the worker's sys.path

#include <boost/json.hpp>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "graders/group_collector.h"
#include "graders/param_reader.h"
#include "graders/process_grader.h"
#include "graders/worker_command.h"
#include "re2/re2.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

json::object ReadFunction(ParamReader& params, const GraderSpec& spec) {
  const std::string function = params.String("function", "");
  const std::string pickle = params.String("pickle", "");
  const std::string source = params.String("source", "");
  const int given = !function.empty() + !pickle.empty() + !source.empty();
  if (given != 1) {
    params.AddError("function", given == 0
                                    ? "required, as \"path/to/file.py:name\" (or pickle, or source)"
                                    : "give one of function, pickle and source");
    return {};
  }
  if (!pickle.empty()) return {{"pickle", pickle}};
  if (!source.empty()) return {{"source", source}, {"name", "grade"}};
  const size_t colon = function.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == function.size()) {
    params.AddError("function", absl::StrCat("\"", function,
                                             "\" reads neither \"path/to/file.py:name\" nor "
                                             "\"package.module:name\""));
    return {};
  }
  const std::string name = function.substr(colon + 1);
  std::filesystem::path path = function.substr(0, colon);
  if (path.extension() != ".py") {
    if (RE2::FullMatch(path.string(), R"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*)"))
      return {{"module", path.string()}, {"name", name}};
    params.AddError("function", absl::StrCat("\"", path.string(),
                                             "\" is neither a .py file nor the name of a module"));
    return {};
  }
  if (path.is_relative()) path = std::filesystem::path(spec.base_dir) / path;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    params.AddError("function", absl::StrCat("there is no file ", path.string()));
    return {};
  }
  return {{"file", std::filesystem::absolute(path, error).string()}, {"name", name}};
}

json::value ReadArgs(ParamReader& params) {
  absl::StatusOr<json::value> parsed = ParseJson(params.String("args", "{}"));
  if (parsed.ok() && parsed->is_object()) return *std::move(parsed);
  params.AddError("args", "must be a map of keyword arguments");
  return {};
}

json::value ReadSysPath(ParamReader& params) {
  json::array folders;
  for (const std::string& folder : params.Texts("sys_path", "folders"))
    folders.push_back(json::value(folder));
  return folders;
}

class PythonGrader : public ProcessGrader {
 public:
  explicit PythonGrader(WorkerPoolOptions options) : ProcessGrader(std::move(options)) {}
  ~PythonGrader() override { Shutdown(); }

  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override {
    if (collector_ == nullptr) return ProcessGrader::Start(std::move(job), std::move(done));
    collector_->Add(std::move(job), std::move(done));
  }

  void Shutdown() const override {
    if (collector_ != nullptr) collector_->Shutdown();
    ProcessGrader::Shutdown();
  }

  // The file is looked for here; the function in it is loaded by the first worker (Prepare).
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    const std::string name = spec.name.empty() ? spec.type : spec.name;
    WorkerPoolOptions options;
    options.name = name;
    options.where = params.Where("function");
    options.deadline_s = spec.deadline_s;
    options.num_workers = static_cast<int>(params.Int("workers", 1, 1, 1024));
    options.spawn.memory_limit_mb = params.Int("memory_limit_mb", 0, 0, int64_t{1} << 30);
    options.spawn.num_cpus = static_cast<int>(params.Int("cpus", 0, 0, 4096));
    options.startup_deadline_s = params.Double("startup_deadline_s", 120.0, 0.001);
    options.batch_size = static_cast<int>(params.Int("batch_size", 32, 1, 1 << 16));
    options.spare_workers = static_cast<int>(params.Int("spare_workers", 2, 0, 64));
    const std::string style = params.Choice(
        "style", {"auto", "completion", "batch", "group", "trl", "eval_protocol", "verifiers"},
        "auto");
    options.groups = style == "group";
    size_t group_size = 0;
    double max_wait_s = 0.0;
    if (options.groups) {
      group_size = static_cast<size_t>(params.Int("group_size", 0, 1, 1 << 16));
      max_wait_s = params.Double("max_wait_s", 300.0, 0.001);
    }
    json::object function = ReadFunction(params, spec);
    if (params.Has("args")) function["args"] = ReadArgs(params);
    const json::value sys_path = ReadSysPath(params);
    RFT_RETURN_IF_ERROR(params.Finish());
    options.spawn.argv = WorkerCommand();
    options.init_message = json::serialize(json::object{{"function", function},
                                                        {"label", name},
                                                        {"sys_path", sys_path},
                                                        {"style", style},
                                                        {"starts", kStartsFd}});
    if (options.init_message.size() > kMaxFrameBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("graders[", name, "].pickle: ", options.init_message.size(),
                       " bytes; a worker takes at most ", kMaxFrameBytes,
                       " (load big data from a file inside the function)"));
    }
    const bool groups = options.groups;
    auto grader = std::make_unique<PythonGrader>(std::move(options));
    if (groups) grader->CollectGroups(group_size, max_wait_s);
    return grader;
  }

 private:
  void CollectGroups(size_t group_size, double max_wait_s) {
    collector_ = std::make_unique<GroupCollector>(
        group_size, max_wait_s, [this](std::vector<GroupCollector::Member> members) {
          if (const std::shared_ptr<WorkerPool> pool = Pool())
            return pool->SubmitGroup(std::move(members));
          for (auto& [job, done] : members) done(GradeError{"shut down"});
        });
  }

  std::unique_ptr<GroupCollector> collector_;  // of style group
};

}  // namespace

RFT_REGISTER_GRADER("python", PythonGrader);

}  // namespace rft
