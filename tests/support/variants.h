// The variants that a test of whole networks goes through.
#pragma once

#include <string>
#include <vector>

#include "model/architecture.h"

namespace dla {

// Names of all twelve. Under a sanitizer, where packing the weights of a large one takes a minute,
// of the compact ones.
inline std::vector<std::string> VariantsToTest() {
  std::vector<std::string> names;
  for (const Architecture& architecture : AllArchitectures()) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    if (architecture.embedding_size() > 256) continue;
#endif
    names.emplace_back(architecture.name);
  }
  return names;
}

}  // namespace dla
