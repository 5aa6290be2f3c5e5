// A real server's work in the guest: SQLite with its whole database in memory, one row looked up or
// updated at a time. Every row tells its number and version in each word of its value.
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"

enum { kValueWords = 120, kRowsToPage = 4 };  // 960 bytes: four rows to a page of the database

static sqlite3* database;
static sqlite3_stmt* lookup;
static sqlite3_stmt* update;
static uint64_t row_count;
static uint32_t* row_versions;  // what each row must hold, kept apart from the rows

static void Must(int code, int wanted, const char* what) {
  if (code == wanted) return;
  Say("sqlite what=%s code=%d", what, code);
  Fatal(what);
}

static uint64_t RowWord(uint64_t row, uint32_t version, uint64_t word) {
  return Mix(row * 0x9E3779B97F4A7C15ull + version + 1) + word * 0x9E3779B97F4A7C15ull;
}

static void FillRow(uint64_t* value, uint64_t row, uint32_t version) {
  uint64_t next = RowWord(row, version, 0);
  for (int word = 0; word < kValueWords; ++word) {
    value[word] = next;
    next += 0x9E3779B97F4A7C15ull;
  }
}

static sqlite3_stmt* Prepare(const char* text) {
  sqlite3_stmt* statement = NULL;
  Must(sqlite3_prepare_v2(database, text, -1, &statement, NULL), SQLITE_OK, "sqlite_prepare");
  return statement;
}

// Runs a statement whose parameters are a value and a row number.
static void Store(sqlite3_stmt* statement, uint64_t row) {
  uint64_t value[kValueWords];
  FillRow(value, row, row_versions[row]);
  sqlite3_bind_blob(statement, 1, value, sizeof(value), SQLITE_STATIC);
  sqlite3_bind_int64(statement, 2, (sqlite3_int64)row);
  Must(sqlite3_step(statement), SQLITE_DONE, "sqlite_store");
  sqlite3_reset(statement);
}

static void CheckRow(uint64_t row) {
  uint64_t value[kValueWords] = {0};
  sqlite3_bind_int64(lookup, 1, (sqlite3_int64)row);
  Must(sqlite3_step(lookup), SQLITE_ROW, "sqlite_lookup");
  const void* got = sqlite3_column_blob(lookup, 0);
  if (got != NULL && sqlite3_column_bytes(lookup, 0) == (int)sizeof(value)) {
    memcpy(value, got, sizeof(value));
  }
  sqlite3_reset(lookup);
  uint64_t want = RowWord(row, row_versions[row], 0);
  for (int word = 0; word < kValueWords; ++word) {
    if (value[word] != want) {
      CountWrong();
      if (MaySayWrong())
        Say("wrong row=%lu word=%d want=%lx got=%lx", row, word, want, value[word]);
      return;
    }
    want += 0x9E3779B97F4A7C15ull;
  }
}

static bool Operate(struct Worker* worker) {
  uint64_t row = NextRandom(&worker->random) % row_count;
  if (NextRandom(&worker->random) % 1000 < options.writes_permille) {
    row_versions[row] += 1;
    Store(update, row);
    return false;
  }
  CheckRow(row);
  return true;
}

void SqliteStart(void) {
  if (options.threads != 1) Fatal("sqlite_is_for_one_thread");
  row_count = options.mib * 256 * kRowsToPage;
  row_versions = mmap(NULL, row_count * sizeof(row_versions[0]), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (row_versions == MAP_FAILED) Fatal("mmap");
  Must(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0), SQLITE_OK, "sqlite_config");
  Must(sqlite3_open_v2(":memory:", &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL),
       SQLITE_OK, "sqlite_open");
  Must(sqlite3_exec(database,
                    "PRAGMA page_size = 4096; PRAGMA synchronous = OFF;"
                    "CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB); BEGIN",
                    NULL, NULL, NULL),
       SQLITE_OK, "sqlite_create");
  sqlite3_stmt* insert = Prepare("INSERT INTO rows (value, id) VALUES (?, ?)");
  for (uint64_t row = 0; row < row_count; ++row) {
    row_versions[row] = 1;
    Store(insert, row);
  }
  sqlite3_finalize(insert);
  Must(sqlite3_exec(database, "COMMIT", NULL, NULL, NULL), SQLITE_OK, "sqlite_commit");
  lookup = Prepare("SELECT value FROM rows WHERE id = ?");
  update = Prepare("UPDATE rows SET value = ? WHERE id = ?");
  WorkersStart(Operate);
}

void SqliteVerify(void) {
  uint64_t wrong_before = counters.wrong;
  for (uint64_t row = 0; row < row_count; ++row) CheckRow(row);
  Say("verify pages=%lu wrong=%lu", row_count / kRowsToPage, counters.wrong - wrong_before);
}
