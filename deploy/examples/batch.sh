#!/usr/bin/env bash
# batch.sh URL FILE: sends a file of requests (batch.jsonl is one), waits, prints the answers, one a line.
# The server needs --jobs-db FILE.
#   deploy/examples/batch.sh http://localhost:8000 deploy/examples/batch.jsonl
set -euo pipefail
url=$1 file=$2
call() { curl --fail-with-body --silent --show-error "$@"; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]] or "")' "$1"; }

input=$(call "$url/v1/files" --form purpose=batch --form "file=@$file" | field id)
batch=$(call "$url/v1/batches" --header 'Content-Type: application/json' \
  --data '{"input_file_id": "'"$input"'", "endpoint": "/v1/chat/completions", "completion_window": "24h"}' | field id)
while true; do
  state=$(call "$url/v1/batches/$batch")
  case $(field status <<<"$state") in
    completed) break ;;
    failed | expired | cancelled) echo "$state" >&2; exit 1 ;;
  esac
  sleep 1
done
call "$url/v1/files/$(field output_file_id <<<"$state")/content"
