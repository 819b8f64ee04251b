#!/bin/sh
# Installs the accessibility rules that the browser tests load; says so when it can't.
cd "$(dirname "$0")" || exit 0
[ -f node_modules/axe-core/axe.min.js ] && exit 0
if command -v npm >/dev/null 2>&1; then
    npm ci --no-audit --no-fund --silent || echo "axe-core could not be installed: the accessibility test is skipped."
else
    echo "npm is not here: the accessibility test is skipped (as root: apt-get install npm)."
fi
exit 0
