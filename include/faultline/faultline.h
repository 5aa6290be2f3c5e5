/* Faultline: post-copy migration for the authors of hypervisors.
 *
 * A program that runs a guest (a hypervisor, an emulator) links libfaultline, names the guest's
 * memory, gives a few callbacks, and starts one side of a migration. The library serves the guest's
 * page faults on the destination and sends the memory from the source.
 *
 * Conventions
 *  - This header is the only binary interface. It is C11 and C++11. A symbol, once released, keeps
 *    its meaning; structures grow at their end only; values of enums are never renumbered.
 *  - Every structure starts with `struct_size`. Set the whole structure to zero, then struct_size
 * to sizeof it (FAULTLINE_INIT does both). Zero always means "the default". The library reads and
 *    writes no further than struct_size; a larger structure of a newer header is taken as long as
 *    what this library does not know is zero.
 *  - Calls that can fail return a faultline_status and explain themselves in `error`, which may be
 *    NULL. The message is a whole sentence for people: what was tried, on what, why it failed, what
 *    mends it.
 *  - Text is UTF-8 and ends with a zero byte. Pointers given in are read during the call only,
 *    except the callbacks' `user`. Pointers given to callbacks are valid during the callback.
 *  - Units are in the names: _bytes, _us (microseconds).
 *
 * Threads
 *  - A session runs on threads of its own. Its callbacks come one at a time. They may block for a
 *    short while (together well below a second; the peer gives up after some seconds of silence),
 *    and may call faultline_error_set, faultline_sink_write, faultline_session_cancel and
 *    faultline_session_statistics.
 *  - faultline_session_wait, _cancel and _statistics may be called from any thread. A faultline_vm
 *    is used by one thread at a time.
 *  - The destination's memory is touched by the guest's threads only, as far as the library is
 *    concerned: the library itself never dereferences it. The `load` callback may touch it: what it
 *    touches is fetched meanwhile. Any other callback on the destination must not before `finish`.
 *  - After a fork the child must use nothing of the library.
 *
 * Ownership of the guest: until the destination's `take_over` callback the guest is the source's,
 * and any failure ends with the source's `rollback`, or with the guest never having been stopped.
 * From the handover on it is the destination's and the source never runs it again.
 */
#ifndef FAULTLINE_FAULTLINE_H_
#define FAULTLINE_FAULTLINE_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FAULTLINE_API __attribute__((visibility("default")))
#else
#define FAULTLINE_API
#endif

/* The version of this header. A library is fit for a program if its major version is the same and
 * its minor version is not lower. */
#define FAULTLINE_VERSION_MAJOR 0
#define FAULTLINE_VERSION_MINOR 1

/* Zeroes the structure that `pointer` points to and sets its struct_size. */
#define FAULTLINE_INIT(pointer)                   \
  ((void)memset((pointer), 0, sizeof *(pointer)), \
   (void)((pointer)->struct_size = sizeof *(pointer)))

/* Longest message with its zero byte; longer ones are cut. */
#define FAULTLINE_MESSAGE_BYTES 1024

/* What became of a call, of a callback, or of a whole session. */
typedef enum faultline_status {
  FAULTLINE_OK = 0,
  FAULTLINE_INVALID_ARGUMENT = 1,    /* the caller's or the peer's data make no sense */
  FAULTLINE_NOT_FOUND = 2,           /* a file, an address or an object is not there */
  FAULTLINE_ALREADY_EXISTS = 3,      /* an address is taken */
  FAULTLINE_PERMISSION_DENIED = 4,   /* the kernel or the peer does not allow it */
  FAULTLINE_RESOURCE_EXHAUSTED = 5,  /* no room on this host */
  FAULTLINE_FAILED_PRECONDITION = 6, /* not in this state; layouts differ; wrong thread */
  FAULTLINE_CANCELLED = 7,           /* somebody asked for it */
  FAULTLINE_UNAVAILABLE = 8,         /* the peer cannot be reached, or has gone */
  FAULTLINE_DEADLINE_EXCEEDED = 9,   /* no answer in time */
  FAULTLINE_UNSUPPORTED = 10,        /* this kernel or this library cannot do it */
  FAULTLINE_INTERNAL = 11,           /* anything else */
  FAULTLINE_STATUS_FORCE_INT = 0x7fffffff
} faultline_status;

/* The sides and phases of a migration; both sides go through the first six in this order, and a
 * failure jumps to FAILED. RECONNECTING comes between the handover and the end, and the phase that
 * it interrupted follows it. */
typedef enum faultline_phase {
  FAULTLINE_PHASE_CONNECTING = 1,   /* source: connecting; destination: listening */
  FAULTLINE_PHASE_PREPARING = 2,    /* the guest runs on the source */
  FAULTLINE_PHASE_FREEZING = 3,     /* the guest is being stopped */
  FAULTLINE_PHASE_HANDING_OVER = 4, /* device state travels and is loaded; the guest stands still */
  FAULTLINE_PHASE_POST_COPY = 5,    /* the guest runs on the destination */
  FAULTLINE_PHASE_COMPLETED = 6,
  FAULTLINE_PHASE_FAILED = 7,
  FAULTLINE_PHASE_RECONNECTING = 8, /* the guest runs until it needs a page that has not arrived */
  FAULTLINE_PHASE_FORCE_INT = 0x7fffffff
} faultline_phase;

/* Who may run the guest when a session has ended. */
typedef enum faultline_owner {
  FAULTLINE_OWNER_SOURCE = 1,
  FAULTLINE_OWNER_DESTINATION = 2,
  FAULTLINE_OWNER_UNDECIDED = 3, /* destination only: loaded and paused, and the source's decision
                                    did not arrive; ask the source's result before running it */
  FAULTLINE_OWNER_FORCE_INT = 0x7fffffff
} faultline_owner;

/* Why something failed. */
typedef struct faultline_error {
  size_t struct_size;
  faultline_status status;
  char message[FAULTLINE_MESSAGE_BYTES];
} faultline_error;

/* Fills `error` (may be NULL) and returns `status`, so that a callback can end with
 * `return faultline_error_set(error, FAULTLINE_INTERNAL, "...");`. Any thread. */
FAULTLINE_API faultline_status faultline_error_set(faultline_error* error, faultline_status status,
                                                   const char* message);

/* "UNAVAILABLE"; "?" for a value that is none. Static. Any thread. */
FAULTLINE_API const char* faultline_status_name(faultline_status status);
/* "post-copy"; "?" for a value that is none. Static. Any thread. */
FAULTLINE_API const char* faultline_phase_name(faultline_phase phase);
/* "source", "destination", "undecided"; "?" for a value that is none. Static. Any thread. */
FAULTLINE_API const char* faultline_owner_name(faultline_owner owner);
/* The library's version, "0.1.0". Static. Any thread. */
FAULTLINE_API const char* faultline_version(void);

/* --- The guest's memory ------------------------------------------------------------------- */

/* The guest's RAM: a list of regions. */
typedef struct faultline_vm faultline_vm;

enum {
  FAULTLINE_REGION_HAS_FILE = 1 /* `fd` and `fd_offset_bytes` are set */
};

/* One block of guest RAM. Both sides name the same regions, with the same sizes. */
typedef struct faultline_region {
  size_t struct_size;
  const char* name;         /* the same on both sides, distinct within one */
  uint64_t size_bytes;      /* a multiple of page_size_bytes */
  uint64_t page_size_bytes; /* 4096, or the huge page size of the file's file system */
  uint32_t flags;           /* FAULTLINE_REGION_* */
  /* Source: the file that holds the region (a memfd, a file on tmpfs or hugetlbfs), mapped shared
   * by the guest, open for reading; needed. Destination: the same for its own, open for reading and
   * writing; may be left out for private anonymous memory. The library takes a duplicate: the
   * caller may close its own. */
  int32_t fd;
  uint64_t fd_offset_bytes;
  /* Destination: where the whole region is mapped in this process, page-aligned, and empty (never
   * touched); needed. It stays mapped until the session has ended. Source: not used. */
  void* address;
} faultline_region;

/* An empty guest; NULL if there is no memory. */
FAULTLINE_API faultline_vm* faultline_vm_create(void);
/* Frees the list, not the guest. Sessions have copies and do not mind. NULL does nothing. */
FAULTLINE_API void faultline_vm_destroy(faultline_vm* vm);
/* Adds a region. INVALID_ARGUMENT names the field that makes no sense. */
FAULTLINE_API faultline_status faultline_vm_add_region(faultline_vm* vm,
                                                       const faultline_region* region,
                                                       faultline_error* error);

/* --- What a session tells ------------------------------------------------------------------- */

/* Counters at one moment; what a side does not know yet is 0. */
typedef struct faultline_statistics {
  size_t struct_size;
  faultline_phase phase;
  uint32_t reserved;        /* 0 */
  uint64_t pages_total;     /* of all regions */
  uint64_t pages_missing;   /* not on the destination yet */
  uint64_t pages_absent;    /* never allocated on the source: zero, never sent */
  uint64_t pages_demand;    /* installed because somebody waited */
  uint64_t pages_pushed;    /* installed because they were pushed */
  uint64_t pages_discarded; /* given up by the guest meanwhile */
  uint64_t faults;          /* page faults read (destination) */
  uint64_t bytes_total;     /* of all regions */
  uint64_t bytes_wire;      /* sent and received */
  uint64_t elapsed_us;      /* since the session began */
  uint64_t post_copy_us;    /* since the handover; 0 before */
  /* Source: memory that was packed before it was pushed, and what it became. */
  uint64_t bytes_packed_in;
  uint64_t bytes_packed_out;
  uint64_t reconnects; /* connections lost after the handover and made again */
} faultline_statistics;

/* From a fault's arrival in the library to its page's installation (destination). */
typedef struct faultline_latency {
  uint64_t count;
  uint64_t p50_us;
  uint64_t p90_us;
  uint64_t p99_us;
  uint64_t p999_us;
  uint64_t max_us;
} faultline_latency;

/* How a session ended. */
typedef struct faultline_result {
  size_t struct_size;
  faultline_status status;               /* OK: the migration is complete */
  faultline_owner owner;                 /* whose guest it is now */
  char message[FAULTLINE_MESSAGE_BYTES]; /* why it failed; empty if OK */
  char migration_id[40];                 /* 32 hexadecimal digits; empty if none was agreed */
  char transport[16];                    /* "tcp" */
  uint64_t downtime_us;                  /* in which the guest ran nowhere */
  uint64_t total_us;                     /* from the handover to the last page */
  uint64_t pages_total;
  uint64_t pages_absent;
  uint64_t pages_demand;
  uint64_t pages_pushed;
  uint64_t pages_discarded;
  uint64_t bytes_wire;
  faultline_latency fault_latency;
  uint64_t bytes_packed_in; /* as in faultline_statistics */
  uint64_t bytes_packed_out;
  uint64_t reconnects;
} faultline_result;

/* Events, for both sides; each may be NULL. Nothing waits for what they do. */
typedef struct faultline_events {
  size_t struct_size;
  /* Destination: peers may connect; `uri` holds the real port: "tcp://127.0.0.1:4444". */
  void (*on_listening)(void* user, const char* uri);
  /* `migration_id` is empty while none is agreed. */
  void (*on_phase)(void* user, faultline_phase phase, const char* migration_id);
  /* A few times a second. */
  void (*on_progress)(void* user, const faultline_statistics* statistics);
  /* A sentence for people: a warning, an event. */
  void (*on_notice)(void* user, const char* text);
  /* The last callback of the session. */
  void (*on_ended)(void* user, const faultline_result* result);
} faultline_events;

/* --- The source ----------------------------------------------------------------------------- */

/* Where `save` writes the guest's device state. */
typedef struct faultline_sink faultline_sink;

/* Appends device state; never blocks, never fails. During `save` only. */
FAULTLINE_API void faultline_sink_write(faultline_sink* sink, const void* bytes, size_t size_bytes);

/* What the library asks of the guest that leaves. All are needed. A callback that fails returns
 * another status than OK and says why in `error` (never NULL). */
typedef struct faultline_source_callbacks {
  size_t struct_size;
  /* Stops the guest's threads, so that memory and devices stand still; downtime begins. Sets
   * `*was_running` (1 at the call) to 0 if the guest was paused already: it then stays so on the
   * destination. */
  faultline_status (*freeze)(void* user, int* was_running, faultline_error* error);
  /* Writes all that is not in the regions (CPUs, devices) to `sink`. The memory stays as it is. */
  faultline_status (*save)(void* user, faultline_sink* sink, faultline_error* error);
  /* The migration failed before the handover: run the guest again (unless it was paused). Called
   * only after freeze, also if freeze or save failed. */
  faultline_status (*rollback)(void* user, faultline_error* error);
  /* All memory has arrived at the destination: the guest here may be forgotten. */
  faultline_status (*retire)(void* user, faultline_error* error);
} faultline_source_callbacks;

/* --- The destination ------------------------------------------------------------------------ */

/* What the library asks of the guest that arrives. All but set_paused are needed. */
typedef struct faultline_destination_callbacks {
  size_t struct_size;
  /* All of the device state that `save` wrote. Builds the guest, paused. May touch guest memory. */
  faultline_status (*load)(void* user, const void* bytes, size_t size_bytes,
                           faultline_error* error);
  /* The handover: the guest is this side's. Runs it, or leaves it paused if `run` is 0. */
  faultline_status (*take_over)(void* user, int run, faultline_error* error);
  /* Stops (1) and continues (0) the guest after the handover while this host is out of memory. If
   * NULL, the guest's threads just wait in their faults. */
  faultline_status (*set_paused)(void* user, int paused, faultline_error* error);
  /* All memory is here. */
  faultline_status (*finish)(void* user, faultline_error* error);
  /* Before the handover only: the guest must not run here; drop what `load` built. */
  faultline_status (*discard)(void* user, faultline_error* error);
} faultline_destination_callbacks;

/* --- Sessions ------------------------------------------------------------------------------- */

enum {
  FAULTLINE_ALLOW_INSECURE = 1,   /* plain TCP beyond loopback, where TLS is the default: who can
                                     read the network can read the guest */
  FAULTLINE_HAS_USERFAULTFD = 2,  /* destination: `userfaultfd` is set */
  FAULTLINE_GUEST_MAY_DISCARD = 4 /* the guest gives memory back at times (balloon) */
};

/* Whether a source packs the memory that it pushes. Destinations take either. */
typedef enum faultline_compression {
  FAULTLINE_COMPRESSION_AUTO = 0, /* where the link is the limit and the memory packs */
  FAULTLINE_COMPRESSION_OFF = 1,
  FAULTLINE_COMPRESSION_LZ4 = 2, /* always */
  FAULTLINE_COMPRESSION_FORCE_INT = 0x7fffffff
} faultline_compression;

/* Whether pages and device state are checked end to end. On if either side says on; otherwise off
 * if one says off. */
typedef enum faultline_integrity {
  FAULTLINE_INTEGRITY_DEFAULT = 0, /* on, unless the other side says off */
  FAULTLINE_INTEGRITY_OFF = 1,
  FAULTLINE_INTEGRITY_ON = 2, /* a side that cannot check is refused */
  FAULTLINE_INTEGRITY_FORCE_INT = 0x7fffffff
} faultline_integrity;

/* How to run one side of a migration. */
typedef struct faultline_options {
  size_t struct_size;
  const char* uri; /* tcp://HOST:PORT, rdma://HOST:PORT[,rdma://ADDRESS[:PORT]...]; the destination
                      may use port 0 */
  uint32_t flags;  /* FAULTLINE_ALLOW_INSECURE and so on */
  /* Destination: a userfaultfd of this process from which nobody else reads: either fresh, or set
   * up (UFFDIO_API) with the features EVENT_REMOVE, MISSING_SHMEM, MISSING_HUGETLBFS and
   * THREAD_ID. The library registers the regions with it and takes a duplicate. Without it
   * the library makes one, for which the process needs CAP_SYS_PTRACE, access to /dev/userfaultfd,
   * or vm.unprivileged_userfaultfd=1. */
  int32_t userfaultfd;
  uint64_t bandwidth_bytes_per_second; /* source: of what nobody waits for; 0: no limit */
  uint8_t migration_id[16];            /* source; all zero: a random one */
  faultline_compression compression;   /* source */
  faultline_integrity integrity;
  /* TLS 1.3 with certificates: a folder with ca-cert.pem, and of a source client-cert.pem and
   * client-key.pem, of a destination server-cert.pem and server-key.pem (as QEMU and libvirt have
   * them). NULL: beyond loopback /etc/pki/faultline or /etc/pki/qemu, on loopback no TLS. */
  const char* tls_dir;
  /* Instead: TLS 1.3 with a pre-shared key, a private file of lines "identity:hexadecimal key". */
  const char* tls_psk_file;
  /* Source, certificates: the name that the destination's must bear; NULL: the host in `uri`. */
  const char* tls_hostname;
  /* For how long a connection that was lost after the handover is made again before the session
   * has failed, in milliseconds; 0: for ever. */
  uint64_t recovery_timeout_ms;
  /* rdma:// only: what is not left to the system, with commas between, as the command's --rdma has
   * it: "device=mlx5_0,gid=3", "fallback=off" (source: memory never goes over TCP where RDMA keeps
   * failing), "bulk=write" (source: it writes what it pushes, and the destination does not read
   * it). NULL: nothing. */
  const char* rdma;
} faultline_options;

/* One side of one migration. */
typedef struct faultline_session faultline_session;

/* Starts to listen; returns at once, on_listening follows. `callbacks` and `events` (may be NULL)
 * are copied; `user` is given to each callback and lives until the session is destroyed. Callbacks
 * may come before this returns; `*session` is set before the first. */
FAULTLINE_API faultline_status faultline_destination_start(
    const faultline_vm* vm, const faultline_options* options,
    const faultline_destination_callbacks* callbacks, const faultline_events* events, void* user,
    faultline_session** session, faultline_error* error);

/* Starts to migrate the running guest to the destination at options->uri; otherwise the same. */
FAULTLINE_API faultline_status faultline_source_start(const faultline_vm* vm,
                                                      const faultline_options* options,
                                                      const faultline_source_callbacks* callbacks,
                                                      const faultline_events* events, void* user,
                                                      faultline_session** session,
                                                      faultline_error* error);

/* Waits for the end and for the last callback; then fills `result` (may be NULL) and returns its
 * status. FAILED_PRECONDITION at once if called from a callback of this session. */
FAULTLINE_API faultline_status faultline_session_wait(faultline_session* session,
                                                      faultline_result* result);

/* Asks the session to end; it ends soon with CANCELLED and the guest on the source. After the
 * handover it has no effect but a notice. `reason` (may be NULL) is for people. Does not wait. */
FAULTLINE_API void faultline_session_cancel(faultline_session* session, const char* reason);

/* The counters of the last on_progress; never blocks for long. */
FAULTLINE_API void faultline_session_statistics(faultline_session* session,
                                                faultline_statistics* statistics);

/* Waits for the end, then frees the session. Whoever wants it soon cancels first. NULL is OK. A
 * destination that failed after the handover with pages missing leaves their userfaultfd open in
 * this process: who touches such a page waits for good, and none ever turns into zeros.
 * FAILED_PRECONDITION, and nothing freed, if called from a callback of this session. */
FAULTLINE_API faultline_status faultline_session_destroy(faultline_session* session);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FAULTLINE_FAULTLINE_H_ */
