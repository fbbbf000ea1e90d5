// What a network on a card computes in.
#pragma once

namespace dla::gpu {

enum class Element { kFp16, kBf16, kFp32 };

}  // namespace dla::gpu
