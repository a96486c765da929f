//! Targets that this library is not made for. Compiled alone by `make check-refused`.

#[cfg(target_env = "musl")]
compile_error!(
    "qwenguard is not made for musl: ONNX Runtime is not published for it. Build for a target with glibc, such as \
     x86_64-unknown-linux-gnu, and run it in a container image with glibc"
);

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "qwenguard is not made for 32-bit targets: ONNX Runtime is not published for them, and the weights of a guard do not fit \
     their address space. Build for a 64-bit target"
);
