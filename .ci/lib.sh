# Sourced by every script here: the root of the tree, headings and times, which packages exist, and the tools a check needs.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
logs=target/ci
mkdir -p "$logs"

# The toolchain of rust-toolchain.toml. Where there is none of that name, a stable one of the same version is the same; else it is
# fetched, with its components.
if ! rustc --version >/dev/null 2>&1; then
    pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    if [[ $(rustc +stable --version 2>/dev/null) == "rustc $pinned "* ]]; then
        export RUSTUP_TOOLCHAIN=stable
    else
        rustup toolchain install
    fi
fi

heading() { printf '\n=== %s\n' "$*"; }

# step NAME LIMIT COMMAND...: runs the command under a heading, without input, ends it after LIMIT (as timeout(1) reads it),
# and prints how long it took. The output is kept in $logs/NAME.log, where `count_tests` finds it.
step() {
    local name=$1 limit=$2 start=$SECONDS status=0
    shift 2
    heading "$name: $*"
    # Before a terminal the command must stay in its process group, or an interrupt would not reach it.
    timeout ${foreground:+--foreground} --kill-after=20 "$limit" "$@" </dev/null 2>&1 | tee "$logs/$name.log" || status=$?
    case $status in
        0) echo "--- $name: ok, $((SECONDS - start)) s" ;;
        124 | 137) echo "--- $name: ENDED at its limit of $limit" ;;
        *) echo "--- $name: FAILED with status $status after $((SECONDS - start)) s" ;;
    esac
    return "$status"
}
[ -t 1 ] && foreground=yes || foreground=

# count_tests LOG...: what the test programs' closing lines add up to.
count_tests() {
    { cat "$@" 2>/dev/null || true; } | awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, ignored }'
}

# Whether the workspace has this package. Its folder may be there before the package is.
has_package() { cargo pkgid "$1" >/dev/null 2>&1; }

# chosen DEFAULT... -- [PACKAGE [FILTER...]]: sets `packages` to the one that was asked for, or to those of the defaults that
# exist, and `filters` to what is left, for the test programs.
chosen() {
    packages=() filters=()
    while [ "$1" != -- ]; do
        has_package "$1" && packages+=("$1")
        shift
    done
    shift
    [ $# -eq 0 ] && return
    packages=("$1")
    shift
    filters=("$@")
}

# cannot CHECK REASON: ends a script that cannot do its work on this machine. With CI set that is a failure, for nothing else would
# tell. On a machine without a network it must not keep a change from all the other steps, and is said aloud.
cannot() {
    [ -z "${CI:-}" ] || exit 1
    echo "$1: SKIPPED, $2"
    exit 0
}

# The target triple of this machine, which -Zbuild-std and the sanitizers want spelled out.
host() { rustc -vV | sed -n 's/^host: //p'; }

# need_components TOOLCHAIN COMPONENT...
need_components() {
    local toolchain=$1
    shift
    rustup component add --toolchain "$toolchain" "$@"
}

# need_toolchain TOOLCHAIN: installs the compiler, cargo and the standard library, and no more, unless they are there.
need_toolchain() {
    cargo "+$1" --version >/dev/null 2>&1 || rustup toolchain install "$1" --profile minimal --no-self-update
}

# need_tool COMMAND CRATE VERSION: installs a cargo subcommand from source, which takes some minutes, unless it is there.
need_tool() {
    command -v "$1" >/dev/null || cargo install --locked "$2" --version "$3"
}

# public_pages: builds rustdoc's pages of the public interface, with all features, in $pages.
# They have a folder of their own, since `target/doc` may hold private items. What was compiled
# before is used again. One crate after the other: a page links to the sources of a crate below
# if that crate's pages are there.
pages=target/pages/doc
public_pages() {
    rm -rf "$pages"
    local crate
    for crate in heirloom-context heirloom heirloom-console; do
        CARGO_TARGET_DIR=target/pages CARGO_BUILD_BUILD_DIR=target \
            cargo doc --quiet -p "$crate" --no-deps --all-features --locked
    done
}
