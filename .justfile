# Shortcuts. Everything here is also done by plain cargo: see README.md and .ci/run.

# List the recipes.
default:
    @just --list

# Check everything, write nothing.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo nextest run --workspace
    cargo test --workspace --doc
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    cargo deny check
    typos

# Repair what tools can repair.
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all
    typos --write-changes

# The demo, as the README says.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}
