// The functions of include/faultline/faultline.h. No exception and no type of ours leaves here.
#include <faultline/faultline.h>
#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "assembly/c_guest.h"
#include "assembly/c_session.h"
#include "assembly/c_struct.h"
#include "assembly/own_memory.h"
#include "assembly/parts.h"

struct faultline_vm {
  std::vector<faultline::CRegion> regions;
};

struct faultline_session {
  faultline_session(faultline::CSession::Parts parts, std::unique_ptr<faultline::Session> engine)
      : session(std::move(parts), std::move(engine)) {}
  faultline::CSession session;
};

namespace faultline {
namespace {

constexpr uint32_t kKnownFlags =
    FAULTLINE_ALLOW_INSECURE | FAULTLINE_HAS_USERFAULTFD | FAULTLINE_GUEST_MAY_DISCARD;

absl::StatusOr<faultline_options> ReadOptions(const faultline_options* in) {
  ASSIGN_OR_RETURN(const faultline_options options,
                   ReadStruct(in, sizeof(faultline_options), "options"));
  if (options.uri == nullptr) {
    return absl::InvalidArgumentError("options: uri is NULL; give tcp://HOST:PORT");
  }
  if ((options.flags & ~kKnownFlags) != 0) {
    return absl::UnimplementedError(fmt::format(
        "options: flags {:#x} has a bit that this library does not know", options.flags));
  }
  return options;
}

absl::StatusOr<Compression> ReadCompression(const faultline_options& options) {
  switch (options.compression) {
    case FAULTLINE_COMPRESSION_AUTO:
      return Compression::kAuto;
    case FAULTLINE_COMPRESSION_OFF:
      return Compression::kOff;
    case FAULTLINE_COMPRESSION_LZ4:
      return Compression::kLz4;
    case FAULTLINE_COMPRESSION_FORCE_INT:
      break;
  }
  return absl::InvalidArgumentError(
      fmt::format("options: compression is {}, which is none; give FAULTLINE_COMPRESSION_AUTO, "
                  "_OFF or _LZ4",
                  static_cast<int>(options.compression)));
}

absl::StatusOr<IntegrityWish> ReadIntegrity(const faultline_options& options) {
  switch (options.integrity) {
    case FAULTLINE_INTEGRITY_DEFAULT:
      return IntegrityWish::kDefault;
    case FAULTLINE_INTEGRITY_OFF:
      return IntegrityWish::kOff;
    case FAULTLINE_INTEGRITY_ON:
      return IntegrityWish::kOn;
    case FAULTLINE_INTEGRITY_FORCE_INT:
      break;
  }
  return absl::InvalidArgumentError(
      fmt::format("options: integrity is {}, which is none; give FAULTLINE_INTEGRITY_DEFAULT, _OFF "
                  "or _ON",
                  static_cast<int>(options.integrity)));
}

TlsChoice ReadTls(const faultline_options& options) {
  auto text = [](const char* value) { return std::string(value != nullptr ? value : ""); };
  return {text(options.tls_dir), text(options.tls_psk_file), text(options.tls_hostname)};
}

RdmaChoice ReadRdma(const faultline_options& options) {
  return {.control = "", .tuning = options.rdma != nullptr ? options.rdma : ""};
}

absl::StatusOr<CSession::Parts> ReadParts(const faultline_vm* vm, const faultline_events* events,
                                          void* user) {
  if (vm == nullptr) return absl::InvalidArgumentError("vm is NULL");
  CSession::Parts parts;
  parts.files = FilesOf(vm->regions);
  parts.journal = std::make_unique<NoJournal>();
  parts.guard = std::make_shared<CallbackGuard>();
  parts.user = user;
  if (events != nullptr) {
    ASSIGN_OR_RETURN(parts.events, ReadStruct(events, sizeof(faultline_events), "events"));
  }
  return parts;
}

absl::Status MissingCallback(const char* name) {
  return absl::InvalidArgumentError(fmt::format("callbacks: {} is NULL, but is needed", name));
}

absl::StatusOr<faultline_source_callbacks> ReadCallbacks(const faultline_source_callbacks* in) {
  ASSIGN_OR_RETURN(const faultline_source_callbacks callbacks,
                   ReadStruct(in, sizeof(faultline_source_callbacks), "callbacks"));
  if (callbacks.freeze == nullptr) return MissingCallback("freeze");
  if (callbacks.save == nullptr) return MissingCallback("save");
  if (callbacks.rollback == nullptr) return MissingCallback("rollback");
  if (callbacks.retire == nullptr) return MissingCallback("retire");
  return callbacks;
}

absl::StatusOr<faultline_destination_callbacks> ReadCallbacks(
    const faultline_destination_callbacks* in) {
  ASSIGN_OR_RETURN(const faultline_destination_callbacks callbacks,
                   ReadStruct(in, sizeof(faultline_destination_callbacks), "callbacks"));
  if (callbacks.load == nullptr) return MissingCallback("load");
  if (callbacks.take_over == nullptr) return MissingCallback("take_over");
  if (callbacks.finish == nullptr) return MissingCallback("finish");
  if (callbacks.discard == nullptr) return MissingCallback("discard");
  return callbacks;
}

absl::StatusOr<int64_t> ReadRecoveryTimeoutUs(const faultline_options& options) {
  constexpr uint64_t kMost = uint64_t{1} << 50;  // in microseconds it still is a time
  if (options.recovery_timeout_ms <= kMost) {
    return static_cast<int64_t>(options.recovery_timeout_ms) * 1000;
  }
  return absl::InvalidArgumentError(
      fmt::format("options: recovery_timeout_ms is {}; give a time, or 0 for no limit",
                  options.recovery_timeout_ms));
}

absl::StatusOr<MigrationId> ReadId(const faultline_options& options) {
  MigrationId id{};
  std::copy(std::begin(options.migration_id), std::end(options.migration_id), id.begin());
  if (id != MigrationId{}) return id;
  if (getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    return ErrnoStatus(errno, "getrandom for a migration id");
  }
  return id;
}

absl::StatusOr<FileDescriptor> DuplicateUserfaultfd(const faultline_options& options) {
  if ((options.flags & FAULTLINE_HAS_USERFAULTFD) == 0) return FileDescriptor();
  FileDescriptor callers(options.userfaultfd);
  absl::StatusOr<FileDescriptor> duplicate = callers.Duplicate();
  callers.Release();  // it stays the caller's
  if (!duplicate.ok()) {
    return Annotate(duplicate.status(),
                    fmt::format("options: userfaultfd {}", options.userfaultfd));
  }
  return duplicate;
}

absl::StatusOr<std::unique_ptr<faultline_session>> StartSource(
    const faultline_vm* vm, const faultline_options* c_options,
    const faultline_source_callbacks* c_callbacks, const faultline_events* events, void* user) {
  ASSIGN_OR_RETURN(CSession::Parts kept, ReadParts(vm, events, user));
  ASSIGN_OR_RETURN(const faultline_options options, ReadOptions(c_options));
  ASSIGN_OR_RETURN(const faultline_source_callbacks callbacks, ReadCallbacks(c_callbacks));
  ASSIGN_OR_RETURN(VmDescription description, DescribeSource(vm->regions, options));
  SourceParts parts;
  ASSIGN_OR_RETURN(parts.id, ReadId(options));
  parts.vmm = [bound = BindSource(callbacks, user, kept.guard),
               description = std::move(description)](Executor& control) {
    return std::make_unique<CallbackSourceVmm>(&control, bound, description);
  };
  parts.uri = options.uri;
  parts.insecure = (options.flags & FAULTLINE_ALLOW_INSECURE) != 0;
  parts.tls = ReadTls(options);
  parts.rdma = ReadRdma(options);
  parts.bandwidth = options.bandwidth_bytes_per_second;
  ASSIGN_OR_RETURN(parts.compression, ReadCompression(options));
  ASSIGN_OR_RETURN(parts.integrity, ReadIntegrity(options));
  ASSIGN_OR_RETURN(parts.recovery_timeout_us, ReadRecoveryTimeoutUs(options));
  parts.journal = kept.journal.get();
  ASSIGN_OR_RETURN(std::unique_ptr<Session> session, MakeSourceSession(std::move(parts)));
  return std::make_unique<faultline_session>(std::move(kept), std::move(session));
}

absl::StatusOr<std::unique_ptr<faultline_session>> StartDestination(
    const faultline_vm* vm, const faultline_options* c_options,
    const faultline_destination_callbacks* c_callbacks, const faultline_events* events,
    void* user) {
  ASSIGN_OR_RETURN(CSession::Parts kept, ReadParts(vm, events, user));
  ASSIGN_OR_RETURN(const faultline_options options, ReadOptions(c_options));
  ASSIGN_OR_RETURN(const faultline_destination_callbacks callbacks, ReadCallbacks(c_callbacks));
  ASSIGN_OR_RETURN(VmDescription description, DescribeDestination(vm->regions, options));
  ASSIGN_OR_RETURN(FileDescriptor userfaultfd, DuplicateUserfaultfd(options));
  DestinationParts parts;
  parts.vmm = [bound = BindDestination(callbacks, user, kept.guard),
               description = std::move(description)](Executor& control) {
    return std::make_unique<CallbackDestinationVmm>(&control, bound, description);
  };
  // A std::function must be copyable, a descriptor is not.
  parts.memory = [shared = std::make_shared<FileDescriptor>(std::move(userfaultfd))](
                     Executor& demand, FdPoller& poller) {
    return MakeOwnMemory(&demand, &poller, std::move(*shared));
  };
  parts.uri = options.uri;
  parts.insecure = (options.flags & FAULTLINE_ALLOW_INSECURE) != 0;
  parts.tls = ReadTls(options);
  parts.rdma = ReadRdma(options);
  ASSIGN_OR_RETURN(parts.integrity, ReadIntegrity(options));
  ASSIGN_OR_RETURN(parts.recovery_timeout_us, ReadRecoveryTimeoutUs(options));
  parts.journal = kept.journal.get();
  ASSIGN_OR_RETURN(std::unique_ptr<Session> session, MakeDestinationSession(std::move(parts)));
  return std::make_unique<faultline_session>(std::move(kept), std::move(session));
}

// Runs `body` and reports what it returned. What the standard library throws (no memory, no thread)
// must not reach a C program.
template <typename Body>
faultline_status Guarded(Body body, faultline_error* error) {
  try {
    return ReportStatus(body(), error);
  } catch (const std::exception& exception) {
    return ReportStatus(
        absl::ResourceExhaustedError(fmt::format("out of memory or threads: {}", exception.what())),
        error);
  }
}

// Runs `start` and hands its session, or its reason, to the caller.
template <typename Start>
faultline_status Report(Start start, faultline_session** session, faultline_error* error) {
  if (session == nullptr) {
    return ReportStatus(absl::InvalidArgumentError("session is NULL"), error);
  }
  *session = nullptr;
  return Guarded(
      [&]() -> absl::Status {
        ASSIGN_OR_RETURN(std::unique_ptr<faultline_session> started, start());
        *session = started.get();
        try {
          started->session.Start();
        } catch (...) {
          *session = nullptr;
          throw;
        }
        started.release();
        return absl::OkStatus();
      },
      error);
}

}  // namespace
}  // namespace faultline

extern "C" {

faultline_status faultline_error_set(faultline_error* error, faultline_status status,
                                     const char* message) {
  faultline_error value{};
  value.struct_size = sizeof value;
  value.status = status;
  faultline::CopyText(message != nullptr ? message : "", value.message);
  faultline::WriteStruct(value, error);
  return status;
}

const char* faultline_status_name(faultline_status status) {
  switch (status) {
    case FAULTLINE_OK:
      return "OK";
    case FAULTLINE_INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case FAULTLINE_NOT_FOUND:
      return "NOT_FOUND";
    case FAULTLINE_ALREADY_EXISTS:
      return "ALREADY_EXISTS";
    case FAULTLINE_PERMISSION_DENIED:
      return "PERMISSION_DENIED";
    case FAULTLINE_RESOURCE_EXHAUSTED:
      return "RESOURCE_EXHAUSTED";
    case FAULTLINE_FAILED_PRECONDITION:
      return "FAILED_PRECONDITION";
    case FAULTLINE_CANCELLED:
      return "CANCELLED";
    case FAULTLINE_UNAVAILABLE:
      return "UNAVAILABLE";
    case FAULTLINE_DEADLINE_EXCEEDED:
      return "DEADLINE_EXCEEDED";
    case FAULTLINE_UNSUPPORTED:
      return "UNSUPPORTED";
    case FAULTLINE_INTERNAL:
      return "INTERNAL";
    default:
      return "?";
  }
}

const char* faultline_phase_name(faultline_phase phase) {
  if (phase > FAULTLINE_PHASE_RECONNECTING) return "?";
  return faultline::PhaseName(static_cast<faultline::Phase>(phase));
}

const char* faultline_owner_name(faultline_owner owner) {
  if (owner > FAULTLINE_OWNER_UNDECIDED) return "?";
  return faultline::OwnerName(static_cast<faultline::VmOwner>(owner));
}

const char* faultline_version(void) { return FAULTLINE_VERSION; }

faultline_vm* faultline_vm_create(void) { return new (std::nothrow) faultline_vm; }

void faultline_vm_destroy(faultline_vm* vm) { delete vm; }

faultline_status faultline_vm_add_region(faultline_vm* vm, const faultline_region* region,
                                         faultline_error* error) {
  if (vm == nullptr) {
    return faultline::ReportStatus(absl::InvalidArgumentError("vm is NULL"), error);
  }
  return faultline::Guarded(
      [&]() -> absl::Status {
        ASSIGN_OR_RETURN(faultline::CRegion added, faultline::ReadRegion(region));
        vm->regions.push_back(std::move(added));
        return absl::OkStatus();
      },
      error);
}

faultline_status faultline_destination_start(const faultline_vm* vm,
                                             const faultline_options* options,
                                             const faultline_destination_callbacks* callbacks,
                                             const faultline_events* events, void* user,
                                             faultline_session** session, faultline_error* error) {
  return faultline::Report(
      [&] { return faultline::StartDestination(vm, options, callbacks, events, user); }, session,
      error);
}

faultline_status faultline_source_start(const faultline_vm* vm, const faultline_options* options,
                                        const faultline_source_callbacks* callbacks,
                                        const faultline_events* events, void* user,
                                        faultline_session** session, faultline_error* error) {
  return faultline::Report(
      [&] { return faultline::StartSource(vm, options, callbacks, events, user); }, session, error);
}

faultline_status faultline_session_wait(faultline_session* session, faultline_result* result) {
  if (session->session.InsideCallback()) return FAULTLINE_FAILED_PRECONDITION;
  const faultline_result ended = session->session.Wait();
  faultline::WriteStruct(ended, result);
  return ended.status;
}

void faultline_session_cancel(faultline_session* session, const char* reason) {
  session->session.Cancel(reason != nullptr ? reason : "cancelled by the hypervisor");
}

void faultline_session_statistics(faultline_session* session, faultline_statistics* statistics) {
  faultline::WriteStruct(session->session.Statistics(), statistics);
}

faultline_status faultline_session_destroy(faultline_session* session) {
  if (session == nullptr) return FAULTLINE_OK;
  if (session->session.InsideCallback()) return FAULTLINE_FAILED_PRECONDITION;
  delete session;
  return FAULTLINE_OK;
}

}  // extern "C"
