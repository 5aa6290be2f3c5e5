// Runs a fuzz target over the files given, and over those of the folders given: the corpus as an
// ordinary test, without libFuzzer. Those of folders are also tried cut short and with bytes
// changed: at every place in small files, at about kPlaces places in large ones.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kPlaces = 256;

std::vector<uint8_t> ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void Replay(std::vector<uint8_t> bytes) {
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  size_t step = 1 + bytes.size() / kPlaces;
  for (size_t i = 0; i < bytes.size(); i += step) {
    uint8_t& byte = bytes[i];
    for (uint8_t change : {uint8_t{0x01}, uint8_t{0x80}, uint8_t{0xff}}) {
      byte ^= change;
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      byte ^= change;
    }
  }
  for (size_t size = 0; size < bytes.size(); size += step) {
    // A copy of exactly this size, so that a sanitizer sees a read behind it.
    std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    LLVMFuzzerTestOneInput(cut.data(), cut.size());
  }
}

}  // namespace

int main(int argc, char** argv) {
  int files = 0;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      const std::vector<uint8_t> bytes = ReadFile(argv[i]);
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      ++files;
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      Replay(ReadFile(entry.path()));
      ++files;
    }
  }
  std::printf("%d files replayed\n", files);
  return files > 0 ? 0 : 1;
}
