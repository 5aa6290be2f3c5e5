#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

enum { kDiskBlocks = 2048, kDiskBuffers = 512, kEchoPort = 7 };

static void LoadModule(const char* name) {
  char path[64];
  snprintf(path, sizeof(path), "/modules/%s.ko", name);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) Fatal(path);
  if (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST) Fatal(path);
  close(file);
}

void DevicesLoad(void) {
  if (!options.disk && !options.balloon && !options.address[0]) return;
  static const char* const virtio[] = {"virtio_ring", "virtio", "virtio_pci_legacy_dev",
                                       "virtio_pci_modern_dev", "virtio_pci"};
  for (size_t i = 0; i < sizeof(virtio) / sizeof(virtio[0]); ++i) LoadModule(virtio[i]);
  if (options.disk) LoadModule("virtio_blk");
  if (options.balloon) LoadModule("virtio_balloon");
  if (options.address[0]) {
    LoadModule("failover");
    LoadModule("net_failover");
    LoadModule("virtio_net");
  }
}

static uint64_t BlockWord(uint64_t number, uint64_t version, uint64_t word) {
  return number * 1000003 + version * 17 + word;
}

static void CheckBlock(const uint64_t* block, uint64_t number, uint64_t version) {
  for (uint64_t word = 0; word < kPageWords; ++word) {
    if (block[word] == BlockWord(number, version, word)) continue;
    atomic_fetch_add(&counters.disk_wrong, 1);
    return;
  }
}

// Writes blocks past the page cache and reads them back; every block carries its number and
// version. Reads go to many pages in turn, each of which must still hold what was read into it when
// its turn comes again: what the device wrote there must not get lost when the VM moves.
static void* WorkDisk(void* argument) {
  int disk = (int)(intptr_t)argument;
  static uint64_t block[kPageWords] __attribute__((aligned(kPageBytes)));
  static uint64_t buffers[kDiskBuffers][kPageWords] __attribute__((aligned(kPageBytes)));
  static uint64_t read_numbers[kDiskBuffers];
  static uint64_t read_versions[kDiskBuffers];  // 0: nothing was read into the buffer yet
  static uint64_t disk_versions[kDiskBlocks];
  uint64_t random = options.seed * 77 + 1;
  for (uint64_t turn = 0;;) {
    uint64_t number = NextRandom(&random) % kDiskBlocks;
    off_t offset = (off_t)(number * kPageBytes);
    if (disk_versions[number] > 0) {
      uint64_t buffer = turn++ % kDiskBuffers;
      if (read_versions[buffer] > 0) {
        CheckBlock(buffers[buffer], read_numbers[buffer], read_versions[buffer]);
      }
      if (pread(disk, buffers[buffer], kPageBytes, offset) != kPageBytes) Fatal("disk_read");
      read_numbers[buffer] = number;
      read_versions[buffer] = disk_versions[number];
      CheckBlock(buffers[buffer], number, disk_versions[number]);
    }
    disk_versions[number] += 1;
    for (uint64_t word = 0; word < kPageWords; ++word) {
      block[word] = BlockWord(number, disk_versions[number], word);
    }
    if (pwrite(disk, block, sizeof(block), offset) != kPageBytes) Fatal("disk_write");
    atomic_fetch_add(&counters.disk_ops, 1);
  }
  return NULL;
}

void DiskStart(void) {
  int disk = -1;
  for (int tries = 0; tries < 200 && disk < 0; ++tries) {
    disk = open("/dev/vda", O_RDWR | O_DIRECT | O_SYNC);
    if (disk < 0) usleep(50000);
  }
  if (disk < 0) Fatal("/dev/vda");
  pthread_t thread;
  if (pthread_create(&thread, NULL, WorkDisk, (void*)(intptr_t)disk) != 0) Fatal("disk_worker");
}

static void SetAddress(int control, unsigned long request, struct ifreq* interface,
                       const char* address) {
  struct sockaddr_in* slot = (struct sockaddr_in*)&interface->ifr_addr;
  memset(slot, 0, sizeof(*slot));
  slot->sin_family = AF_INET;
  if (inet_pton(AF_INET, address, &slot->sin_addr) != 1) Fatal("fl.net");
  if (ioctl(control, request, interface) != 0) Fatal(address);
}

static void* Echo(void* argument) {
  int connection = (int)(intptr_t)argument;
  char buffer[16384];
  for (;;) {
    ssize_t length = read(connection, buffer, sizeof(buffer));
    if (length <= 0) break;
    for (ssize_t done = 0; done < length;) {
      ssize_t sent = write(connection, buffer + done, (size_t)(length - done));
      if (sent <= 0) break;
      done += sent;
    }
    atomic_fetch_add(&counters.net_bytes, (uint64_t)length);
  }
  close(connection);
  return NULL;
}

static void* Serve(void* argument) {
  int listener = (int)(intptr_t)argument;
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) continue;
    int on = 1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    pthread_t thread;
    if (pthread_create(&thread, NULL, Echo, (void*)(intptr_t)connection) != 0) Fatal("echo");
    pthread_detach(thread);
  }
  return NULL;
}

void NetworkStart(void) {
  int control = socket(AF_INET, SOCK_DGRAM, 0);
  if (control < 0) Fatal("socket");
  struct ifreq interface = {0};
  strcpy(interface.ifr_name, "eth0");
  for (int tries = 0; tries < 200 && ioctl(control, SIOCGIFFLAGS, &interface) != 0; ++tries) {
    usleep(50000);
  }
  SetAddress(control, SIOCSIFADDR, &interface, options.address);
  SetAddress(control, SIOCSIFNETMASK, &interface, "255.255.255.0");
  if (ioctl(control, SIOCGIFFLAGS, &interface) != 0) Fatal("eth0");
  interface.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (ioctl(control, SIOCSIFFLAGS, &interface) != 0) Fatal("eth0_up");
  close(control);

  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(kEchoPort)};
  if (listener < 0 || bind(listener, (struct sockaddr*)&any, sizeof(any)) != 0 ||
      listen(listener, 8) != 0) {
    Fatal("listen");
  }
  pthread_t thread;
  if (pthread_create(&thread, NULL, Serve, (void*)(intptr_t)listener) != 0) Fatal("server");
}
