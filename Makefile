# The two commands that matter: `make demo` and `make test`. Both install what is missing first.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# One selection for everything: cargo resolves the features of shared dependencies by what is selected, and another
# selection would build polars, arrow and the like a second time.
CARGO_SELECTION := --release --workspace --all-targets --locked

.PHONY: help setup build demo test faults soak soak-browsers fuzz check bench bench-pipeline bench-predict bench-learning \
	bench-learning-live bench-browsers

help: ## Shows the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

setup: ## Installs missing packages and libraries, writes .cargo/config.toml.
	@deploy/setup.sh

build: setup ## Builds everything.
	cargo build $(CARGO_SELECTION)

demo: build ## Runs the main job from end to end, on a private broker unless AUGUR_AMQP_URL names one.
	@deploy/demo.sh

test: build ## Runs every test. Benches are built, not run: what they find out is for `make bench`.
	@deploy/test.sh

# One selection again: `--test` alone would resolve other features.
FAULT_SUITE := cargo test --release --workspace --locked --test fault_suite --

faults: build ## The fault suite: make faults [QUICK=1] [SEED=n] [ROWS="kill-worker poison"].
	$(FAULT_SUITE) $(if $(QUICK),--quick,--full) $(if $(SEED),--seed $(SEED)) $(ROWS)

soak: build ## Random faults under steady load, fails on growth: make soak [MINUTES=30] [SEED=n].
	$(FAULT_SUITE) --soak $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

soak-browsers: build ## The browser pool under faults, directly and by the queue, and its memory, at full size: make soak-browsers [JOBS=200] [SEED=n].
	AUGUR_TEST_BROWSER_JOBS=$(or $(JOBS),200) $(if $(SEED),AUGUR_TEST_SEED=$(SEED)) cargo test --release --workspace --locked --test browsers --test web -- soak:: killed:: --include-ignored --nocapture

fuzz: setup ## Fuzzes the decoders and queues.yaml (nightly, cargo-fuzz): make fuzz [SECONDS=60]; SUITE=1 for suites too.
	@cargo fuzz --version >/dev/null 2>&1 || { echo "make fuzz needs \`cargo install cargo-fuzz\`"; exit 1; }
	@mkdir -p fuzz/corpus/messages fuzz/corpus/topology fuzz/corpus/suite
	@for version in 1 2; do for golden in crates/messages/golden/*.v$$version.*; do \
		printf "\\00$$version" | cat - $$golden >fuzz/corpus/messages/$$(basename $$golden); done; done
	@cp queues.yaml fuzz/corpus/topology/ && cp deploy/suites/* fuzz/corpus/suite/
	cargo +nightly fuzz run messages -- -max_total_time=$(or $(SECONDS),60)
	cargo +nightly fuzz run topology -- -max_total_time=$(or $(SECONDS),60)
	$(if $(SUITE),cargo +nightly fuzz run --features suite suite -- -max_total_time=$(or $(SECONDS),60))

check: setup ## What CI runs before the tests: format, lints, documentation.
	cargo fmt --all --check
	cargo clippy $(CARGO_SELECTION) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked

bench: build ## Measures: criterion benches, then the daemons from end to end.
	cargo bench --workspace --locked
	@deploy/measure.sh

bench-pipeline: build ## Measures the pipeline beside Celery, Dramatiq and bare lapin; JSON=FILE keeps every sample.
	@deploy/bench-pipeline/bench.py $(if $(JSON),--json $(JSON))

bench-predict: build ## Holds the predictors against Python's XGBoost and LightGBM; JSON=FILE keeps all, DATA=FOLDER.
	@deploy/bench-predict/bench.py $(if $(JSON),--json $(JSON)) $(if $(DATA),--data $(DATA))

bench-learning: build ## Replays a table to see what active learning saves; JSON=FILE and SVG=FILE, DATA=FOLDER, SEEDS=6.
	@deploy/bench-learning.sh $(if $(DATA),--data $(DATA)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JSON),--json $(JSON)) $(if $(SVG),--svg $(SVG))

bench-learning-live: build ## 30 jobs proposed by the active learner beside 30 random ones, on this machine; JSON=FILE, SEEDS=3.
	@deploy/bench-learning-live.py $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JSON),--json $(JSON))

bench-browsers: build ## Measures the browser pool beside plain thirtyfour and native runs; JSON=FILE keeps all numbers.
	@deploy/bench-browsers.py $(if $(JSON),--json $(JSON))
