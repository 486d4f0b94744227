#!/usr/bin/env bash
# Run all tests, WORKERS (4) at a time. Where no more than a few fail, those run once more, one at a time, and are told either way.
set -uo pipefail
cd "$(dirname "$0")/.."
FEW=5
unset PYTHONDONTWRITEBYTECODE # tests start hundreds of interpreters; compiling each time doubles their time
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
pytest=(.venv/bin/python -m pytest -o cache_dir="$cache")

# pytest rewrites each file of tests before it first runs it, and keeps what it wrote. Each worker would do that for all of them.
if [ ! -d tests/unit/__pycache__ ]; then
  for part in "tests/[a-k]*/" "tests/[l-z]*/"; do
    # shellcheck disable=SC2086
    .venv/bin/python -m pytest -p no:cacheprovider --collect-only -qq $part >/dev/null 2>&1 &
  done
  wait # what is wrong with a file is told by the run itself
fi

"${pytest[@]}" -n "${WORKERS:-4}" --dist loadgroup --no-loadscope-reorder --durations=15 "$@" # tests/order.py has the order
status=$?
failed="$cache/v/cache/lastfailed"
if [ "$status" != 1 ] || [ ! -f "$failed" ]; then
  exit "$status"
fi
# xdist adds "@group" to a name, under which the second run would not find it. What has no test's name is a fault of the run
# itself (a worker's, the collection's) and is not mended by running again.
count=$(.venv/bin/python - "$failed" <<'PY'
import json
import re
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    names = json.load(file)
plain = {re.sub(r"^(.*::[^\[\]]*(?:\[.*\])?)@\w+$", r"\1", name, flags=re.DOTALL): True for name in names}
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(plain, file)
print(len(plain) if all("::" in name for name in plain) else "")
PY
)
if [ -z "$count" ] || [ "$count" -gt "$FEW" ]; then
  exit "$status"
fi
cp "$failed" "$cache/first"
echo
echo "$count failed beside others; once more, one at a time:"
"${pytest[@]}" -n 0 --last-failed --last-failed-no-failures none "$@" || exit "$?"
echo
echo "UNSTEADY, these failed beside others and passed alone; each is a fault of the test or of the program:"
.venv/bin/python -c 'import json, sys; print(*("  " + each for each in json.load(open(sys.argv[1]))), sep="\n")' "$cache/first"
