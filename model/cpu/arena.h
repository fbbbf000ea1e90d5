// Where values lie while a plan runs.
#pragma once

namespace dla::cpu {

struct Plan;

// Sets which values are brief and which exist in strips, every value's offset so that values which
// are alive at the same time do not overlap, and the bytes that a photo and the strips take.
void PlaceValues(Plan& plan);

}  // namespace dla::cpu
