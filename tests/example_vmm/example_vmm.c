// An example hypervisor: how a program of one's own migrates its guest with libfaultline.
//
//   example-vmm destination URI     prints "listening URI", takes the guest, checks it
//   example-vmm source URI          runs a guest, then migrates it
//   example-vmm destination-uffd URI   the same, with a userfaultfd of its own
//   example-vmm both URI            both sides within one process
//
// Options, behind these:
//   --insecure         connections beyond this host may be plain
//   --tls-psk FILE     connections are in TLS, with a key of that file
//   --rdma LIST        how it goes over RDMA, as the command's option of that name
//   --recovery-s N     a connection that is lost after the handover is made again for so long only
//
// The last line that each side prints is "SIDE STATUS owner=OWNER touched=N checked=N wrong=N".
// Exit status 0: the migration is complete and no page was wrong.
#include <faultline/faultline.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

struct Choices {
  const char* uri;
  bool insecure;
  const char* tls_psk_file;
  const char* rdma;
  uint64_t recovery_timeout_ms;
};

// One side of the migration.
struct Side {
  const char* name;
  struct Guest guest;
  faultline_session* session;
  const struct Choices* choices;
  int uffd;  // the destination's own; -1: the library makes one
  // Where the destination listens, for the source in the same process.
  pthread_mutex_t mutex;
  pthread_cond_t listening;
  char uri[128];
};

static faultline_status Freeze(void* user, int* was_running, faultline_error* error) {
  struct Side* side = user;
  (void)error;
  *was_running = side->guest.running;
  if (side->guest.running) GuestStop(&side->guest);
  return FAULTLINE_OK;
}

static faultline_status Save(void* user, faultline_sink* sink, faultline_error* error) {
  struct Side* side = user;
  const size_t size_bytes = GuestStateBytes(&side->guest);
  void* bytes = malloc(size_bytes);
  if (bytes == NULL) {
    return faultline_error_set(error, FAULTLINE_RESOURCE_EXHAUSTED, "no memory to save devices");
  }
  GuestSave(&side->guest, bytes);
  faultline_sink_write(sink, bytes, size_bytes);
  free(bytes);
  return FAULTLINE_OK;
}

static faultline_status Start(struct Side* side, faultline_error* error) {
  if (side->guest.running || GuestRun(&side->guest)) return FAULTLINE_OK;
  return faultline_error_set(error, FAULTLINE_RESOURCE_EXHAUSTED,
                             "the guest's threads don't start");
}

static faultline_status Rollback(void* user, faultline_error* error) { return Start(user, error); }

static faultline_status Retire(void* user, faultline_error* error) {
  (void)user;
  (void)error;
  return FAULTLINE_OK;
}

static faultline_status Load(void* user, const void* bytes, size_t size_bytes,
                             faultline_error* error) {
  struct Side* side = user;
  if (GuestLoad(&side->guest, bytes, size_bytes)) return FAULTLINE_OK;
  return faultline_error_set(error, FAULTLINE_INVALID_ARGUMENT,
                             "the device state is not this guest's; start both sides alike");
}

static faultline_status TakeOver(void* user, int run, faultline_error* error) {
  return run ? Start(user, error) : FAULTLINE_OK;
}

static faultline_status Finish(void* user, faultline_error* error) {
  (void)user;
  (void)error;
  return FAULTLINE_OK;
}

static faultline_status Discard(void* user, faultline_error* error) {
  struct Side* side = user;
  (void)error;
  if (side->guest.running) GuestStop(&side->guest);
  return FAULTLINE_OK;
}

static void OnListening(void* user, const char* uri) {
  struct Side* side = user;
  printf("listening %s\n", uri);
  pthread_mutex_lock(&side->mutex);
  snprintf(side->uri, sizeof side->uri, "%s", uri);
  pthread_cond_signal(&side->listening);
  pthread_mutex_unlock(&side->mutex);
}

static void OnPhase(void* user, faultline_phase phase, const char* migration_id) {
  struct Side* side = user;
  printf("%s phase %s %s\n", side->name, faultline_phase_name(phase), migration_id);
}

static void OnNotice(void* user, const char* text) {
  struct Side* side = user;
  printf("%s notice: %s\n", side->name, text);
}

static void OnEnded(void* user, const faultline_result* result) {
  struct Side* side = user;
  // Whoever waits for the port must not wait for ever.
  pthread_mutex_lock(&side->mutex);
  if (side->uri[0] == '\0') snprintf(side->uri, sizeof side->uri, "none");
  pthread_cond_signal(&side->listening);
  pthread_mutex_unlock(&side->mutex);
  printf("%s ended: downtime_us=%llu demand=%llu pushed=%llu absent=%llu\n", side->name,
         (unsigned long long)result->downtime_us, (unsigned long long)result->pages_demand,
         (unsigned long long)result->pages_pushed, (unsigned long long)result->pages_absent);
}

static faultline_events Events(void) {
  faultline_events events;
  FAULTLINE_INIT(&events);
  events.on_listening = OnListening;
  events.on_phase = OnPhase;
  events.on_notice = OnNotice;
  events.on_ended = OnEnded;
  return events;
}

// The guest's memory, as the library wants to know it.
static faultline_vm* Describe(struct Side* side) {
  faultline_vm* vm = faultline_vm_create();
  for (int i = 0; vm != NULL && i < GUEST_REGIONS; ++i) {
    faultline_region region;
    FAULTLINE_INIT(&region);
    region.name = side->guest.regions[i].name;
    region.size_bytes = side->guest.regions[i].pages * GUEST_PAGE_BYTES;
    region.page_size_bytes = GUEST_PAGE_BYTES;
    region.flags = FAULTLINE_REGION_HAS_FILE;
    region.fd = side->guest.regions[i].fd;
    region.address = side->guest.regions[i].memory;
    faultline_error error;
    FAULTLINE_INIT(&error);
    if (faultline_vm_add_region(vm, &region, &error) == FAULTLINE_OK) continue;
    fprintf(stderr, "%s: %s\n", side->name, error.message);
    faultline_vm_destroy(vm);
    return NULL;
  }
  return vm;
}

static bool SideCreate(struct Side* side, const char* name, const struct Choices* choices) {
  memset(side, 0, sizeof *side);
  side->name = name;
  side->choices = choices;
  side->uffd = -1;
  pthread_mutex_init(&side->mutex, NULL);
  pthread_cond_init(&side->listening, NULL);
  return GuestCreate(&side->guest);
}

static bool SideStart(struct Side* side, bool source, const char* uri) {
  faultline_vm* vm = Describe(side);
  if (vm == NULL) return false;
  faultline_options options;
  FAULTLINE_INIT(&options);
  options.uri = uri;
  if (side->choices->insecure) options.flags |= FAULTLINE_ALLOW_INSECURE;
  options.tls_psk_file = side->choices->tls_psk_file;
  options.rdma = side->choices->rdma;
  options.recovery_timeout_ms = side->choices->recovery_timeout_ms;
  if (side->uffd >= 0) {
    options.flags |= FAULTLINE_HAS_USERFAULTFD;
    options.userfaultfd = side->uffd;
  }
  const faultline_events events = Events();
  faultline_error error;
  FAULTLINE_INIT(&error);
  if (source) {
    faultline_source_callbacks callbacks;
    FAULTLINE_INIT(&callbacks);
    callbacks.freeze = Freeze;
    callbacks.save = Save;
    callbacks.rollback = Rollback;
    callbacks.retire = Retire;
    faultline_source_start(vm, &options, &callbacks, &events, side, &side->session, &error);
  } else {
    faultline_destination_callbacks callbacks;
    FAULTLINE_INIT(&callbacks);
    callbacks.load = Load;
    callbacks.take_over = TakeOver;
    callbacks.finish = Finish;
    callbacks.discard = Discard;
    faultline_destination_start(vm, &options, &callbacks, &events, side, &side->session, &error);
  }
  faultline_vm_destroy(vm);
  if (side->session == NULL) fprintf(stderr, "%s: %s\n", side->name, error.message);
  return side->session != NULL;
}

// Waits for the session's end, checks the guest if it is this side's, and says so.
static bool SideEnd(struct Side* side, faultline_owner self) {
  faultline_result result;
  FAULTLINE_INIT(&result);
  faultline_session_wait(side->session, &result);
  if (result.status != FAULTLINE_OK) fprintf(stderr, "%s: %s\n", side->name, result.message);
  uint64_t checked = 0;
  const bool whole = result.status == FAULTLINE_OK || self == FAULTLINE_OWNER_SOURCE;
  if (result.owner == self && whole) {
    if (side->guest.running) {
      usleep(100 * 1000);  // it works on, also with all of its memory here
      GuestStop(&side->guest);
    }
    checked = GuestCheckAll(&side->guest);
  }
  printf("%s %s owner=%s touched=%llu checked=%llu wrong=%llu\n", side->name,
         faultline_status_name(result.status), faultline_owner_name(result.owner),
         (unsigned long long)atomic_load(&side->guest.touched), (unsigned long long)checked,
         (unsigned long long)atomic_load(&side->guest.wrong));
  // Threads that wait for pages which never come must not go on, with zeros, while this ends.
  if (result.owner == self && !whole) _exit(1);
  return result.status == FAULTLINE_OK && atomic_load(&side->guest.wrong) == 0;
}

static void SideDestroy(struct Side* side) {
  faultline_session_destroy(side->session);
  GuestDestroy(&side->guest);
}

static bool RunDestination(const struct Choices* choices, bool own_uffd) {
  struct Side side;
  if (!SideCreate(&side, "destination", choices)) return false;
  if (own_uffd) {
    side.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (side.uffd < 0) {
      perror("userfaultfd");
      return false;
    }
  }
  if (!SideStart(&side, false, choices->uri)) return false;
  const bool good = SideEnd(&side, FAULTLINE_OWNER_DESTINATION);
  SideDestroy(&side);
  if (side.uffd >= 0) close(side.uffd);
  return good;
}

static bool RunSource(const struct Choices* choices) {
  struct Side side;
  if (!SideCreate(&side, "source", choices) || !GuestRun(&side.guest)) return false;
  usleep(300 * 1000);  // until it has used some of its memory
  if (!SideStart(&side, true, choices->uri)) return false;
  const bool good = SideEnd(&side, FAULTLINE_OWNER_SOURCE);
  SideDestroy(&side);
  return good;
}

static bool RunBoth(const struct Choices* choices) {
  struct Side source, destination;
  if (!SideCreate(&destination, "destination", choices) ||
      !SideStart(&destination, false, choices->uri))
    return false;
  pthread_mutex_lock(&destination.mutex);
  while (destination.uri[0] == '\0') {
    pthread_cond_wait(&destination.listening, &destination.mutex);
  }
  pthread_mutex_unlock(&destination.mutex);
  if (!SideCreate(&source, "source", choices) || !GuestRun(&source.guest)) return false;
  usleep(300 * 1000);
  if (!SideStart(&source, true, destination.uri)) return false;
  const bool source_good = SideEnd(&source, FAULTLINE_OWNER_SOURCE);
  const bool destination_good = SideEnd(&destination, FAULTLINE_OWNER_DESTINATION);
  SideDestroy(&source);
  SideDestroy(&destination);
  return source_good && destination_good;
}

// Reads the options; false if there is one that does not exist.
static bool ReadOptions(struct Choices* choices, int count, char** words) {
  for (int i = 0; i < count; ++i) {
    if (strcmp(words[i], "--insecure") == 0) {
      choices->insecure = true;
    } else if (strcmp(words[i], "--tls-psk") == 0 && i + 1 < count) {
      choices->tls_psk_file = words[++i];
    } else if (strcmp(words[i], "--rdma") == 0 && i + 1 < count) {
      choices->rdma = words[++i];
    } else if (strcmp(words[i], "--recovery-s") == 0 && i + 1 < count) {
      choices->recovery_timeout_ms = strtoull(words[++i], NULL, 10) * 1000;
    } else {
      return false;
    }
  }
  return true;
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  struct Choices choices = {.uri = argc > 2 ? argv[2] : NULL};
  if (argc > 2 && ReadOptions(&choices, argc - 3, argv + 3)) {
    if (strcmp(argv[1], "destination") == 0) return RunDestination(&choices, false) ? 0 : 1;
    if (strcmp(argv[1], "destination-uffd") == 0) return RunDestination(&choices, true) ? 0 : 1;
    if (strcmp(argv[1], "source") == 0) return RunSource(&choices) ? 0 : 1;
    if (strcmp(argv[1], "both") == 0) return RunBoth(&choices) ? 0 : 1;
  }
  fprintf(stderr,
          "usage: example-vmm source|destination|destination-uffd|both tcp://ADDRESS:PORT"
          " [--insecure] [--tls-psk FILE] [--rdma NAME=VALUE,...] [--recovery-s SECONDS]\n");
  return 2;
}
