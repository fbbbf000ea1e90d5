// Photos changed by hand, as no encoder writes them.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>

#include "tests/unit/photo_files.h"

namespace dla {

inline std::string BigEndian(uint32_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text.push_back(static_cast<char>(value >> (8 * i)));
  return text;
}

inline std::string PngChunk(const std::string& name, const std::string& data) {
  const std::string body = name + data;
  const auto crc = crc32(0, reinterpret_cast<const Bytef*>(body.data()), body.size());
  return BigEndian(data.size(), 4) + body + BigEndian(crc, 4);
}

// rgb.png with another size in its header.
inline std::string PngOfSize(uint32_t width, uint32_t height) {
  std::string png = GoldenInput("rgb.png");
  const std::string rest = png.substr(24, 5);  // depth, colour type, ...
  return png.replace(8, 25, PngChunk("IHDR", BigEndian(width, 4) + BigEndian(height, 4) + rest));
}

// baseline.jpg with another size in its frame header.
inline std::string JpegOfSize(uint32_t width, uint32_t height) {
  std::string jpeg = GoldenInput("baseline.jpg");
  const size_t frame = jpeg.find("\xff\xc0");
  return jpeg.replace(frame + 5, 4, BigEndian(height, 2) + BigEndian(width, 2));
}

inline std::string JpegWithSegment(char marker, const std::string& data) {
  std::string jpeg = GoldenInput("baseline.jpg");
  return jpeg.insert(2, std::string{'\xff', marker} + BigEndian(data.size() + 2, 2) + data);
}

inline std::string Deflate(const std::string& text) {
  std::string deflated(compressBound(text.size()), '\0');
  uLongf size = deflated.size();
  compress(reinterpret_cast<Bytef*>(deflated.data()), &size,
           reinterpret_cast<const Bytef*>(text.data()), text.size());
  return deflated.substr(0, size);
}

// 8-bit RGB whose deflated rows are `deflated`: a filter type and the values of each row.
inline std::string PngOfRows(uint32_t width, uint32_t height, const std::string& deflated) {
  return "\x89PNG\r\n\x1a\n" +
         PngChunk("IHDR",
                  BigEndian(width, 4) + BigEndian(height, 4) + std::string("\x08\2\0\0\0", 5)) +
         PngChunk("IDAT", deflated) + PngChunk("IEND", "");
}

inline std::string BlackPng(uint32_t width, uint32_t height) {
  return PngOfRows(width, height, Deflate(std::string((width * 3 + 1) * height, '\0')));
}

}  // namespace dla
