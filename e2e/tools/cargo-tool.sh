#!/bin/sh
# Installs one of the tools that `make lint` needs, in the version pinned here, and prints the path of its executable.
#
#   cargo-tool.sh cargo-deny|typos
#
# It lies outside the clone, keyed by its version:
#   ${CERTMON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/certmon}/tools/CRATE-VERSION/bin/
set -eu

case ${1:-} in
  cargo-deny) crate=cargo-deny version=0.20.2 estimate="about 3 minutes" ;;
  typos) crate=typos-cli version=1.52.0 estimate="about 2 minutes" ;;
  *) echo "usage: cargo-tool.sh cargo-deny|typos" >&2; exit 2 ;;
esac

cache=${CERTMON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/certmon}
root=$cache/tools/$crate-$version
if [ ! -x "$root/bin/$1" ]; then
  echo "Installing $crate $version into $root (once, $estimate on two cores)" >&2
  # Its own target folder: CARGO_TARGET_DIR would mix it with the project's.
  env -u CARGO_TARGET_DIR cargo install --locked --quiet --root "$root" "$crate@$version" >&2
fi
echo "$root/bin/$1"
