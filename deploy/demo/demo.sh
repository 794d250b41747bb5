#!/usr/bin/env bash
# demo.sh          builds, starts a coordinator and five worker ranks, asks about a picture, stops, says how long it took
# demo.sh --stay   the same, and leaves the server running on http://localhost:8000 until Ctrl-C
set -euo pipefail
cd "$(dirname "$0")/../.."

port=${FULGER_PORT:-8000}
url=http://127.0.0.1:$port
model=build/demo-checkpoint
log=build/demo.log
question='What is in this picture?'
server=

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

on_exit() {
  local code=$?
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [ "$code" -ne 0 ] && [ -f "$log" ]; then
    echo
    echo "demo: failed; the end of $log:"
    tail -n 25 "$log"
  fi
  exit "$code"
}
trap on_exit EXIT
trap 'exit 130' INT TERM

say "1. packages and build"
deploy/ci/install-deps.sh
FULGER_CONFIGURE=-DFULGER_CUDA=SKIP deploy/ci/build.sh release fulger fulger-worker draw_picture

say "2. checkpoint and picture"
if [ ! -f "$model/done" ]; then
  rm -rf "$model"
  python3 tests/golden/model/demo_checkpoint.py "$model"
  touch "$model/done"
fi
build/bin/draw_picture build/demo.jpg
echo "build/demo.jpg: 480 x 360, a lightning bolt over hills"

say "3. one coordinator, five worker ranks under mpirun: tp 2 x pp 2, ep 2, one vision rank"
: >"$log"
build/bin/fulger serve --model "$model" --model-name demo --listen "127.0.0.1:$port" \
  --tp 2 --pp 2 --ep 2 --vision-ranks 1 --max-context 16384 2>"$log" &
server=$!
python3 deploy/demo/wait_ready.py "$url" "$server"

say "4. which rank holds what"
python3 deploy/demo/show_ranks.py "$url"

say "5. the picture and a question over HTTP, the answer as it streams"
echo "> $question"
build/bin/fulger chat --url "$url" --image build/demo.jpg --prompt "$question" \
  --max-tokens 48 --temperature 0
echo "(An untrained demo model: the words mean nothing. The way through all five ranks is real.)"

if [ "${1:-}" = --stay ]; then
  say "the page is at http://localhost:$port, the API at http://localhost:$port/v1; Ctrl-C stops; the log is $log"
  trap 'kill -TERM "$server"' INT TERM
  code=0
  wait "$server" || code=$?
  # A trapped signal ends the first wait; the second one gets the server's own exit code.
  if kill -0 "$server" 2>/dev/null; then code=0; wait "$server" || code=$?; fi
  server=
  exit "$code"
fi

say "6. stop"
kill -TERM "$server"
code=0
wait "$server" || code=$?
server=
[ "$code" -eq 0 ] || { echo "demo: the server ended with code $code"; exit 1; }
echo "the server drained and ended with code 0"
echo "demo: done in $SECONDS s"
