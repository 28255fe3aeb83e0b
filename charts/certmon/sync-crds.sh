#!/bin/sh
# Copies the generated CRDs into the chart, which can't read files outside its own folder.
#   sync-crds.sh           make the copy
#   sync-crds.sh --check   fail, with the difference, if the copy is not what was generated
set -eu

chart=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
from=$chart/../../crd/generated
to=$chart/files/crds

set -- "${1-}" "$from"/*.yaml
mode=$1
shift
if [ ! -e "$1" ]; then
    echo "sync-crds.sh: no CRDs in crd/generated; generate them first" >&2
    exit 1
fi
for file in "$@"; do
    # The template reads one document a file; what stands behind a separator would be lost without a word.
    if sed 1d "$file" | grep -q '^---'; then
        echo "sync-crds.sh: $file holds more than one document" >&2
        exit 1
    fi
done

case $mode in
--check)
    if ! diff -ru "$from" "$to" >&2; then
        echo "sync-crds.sh: charts/certmon/files/crds is not crd/generated; run charts/certmon/sync-crds.sh" >&2
        exit 1
    fi
    ;;
'')
    mkdir -p "$to"
    rm -f "$to"/*.yaml
    cp "$@" "$to"/
    ;;
*)
    echo "usage: sync-crds.sh [--check]" >&2
    exit 2
    ;;
esac
