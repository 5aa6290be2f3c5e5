#include "vmm/qemu/ram_discovery.h"

#include <fmt/format.h>

#include <utility>

#include "base/text.h"
#include "vmm/qemu/qemu_text.h"
#include "vmm/qemu/ram_file.h"
#include "vmm/qemu/vm_checks.h"

namespace faultline {
namespace {

constexpr const char* kObjects = "/objects";

// A command that not every QEMU knows, or that fails where its subject is absent: null then. A lost
// monitor shows at the next command that is needed.
Json Ask(QmpClient* qmp, const std::string& command, const Json& arguments = Json::object()) {
  absl::StatusOr<Json> answer = qmp->Execute(command, arguments);
  return answer.ok() ? std::move(*answer) : Json();
}

Json AskProperty(QmpClient* qmp, const std::string& path, const std::string& property) {
  return Ask(qmp, "qom-get", {{"path", path}, {"property", property}});
}

// The type of a child as qom-list shows it: "child<virtio-balloon-pci>". Empty for other members.
std::string ChildType(const Json& entry) {
  std::string type = JsonText(entry, "type");
  if (!type.starts_with("child<") || !type.ends_with(">")) return "";
  return type.substr(6, type.size() - 7);
}

absl::Status ReadIdentity(QmpClient* qmp, VmFacts* facts) {
  ASSIGN_OR_RETURN(Json version, qmp->Execute("query-version"));
  const Json& numbers = JsonMember(version, "qemu");
  facts->version = {static_cast<int>(JsonNumber(numbers, "major")),
                    static_cast<int>(JsonNumber(numbers, "minor")),
                    static_cast<int>(JsonNumber(numbers, "micro"))};
  facts->version_text = fmt::format("QEMU {}.{}.{}", facts->version.major, facts->version.minor,
                                    facts->version.micro);
  ASSIGN_OR_RETURN(Json status, qmp->Execute("query-status"));
  facts->status = JsonText(status, "status");
  return absl::OkStatus();
}

absl::Status ReadMigrationState(QmpClient* qmp, VmFacts* facts) {
  ASSIGN_OR_RETURN(Json migration, qmp->Execute("query-migrate"));
  facts->migration_status = JsonText(migration, "status");
  for (const Json& reason : JsonMember(migration, "blocked-reasons")) {
    facts->blocked_reasons.push_back(JsonText(reason));
  }
  ASSIGN_OR_RETURN(Json capabilities, qmp->Execute("query-migrate-capabilities"));
  for (const Json& entry : capabilities) {
    facts->capabilities[JsonText(entry, "capability")] = JsonFlag(entry, "state");
  }
  ASSIGN_OR_RETURN(Json parameters, qmp->Execute("query-migrate-parameters"));
  facts->migration_mode = JsonText(parameters, "mode");
  facts->tls_creds = JsonText(parameters, "tls-creds");
  facts->max_bandwidth = JsonNumber(parameters, "max-bandwidth");
  return absl::OkStatus();
}

// Everything that somebody asked for.
absl::StatusOr<std::vector<VmDevice>> ListDevices(QmpClient* qmp) {
  std::vector<VmDevice> devices;
  for (const char* path : {kObjects, "/machine/peripheral", "/machine/peripheral-anon"}) {
    ASSIGN_OR_RETURN(Json members, qmp->Execute("qom-list", {{"path", path}}));
    for (const Json& entry : members) {
      std::string type = ChildType(entry);
      if (!type.empty()) devices.push_back({JsonText(entry, "name"), std::move(type)});
    }
  }
  return devices;
}

absl::Status ReadBackends(QmpClient* qmp, VmFacts* facts) {
  for (const VmDevice& object : facts->devices) {
    if (!object.type.starts_with("memory-backend-")) continue;
    MemoryBackend backend;
    backend.id = object.name;
    backend.type = object.type;
    std::string path = fmt::format("{}/{}", kObjects, backend.id);
    backend.size_bytes = JsonNumber(AskProperty(qmp, path, "size"));
    backend.share = JsonFlag(AskProperty(qmp, path, "share"));
    if (backend.type == "memory-backend-file") {
      backend.mem_path = JsonText(AskProperty(qmp, path, "mem-path"));
      backend.readonly = JsonFlag(AskProperty(qmp, path, "readonly"));
      backend.discard_data = JsonFlag(AskProperty(qmp, path, "discard-data"));
      backend.offset_bytes = JsonNumber(AskProperty(qmp, path, "offset"));
    }
    facts->backends.push_back(std::move(backend));
  }
  return absl::OkStatus();
}

void ReadBlockNodes(QmpClient* qmp, VmFacts* facts) {
  const Json nodes = Ask(qmp, "query-named-block-nodes", {{"flat", true}});
  facts->direct_nodes = !nodes.is_array();  // the safe guess
  for (const Json& node : nodes) {
    facts->block_drivers.push_back(JsonText(node, "drv"));
    if (JsonFlag(JsonMember(node, "cache"), "direct")) facts->direct_nodes = true;
  }
}

absl::Status ReadDevices(QmpClient* qmp, VmFacts* facts) {
  ASSIGN_OR_RETURN(facts->network_text, qmp->HumanCommand("info network"));
  ReadBlockNodes(qmp, facts);
  facts->confidential =
      JsonFlag(Ask(qmp, "query-sev"), "enabled") ||
      !JsonText(AskProperty(qmp, "/machine", "confidential-guest-support")).empty();
  return absl::OkStatus();
}

void ReadProcess(int pid, VmFacts* facts) {
  if (absl::StatusOr<std::string> text = ReadTextFile(fmt::format("/proc/{}/maps", pid));
      text.ok()) {
    facts->mappings = ParseProcessMaps(*text);
  }
  if (absl::StatusOr<std::string> text = ReadTextFile(fmt::format("/proc/{}/status", pid));
      text.ok()) {
    facts->locked_bytes = ParseLockedBytes(*text);
  }
  absl::StatusOr<std::string> huge =
      ReadTextFile("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  facts->huge_shmem_forced = huge.ok() && huge->find("[force]") != std::string::npos;
}

}  // namespace

absl::StatusOr<std::vector<RamBlock>> ReadRamBlocks(QmpClient* qmp, int64_t timeout_ms) {
  ASSIGN_OR_RETURN(std::string text, qmp->HumanCommand("info ramblock", timeout_ms));
  return ParseRamBlocks(text);
}

absl::StatusOr<bool> HasSameParts(QmpClient* qmp, const VmFacts& before) {
  ASSIGN_OR_RETURN(std::vector<RamBlock> blocks, ReadRamBlocks(qmp));
  ASSIGN_OR_RETURN(std::vector<VmDevice> devices, ListDevices(qmp));
  VmFacts disks;
  ReadBlockNodes(qmp, &disks);
  return blocks == before.blocks && devices == before.devices &&
         disks.block_drivers == before.block_drivers && disks.direct_nodes == before.direct_nodes;
}

absl::StatusOr<VmFacts> ReadVmFacts(QmpClient* qmp) {
  VmFacts facts;
  RETURN_IF_ERROR(ReadIdentity(qmp, &facts));
  RETURN_IF_ERROR(ReadMigrationState(qmp, &facts));
  ASSIGN_OR_RETURN(facts.devices, ListDevices(qmp));
  RETURN_IF_ERROR(ReadBackends(qmp, &facts));
  RETURN_IF_ERROR(ReadDevices(qmp, &facts));
  ASSIGN_OR_RETURN(facts.blocks, ReadRamBlocks(qmp));
  return facts;
}

absl::StatusOr<DiscoveredVm> DiscoverVm(QmpClient* qmp, DiscoverAs role) {
  DiscoveredVm vm;
  ASSIGN_OR_RETURN(vm.facts, ReadVmFacts(qmp));
  VmFacts& facts = vm.facts;
  ASSIGN_OR_RETURN(int pid, qmp->PeerPid());
  if (pid > 0) ReadProcess(pid, &facts);

  // Before the files are touched: a VM of another state or kind has the better sentence.
  RETURN_IF_ERROR(role == DiscoverAs::kSource ? CheckSource(facts) : CheckDestination(facts));
  ASSIGN_OR_RETURN(std::vector<MigratedBlock> selected, SelectBlocks(facts));
  std::vector<RamFile> files;
  for (const MigratedBlock& block : selected) {
    ASSIGN_OR_RETURN(RamFile file,
                     OpenRamFile(block, facts.mappings, pid, role == DiscoverAs::kDestination));
    for (MemoryBackend& backend : facts.backends) {
      if (backend.id != block.backend.id) continue;
      backend.file_system = file.file_system;
      backend.mount_options = file.mount_options;
    }
    files.push_back(std::move(file));
  }
  RETURN_IF_ERROR(CheckFiles(facts));

  for (size_t i = 0; i < selected.size(); ++i) {
    const RamBlock& block = selected[i].block;
    RamRegion region;
    region.layout = {block.name, block.used_bytes, block.page_size_bytes};
    region.file = files[i].fd.get();
    region.file_offset_bytes = selected[i].backend.offset_bytes;
    region.host_address = files[i].host_address;
    vm.description.regions.push_back(std::move(region));
    vm.files.push_back(std::move(files[i].fd));
  }
  vm.description.running = facts.status == "running";
  vm.description.guest_may_discard = GuestMayDiscard(facts);
  vm.description.direct_io = HasDirectIo(facts);
  vm.description.untrackable = WhyUntrackable(facts);
  vm.description.vmm_version = facts.version_text;
  return vm;
}

}  // namespace faultline
