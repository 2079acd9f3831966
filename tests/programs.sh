#!/usr/bin/env bash
# Installs the programs that tests run and pip can't bring: Prometheus, headless Chromium for the page, ffprobe, systemd-analyze. Debian, as root;
# elsewhere it says what is missing, and those tests are skipped, or fail where CI is set.
set -euo pipefail

missing=()
command -v prometheus >/dev/null && command -v promtool >/dev/null || missing+=(prometheus)
command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || missing+=(chromium-headless-shell fonts-liberation)
command -v ffprobe >/dev/null || missing+=(ffmpeg)
command -v systemd-analyze >/dev/null || missing+=(systemd)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "not installed, and can't be from here (apt-get as root does): ${missing[*]}" >&2
    exit 0
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Debian starts a service that it installs; this one is for the tests alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
