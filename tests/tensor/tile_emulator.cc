#include "tests/tensor/tile_emulator.h"

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__x86_64__)
#include <sys/ucontext.h>
#endif

#include <cmath>
#include <cstring>

namespace rft {
#if defined(__x86_64__)
const Kernels& Kernels_amx();
#endif

namespace testing {
#if defined(__x86_64__)
namespace {

[[noreturn]] void Refuse(const char* why) {
  std::fprintf(stderr, "tile_emulator: %s\n", why);
  std::abort();
}

// Palette 1: eight registers of at most 16 rows of 64 bytes.
struct Tiles {
  bool configured = false;
  int rows[8] = {}, row_bytes[8] = {};
  char data[8][16][64] = {};

  void Configure(const unsigned char* shapes) {
    if (shapes[0] != 1 || shapes[1] != 0) Refuse("palette 1 from row 0 was expected");
    *this = Tiles();
    for (int t = 0; t < 16; ++t) {
      uint16_t bytes;
      std::memcpy(&bytes, shapes + 16 + 2 * t, sizeof bytes);
      const int count = shapes[48 + t];
      if (count > 16 || bytes > 64 || (count == 0) != (bytes == 0) || (t >= 8 && count > 0))
        Refuse("a tile's shape is out of range");
      if (t < 8) {
        rows[t] = count;
        row_bytes[t] = bytes;
      }
    }
    configured = true;
  }
  void Check(int t) const {
    if (!configured || t >= 8 || rows[t] == 0) Refuse("a tile without a shape");
  }
  void Zero(int t) {
    Check(t);
    std::memset(data[t], 0, sizeof data[t]);
  }
  void Load(int t, const char* from, int64_t stride) {
    Zero(t);
    for (int r = 0; r < rows[t]; ++r) std::memcpy(data[t][r], from + r * stride, row_bytes[t]);
  }
  void Store(int t, char* to, int64_t stride) const {
    Check(t);
    for (int r = 0; r < rows[t]; ++r) std::memcpy(to + r * stride, data[t][r], row_bytes[t]);
  }
  // TDPBF16PS: even and odd terms have a sum each, which are added to what is there.
  void MultiplyAdd(int c, int a, int b) {
    for (int t : {c, a, b}) Check(t);
    if (rows[c] != rows[a] || row_bytes[c] != row_bytes[b] || row_bytes[a] != 4 * rows[b])
      Refuse("shapes don't fit");
    for (int m = 0; m < rows[c]; ++m)
      for (int n = 0; n < row_bytes[c] / 4; ++n) {
        float even = 0.0f, odd = 0.0f, sum;
        for (int k = 0; k < rows[b]; ++k) {
          Bf16 x[2], y[2];
          std::memcpy(x, data[a][m] + 4 * k, sizeof x);
          std::memcpy(y, data[b][k] + 4 * n, sizeof y);
          even = std::fma(ToFloat(x[0]), ToFloat(y[0]), even);
          odd = std::fma(ToFloat(x[1]), ToFloat(y[1]), odd);
        }
        std::memcpy(&sum, data[c][m] + 4 * n, sizeof sum);
        sum += even + odd;
        std::memcpy(data[c][m] + 4 * n, &sum, sizeof sum);
      }
  }
};

thread_local Tiles tiles;

// A three-byte VEX instruction with one ModRM operand (manual, vol. 2, 2.3 and 2.1.5).
class Instruction {
 public:
  explicit Instruction(ucontext_t* context) : gregs_(context->uc_mcontext.gregs) {
    at_ = reinterpret_cast<const unsigned char*>(gregs_[REG_RIP]);
    if (at_[0] != 0xc4 || (at_[1] & 0x1f) != 2) Refuse("an illegal instruction that is no tile's");
    opcode = at_[3];
    prefix = at_[2] & 3;  // 0: none, 1: 66, 2: F3, 3: F2
    mode_ = at_[4] >> 6;
    reg = (at_[4] >> 3 & 7) | Extra(0x80);
    rm = (at_[4] & 7) | Extra(0x20);
    other = ~(at_[2] >> 3) & 15;
    length_ = 5;
    if (in_memory()) ReadAddress();
  }
  bool in_memory() const { return mode_ != 3; }
  char* address() const { return reinterpret_cast<char*>(base_); }
  int64_t stride() const { return index_; }
  void Done() { gregs_[REG_RIP] += length_; }

  int opcode, prefix, reg, rm, other;

 private:
  int Extra(int bit) const { return at_[1] & bit ? 0 : 8; }
  int64_t Register(int i) const {
    constexpr int kPlaces[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                 REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                 REG_R12, REG_R13, REG_R14, REG_R15};
    return gregs_[kPlaces[i]];
  }
  void ReadAddress() {
    int base = at_[4] & 7;
    bool relative = mode_ == 0 && base == 5, none = false;  // to the next instruction
    if (base == 4) {
      const int sib = at_[length_++], index = (sib >> 3 & 7) | Extra(0x40);
      base = sib & 7;
      none = mode_ == 0 && base == 5;
      if (index != 4) index_ = Register(index) << (sib >> 6);
    }
    const int displacement = mode_ == 1 ? 1 : mode_ == 2 || relative || none ? 4 : 0;
    int32_t offset = 0;
    if (displacement == 1) offset = static_cast<signed char>(at_[length_]);
    if (displacement == 4) std::memcpy(&offset, at_ + length_, sizeof offset);
    length_ += displacement;
    base_ = offset;
    if (relative)
      base_ += gregs_[REG_RIP] + length_;
    else if (!none)
      base_ += Register(base | Extra(0x20));
  }

  greg_t* gregs_;
  const unsigned char* at_;
  int mode_, length_;
  int64_t base_ = 0, index_ = 0;
};

void OnIllegalInstruction(int, siginfo_t*, void* context) {
  Instruction i(static_cast<ucontext_t*>(context));
  if (i.opcode == 0x49 && i.prefix == 0 && i.in_memory())
    tiles.Configure(reinterpret_cast<const unsigned char*>(i.address() + i.stride()));
  else if (i.opcode == 0x49 && i.prefix == 0)
    tiles = Tiles();  // TILERELEASE
  else if (i.opcode == 0x49 && i.prefix == 3)
    tiles.Zero(i.reg);
  else if (i.opcode == 0x4b && i.prefix == 3)
    tiles.Load(i.reg, i.address(), i.stride());
  else if (i.opcode == 0x4b && i.prefix == 2)
    tiles.Store(i.reg, i.address(), i.stride());
  else if (i.opcode == 0x5c && i.prefix == 2)
    tiles.MultiplyAdd(i.reg, i.rm, i.other);
  else
    Refuse("an illegal instruction that is none of the kernels'");
  i.Done();
}

}  // namespace

const Kernels* AmxKernels() {
  static const Kernels* const table = []() -> const Kernels* {
    int count = 0;
    const Kernels* const* tables = RunnableKernels(&count);
    for (int i = 0; i < count; ++i)
      if (std::strcmp(tables[i]->name, "amx") == 0) return tables[i];  // the CPU's own
    if (!__builtin_cpu_supports("avx512bf16")) return nullptr;
    struct sigaction action = {};
    action.sa_sigaction = OnIllegalInstruction;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGILL, &action, nullptr);
    return &Kernels_amx();
  }();
  return table;
}
#else
const Kernels* AmxKernels() { return nullptr; }
#endif

}  // namespace testing
}  // namespace rft
