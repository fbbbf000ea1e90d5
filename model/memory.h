// The process's policy for memory that was freed.
#pragma once

namespace dla {

// Makes malloc keep freed memory for the next allocation instead of giving it back to the kernel.
// Every forward pass allocates the same activations again, tens of megabytes each. By default glibc
// maps those anew each time, and having the kernel hand out zeroed pages takes longer than the
// convolutions that fill them. The price: the process stays at its peak size.
// One arena for all threads, since glibc unmaps the arenas of other threads than the first whatever
// it is told. To be called by main() before any thread starts; does nothing without glibc.
void KeepFreedMemory();

}  // namespace dla
