// When packing pages is worth its time. Pure.
#ifndef FAULTLINE_TRANSPORT_TCP_PACK_POLICY_H_
#define FAULTLINE_TRANSPORT_TCP_PACK_POLICY_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "protocol/messages.h"
#include "seams/compression.h"

namespace faultline {

// Decides for each run whether to pack it, and by what (automatic choice; the other modes are
// fixed).
//
// While runs go out as they are, their rate is measured, and a small sample of the memory is packed
// now and then, by each algorithm in turn: the packer's speed and what the memory packs to, held
// against that rate, predict the gain. LZ4 is several times as fast, Zstandard packs to less: it is
// for slow links. While runs are packed, the gain itself counts: the memory's bytes that went out,
// held against the rate before. One that does not come (the receiver was the limit, or the
// processor) ends it for a while. The unpacked rate is measured anew at times, so that a figure
// from a bad moment does not last.
//
// Times are of any monotonic clock. One thread.
class PackPolicy {
 public:
  explicit PackPolicy(Compression mode);

  // By what to pack a sample now, and tell by NotePacking; kNone: no sample.
  PackAlgorithm WantsSample(int64_t now_ns) const;
  // Of each sample the most: a fast link must not wait for long.
  static constexpr size_t kSampleBytesMax = 16 * 1024;

  // `in_bytes` were packed in `spent_ns`; `out_bytes` is the same where packing saved nothing.
  void NotePacking(int64_t now_ns, PackAlgorithm algorithm, uint64_t in_bytes, uint64_t out_bytes,
                   int64_t spent_ns);

  // By what to pack the next run; kNone: it goes out as it is.
  PackAlgorithm Choose(int64_t now_ns);
  // A run of the memory was given to the link, packed or not.
  void NoteRun(uint64_t run_bytes) {
    window_bytes_ += run_bytes;
    peak_bytes_ += run_bytes;
  }

  // The length of a run that packs into about `burst_bytes`: a multiple of it by a power of two, at
  // most `run_bytes_max`; just burst_bytes while nothing is packed.
  uint64_t RunBytes(uint64_t burst_bytes, uint64_t run_bytes_max) const;

 private:
  // How one algorithm does with this memory, lately.
  struct Packing {
    int samples = 0;
    double ratio = 1;  // packed by unpacked
    double ns_per_byte = 0;
  };
  static constexpr int64_t kSampleNs = 10'000'000;
  static constexpr int64_t kFirstSampleNs = 5'000'000;
  static constexpr int kSamplesMin = 4;     // of each algorithm
  static constexpr double kWeight = 0.125;  // of the newest figure in the averages
  static constexpr double kGainToBegin = 1.25;
  static constexpr double kGainToStay = 1.1;
  static constexpr double kGainOfZstd = 1.05;  // over LZ4's, to be preferred
  // Of the packer's speed so much counts: packing shares its thread with reading and sending, and
  // the processor with the VM.
  static constexpr double kPackerShare = 0.3;
  static constexpr int64_t kUnpackedWindowNs = 10'000'000;
  static constexpr int64_t kPeakWindowNs = 2'000'000;
  static constexpr int64_t kPackedWindowNs = 20'000'000;
  static constexpr int kPoorWindowsMax = 2;  // one alone may be somebody else's doing
  // Unpacked for so long: the link's rate is known again.
  static constexpr int64_t kMeasureNs = 15'000'000;
  static constexpr int64_t kStretchFirstNs = 400'000'000;
  static constexpr int64_t kStretchLastNs = 1'600'000'000;
  static constexpr int64_t kPauseFirstNs = 100'000'000;

  // The rate of the window that ends now, bytes per nanosecond, and begins the next window.
  double TakeWindow(int64_t now_ns);
  // Changes packing_.
  void ConsiderBeginning(int64_t now_ns);
  void ConsiderEnding(int64_t now_ns);
  void NotePeak(int64_t now_ns);
  double PredictedGain(const Packing& packing) const;
  Packing& Of(PackAlgorithm algorithm) { return algorithm == PackAlgorithm::kZstd ? zstd_ : lz4_; }
  void End(int64_t now_ns, int64_t pause_ns);

  const Compression mode_;
  Packing lz4_;
  Packing zstd_;
  int64_t sampled_ns_ = 0;
  PackAlgorithm packed_last_ = PackAlgorithm::kNone;

  PackAlgorithm packing_ = PackAlgorithm::kNone;
  int64_t paused_until_ns_ = 0;
  int64_t pause_ns_ = kPauseFirstNs;      // after a gain that did not come; doubles each time
  int64_t stretch_ns_ = kStretchFirstNs;  // until the link is measured again; doubles each time
  int64_t began_ns_ = 0;
  double unpacked_rate_ = 0;  // bytes per nanosecond; 0: not known yet
  // The rates of the last short windows without packing, in a ring. A lane that is slow because the
  // processor is busy elsewhere has fast moments, one that is slow because of its link has none.
  std::array<double, 8> peaks_{};
  size_t next_peak_ = 0;
  int64_t peak_began_ns_ = 0;
  uint64_t peak_bytes_ = 0;
  int64_t window_began_ns_ = -1;  // -1: no run yet
  uint64_t window_bytes_ = 0;
  int poor_windows_ = 0;  // in a row, without the gain
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_PACK_POLICY_H_
