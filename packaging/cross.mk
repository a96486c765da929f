# What `make lib`, `make dist` and `make program` take for another platform than this one, which `target` names:
# x86_64-pc-windows-gnu, aarch64-unknown-linux-gnu or aarch64-apple-darwin. See docs/platforms.md.

built := target/$(target)/$(notdir $(built))
cargo_target = --target $(target)
runtime_folder := target/onnxruntime-$(target)
runtime := $(runtime_folder)/.$(ORT_VERSION)
runtime_wheel = $(if $(shell grep '^onnxruntime==$(ORT_VERSION) ' tests/platforms/wheels.txt),,$(error tests/platforms/wheels.txt \
	has another version than $(ORT_VERSION)))--python-version 3.12 --platform $(wheel) --require-hashes -r tests/platforms/wheels.txt

ifeq ($(target),x86_64-pc-windows-gnu)
platform := windows-x86_64
library := onnxruntime.dll
wheel := win_amd64
named := -Clink-arg=-Wl,--output-def,$(abspath $(built))/qwenguard.def
install = $(install_windows)
# As `rustc --print native-static-libs` names them.
system_libraries := -lkernel32 -lntdll -luserenv -lws2_32 -ldbghelp
cross_tools := x86_64-w64-mingw32-gcc x86_64-w64-mingw32-dlltool
cross_packages := Debian has it in gcc-mingw-w64-x86-64
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER := x86_64-w64-mingw32-gcc
else ifeq ($(target),aarch64-unknown-linux-gnu)
platform := linux-aarch64
library := libonnxruntime.so
wheel := manylinux_2_28_aarch64
cross_tools := aarch64-linux-gnu-gcc aarch64-linux-gnu-g++
cross_packages := Debian has it in gcc-aarch64-linux-gnu and g++-aarch64-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
else ifeq ($(target),aarch64-apple-darwin)
platform := macos-aarch64
library := libonnxruntime.dylib
wheel := macosx_14_0_arm64
shared := $(shared_apple)
# Zig compiles what is in C; the linker is Rust's own, for zig's exports all names: see packaging/macos_sdk.py.
named := -Clink-arg=-install_name -Clink-arg=$(install_name_apple)
toolchain := target/macos-sdk/.installed
export SDKROOT := $(abspath target/macos-sdk)
export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS := -Clinker=rust-lld -Clinker-flavor=ld64.lld
cargo_rustc := target/zig/bin/cargo-zigbuild rustc
cargo_build := target/zig/bin/cargo-zigbuild zigbuild
export PATH := $(abspath target/zig/bin):$(PATH)
else
$(error target is x86_64-pc-windows-gnu, aarch64-unknown-linux-gnu or aarch64-apple-darwin, not $(target))
endif
dist := target/dist/qwenguard-$(version)-$(platform)
# For tests: tests/platforms/platforms.mk.
ifeq ($(profile),dev)
export CARGO_PROFILE_DEV_DEBUG := 0
export CARGO_PROFILE_DEV_OPT_LEVEL = $(cross_optimised)
export CARGO_INCREMENTAL := 0
endif

target/zig/.installed: tests/platforms/zig.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --no-deps --only-binary=:all: --require-hashes -r $<
	touch $@

target/macos-sdk/.installed: packaging/macos_sdk.py target/zig/.installed
	rm -rf $(@D)
	target/zig/bin/python $< $(@D)
	touch $@
