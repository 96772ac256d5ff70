// A SQLite database in memory for SQL that nobody vouches for. Queries only read: an authorizer refuses everything but SELECT,
// reading columns and functions (no PRAGMA, ATTACH, writes, extensions), and steps, rows, sizes and memory are limited.
// The same limits hold on every machine: a query's verdict does not depend on how fast it is.
//
// Thread safety: one thread per object; different objects are independent.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

struct sqlite3;

namespace rft {

struct SqlLimits {
  int64_t max_steps = 100'000'000;  // of SQLite's virtual machine, per query and for the schema
  int64_t max_rows = 100'000;
  int64_t max_value_bytes =
      100'000;  // one text or blob in a query; a schema may hold 64 times that
  int64_t max_memory_bytes = int64_t{256} << 20;  // of all of SQLite in this process
};

struct SqlValue {
  enum class Kind { kNull, kNumber, kText, kBlob };
  Kind kind = Kind::kNull;
  long double number = 0;  // holds every 64-bit integer
  std::string text;        // of kText and kBlob
};
using SqlRow = std::vector<SqlValue>;

class SqliteDatabase {
 public:
  // Runs `schema`, any number of statements. kInvalidArgument: what SQLite says. kResourceExhausted: a limit.
  static absl::StatusOr<SqliteDatabase> Make(const std::string& schema, const SqlLimits& limits);

  // One SELECT (or VALUES, or WITH). kInvalidArgument: what SQLite says, more than one statement, or one that is not a query.
  // kResourceExhausted: a limit.
  absl::StatusOr<std::vector<SqlRow>> Query(const std::string& sql);

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  struct Budget;
  explicit SqliteDatabase(const SqlLimits& limits) : limits_(limits) {}
  absl::Status Failure() const;

  SqlLimits limits_;
  std::shared_ptr<Budget> budget_;  // outlives the database, which calls back
  std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace rft
