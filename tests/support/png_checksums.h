// Makes a damaged PNG's checksums right, without which decoders look at little of it.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dla {

// In place. Leaves alone what is no PNG, and what follows a chunk that is longer than the file.
inline void RepairPngChecksums(uint8_t* data, size_t size) {
  constexpr size_t kSignature = 8, kName = 4, kFrame = 12;  // length, name, checksum
  if (size < kSignature || std::memcmp(data, "\x89PNG\r\n\x1a\n", kSignature) != 0) return;
  for (size_t at = kSignature; size - at >= kFrame;) {
    size_t length = 0;
    for (int i = 0; i < 4; ++i) length = length << 8 | data[at + i];
    if (length > size - at - kFrame) return;
    const auto checksum =
        static_cast<uint32_t>(crc32(0, data + at + kName, static_cast<uInt>(kName + length)));
    for (int i = 0; i < 4; ++i) data[at + 8 + length + i] = checksum >> (24 - 8 * i) & 0xff;
    at += kFrame + length;
  }
}

}  // namespace dla
