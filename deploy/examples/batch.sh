#!/usr/bin/env bash
# batch.sh URL FILE [KEPT]: sends a file of requests (batch.jsonl is one), waits, prints the answers, one a line.
# The server needs --jobs-db FILE. With KEPT, a file that does not exist yet: the batch's name is kept there, and called again
# with it, to another server on the same database as well, the script waits for the same batch.
#   deploy/examples/batch.sh http://localhost:8000 deploy/examples/batch.jsonl
set -euo pipefail
url=$1 file=$2 kept=${3:-/dev/null}
call() { curl --fail-with-body --silent --show-error "$@"; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]] or "")' "$1"; }

batch=$(cat "$kept" 2>/dev/null || true)
if [ -z "$batch" ]; then
  input=$(call "$url/v1/files" --form purpose=batch --form "file=@$file" | field id)
  batch=$(call "$url/v1/batches" --header 'Content-Type: application/json' \
    --data '{"input_file_id": "'"$input"'", "endpoint": "/v1/chat/completions", "completion_window": "24h"}' | field id)
  echo "$batch" >"$kept"
fi
while true; do
  state=$(call "$url/v1/batches/$batch")
  case $(field status <<<"$state") in
    completed) break ;;
    failed | expired | cancelled) echo "$state" >&2; exit 1 ;;
  esac
  sleep 1
done
call "$url/v1/files/$(field output_file_id <<<"$state")/content"
