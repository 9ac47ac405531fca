# What is done often. `just` lists it; each recipe is a line or two of cargo that can be typed as well.

# Lists the recipes.
default:
    @just --list --unsorted

# Checks formatting, lints and docs. Reads only.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    if command -v cargo-deny; then cargo deny check --hide-inclusion-graph bans licenses sources; fi

# Mends formatting and what lints can mend by themselves.
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# Runs the tests, of all crates or as cargo test is told: `just test -p muster-wire mesh::`.
test *arguments="--workspace":
    cargo test {{ arguments }}

# Measures on this machine: `just bench latency stream --seconds 5`.
bench *arguments:
    cargo run --release --locked -- bench {{ arguments }}

# Measures beside NATS, ZeroMQ and C++ Broker, where they are installed.
bench-peers *arguments="--seconds 1 --rounds 3":
    cargo run --release --locked --manifest-path bench/peers/Cargo.toml -- {{ arguments }}

# Fuzzes one reader, with the captures as seeds: `just fuzz values -max_total_time=60`. Needs cargo-fuzz.
fuzz target *arguments:
    cargo run -p muster-hostile --example seeds -- fuzz/corpus
    RUSTC_BOOTSTRAP=1 cargo fuzz run -s none {{ target }} -- {{ arguments }}

# Runs every example that is a program of its own.
examples:
    for name in publish_subscribe store node mesh; do cargo run -q -p muster --example $name || exit 1; done
    cargo run -q -p muster-gateway --example websocket_client
    for name in new_framework ask_and_gather follow_indicators; do cargo run -q -p muster-frameworks --example $name || exit 1; done

# Runs the demo.
demo *arguments:
    cargo run --release --locked -- demo {{ arguments }}

# Everything that a change has to pass.
ci:
    .ci/run
