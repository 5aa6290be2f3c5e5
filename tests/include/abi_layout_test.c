// The binary layout of the public structures: a released one never changes, only grows at its end.
#include <faultline/faultline.h>
#include <stddef.h>
#include <stdio.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#define AT(type, field, byte) _Static_assert(offsetof(type, field) == (byte), #type "." #field)

#if defined(__x86_64__)
SIZE(faultline_error, 1040);
AT(faultline_error, message, 12);
SIZE(faultline_region, 56);
AT(faultline_region, name, 8);
AT(faultline_region, fd, 36);
AT(faultline_region, address, 48);
SIZE(faultline_statistics, 128);
AT(faultline_statistics, pages_total, 16);
AT(faultline_statistics, bytes_packed_in, 104);
AT(faultline_statistics, reconnects, 120);
SIZE(faultline_latency, 48);
SIZE(faultline_result, 1232);
AT(faultline_result, message, 16);
AT(faultline_result, downtime_us, 1096);
AT(faultline_result, fault_latency, 1160);
AT(faultline_result, bytes_packed_in, 1208);
AT(faultline_result, reconnects, 1224);
SIZE(faultline_events, 48);
SIZE(faultline_source_callbacks, 40);
SIZE(faultline_destination_callbacks, 48);
SIZE(faultline_options, 96);
AT(faultline_options, userfaultfd, 20);
AT(faultline_options, migration_id, 32);
AT(faultline_options, compression, 48);
AT(faultline_options, integrity, 52);
AT(faultline_options, tls_dir, 56);
AT(faultline_options, tls_hostname, 72);
AT(faultline_options, recovery_timeout_ms, 80);
AT(faultline_options, rdma, 88);
#endif

int main(void) {
  faultline_region region;
  FAULTLINE_INIT(&region);
  if (region.struct_size != sizeof region || region.name != NULL) {
    fprintf(stderr, "FAULTLINE_INIT does not do what it says\n");
    return 1;
  }
  return 0;
}
