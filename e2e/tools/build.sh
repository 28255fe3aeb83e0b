#!/bin/sh
# Builds the control plane that the tests start, from the go.mod beside this script, and prints the folder it lies in.
#
#   build.sh [1.37|1.33] [BINARY…]
#
# Without a BINARY all of the set: etcd kube-apiserver kube-controller-manager kubectl, and helm (1.37 only).
# The result lies outside the clone, keyed by go.mod and go.sum, and is used again until those change:
#   ${CERTMON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/certmon}/controlplane/HASH/
# Progress goes to stderr, the folder alone to stdout.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
set_name=${1:-1.37}
[ $# -eq 0 ] || shift
case $set_name in
  1.37) module=$here; all="etcd kubectl helm kube-apiserver kube-controller-manager"; minutes="6 to 8" ;;
  1.33) module=$here/k8s-1.33; all="etcd kubectl kube-apiserver kube-controller-manager"; minutes="5 to 7" ;;
  *) echo "build.sh: no such set: $set_name (there are 1.37 and 1.33)" >&2; exit 2 ;;
esac
wanted=${*:-$all}

for name in $wanted; do
  case " $all " in
    *" $name "*) ;;
    *) echo "build.sh: $set_name has no $name (it has $all)" >&2; exit 2 ;;
  esac
done

package() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    helm) echo helm.sh/helm/v4/cmd/helm ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

version_of() { awk -v m="$1" '$1 == m && $2 ~ /^v/ { print $2; exit }' "$module/go.mod"; }

# What the binaries say of themselves. There is no commit to name: the module proxy gives the source without one,
# and an empty one is shown as "unknown" rather than as an unexpanded "$Format:%H$".
stamps() {
  kubernetes=$(version_of k8s.io/kubernetes)
  minor=${kubernetes#v1.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.%s ' "$package" "gitVersion=$kubernetes" "$package" gitMajor=1 \
      "$package" "gitMinor=${minor%%.*}" "$package" gitCommit= "$package" gitTreeState=archive
  done
  printf -- '-X helm.sh/helm/v4/internal/version.version=%s' "$(version_of helm.sh/helm/v4)"
}

missing() { for name in $wanted; do [ -x "$folder/$name" ] || printf '%s ' "$name"; done; }

cache=${CERTMON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/certmon}
folder=$cache/controlplane/$(cat "$module/go.mod" "$module/go.sum" | sha256 | cut -c1-16)

if [ -n "$(missing)" ]; then
  command -v go >/dev/null || { echo "build.sh: Go is needed to build the control plane (https://go.dev/dl)" >&2; exit 1; }
  mkdir -p "$folder"
  # Two builds side by side would only be slow (each binary is renamed into place whole), so no flock is no fault.
  if command -v flock >/dev/null; then
    exec 8>"$folder/.lock"
    flock -n 8 || { echo "waiting for another build of the control plane …" >&2; flock 8; }
  fi
  todo=$(missing)
  set -- $todo
  count=$# number=0
  if [ "$count" -gt 0 ]; then
    echo "Building Kubernetes $(version_of k8s.io/kubernetes) for the tests: $todo" >&2
    echo "Once, then cached in $folder." >&2
    echo "With nothing cached $minutes minutes on two cores, most of them for kube-apiserver and -controller-manager." >&2
    scratch=$(mktemp -d "$folder/.build.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
  fi
  for name in $todo; do
    number=$((number + 1))
    start=$(date +%s)
    printf '  [%d/%d] %s …' "$number" "$count" "$name" >&2
    (cd "$module" && CGO_ENABLED=0 GOFLAGS= GOWORK=off go build -mod=readonly -trimpath -buildvcs=false \
      -ldflags "-s -w $(stamps)" -o "$scratch/$name" "$(package "$name")") >&2
    mv "$scratch/$name" "$folder/$name"
    echo " $(($(date +%s) - start)) s" >&2
  done
fi
echo "$folder"
