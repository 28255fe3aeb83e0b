# The same recipes for people and for CI. Needed: Rust, Go, make and a C compiler.

# make test K8S=1.33 runs the tests against the oldest API server that is supported.
K8S = 1.37

BUILD = e2e/tools/build.sh
CARGO_TOOL = e2e/tools/cargo-tool.sh
CHART = charts/certmon

# The last state that a test saw, without the stack that it was seen from.
export RUST_LIB_BACKTRACE = 0

# Tests on a real API server mostly wait, for what the product spaces out by the minute: as many as there are cores would
# leave those idle.
RUST_TEST_THREADS ?= 8
export RUST_TEST_THREADS

.PHONY: help demo test test-1.37 test-1.33 bench control-plane lint lint-generated lint-chart crds fmt tools clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: control-plane ## certmon on a real API server, shown in a minute; KEEP=1 leaves it running
	@[ -x $${CARGO_TARGET_DIR:-target}/debug/demo ] || echo "Building certmon and the demo, 3 to 5 minutes on two cores." >&2
	cargo build --locked --package certmon --package certmon-e2e --bins
	@CERTMON_E2E_K8S=$(K8S) cargo run --quiet --locked --package certmon-e2e --bin demo

test: control-plane test-$(K8S) ## Every test, on a real API server; K8S=1.33: those that need one, on that

test-1.37:
	cargo test --workspace --locked

test-1.33:
	cargo build --locked --package certmon
	CERTMON_E2E_K8S=1.33 cargo test --locked --package certmon-e2e --test apiserver

# ONLY=idle,secrets,status,threshold,probe takes only these. probe stands beside blackbox_exporter where that is installed
# (Debian: apt-get install -y prometheus-blackbox-exporter), and goes on without it.
bench: control-plane ## What certmon costs and how fast it is, beside the goals; ONLY=secrets,… for some; quarter of an hour
	@[ -x $${CARGO_TARGET_DIR:-target}/release/certmon ] || echo "Building the release, 10 to 15 minutes on two cores." >&2
	cargo build --locked --release --package certmon
	cargo build --locked --release --package certmon-probe --example probe_cost
	@CERTMON_E2E_K8S=$(K8S) cargo run --quiet --locked --profile profiling --package certmon-e2e --bin bench

# First, so that nobody waits for minutes in the middle of a test. Binaries or clusters that are named need no build.
control-plane:
	@[ -n "$$CERTMON_E2E_KUBECONFIG$$KUBEBUILDER_ASSETS" ] || $(BUILD) $(K8S) >/dev/null

lint: lint-generated lint-chart ## Format, clippy, licences and bans, generated = committed, Helm, spelling
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$$($(CARGO_TOOL) cargo-deny) --locked --log-level error check bans licenses sources
	$$($(CARGO_TOOL) typos)

lint-generated:
	rm -rf target/generated
	cargo run --quiet --locked --package certmon-crd --example crds -- target/generated
	diff -r crd/generated target/generated

lint-chart:
	[ ! -d $(CHART) ] || $(CHART)/sync-crds.sh --check
	[ ! -d $(CHART) ] || $$($(BUILD) 1.37 helm)/helm lint --strict $(CHART)

crds: ## Generate the CRDs, and copy them into the chart
	rm -rf crd/generated
	cargo run --quiet --locked --package certmon-crd --example crds -- crd/generated
	[ ! -d $(CHART) ] || $(CHART)/sync-crds.sh

fmt: ## Format the code
	cargo fmt --all

tools: ## Build the control plane and install what lint needs, all outside the clone
	$(BUILD) $(K8S)
	$(CARGO_TOOL) cargo-deny
	$(CARGO_TOOL) typos

clean: ## Remove what was built in the clone; the cache outside it stays
	cargo clean
