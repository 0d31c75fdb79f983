# Short names for the steps of .ci/run, which holds what they do, and for what is not a check.

# List the recipes
default:
    @just --list

# Before a commit: formatting, lints, tests
check:
    .ci/run fmt lint test

# Run the tests; with arguments, hand them to `cargo test`
test *args:
    {{ if args == "" { ".ci/run test" } else { "cargo test --workspace --locked " + args } }}

# Clippy, warnings are errors
lint:
    .ci/run lint

# Format the code
fmt:
    cargo fmt --all

# Rustdoc, warnings are errors
docs:
    .ci/run docs

# Licences, bans, sources, advisories
deny:
    .ci/run deny

# The README's main command
demo:
    .ci/run demo

# Every step
ci:
    .ci/run

# Measure: the programs in bench/
bench *args:
    cargo run --release --manifest-path bench/Cargo.toml -- {{args}}
