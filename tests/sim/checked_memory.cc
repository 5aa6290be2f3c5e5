#include "sim/checked_memory.h"

#include <fmt/format.h>

#include <cerrno>

namespace faultline::sim {

absl::Status CheckedMemory::ReadEvents(MemoryEvents* events) {
  parts_.lifeline->Step();
  const size_t discards = events->discards.size();
  const size_t faults = events->faults.size();
  absl::Status status = parts_.memory->ReadEvents(events);
  parts_.trace->Note(Side::kDestination, "events: discards, faults",
                     events->discards.size() - discards, events->faults.size() - faults);
  for (size_t i = discards; i < events->discards.size(); ++i) {
    const PageRun& run = events->discards[i];
    for (uint64_t index = run.first; index < run.end(); ++index) {
      parts_.facts->discards_in_hand.insert({run.region, index});
    }
  }
  parts_.lifeline->Step();
  return status;
}

void CheckedMemory::Fail(const std::string& sentence, PageId page) {
  parts_.watch->Fail(fmt::format("{}: page {} of region {}", sentence, page.index, page.region));
}

InstallResult CheckedMemory::Install(PageRun run, std::span<const std::byte> data) {
  parts_.lifeline->Step();
  if (out_of_memory()) return {InstallOutcome::kNoSpace, 0, ENOSPC};
  for (uint64_t index = run.first; index < run.end(); ++index) {
    const PageId page{run.region, index};
    if (table().Get(page) == PageState::kMissing) continue;
    Fail("bytes from the source for a page that is not missing", page);
  }
  InstallResult result = parts_.memory->Install(run, data);
  parts_.trace->NotePages(Side::kDestination, "installs", run,
                          static_cast<uint64_t>(result.outcome));
  const uint64_t page_bytes = data.size() / run.count;
  for (uint64_t i = 0; i < result.pages; ++i) {
    CheckBrought({run.region, run.first + i}, data.subspan(i * page_bytes, page_bytes));
  }
  parts_.lifeline->Step();
  return result;
}

void CheckedMemory::CheckBrought(PageId page, std::span<const std::byte> bytes) {
  const bool is_first = parts_.facts->brought.insert(page).second;
  if (parts_.facts->called_off() || parts_.facts->before_freeze()) return;
  if (!is_first) Fail("brought twice", page);
  // Until its discard has been read nobody can know better, and nobody looks at it.
  if (parts_.model->InDiscard(page)) return;
  if (!parts_.model->Equals(page, bytes)) Fail("brought with wrong bytes", page);
}

InstallResult CheckedMemory::InstallZeros(PageRun run) {
  parts_.lifeline->Step();
  if (out_of_memory()) return {InstallOutcome::kNoSpace, 0, ENOSPC};
  InstallResult result = parts_.memory->InstallZeros(run);
  parts_.trace->NotePages(Side::kDestination, "installs zeros", run,
                          static_cast<uint64_t>(result.outcome));
  for (uint64_t i = 0; i < result.pages; ++i) {
    const PageId page{run.region, run.first + i};
    if (!parts_.model->IsZero(page) && !parts_.facts->called_off())
      Fail("zeros where the guest has data", page);
  }
  parts_.lifeline->Step();
  return result;
}

absl::Status CheckedMemory::Punch(PageRun run) {
  parts_.lifeline->Step();
  parts_.trace->NotePages(Side::kDestination, "punches", run);
  for (uint64_t index = run.first; index < run.end(); ++index) {
    const PageId page{run.region, index};
    if (table().Get(page) != PageState::kDiscarded) {
      Fail("taken out though nobody gave it up", page);
    }
    parts_.facts->discards_in_hand.erase(page);
  }
  return parts_.memory->Punch(run);
}

absl::Status CheckedMemory::Overwrite(PageRun run, std::span<const std::byte> data) {
  parts_.lifeline->Step();
  parts_.trace->NotePages(Side::kDestination, "overwrites", run);
  if (!parts_.facts->before_freeze() && !parts_.facts->called_off()) {
    Fail("overwritten though its round is over", {run.region, run.first});
  }
  for (uint64_t index = run.first; index < run.end(); ++index) {
    const PageId page{run.region, index};
    if (parts_.facts->brought.contains(page)) continue;
    Fail("overwritten though it was never brought", page);
    return absl::OkStatus();
  }
  return parts_.memory->Overwrite(run, data);
}

absl::Status CheckedMemory::MakeMissing(PageRun run) {
  parts_.lifeline->Step();
  parts_.trace->NotePages(Side::kDestination, "makes missing", run);
  for (uint64_t index = run.first; index < run.end(); ++index) {
    const PageId page{run.region, index};
    parts_.facts->brought.erase(page);
    if (parts_.facts->handed_over()) Fail("taken out after the handover", page);
  }
  return parts_.memory->MakeMissing(run);
}

absl::StatusOr<std::string> CheckedMemory::Disarm() {
  parts_.lifeline->Step();
  parts_.facts->on_disarm();
  const uint64_t missing = table().missing_pages();
  parts_.trace->Note(Side::kDestination, "disarms", missing);
  if (parts_.facts->handed_over() && missing != 0) {
    parts_.watch->Fail(fmt::format(
        "disarmed after the handover with {} pages missing: they turn into zeros", missing));
  }
  return parts_.memory->Disarm();
}

}  // namespace faultline::sim
