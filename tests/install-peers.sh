#!/bin/sh
# Installs the peers that the tests talk to, where this is root on Debian or Ubuntu; elsewhere says what is missing.
missing=""
for tool in /usr/bin/storescu:dcmtk /usr/bin/dciodvfy:dicom3tools /usr/sbin/Orthanc:orthanc; do
    path=${tool%%:*}
    package=${tool##*:}
    [ -x "$path" ] || command -v "$(basename "$path")" >/dev/null 2>&1 || missing="$missing $package"
done
[ -x /usr/bin/chromium ] || command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing for the tests:$missing"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "Not installed, tests that need it are skipped:$missing (as root: apt-get install$missing)"
fi
