# The commands of .ci/run, and a quick one. `just --list` shows them.

# What a change should pass before it is committed: format, lints, unit tests, the order of imports
quick: format lint
    cargo test --locked --lib
    cargo test --locked --test it -- layers:: books::

# Everything that CI runs; installs what the tests need (Debian, root)
ci:
    .ci/run

format:
    cargo fmt --check

lint:
    cargo clippy --locked --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

deny:
    cargo deny check bans licenses sources

test:
    LANYARD_REQUIRE_CLIENTS=1 LANYARD_REQUIRE_FAULTS=1 cargo test --locked
