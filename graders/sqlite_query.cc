#include "graders/sqlite_query.h"

#include <sqlite3.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr int kStepsBetweenLooks = 1000;

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

bool IsForbiddenFunction(const char* name) {
  return name != nullptr && sqlite3_stricmp(name, "load_extension") == 0;
}

int AuthorizeReading(void*, int action, const char*, const char* detail, const char*, const char*) {
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_FUNCTION:
      return IsForbiddenFunction(detail) ? SQLITE_DENY : SQLITE_OK;
    default:
      return SQLITE_DENY;
  }
}

// A schema makes tables; it does not leave its database.
int AuthorizeSchema(void*, int action, const char*, const char* detail, const char*, const char*) {
  if (action == SQLITE_ATTACH || action == SQLITE_DETACH || action == SQLITE_PRAGMA)
    return SQLITE_DENY;
  return action == SQLITE_FUNCTION && IsForbiddenFunction(detail) ? SQLITE_DENY : SQLITE_OK;
}

SqlValue ValueAt(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
      return {SqlValue::Kind::kNumber,
              static_cast<long double>(sqlite3_column_int64(statement, column)), ""};
    case SQLITE_FLOAT:
      return {SqlValue::Kind::kNumber, sqlite3_column_double(statement, column), ""};
    case SQLITE_TEXT: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      return {SqlValue::Kind::kText,
              0,
              {text, static_cast<size_t>(sqlite3_column_bytes(statement, column))}};
    }
    case SQLITE_BLOB: {
      const auto* blob = static_cast<const char*>(sqlite3_column_blob(statement, column));
      const auto size = static_cast<size_t>(sqlite3_column_bytes(statement, column));
      return {SqlValue::Kind::kBlob, 0, size == 0 ? std::string() : std::string(blob, size)};
    }
    default:
      return {};
  }
}

int Clamped(int64_t value) {
  return static_cast<int>(std::min<int64_t>(value, std::numeric_limits<int>::max()));
}

}  // namespace

struct SqliteDatabase::Budget {
  int64_t steps_left = 0;
  int64_t max_memory_bytes = 0;
  const char* exceeded = nullptr;

  static int Look(void* self) {
    Budget& budget = *static_cast<Budget*>(self);
    budget.steps_left -= kStepsBetweenLooks;
    if (budget.steps_left < 0) budget.exceeded = "max_steps";
    if (sqlite3_memory_used() > budget.max_memory_bytes) budget.exceeded = "the limit of memory";
    return budget.exceeded != nullptr ? 1 : 0;
  }
};

void SqliteDatabase::Close::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

absl::Status SqliteDatabase::Failure() const {
  if (budget_->exceeded != nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("the query exceeds ", budget_->exceeded));
  }
  const int code = sqlite3_errcode(database_.get());
  const std::string message = sqlite3_errmsg(database_.get());
  if (code == SQLITE_TOOBIG || code == SQLITE_NOMEM) return absl::ResourceExhaustedError(message);
  return absl::InvalidArgumentError(message);
}

absl::StatusOr<SqliteDatabase> SqliteDatabase::Make(const std::string& schema,
                                                    const SqlLimits& limits) {
  SqliteDatabase made(limits);
  made.budget_ = std::make_shared<Budget>(Budget{limits.max_steps, limits.max_memory_bytes});
  sqlite3* database = nullptr;
  const int opened =
      sqlite3_open_v2(":memory:", &database,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  made.database_.reset(database);
  if (opened != SQLITE_OK)
    return absl::ResourceExhaustedError("SQLite can't open a database in memory");
  sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_exec(database, "PRAGMA temp_store = MEMORY", nullptr, nullptr,
               nullptr);  // nothing on disk
  sqlite3_limit(database, SQLITE_LIMIT_ATTACHED, 0);
  sqlite3_limit(database, SQLITE_LIMIT_EXPR_DEPTH, 200);
  sqlite3_limit(database, SQLITE_LIMIT_COMPOUND_SELECT, 100);
  sqlite3_limit(database, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200);
  sqlite3_limit(database, SQLITE_LIMIT_TRIGGER_DEPTH, 10);
  sqlite3_limit(database, SQLITE_LIMIT_WORKER_THREADS, 0);
  sqlite3_limit(database, SQLITE_LIMIT_LENGTH, Clamped(limits.max_value_bytes * 64));
  sqlite3_limit(database, SQLITE_LIMIT_SQL_LENGTH, Clamped(limits.max_value_bytes * 64));
  sqlite3_progress_handler(database, kStepsBetweenLooks, Budget::Look, made.budget_.get());
  sqlite3_set_authorizer(database, AuthorizeSchema, nullptr);
  if (sqlite3_exec(database, schema.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
    return made.Failure();
  sqlite3_set_authorizer(database, AuthorizeReading, nullptr);
  sqlite3_limit(database, SQLITE_LIMIT_LENGTH, Clamped(limits.max_value_bytes));
  sqlite3_limit(database, SQLITE_LIMIT_SQL_LENGTH, Clamped(limits.max_value_bytes));
  return made;
}

absl::StatusOr<std::vector<SqlRow>> SqliteDatabase::Query(const std::string& sql) {
  *budget_ = Budget{limits_.max_steps, limits_.max_memory_bytes};
  if (sql.size() > static_cast<size_t>(limits_.max_value_bytes)) {
    return absl::ResourceExhaustedError("the query is longer than max_value_bytes");
  }
  const char* rest = nullptr;
  sqlite3_stmt* prepared = nullptr;
  if (sqlite3_prepare_v2(database_.get(), sql.c_str(), -1, &prepared, &rest) != SQLITE_OK)
    return Failure();
  const Statement statement(prepared);
  if (prepared == nullptr) return absl::InvalidArgumentError("there is no query");
  sqlite3_stmt* second = nullptr;
  const int more = sqlite3_prepare_v2(database_.get(), rest, -1, &second, nullptr);
  const Statement unwanted(second);
  if (more != SQLITE_OK || second != nullptr)
    return absl::InvalidArgumentError("more than one statement");
  const int num_columns = sqlite3_column_count(prepared);
  if (num_columns == 0 || sqlite3_stmt_isexplain(prepared) != 0 ||
      sqlite3_stmt_readonly(prepared) == 0) {
    return absl::InvalidArgumentError("not a query");
  }
  std::vector<SqlRow> rows;
  int64_t kept_bytes = 0;
  int result;
  while ((result = sqlite3_step(prepared)) == SQLITE_ROW) {
    if (static_cast<int64_t>(rows.size()) >= limits_.max_rows) {
      return absl::ResourceExhaustedError(absl::StrCat("more than ", limits_.max_rows, " rows"));
    }
    SqlRow& row = rows.emplace_back();
    for (int column = 0; column < num_columns; ++column) {
      row.push_back(ValueAt(prepared, column));
      kept_bytes += static_cast<int64_t>(row.back().text.size() + sizeof(SqlValue));
    }
    if (kept_bytes > limits_.max_memory_bytes)
      return absl::ResourceExhaustedError("the result is too large");
  }
  if (result != SQLITE_DONE) return Failure();
  return rows;
}

}  // namespace rft
