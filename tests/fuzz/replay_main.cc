// Runs a fuzz target over the files of its corpus: the fuzzers' finds as an ordinary test, with any
// compiler. Arguments: files, or folders of them.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

size_t Replay(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      files += Replay(entry.path());
    }
    return files;
  }
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  // Heap memory of exactly this size, so that a sanitizer sees a read behind it.
  std::vector<uint8_t> input(bytes.begin(), bytes.end());
  input.shrink_to_fit();
  LLVMFuzzerTestOneInput(input.data(), input.size());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  for (int i = 1; i < argc; ++i) files += Replay(argv[i]);
  std::printf("%zu inputs replayed\n", files);
  return files > 0 ? 0 : 1;
}
