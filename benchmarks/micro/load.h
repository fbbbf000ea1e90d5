// Callers of a server, in a process of their own so that their CPU time is not the server's.
#pragma once

#include <cstdio>
#include <string>

namespace dla::bench {

// Starts this program again as the callers: `in_flight` Classify calls at any time, each with
// `image_bytes` bytes that are no photo. It prints "begin" after a second of warming up, then "end
// ANSWERED FAILED SECONDS", and ends. The stream is to be closed with pclose. Null on failure.
FILE* StartLoad(const std::string& address, int in_flight, double seconds, int image_bytes);

// What main() runs when it was started so; otherwise -1.
int RunLoadIfAsked(int argc, char** argv);

}  // namespace dla::bench
