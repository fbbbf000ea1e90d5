// Where values lie while a plan runs.
#pragma once

namespace dla::cpu {

struct Plan;

// Sets which values are brief, every value's offset so that values which are alive at the same time
// do not overlap, and the bytes that a photo takes.
void PlaceValues(Plan& plan);

}  // namespace dla::cpu
