// How many threads LibTorch computes with.
#pragma once

namespace dla {

// Has the calling thread split each operation among `count` >= 1 threads, itself among them.
// Threads that have not called this use as many as the machine has cores. More than one pays only
// while the cores are idle: the threads wait for each other actively, so on a machine that is busy
// with other work they burn several times what they compute.
void UseThreads(int count);

}  // namespace dla
