//! Programs in C and C++ that use the library.
