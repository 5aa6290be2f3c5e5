// Faultline for C++17: the C ABI with classes and RAII. Header-only; all conventions, units,
// threads and errors are those of faultline.h. Nothing here throws, and overridden methods must not
// throw.
#ifndef FAULTLINE_FAULTLINE_HPP_
#define FAULTLINE_FAULTLINE_HPP_

#include <faultline/faultline.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace faultline::api {

// What became of a call: a code, and a sentence for people unless ok.
class Status {
 public:
  Status() = default;
  Status(faultline_status code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == FAULTLINE_OK; }
  faultline_status code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  faultline_status code_ = FAULTLINE_OK;
  std::string message_;
};

namespace internal {

// A C error structure that becomes a Status.
class ErrorOut {
 public:
  ErrorOut() { FAULTLINE_INIT(&error_); }
  faultline_error* get() { return &error_; }
  Status Take(faultline_status code) const {
    return code == FAULTLINE_OK ? Status() : Status(code, error_.message);
  }

 private:
  faultline_error error_;
};

// What a callback returns for `status`.
inline faultline_status Report(const Status& status, faultline_error* error) {
  if (status.ok()) return FAULTLINE_OK;
  return faultline_error_set(error, status.code(), status.message().c_str());
}

}  // namespace internal

// A list of memory regions. One thread.
class Vm {
 public:
  Vm() : vm_(faultline_vm_create()) {}
  // `region.struct_size` is set here.
  Status AddRegion(faultline_region region) {
    internal::ErrorOut error;
    region.struct_size = sizeof region;
    return error.Take(faultline_vm_add_region(vm_.get(), &region, error.get()));
  }
  const faultline_vm* get() const { return vm_.get(); }

 private:
  struct Destroy {
    void operator()(faultline_vm* vm) const { faultline_vm_destroy(vm); }
  };
  std::unique_ptr<faultline_vm, Destroy> vm_;
};

// Where device state goes. Inside Save only.
class Sink {
 public:
  explicit Sink(faultline_sink* sink) : sink_(sink) {}
  void Write(const void* bytes, std::size_t size_bytes) {
    faultline_sink_write(sink_, bytes, size_bytes);
  }

 private:
  faultline_sink* sink_;
};

// Events; override what is of interest. On the session's thread.
class Events {
 public:
  virtual ~Events() = default;
  virtual void OnListening(const char* /*uri*/) {}
  virtual void OnPhase(faultline_phase /*phase*/, const char* /*migration_id*/) {}
  virtual void OnProgress(const faultline_statistics& /*statistics*/) {}
  virtual void OnNotice(const char* /*text*/) {}
  virtual void OnEnded(const faultline_result& /*result*/) {}
};

// The guest that leaves: see faultline_source_callbacks.
class SourceGuest : public Events {
 public:
  virtual Status Freeze(bool* was_running) = 0;
  virtual Status Save(Sink& sink) = 0;
  virtual Status Rollback() = 0;
  virtual Status Retire() = 0;
};

// The guest that arrives: see faultline_destination_callbacks.
class DestinationGuest : public Events {
 public:
  virtual Status Load(const void* bytes, std::size_t size_bytes) = 0;
  virtual Status TakeOver(bool run) = 0;
  virtual Status SetPaused(bool paused) = 0;
  virtual Status Finish() = 0;
  virtual Status Discard() = 0;
};

// See faultline_options.
struct Options {
  std::string uri;
  bool allow_insecure = false;
  bool guest_may_discard = false;
  int userfaultfd = -1;  // -1: the library makes one
  std::uint64_t bandwidth_bytes_per_second = 0;
  std::array<std::uint8_t, 16> migration_id{};
  faultline_compression compression = FAULTLINE_COMPRESSION_AUTO;
  faultline_integrity integrity = FAULTLINE_INTEGRITY_DEFAULT;
  std::string tls_dir;  // empty, and so the next two: NULL
  std::string tls_psk_file;
  std::string tls_hostname;
  std::uint64_t recovery_timeout_ms = 0;
  std::string rdma;  // empty: NULL
};

namespace internal {

// Valid as long as `options`.
inline faultline_options ToC(const Options& options) {
  faultline_options c;
  FAULTLINE_INIT(&c);
  c.uri = options.uri.c_str();
  if (options.allow_insecure) c.flags |= FAULTLINE_ALLOW_INSECURE;
  if (options.guest_may_discard) c.flags |= FAULTLINE_GUEST_MAY_DISCARD;
  if (options.userfaultfd >= 0) {
    c.flags |= FAULTLINE_HAS_USERFAULTFD;
    c.userfaultfd = options.userfaultfd;
  }
  c.bandwidth_bytes_per_second = options.bandwidth_bytes_per_second;
  c.compression = options.compression;
  c.integrity = options.integrity;
  if (!options.tls_dir.empty()) c.tls_dir = options.tls_dir.c_str();
  if (!options.tls_psk_file.empty()) c.tls_psk_file = options.tls_psk_file.c_str();
  if (!options.tls_hostname.empty()) c.tls_hostname = options.tls_hostname.c_str();
  c.recovery_timeout_ms = options.recovery_timeout_ms;
  if (!options.rdma.empty()) c.rdma = options.rdma.c_str();
  for (std::size_t i = 0; i < options.migration_id.size(); ++i) {
    c.migration_id[i] = options.migration_id[i];
  }
  return c;
}

// `user` is a Guest.
template <typename Guest>
faultline_events EventsOf() {
  faultline_events events;
  FAULTLINE_INIT(&events);
  events.on_listening = [](void* user, const char* uri) noexcept {
    static_cast<Guest*>(user)->OnListening(uri);
  };
  events.on_phase = [](void* user, faultline_phase phase, const char* migration_id) noexcept {
    static_cast<Guest*>(user)->OnPhase(phase, migration_id);
  };
  events.on_progress = [](void* user, const faultline_statistics* statistics) noexcept {
    static_cast<Guest*>(user)->OnProgress(*statistics);
  };
  events.on_notice = [](void* user, const char* text) noexcept {
    static_cast<Guest*>(user)->OnNotice(text);
  };
  events.on_ended = [](void* user, const faultline_result* result) noexcept {
    static_cast<Guest*>(user)->OnEnded(*result);
  };
  return events;
}

// `user` is a SourceGuest.
inline faultline_source_callbacks SourceCallbacks() {
  faultline_source_callbacks calls;
  FAULTLINE_INIT(&calls);
  calls.freeze = [](void* user, int* was_running, faultline_error* error) noexcept {
    bool running = *was_running != 0;
    const Status status = static_cast<SourceGuest*>(user)->Freeze(&running);
    *was_running = running ? 1 : 0;
    return Report(status, error);
  };
  calls.save = [](void* user, faultline_sink* sink, faultline_error* error) noexcept {
    Sink wrapped(sink);
    return Report(static_cast<SourceGuest*>(user)->Save(wrapped), error);
  };
  calls.rollback = [](void* user, faultline_error* error) noexcept {
    return Report(static_cast<SourceGuest*>(user)->Rollback(), error);
  };
  calls.retire = [](void* user, faultline_error* error) noexcept {
    return Report(static_cast<SourceGuest*>(user)->Retire(), error);
  };
  return calls;
}

// `user` is a DestinationGuest.
inline faultline_destination_callbacks DestinationCallbacks() {
  faultline_destination_callbacks calls;
  FAULTLINE_INIT(&calls);
  calls.load = [](void* user, const void* bytes, std::size_t size_bytes,
                  faultline_error* error) noexcept {
    return Report(static_cast<DestinationGuest*>(user)->Load(bytes, size_bytes), error);
  };
  calls.take_over = [](void* user, int run, faultline_error* error) noexcept {
    return Report(static_cast<DestinationGuest*>(user)->TakeOver(run != 0), error);
  };
  calls.set_paused = [](void* user, int paused, faultline_error* error) noexcept {
    return Report(static_cast<DestinationGuest*>(user)->SetPaused(paused != 0), error);
  };
  calls.finish = [](void* user, faultline_error* error) noexcept {
    return Report(static_cast<DestinationGuest*>(user)->Finish(), error);
  };
  calls.discard = [](void* user, faultline_error* error) noexcept {
    return Report(static_cast<DestinationGuest*>(user)->Discard(), error);
  };
  return calls;
}

}  // namespace internal

// One side of one migration. Destroying it waits for its end (not from one of its callbacks).
class Session {
 public:
  // `guest` outlives the session. On failure the session is empty and `status` says why.
  static Session StartSource(const Vm& vm, const Options& options, SourceGuest* guest,
                             Status* status) {
    const faultline_options c_options = internal::ToC(options);
    const faultline_source_callbacks calls = internal::SourceCallbacks();
    const faultline_events events = internal::EventsOf<SourceGuest>();
    internal::ErrorOut error;
    faultline_session* session = nullptr;
    *status = error.Take(faultline_source_start(vm.get(), &c_options, &calls, &events, guest,
                                                &session, error.get()));
    return Session(session);
  }
  static Session StartDestination(const Vm& vm, const Options& options, DestinationGuest* guest,
                                  Status* status) {
    const faultline_options c_options = internal::ToC(options);
    const faultline_destination_callbacks calls = internal::DestinationCallbacks();
    const faultline_events events = internal::EventsOf<DestinationGuest>();
    internal::ErrorOut error;
    faultline_session* session = nullptr;
    *status = error.Take(faultline_destination_start(vm.get(), &c_options, &calls, &events, guest,
                                                     &session, error.get()));
    return Session(session);
  }

  explicit operator bool() const { return session_ != nullptr; }

  // Waits for the end. Any thread but the session's own.
  faultline_result Wait() {
    faultline_result result;
    FAULTLINE_INIT(&result);
    result.status = faultline_session_wait(session_.get(), &result);
    return result;
  }
  // Any thread.
  void Cancel(const std::string& reason) {
    faultline_session_cancel(session_.get(), reason.c_str());
  }
  // Any thread.
  faultline_statistics Statistics() const {
    faultline_statistics statistics;
    FAULTLINE_INIT(&statistics);
    faultline_session_statistics(session_.get(), &statistics);
    return statistics;
  }

 private:
  struct Destroy {
    void operator()(faultline_session* session) const { (void)faultline_session_destroy(session); }
  };
  explicit Session(faultline_session* session) : session_(session) {}

  std::unique_ptr<faultline_session, Destroy> session_;
};

}  // namespace faultline::api

#endif  // FAULTLINE_FAULTLINE_HPP_
