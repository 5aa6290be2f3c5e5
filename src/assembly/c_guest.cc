#include "assembly/c_guest.h"

#include <fmt/format.h>

#include <utility>

#include "assembly/c_struct.h"

// What `save` writes to: the driver's sink, for the length of the call.
struct faultline_sink {
  const faultline::DeviceStateSink* sink;
};

namespace faultline {
namespace {

// Big writes go on in pieces that fit one message.
constexpr size_t kPieceBytes = 64 * 1024;

// Calls a function of the program and turns what it says into a Status.
template <typename Function>
absl::Status CallOut(CallbackGuard* guard, Function function) {
  faultline_error error{};
  error.struct_size = sizeof error;
  faultline_status status = FAULTLINE_OK;
  {
    const CallbackGuard::Scope scope(guard);
    status = function(&error);
  }
  error.message[sizeof error.message - 1] = '\0';
  const std::string message = error.message;
  return FromCStatus(status, message.empty() ? "it gave no reason" : message);
}

VmDescription Describe(std::span<const CRegion> regions, const faultline_options& options) {
  VmDescription vm;
  vm.running = true;
  vm.guest_may_discard = (options.flags & FAULTLINE_GUEST_MAY_DISCARD) != 0;
  vm.vmm_version = fmt::format("libfaultline {}", faultline_version());
  for (const CRegion& region : regions) {
    RamRegion ram;
    ram.layout = region.layout;
    ram.file = region.file != nullptr ? region.file->get() : -1;
    ram.file_offset_bytes = region.file_offset_bytes;
    ram.host_address = region.host_address;
    vm.regions.push_back(std::move(ram));
  }
  return vm;
}

}  // namespace

absl::StatusOr<CRegion> ReadRegion(const faultline_region* in) {
  ASSIGN_OR_RETURN(const faultline_region region,
                   ReadStruct(in, sizeof(faultline_region), "region"));
  if (region.name == nullptr) return absl::InvalidArgumentError("region: name is NULL");
  if ((region.flags & ~uint32_t{FAULTLINE_REGION_HAS_FILE}) != 0) {
    return absl::UnimplementedError(
        fmt::format("region {}: flags {:#x} has a bit that this library does not know", region.name,
                    region.flags));
  }
  CRegion result;
  result.layout = {region.name, region.size_bytes, region.page_size_bytes};
  RETURN_IF_ERROR(ValidateLayout({result.layout}));
  result.host_address = reinterpret_cast<uint64_t>(region.address);
  if (result.host_address % region.page_size_bytes != 0) {
    return absl::InvalidArgumentError(
        fmt::format("region {}: address {:#x} is not at a whole page of {} bytes", region.name,
                    result.host_address, region.page_size_bytes));
  }
  if ((region.flags & FAULTLINE_REGION_HAS_FILE) == 0) return result;
  if (region.fd_offset_bytes % region.page_size_bytes != 0) {
    return absl::InvalidArgumentError(
        fmt::format("region {}: fd_offset_bytes {} is not at a whole page of {} bytes", region.name,
                    region.fd_offset_bytes, region.page_size_bytes));
  }
  FileDescriptor callers(region.fd);
  absl::StatusOr<FileDescriptor> duplicate = callers.Duplicate();
  callers.Release();  // it stays the caller's
  if (!duplicate.ok()) {
    return Annotate(duplicate.status(), fmt::format("region {}: fd {}", region.name, region.fd));
  }
  result.file = std::make_shared<FileDescriptor>(*std::move(duplicate));
  result.file_offset_bytes = region.fd_offset_bytes;
  return result;
}

absl::StatusOr<VmDescription> DescribeSource(std::span<const CRegion> regions,
                                             const faultline_options& options) {
  VmDescription vm = Describe(regions, options);
  RETURN_IF_ERROR(ValidateLayout(vm.layout()));
  for (const RamRegion& region : vm.regions) {
    if (region.file >= 0) continue;
    return absl::InvalidArgumentError(fmt::format(
        "region {} has no file: a source's memory is read through its file; keep the guest's RAM "
        "in "
        "a memfd or a file on tmpfs or hugetlbfs, and set fd and FAULTLINE_REGION_HAS_FILE",
        region.layout.name));
  }
  return vm;
}

absl::StatusOr<VmDescription> DescribeDestination(std::span<const CRegion> regions,
                                                  const faultline_options& options) {
  VmDescription vm = Describe(regions, options);
  RETURN_IF_ERROR(ValidateLayout(vm.layout()));
  for (const RamRegion& region : vm.regions) {
    if (region.host_address != 0) continue;
    return absl::InvalidArgumentError(fmt::format(
        "region {} has no address: map it, and set address to where it is", region.layout.name));
  }
  return vm;
}

RegionFiles FilesOf(std::span<const CRegion> regions) {
  RegionFiles files;
  for (const CRegion& region : regions) {
    if (region.file != nullptr) files.push_back(region.file);
  }
  return files;
}

SourceCallbacks BindSource(const faultline_source_callbacks& c, void* user,
                           std::shared_ptr<CallbackGuard> guard) {
  SourceCallbacks callbacks;
  callbacks.freeze = [c, user, guard]() -> absl::StatusOr<bool> {
    int was_running = 1;
    RETURN_IF_ERROR(CallOut(
        guard.get(), [&](faultline_error* error) { return c.freeze(user, &was_running, error); }));
    return was_running != 0;
  };
  callbacks.save = [c, user, guard](const DeviceStateSink& sink) {
    faultline_sink c_sink{&sink};
    return CallOut(guard.get(),
                   [&](faultline_error* error) { return c.save(user, &c_sink, error); });
  };
  callbacks.rollback = [c, user, guard] {
    return CallOut(guard.get(), [&](faultline_error* error) { return c.rollback(user, error); });
  };
  callbacks.retire = [c, user, guard] {
    return CallOut(guard.get(), [&](faultline_error* error) { return c.retire(user, error); });
  };
  return callbacks;
}

DestinationCallbacks BindDestination(const faultline_destination_callbacks& c, void* user,
                                     std::shared_ptr<CallbackGuard> guard) {
  DestinationCallbacks callbacks;
  callbacks.load = [c, user, guard](std::span<const std::byte> bytes) {
    return CallOut(guard.get(), [&](faultline_error* error) {
      return c.load(user, bytes.data(), bytes.size(), error);
    });
  };
  callbacks.take_over = [c, user, guard](bool run) {
    return CallOut(guard.get(),
                   [&](faultline_error* error) { return c.take_over(user, run ? 1 : 0, error); });
  };
  if (c.set_paused != nullptr) {
    callbacks.set_paused = [c, user, guard](bool paused) {
      return CallOut(guard.get(), [&](faultline_error* error) {
        return c.set_paused(user, paused ? 1 : 0, error);
      });
    };
  }
  callbacks.finish = [c, user, guard] {
    return CallOut(guard.get(), [&](faultline_error* error) { return c.finish(user, error); });
  };
  callbacks.discard = [c, user, guard] {
    return CallOut(guard.get(), [&](faultline_error* error) { return c.discard(user, error); });
  };
  return callbacks;
}

}  // namespace faultline

extern "C" void faultline_sink_write(faultline_sink* sink, const void* bytes, size_t size_bytes) {
  std::span<const std::byte> left(static_cast<const std::byte*>(bytes), size_bytes);
  while (!left.empty()) {
    const size_t piece_bytes = std::min(left.size(), faultline::kPieceBytes);
    (*sink->sink)(left.first(piece_bytes));
    left = left.subspan(piece_bytes);
  }
}
