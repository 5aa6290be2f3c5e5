#include "common/synthetic_vm.h"

#include <cstddef>
#include <cstdio>
#include <memory>
#include <span>
#include <utility>

namespace faultline::bench {
namespace {

absl::Status Nothing() { return absl::OkStatus(); }

}  // namespace

void Observer::OnListening(const std::string& address) {
  if (!listening_) return;
  const size_t scheme_end = address.find("://");
  listening_(scheme_end == std::string::npos ? address : address.substr(scheme_end + 3));
}

void Observer::OnNotice(const std::string& text) { fprintf(stderr, "%s\n", text.c_str()); }

VmDescription Describe(const Region& region) {
  VmDescription vm;
  vm.running = true;
  vm.vmm_version = "faultline-bench";
  RamRegion ram;
  ram.layout = {"ram", region.size_bytes(), kPageBytes};
  ram.file = region.file();
  ram.host_address = reinterpret_cast<uint64_t>(region.data());
  vm.regions.push_back(std::move(ram));
  return vm;
}

SourceCallbacks GuestThatLeaves(std::function<std::string()> stop) {
  auto state = std::make_shared<std::string>();
  SourceCallbacks guest;
  guest.freeze = [state, stop = std::move(stop)] {
    *state = stop();
    return absl::StatusOr<bool>(true);
  };
  guest.save = [state](const DeviceStateSink& sink) {
    sink(std::as_bytes(std::span<const char>(*state)));
    return absl::OkStatus();
  };
  guest.rollback = Nothing;
  guest.retire = Nothing;
  return guest;
}

DestinationCallbacks GuestThatArrives(std::function<absl::Status(const std::string& state)> load,
                                      std::function<void()> run) {
  DestinationCallbacks guest;
  guest.load = [load = std::move(load)](std::span<const std::byte> state) {
    return load(std::string(reinterpret_cast<const char*>(state.data()), state.size()));
  };
  guest.take_over = [run = std::move(run)](bool) {
    run();
    return absl::OkStatus();
  };
  guest.set_paused = [](bool) { return absl::OkStatus(); };
  guest.finish = Nothing;
  guest.discard = Nothing;
  return guest;
}

}  // namespace faultline::bench
