# The two commands that matter: `make demo` and `make test`. Both install what is missing first.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# One selection for everything: cargo resolves the features of shared dependencies by what is selected, and another
# selection would build polars, arrow and the like a second time.
CARGO_SELECTION := --release --workspace --all-targets --locked

.PHONY: help setup build demo test check bench

help: ## Shows the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup: ## Installs missing packages and libraries, writes .cargo/config.toml.
	@deploy/setup.sh

build: setup ## Builds everything.
	cargo build $(CARGO_SELECTION)

demo: build ## Runs the main job from end to end, on a private broker unless AUGUR_AMQP_URL names one.
	@deploy/demo.sh

test: build ## Runs every test.
	cargo test --release --workspace --locked --all-targets

check: setup ## What CI runs before the tests: format, lints, documentation.
	cargo fmt --all --check
	cargo clippy $(CARGO_SELECTION) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked

bench: build ## Measures: criterion benches, then the daemons from end to end.
	cargo bench --workspace --locked
	@deploy/measure.sh
